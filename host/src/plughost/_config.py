"""The configuration: TOML, references to secrets, models, and every fault at once.

Imports neither `mcp` nor a plugin, so that listings and `config` commands are quick.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from plughost._document import find_config, read_document
from plughost._documented import Documented
from plughost._errors import ConfigError, Fault, did_you_mean
from plughost._plugin import Match, PluginConfig, refuse_placeholders

if TYPE_CHECKING:
    from plughost._plugin import MCPPlugin

DEFAULT_LISTEN = "127.0.0.1:8000"
UPSTREAM = "upstream"
"""The plugin that serves providers with `command` or `url`."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")
_REFERENCE = re.compile(r"\$\$|\$\{(file:)?([^}]*)\}")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


_BRANCH = re.compile(r"(function-\w+|is-instance|literal|constrained-\w+)(\[|\Z)")
"""What pydantic puts into the place of a fault where a field takes one of several types."""
_LISTS = frozenset({"tuple_type", "list_type", "set_type", "frozen_set_type"})


def _with_unit(units: Mapping[str, float], examples: str) -> Callable[[Any], Any]:
    pattern = re.compile(rf"(\d+(?:\.\d+)?)\s*({'|'.join(units)})\Z")

    def parse(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if match := pattern.match(value.strip()):
            return float(match[1]) * units[match[2]]
        try:
            return float(value)
        except ValueError:
            raise ValueError(f"write a number, or for example {examples}") from None

    return parse


def _schema(kind: str, units: Iterable[str]) -> WithJsonSchema:
    text = {"type": "string", "pattern": rf"^\d+(\.\d+)?\s*({'|'.join(units)})$|^\$\{{.*\}}$"}
    return WithJsonSchema({"anyOf": [{"type": kind, "minimum": 0}, text]})


Duration = Annotated[
    float,
    BeforeValidator(_with_unit(_UNITS, "'500ms', '10s', '2m'")),
    Field(ge=0, allow_inf_nan=False),
    _schema("number", _UNITS),
]
"""Seconds; a config may also write `"500ms"`, `"10s"`, `"2m"`, `"1h"`, `"1d"`."""

Size = Annotated[int, BeforeValidator(_with_unit(_SIZES, "'64KiB', '4MiB'")), Field(gt=0), _schema("integer", _SIZES)]
"""Bytes; a config may also write `"64KiB"`, `"4MiB"`."""


class HostSettings(Documented):
    """The `[host]` table."""

    name: str = "plughost"
    """Name the host shows to clients; replicas that share `request_state_keys` need the same."""
    listen: str = DEFAULT_LISTEN
    """`HOST:PORT` of Streamable HTTP. An address other than loopback demands `allowed_hosts` (T1)."""
    path: str = Field(default="/mcp", pattern=r"^/")
    """Path of the MCP endpoint."""
    allowed_hosts: tuple[str, ...] = ()
    """`Host` headers to accept besides loopback's; `name:*` allows any port."""
    allowed_origins: tuple[str, ...] = ()
    """`Origin` headers to accept besides loopback's; `https://name:*` allows any port."""
    control: bool = True
    """Serve the control socket, which `plughost plugins enable|disable` and `plughost ctl` talk to."""
    drain_timeout: Duration = 30.0
    """How long calls in flight may take to finish when a plugin leaves or the host stops."""
    max_body: Size = 4 * 2**20
    """Largest request body; more is answered 413 before parsing (T10)."""
    request_state_keys: tuple[SecretStr, ...] = ()
    """Keys that seal `requestState`, newest first, at least 32 bytes each; the same on all replicas (H2)."""
    stateless_legacy: bool = False
    """Serve revisions before 2026-07-28 without sessions: no server-to-client requests, any replica answers."""
    locked: bool = False
    """Refuse to start when an enabled plugin differs from `plughost.lock`."""
    log_level: str = Field(default="INFO", pattern=r"^(DEBUG|INFO|WARNING|ERROR|CRITICAL)$")
    """Level of the root logger."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]") or "127.0.0.1", int(port)

    @model_validator(mode="after")
    def _check(self) -> HostSettings:
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"listen = {self.listen!r} is not HOST:PORT; write for example '127.0.0.1:8000'")
        if host not in LOOPBACK and not self.allowed_hosts:
            raise ValueError(
                f"listen = {self.listen!r} is reachable from other machines, so allowed_hosts must name the Host "
                "headers that clients send; add for example allowed_hosts = ['mcp.example.com']"
            )
        for key in self.request_state_keys:
            if len(key.get_secret_value().encode()) < 32:
                raise ValueError("each of request_state_keys needs at least 32 bytes of secret randomness")
        refuse_placeholders(self)
        return self


class ProviderTable(Documented):
    """A `[providers.NAME]` table: what it reaches, and the keys that the plugin serving it defines."""

    model_config = ConfigDict(extra="allow")

    python: str | None = None
    """`module:object` of an SDK server to serve in process; the config file's folder is searched first."""
    command: tuple[str, ...] | None = None
    """Program and arguments of a stdio server; no shell is involved (L1)."""
    url: str | None = None
    """URL of a Streamable HTTP server."""
    prefix: str = Field(default="", pattern=r"^[A-Za-z0-9_.-]{0,32}$")
    """Goes in front of the provider's tool and prompt names."""

    @field_validator("url")
    @classmethod
    def _http(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is not an HTTP URL; write for example 'https://example.com/mcp'")
        return url

    @model_validator(mode="after")
    def _one_source(self) -> ProviderTable:
        given = [key for key in ("python", "command", "url") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of python, command, url; it has {' and '.join(given) or 'none'}")
        if self.command == ():
            raise ValueError("command is empty; write it as a list: ['npx', '-y', 'some-server']")
        if self.python is not None and self.model_extra:
            key = next(iter(self.model_extra))
            raise ValueError(
                f"unknown key {key!r} for a python provider{did_you_mean(key, ProviderTable.model_fields)}"
            )
        return self


class PluginTable(Documented):
    """A `[plugins.NAME]` table: the keys common to all instances; the others are the plugin's own."""

    model_config = ConfigDict(extra="allow")

    enabled: bool = True
    """A disabled instance is listed, and not imported."""
    plugin: str | None = None
    """Entry point of the plugin, or `./file.py:Class`; the instance's own name if absent."""
    required: bool = True
    """Whether the host refuses to start without this instance."""
    match: Match | None = None
    """The calls this instance is for; all, if absent."""

    @property
    def own(self) -> dict[str, Any]:
        """The plugin's own keys."""
        return dict(self.model_extra or {})


class HostConfig(Documented):
    """The whole configuration. `source` is the file it came from, which relative paths are relative to."""

    host: HostSettings = HostSettings()
    providers: dict[str, ProviderTable] = Field(default_factory=dict)
    plugins: dict[str, PluginTable] = Field(default_factory=dict)
    source: Path | None = Field(default=None, exclude=True)

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return self.source.parent if self.source else Path.cwd()

    @property
    def instances(self) -> dict[str, PluginTable]:
        """Every plugin instance: those of the file, and `upstream` if a provider needs it and none is named."""
        needed = any(table.python is None for table in self.providers.values())
        named = any((table.plugin or name) == UPSTREAM for name, table in self.plugins.items())
        return {UPSTREAM: PluginTable(), **self.plugins} if needed and not named else self.plugins


def load_config(source: HostConfig | Mapping[str, Any] | str | Path) -> HostConfig:
    """A validated `HostConfig` from a path, a mapping of the same shape as the TOML, or a `HostConfig`.

    The plugins' own keys are not checked here: that needs the plugins.

    Raises:
        ConfigError: Names every fault with file, table and field.
    """
    if isinstance(source, HostConfig):
        return source
    if isinstance(source, str | Path):
        path = find_config(source)
        assert path is not None
        return parse_config(read_document(path), path)
    return parse_config(source, None)


def parse_config(document: Mapping[str, Any], path: Path | None) -> HostConfig:
    """A validated `HostConfig` from the tables of the file at `path`.

    Raises:
        ConfigError: Names every fault with file, table and field.
    """
    faults: list[Fault] = []
    resolved = {key: _resolve(value, key, faults, path) for key, value in document.items()}
    if resolved.pop("source", None) is not None:  # a field of the model, and no key of the file
        faults.append(Fault("source", "unknown key; known keys: host, plugins, providers"))
    for group in ("providers", "plugins"):
        tables = resolved.get(group)
        names = tables if isinstance(tables, Mapping) else ()
        bad = [name for name in names if not NAME.match(str(name))]
        faults += [Fault(f"{group}.{name}", "names are letters, digits, '-' and '_'") for name in bad]
    try:
        config = HostConfig.model_validate({**resolved, "source": path})
    except ValidationError as error:
        faults.extend(faults_of(error, HostConfig))
    if faults:
        raise ConfigError(faults, source=str(path or "configuration"))
    return config


def parse_plugin_config(plugin_class: type[MCPPlugin[Any]], table: PluginTable, name: str) -> PluginConfig:
    """The config of one plugin instance from the plugin's own keys of its table.

    Raises:
        ConfigError: Names every fault with table and field.
    """
    model = plugin_class.config_type
    try:
        return model.model_validate(table.own)
    except ValidationError as error:
        raise ConfigError(faults_of(error, model, f"plugins.{name}", PluginTable.model_fields)) from None


def faults_of(
    error: ValidationError, model: type[BaseModel], where: str = "", common: Iterable[str] = ()
) -> list[Fault]:
    """One fault per place, with a suggestion for a key that nobody knows. Holds no input values (G6).

    A place that takes one of several types has one problem for each. `common` are keys of the same table that another
    model defines.
    """
    problems: dict[str, list[str]] = {}
    for item in error.errors(include_input=False, include_url=False):
        loc = [str(part) for part in item["loc"] if not _BRANCH.match(str(part))]
        place = ".".join(filter(None, [where, *loc]))
        if item["type"] == "extra_forbidden":
            known = [*_fields_at(model, loc[:-1]), *(common if len(loc) == 1 else ())]
            hint = did_you_mean(loc[-1], known) or (f"; known keys: {', '.join(sorted(known))}" if known else "")
            problem = f"unknown key{hint}"
        elif item["type"] in _LISTS:
            problem = "write a list, in [brackets]"
        else:
            problem = item["msg"].removeprefix("Value error, ")
        problems.setdefault(place, []).append(problem)
    return [Fault(place, "; or: ".join(dict.fromkeys(found))) for place, found in problems.items()]


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """The field names of the model that `path` leads to, as far as it can be followed."""
    for part in path:
        field = model.model_fields.get(part)
        nested = _first_model(field.annotation) if field else None
        if nested is None and field is not None:
            continue
        if nested is not None:
            model = nested
    return [field.alias or name for name, field in model.model_fields.items() if not field.exclude]


def _first_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _first_model(argument)) is not None:
            return found
    return None


def _resolve(value: Any, where: str, faults: list[Fault], path: Path | None) -> Any:
    """Replace `${ENV}` and `${file:PATH}` in every string; `$$` is a dollar sign."""
    if isinstance(value, Mapping):
        return {key: _resolve(item, f"{where}.{key}", faults, path) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_resolve(item, f"{where}.{index}", faults, path) for index, item in enumerate(value)]
    if not isinstance(value, str) or "$" not in value:
        return value

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name = match[2]
        if match[1]:
            try:
                return ((path.parent if path else Path.cwd()) / name).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                faults.append(Fault(where, f"${{file:{name}}} cannot be read: {error}"))
                return ""
        if name not in os.environ:
            faults.append(Fault(where, f"environment variable {name} is not set; set it, or write $${{{name}}}"))
        return os.environ.get(name, "")

    return _REFERENCE.sub(replace, value)
