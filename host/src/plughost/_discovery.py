"""Which plugins are installed, without importing any; and the import of one of them, with a message that helps.

The one module that knows `importlib_metadata`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from hashlib import sha256
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, cast

import importlib_metadata

from plughost._errors import PluginError, did_you_mean, located

if TYPE_CHECKING:
    from plughost._config import PluginTable
    from plughost._plugin import MCPPlugin

PLUGINS = "plughost.plugins"
COMMANDS = "plughost.commands"
_WELL_KNOWN = re.compile(
    "admin|auth|bulkhead|bus|cache|chaos|circuit-breaker|dedup|encryption|errors|events|health|logs|metrics|pinning|pool|"
    "rate-limit|rbac|retry|shutdown|snapshots|tenancy|timeout|tracing|upstream|validation"
)
"""Plugins of this project: an unknown one of these names is a distribution that is not installed."""

_FILE = "plughost_file_"
"""How the names of the modules of plugins that are one file begin."""

_REQUIREMENT = re.compile(r"plughost\s*(?:\[[^]]*\])?\s*\(?((?:[~=!<>][^;)]*)?)\)?\s*(;.*)?\Z", re.IGNORECASE)
_CLAUSE = re.compile(r"(~=|={2,3}|!=|<=|>=|<|>)\s*v?([\d.]+\d|\d)(\.\*)?")


@dataclass(frozen=True, slots=True)
class PluginSource:
    """An installed plugin as its distribution's metadata describes it, or a file; nothing of it is imported yet.

    `value` is `module:Class`, or `/path/to/file.py:Class` for a plugin that is one file. A `status` other than
    `available` says that it cannot be loaded, `reason` and `remedy` why and what to do.
    """

    name: str
    value: str
    distribution: str = ""
    version: str = ""
    summary: str = ""
    location: str = ""
    status: Literal["available", "failed", "incompatible"] = "available"
    reason: str = ""
    remedy: str = ""

    @property
    def origin(self) -> str:
        """Where it comes from, for messages."""
        return f"entry point {self.name} = {self.value} of {self.distribution} {self.version}" * bool(self.distribution)


def host_version() -> str:
    """The version of the installed host."""
    return importlib_metadata.version("plughost")


def discover() -> dict[str, PluginSource]:
    """Every installed plugin by the name of its entry point. Imports none of them."""
    found: dict[str, PluginSource] = {}
    here = host_version()
    for entry in importlib_metadata.entry_points(group=PLUGINS):
        try:
            source = _describe(entry, here)
        except Exception as error:  # noqa: BLE001 - one broken installation must not hide the others
            reason = f"its distribution's metadata cannot be read: {error}"
            source = PluginSource(entry.name, entry.value, status="failed", reason=reason, remedy="Reinstall it")
        if (other := found.get(entry.name)) is not None:
            source = replace(
                other,
                status="failed",
                reason=f"two distributions have this entry point: {other.distribution} and {source.distribution}",
                remedy=f"Uninstall one of them: pip uninstall {source.distribution}",
            )
        found[entry.name] = source
    return dict(sorted(found.items()))


def commands() -> dict[str, importlib_metadata.EntryPoint]:
    """Commands that installed distributions add to the command line. Imports none of them."""
    return {entry.name: entry for entry in sorted(importlib_metadata.entry_points(group=COMMANDS))}


def _describe(entry: importlib_metadata.EntryPoint, here: str) -> PluginSource:
    distribution = entry.dist
    assert distribution is not None
    metadata = distribution.metadata  # read anew each time that it is asked for
    spec = PathFinder.find_spec(entry.value.partition(":")[0].partition(".")[0])
    source = PluginSource(
        name=entry.name,
        value=entry.value,
        distribution=metadata["Name"],
        version=metadata["Version"],
        summary=metadata.get("Summary") or "",
        location=(spec and spec.origin) or str(distribution.locate_file("")),
    )
    for requirement in distribution.requires or ():
        match = _REQUIREMENT.match(requirement)
        if match and not match[2] and not satisfies(here, match[1]):
            return replace(
                source,
                status="incompatible",
                reason=f"needs plughost {match[1].strip()}, and {here} is installed",
                remedy=f"Install releases that fit: pip install --upgrade plughost {source.distribution}",
            )
    return source


def satisfies(version: str, specifier: str) -> bool:
    """Whether a version fits comparison clauses like `>=0.1,<0.2`. A pre-release counts as the release it leads to."""
    here = _release(version)
    for operator, text, wildcard in _CLAUSE.findall(specifier):
        wanted = _release(text)
        size = max(len(here), len(wanted))
        left, right = here + (0,) * (size - len(here)), wanted + (0,) * (size - len(wanted))
        equal = left[: len(wanted)] == wanted if wildcard else left == right
        fits = {
            "==": equal,
            "===": equal,
            "!=": not equal,
            "<": left < right,
            "<=": left <= right,
            ">": left > right,
            ">=": left >= right,
            "~=": left >= right and left[: len(wanted) - 1] == wanted[:-1],
        }
        if not fits[operator]:
            return False
    return True


def _release(version: str) -> tuple[int, ...]:
    match = re.match(r"v?(?:\d+!)?(\d+(?:\.\d+)*)", version)
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def resolve(instance: str, table: PluginTable, sources: Mapping[str, PluginSource], folder: Path) -> PluginSource:
    """The source of a configured instance: what its table's `plugin` names, or else its own name.

    Raises:
        PluginError: Nothing of that name is installed.
    """
    return find_source(table.plugin or instance, sources, folder, instance=instance)


def find_source(wanted: str, sources: Mapping[str, PluginSource], folder: Path, *, instance: str = "") -> PluginSource:
    """The source named `wanted`: an entry point, or `./file.py:Class` relative to `folder`.

    Raises:
        PluginError: Nothing of that name is installed.
    """
    path, _, attribute = wanted.rpartition(":")
    if wanted.endswith(".py"):
        raise PluginError(instance or wanted, f"{wanted!r} names no class", remedy=f"Write '{wanted}:CLASS'")
    if path.endswith(".py"):
        file = (folder / path).absolute()
        return PluginSource(wanted, f"{file}:{attribute}", location=str(file), summary=f"One file: {path}")
    if wanted in sources:
        return sources[wanted]
    problem, remedy = f"no installed distribution has a plugin {wanted!r}", f"Install it: pip install plughost-{wanted}"
    if not _WELL_KNOWN.fullmatch(wanted):
        problem += did_you_mean(wanted, sources)
        remedy = f"Installed plugins: {', '.join(sources) or 'none'}"
    raise PluginError(instance or wanted, problem, remedy=remedy)


def load_class(source: PluginSource, *, instance: str = "") -> type[MCPPlugin[Any]]:
    """Import the plugin class of one source.

    Raises:
        PluginError: It is incompatible, cannot be imported, or is no `MCPPlugin`.
    """
    name = instance or source.name
    if source.status != "available":
        raise PluginError(name, source.reason, origin=source.origin, remedy=source.remedy)
    if not source.distribution:
        return load_file(source.value, Path(), instance=name)
    module, _, attribute = source.value.partition(":")
    attribute = attribute.partition("[")[0].strip()
    return _class_in(lambda: import_module(module.strip()), module.strip(), attribute, name, source.origin)


def load_file(reference: str, folder: Path, *, instance: str = "") -> type[MCPPlugin[Any]]:
    """Import the plugin class of `./file.py:Class`, relative to `folder`. An unchanged file gives the same class.

    Raises:
        PluginError: The file cannot be read or imported, or has no such `MCPPlugin`.
    """
    path, _, attribute = reference.rpartition(":")
    file, name = (folder / path).absolute(), instance or reference
    if not file.is_file():
        remedy = "Correct its path; it starts at the config file's folder"
        raise PluginError(name, f"there is no file {file}", origin=reference, remedy=remedy)
    return _class_in(lambda: _import_file(file), _FILE, attribute, name, reference)


def _import_file(path: Path) -> ModuleType:
    """A module whose name holds a digest of its text: neither stale bytecode nor another file's module is met."""
    code = path.read_bytes()
    name = f"{_FILE}{sha256(bytes(path) + code).hexdigest()[:16]}"
    if name not in sys.modules:
        module = ModuleType(name)
        module.__file__ = str(path)
        sys.modules[name] = module  # pydantic looks annotations up there
        try:
            exec(compile(code, path, "exec"), module.__dict__)  # noqa: S102 - the operator named the file
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _class_in(
    load: Callable[[], ModuleType], home: str, attribute: str, name: str, origin: str
) -> type[MCPPlugin[Any]]:
    from plughost._plugin import MCPPlugin  # noqa: PLC0415 - brings pydantic, which listings do without

    try:
        module = load()
    except (Exception, SystemExit) as error:
        problem = f"cannot be imported: {located(error, home)}"
        raise PluginError(name, problem, origin=origin, remedy="Mend or reinstall it, or disable it") from error
    try:
        found: object = reduce(getattr, attribute.split("."), cast("Any", module))
    except AttributeError as error:
        absent = f"its module has no {attribute!r}{did_you_mean(attribute, vars(module))}"
        problem = absent if attribute else "it names a module and no class"
        raise PluginError(name, problem, origin=origin, remedy="Name the plugin's class behind a colon") from error
    if not (isinstance(found, type) and issubclass(found, MCPPlugin)):
        problem = f"{attribute} is not a subclass of plughost.MCPPlugin"
        raise PluginError(name, problem, origin=origin, remedy="Derive it from MCPPlugin, or name the class that is")
    return found
