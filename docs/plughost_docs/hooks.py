"""The hook reference: every specification, its exact signature, and an example that a test runs."""

from __future__ import annotations

from plughost import hookspecs

from plughost_docs.markdown import docstring, literalinclude, signature


def heading(name: str) -> str:
    """The heading of a hook: its exact signature."""
    return f"## `{signature(getattr(hookspecs, name))}`"


def section() -> str:
    """One heading per hook, in the order of `hookspecs.py`."""
    return "\n".join(
        f"({name})=\n\n{heading(name)}\n\n{docstring(getattr(hookspecs, name))}\n\n"
        + literalinclude(f"examples/hooks/{name}.py")
        for name in hookspecs.hook_names()
    )
