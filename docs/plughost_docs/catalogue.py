"""The catalogue: the packages of this project, from the metadata that they are installed with."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint, distributions

from plughost import MCPPlugin, Phase
from plughost.hookspecs import hook_names

from plughost_docs.config import TEMPLATE
from plughost_docs.markdown import table

HOST = "plughost"
PLUGINS = "plughost.plugins"
_REQUIREMENT = re.compile(r"([\w.-]+(?:\[[^]]*\])?)\s*([^;]*)(?:;\s*(.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([\w.-]+)['"]""")


def packages() -> list[Distribution]:
    """The host, then the packages that are installed and need it, by name; the template is none."""
    found = {each.name: each for each in distributions() if HOST in {each.name, *map(_required, each.requires or ())}}
    return [found[HOST], *(found[name] for name in sorted(found) if name not in {HOST, TEMPLATE})]


def section() -> str:
    """A table of all packages, then one part for each."""
    rows = ((f"[`{each.name}`](#{each.name})", each.version, each.metadata["Summary"]) for each in packages())
    return "\n".join([table(("package", "version", "what it is"), rows), *map(_describe, packages())])


def _describe(package: Distribution) -> str:
    entries = list(package.entry_points)
    plugins = [entry for entry in entries if entry.group == PLUGINS]
    page = package.name.removeprefix(f"{HOST}-")
    rows = [("its page", f"[`{package.name}`](../plugins/{page}.md)")]
    rows += [("version", package.version), ("Python", package.metadata["Requires-Python"] or "any")]
    rows += [("requires", text) for text in _listed(package, "")]
    rows += [
        (f"extra `{extra}`", text)
        for extra in package.metadata.get_all("Provides-Extra") or ()
        for text in _listed(package, extra)
    ]
    rows += [(f"`{entry.group}`", f"`{entry.name} = {entry.value}`") for entry in entries]
    rows += [row for entry in plugins for row in _contributions(entry)]
    install = f"```console\n$ pip install {package.name}\n```\n"
    return f"## `{package.name}`\n\n{package.metadata['Summary']}\n\n{install}\n{table(('', ''), rows)}"


def _contributions(entry: EntryPoint) -> Iterator[tuple[str, str]]:
    kind: type[MCPPlugin] = entry.load()
    hooks = [name for name in hook_names() if hasattr(kind, name)]
    yield f"hooks of `{entry.name}`", ", ".join(f"[`{name}`](hooks.md#{name})" for name in hooks) or "none"
    if phases := phases_of(kind):
        yield f"phases of `{entry.name}`", ", ".join(phase.name for phase in phases)


def phases_of(kind: type[MCPPlugin]) -> list[Phase]:
    """The phases that the source of `plughost_middleware` names, outside in."""
    hook = getattr(kind, "plughost_middleware", None)
    return sorted({Phase[name] for name in re.findall(r"\bPhase\.([A-Z]+)\b", inspect.getsource(hook))}) if hook else []


def _required(requirement: str) -> str:
    match = _REQUIREMENT.match(requirement)
    return match[1].partition("[")[0] if match else ""


def _listed(package: Distribution, extra: str) -> Iterator[str]:
    """What it needs, or what one of its extras brings, in one cell."""
    texts = []
    for requirement in package.requires or ():
        match = _REQUIREMENT.match(requirement)
        assert match is not None
        of = _EXTRA.search(match[3] or "")
        if (of[1] if of else "") == extra:
            texts.append(f"`{match[1]}{match[2].strip()}`")
    if texts:
        yield ", ".join(texts)
