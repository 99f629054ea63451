"""`plughost.lock`: which code each enabled plugin is, so that a host with `locked = true` runs that and no other.

It is about what an update, or a distribution of a similar name, brings in unseen. It is no defence against somebody who
can write into the environment: such a person can change the host as well.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import importlib_metadata

from plughost._discovery import PluginSource
from plughost._errors import ConfigError, Fault, PluginError

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
        """What is wrong with an instance, if its code is not what the lock has.

        Raises:
            PluginError: Its code cannot be found or read.
        """
        found, wanted = pin(source), self.pins.get(instance)
        if found == wanted:
            return None
        problem = f"it is {found}, and {NAME} has {wanted or 'no such instance'}; {REMEDY}"
        return Fault(f"plugins.{instance}", problem)

    def __str__(self) -> str:
        tables = (
            f"\n[plugins.{name}]\n"
            + "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in asdict(pin).items())
            for name, pin in self.pins.items()
        )
        return _HEAD + "".join(tables)


def pin(source: PluginSource) -> Pin:
    """What a plugin is at the moment. Imports nothing of it.

    Raises:
        PluginError: No code of it can be found, or it cannot be read: nothing would be what is held to the lock.
    """
    digest = hashlib.sha256(source.value.encode() if source.distribution else b"")
    files = sorted(_code(source).items())
    if not files:
        raise PluginError(source.name, "no code of it can be found", origin=source.origin, remedy="Reinstall it")
    for name, file in files:
        try:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError as error:
            problem = f"its code cannot be read: {error}"
            raise PluginError(source.name, problem, origin=source.origin, remedy="Correct its path") from error
        digest.update(f"\0{name}\0{content}".encode())
    return Pin(source.name, source.distribution, source.version, digest.hexdigest())


def _code(source: PluginSource) -> dict[str, Path]:
    """The files of a plugin: those that its distribution installed, and all that lies in its package."""
    if not source.distribution:
        return {"": Path(source.value.rpartition(":")[0])}
    found: dict[str, Path] = {}
    for name, file in _package(source.value.partition(":")[0].partition(".")[0]):
        found.setdefault(name, file)  # of two, the first is imported
    distribution = importlib_metadata.distribution(source.distribution)
    editable = getattr(getattr(distribution.origin, "dir_info", None), "editable", False)
    for item in () if editable else distribution.files or ():
        path, file = PurePosixPath(str(item)), Path(str(item.locate()))
        of_installer = path.parts[0] == ".." or path.parts[0].endswith((".dist-info", ".egg-info"))
        if not of_installer and path.suffix != ".pyc" and file.is_file():
            found.setdefault(str(path), file)
    return found


def _package(module: str) -> Iterator[tuple[str, Path]]:
    """The files of a top-level package or module, wherever it would be imported from; of all parts of a namespace."""
    spec = find_spec(module)
    if spec is None:
        return
    whole = spec.submodule_search_locations or filter(None, [spec.origin])
    for root in map(Path, whole):
        for file in root.rglob("*") if root.is_dir() else (root,):
            if file.is_file() and file.suffix != ".pyc":
                yield file.relative_to(root.parent).as_posix(), file
