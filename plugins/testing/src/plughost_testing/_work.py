"""A plugin under work: where it stands, which of its files are watched, and how it is imported anew."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
from plughost import ConfigError, Host, HostConfig, PlughostError, PluginTable, load_config
from plughost._serve import _version
from pydantic import PrivateAttr

GROUP = "plughost.plugins"


class Edition(PluginTable):
    """A plugin's table that differs after each edit, though its keys are the same: the host looks its class up anew."""

    _number: int = PrivateAttr()

    def __init__(self, number: int, /, **keys: Any) -> None:
        super().__init__(**keys)
        self._number = number

    @classmethod
    def of(cls, table: PluginTable, number: int) -> Edition:
        """An edition of this table. It is required: what is worked on must not fail in silence."""
        return cls(number, **{**table.model_dump(exclude_unset=True), "required": True})


@dataclass(frozen=True, slots=True)
class Work:
    """The plugins that somebody works on: one in a file, or those of an installed package."""

    plugins: Mapping[str, str]
    """The instance that each gets if the config has none → what its `plugin` key says."""
    roots: tuple[Path, ...]
    """The file, or the folders of the package's modules."""
    modules: frozenset[str] = frozenset()
    """The top-level modules that are imported anew; the host itself sees to a file."""

    def look(self) -> dict[Path, Any]:
        """Each of its files with its version."""
        return {file: _version(file) for root in self.roots for file in _files(root)}

    @contextmanager
    def imported_anew(self) -> Iterator[None]:
        """Forget its modules, so that they are imported again; if the block fails, have the former ones back."""
        before = self._imported()
        for name in before:
            del sys.modules[name]
        try:
            yield
        except BaseException:
            for name in self._imported():
                del sys.modules[name]
            sys.modules.update(before)
            raise

    def _imported(self) -> dict[str, ModuleType]:
        return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in self.modules}

    def put_into(self, config: HostConfig, edition: int) -> HostConfig:
        """The config with this edition of its plugins; one that has no instance gets one without keys.

        Raises:
            PlughostError: The name of that instance is taken.
        """
        tables = dict(config.plugins)
        for own, reference in self.plugins.items():
            mine = [name for name, table in tables.items() if _absolute(table.plugin or name, config) == reference]
            if not mine and own in tables:
                remedy = f"give it a table of its own, with plugin = {reference!r}"
                raise PlughostError(f"[plugins.{own}] is not the plugin under work; {remedy}")
            tables.update({name: Edition.of(tables[name], edition) for name in mine})
            if not mine:
                tables[own] = Edition.of(PluginTable(plugin=reference), edition)
        return config.model_copy(update={"plugins": tables})


def _absolute(reference: str, config: HostConfig) -> str:
    path, _, attribute = reference.rpartition(":")
    return f"{(config.folder / path).resolve()}:{attribute}" if path.endswith(".py") else reference


def _files(root: Path) -> Iterator[Path]:
    """What an author edits: neither compiled files nor an editor's own."""
    for file in [root] if root.suffix == ".py" else root.rglob("*"):
        inside = file.relative_to(root).parts
        if file.is_file() and not any(part.startswith((".", "__pycache__")) or part.endswith("~") for part in inside):
            yield file


def find_work(path: str) -> Work:
    """What `FILE.py:CLASS`, or the folder of a package with plugins, stands for.

    Raises:
        PlughostError: It is neither, or the package is not installed.
    """
    name, _, attribute = path.rpartition(":")
    if name.endswith(".py"):
        file = Path(name).resolve()
        if not file.is_file():
            raise PlughostError(f"there is no file {name!r}; name one, as FILE.py:CLASS")
        return Work({file.stem: f"{file}:{attribute}"}, (file,))
    if path.endswith(".py"):
        raise PlughostError(f"{path!r} does not say which class is the plugin; write {path}:CLASS")
    return _package(path)


def _package(path: str) -> Work:
    folder = Path(path).resolve()
    try:
        document = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
        entries: dict[str, str] = document["project"]["entry-points"][GROUP]
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        problem = f"{path!r} is no plugin: its pyproject.toml has no entry points {GROUP!r} ({error!r})"
        raise PlughostError(f"{problem}; name FILE.py:CLASS, or a folder that plughost new made") from error
    installed = entry_points(group=GROUP).names
    for name in entries:
        if name not in installed:
            raise PlughostError(f"plugin {name!r} of {path!r} is not installed; do it once: pip install -e {path}")
    base = folder / "src" if (folder / "src").is_dir() else folder
    sys.path.insert(0, str(base))  # also of a package that is installed as a copy, what is edited is what runs
    modules = frozenset(value.partition(":")[0].partition(".")[0].strip() for value in entries.values())
    roots = tuple(base / module if (base / module).is_dir() else base / f"{module}.py" for module in sorted(modules))
    for root in roots:
        if not root.exists():
            raise PlughostError(f"{path!r} has an entry point in {root.stem!r}, but no {root}; correct pyproject.toml")
    return Work({name: name for name in entries}, roots, modules)


class Workshop(Host):
    """A host that imports the plugin under work anew if its files have changed, whoever asks it to reload."""

    def __init__(self, config: HostConfig, work: Work, *, trace: bool = False) -> None:
        self._work = work
        self._edition = 0
        self._loaded = work.look()
        self._reloading = anyio.Lock()
        super().__init__(work.put_into(config, 0), trace=trace)
        self.first_look = self.look()

    def look(self) -> dict[Path, Any]:
        """Each file that is watched, with its version: the plugin's, and the config's."""
        source = self.config.source
        return self._work.look() | ({source: _version(source)} if source else {})

    async def reload(self, config: HostConfig | None = None) -> dict[str, Any]:
        """Read the config and, if they have changed, the plugin's files again, and change what differs.

        Raises:
            PlughostError: In one line, what is wrong; nothing has changed.
        """
        async with self._reloading:
            seen = self._work.look()
            try:
                if seen == self._loaded:
                    return await self._take(config)
                self._edition += 1
                with self._work.imported_anew():
                    report = await self._take(config)
            except ConfigError as error:
                raise PlughostError("; ".join(map(str, error.faults))) from error
            self._loaded = seen
            return report

    async def _take(self, config: HostConfig | None) -> dict[str, Any]:
        config = config or load_config(self.config.source or self.config)
        return await super().reload(self._work.put_into(config, self._edition))
