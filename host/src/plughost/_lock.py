"""`plughost.lock`: which code each enabled plugin is, so that a host with `locked = true` runs that and no other.

It is about what an update, or a distribution of a similar name, brings in unseen. It is no defence against somebody who
can write into the environment: such a person can change the host as well.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.machinery import PathFinder
from pathlib import Path, PurePosixPath

import importlib_metadata

from plughost._discovery import PluginSource
from plughost._errors import ConfigError, Fault

NAME = "plughost.lock"
REMEDY = "review it, then run: plughost plugins lock"
_HEAD = "# Written by `plughost plugins lock`: the code that [host] locked = true holds the enabled plugins to.\n"


@dataclass(frozen=True, slots=True)
class Pin:
    """What one instance is: its plugin, where that comes from, and the hash of its code."""

    plugin: str
    distribution: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.distribution or self.plugin} {self.version} (sha256 {self.sha256[:12]}…)".replace("  ", " ")


class Lock:
    """The pins of a lock file."""

    def __init__(self, pins: Mapping[str, Pin]) -> None:
        self.pins = dict(sorted(pins.items()))

    @classmethod
    def read(cls, path: Path) -> Lock:
        """The lock file at `path`.

        Raises:
            ConfigError: It is not there, or is not one.
        """
        try:
            tables = tomllib.loads(path.read_text("utf-8"))["plugins"]
            return cls({name: Pin(**table) for name, table in tables.items()})
        except FileNotFoundError:
            problem = "locked = true, and there is no lock file; write it: plughost plugins lock"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problem = f"cannot be read ({type(error).__name__}: {error}); {REMEDY}"
        raise ConfigError([Fault(str(path), problem)])

    def fault(self, instance: str, source: PluginSource) -> Fault | None:
        """What is wrong with an instance, if its code is not what the lock has."""
        found, wanted = pin(source), self.pins.get(instance)
        if found == wanted:
            return None
        problem = f"it is {found}, and {NAME} has {wanted or 'no such instance'}; {REMEDY}"
        return Fault(f"plugins.{instance}", problem)

    def __str__(self) -> str:
        tables = (
            f"\n[plugins.{name}]\n" + "".join(f'{key} = "{value}"\n' for key, value in asdict(pin).items())
            for name, pin in self.pins.items()
        )
        return _HEAD + "".join(tables)


def pin(source: PluginSource) -> Pin:
    """What a plugin is at the moment. Imports nothing of it."""
    digest = hashlib.sha256(source.value.encode() if source.distribution else b"")
    for name, file in sorted(_code(source)):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"\0{name}\0{content}".encode())
    return Pin(source.name, source.distribution, source.version, digest.hexdigest())


def _code(source: PluginSource) -> Iterator[tuple[str, Path]]:
    """The files of a plugin: those that its distribution installed, and all that lies in its package."""
    if not source.distribution:
        yield "", Path(source.value.rpartition(":")[0])
        return
    found = dict(_package(source.value.partition(":")[0].partition(".")[0]))
    distribution = importlib_metadata.distribution(source.distribution)
    editable = getattr(getattr(distribution.origin, "dir_info", None), "editable", False)
    for item in () if editable else distribution.files or ():
        name, file = PurePosixPath(str(item)), Path(str(item.locate()))
        of_installer = name.parts[0] == ".." or name.parts[0].endswith((".dist-info", ".egg-info"))
        if not of_installer and name.suffix != ".pyc" and file.is_file():
            found[str(name)] = file
    yield from found.items()


def _package(module: str) -> Iterable[tuple[str, Path]]:
    spec = PathFinder.find_spec(module)
    if spec is None or spec.origin is None:
        return
    origin = Path(spec.origin)
    root = origin.parent if spec.submodule_search_locations else origin
    for file in root.rglob("*") if root.is_dir() else (root,):
        if file.is_file() and file.suffix != ".pyc":
            yield file.relative_to(root.parent).as_posix(), file
