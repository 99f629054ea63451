"""Whether a plugin's class implements hooks and life-cycle as the host will call them."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, iscoroutinefunction, signature, unwrap
from typing import TYPE_CHECKING, Any

from plughost import hookspecs
from plughost._errors import did_you_mean

if TYPE_CHECKING:
    from plughost._plugin import MCPPlugin

AWAITED = ("register", "unregister", "reconfigure")


def faults_of_class(kind: type[MCPPlugin[Any]]) -> list[str]:
    """Every fault that can be seen without an instance, each with its remedy."""
    known = hookspecs.hook_names()
    faults = []
    for name in dir(kind):
        value = getattr(kind, name)
        marked = hasattr(value, "plughost_impl")
        if not (marked or name.startswith("plughost_")):
            continue
        if name not in known:
            hint = did_you_mean(name, known) or f"; hooks are: {', '.join(known)}"
            faults.append(f"{name} is no hook{hint}")
        elif not marked:
            faults.append(f"{name} is not marked as a hook; put @hookimpl above it")
        elif iscoroutinefunction(value):
            faults.append(f"{name} is async; hooks are called when the host composes, so write it with a plain def")
        else:
            faults += _unknown_arguments(name, value)
    plain = (name for name in AWAITED if not iscoroutinefunction(unwrap(getattr(kind, name))))
    return faults + [f"{name} is a plain def, and the host awaits it; write async def" for name in plain]


def _unknown_arguments(name: str, implementation: Callable[..., Any]) -> list[str]:
    """Arguments that the hook does not give. One with a default is never given, and does no harm."""
    given = list(signature(getattr(hookspecs, name)).parameters)
    by_position = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return [
        f"{name} takes {item.name!r}, which the hook does not give; it gives {', '.join(given) or 'nothing'}"
        for item in list(signature(implementation).parameters.values())[1:]
        if item.default is Parameter.empty
        if (item.kind in by_position and item.name not in given) or item.kind is Parameter.KEYWORD_ONLY
    ]
