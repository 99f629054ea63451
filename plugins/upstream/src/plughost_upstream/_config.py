"""The keys of `[plugins.upstream]` and of the `[providers.NAME]` tables with `command` or `url`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from plughost import ConfigError, Duration, Fault, HostConfig, PluginConfig, ProviderTable, Size, faults_of
from pydantic import Field, SecretStr, ValidationError

Era = Literal["auto", "modern", "legacy"]

INHERITED = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")
"""What a child sees of the host's environment unless `inherit_env` names more (L1)."""
_STDIO_ONLY = ("env", "inherit_env", "cwd")
_HTTP_ONLY = ("headers", "ping")


class UpstreamConfig(PluginConfig):
    """The keys of `[plugins.upstream]`: defaults for every upstream, and the limits of what they share."""

    timeout: Duration = 60.0
    """Most that a request may take upstream, reconnecting included. Progress does not extend it (T8); the time that a
    client takes to answer a question does not count."""
    start_timeout: Duration = 10.0
    """How long the start of the host waits for an upstream before it goes on without it."""
    connect_timeout: Duration = 60.0
    """Most that one attempt to connect may take, from the start of the process to its lists."""
    wait: Duration = 5.0
    """How long a request waits for an upstream that is being reconnected before it is refused."""
    retry_min: Duration = Field(default=0.5, gt=0)
    """First pause between two attempts to connect; each further one is twice as long, less up to half at random."""
    retry_max: Duration = Field(default=60.0, gt=0)
    """Longest pause between two attempts to connect."""
    answer_timeout: Duration = 600.0
    """How long a client may take to answer a question that the upstream asks in the middle of a call."""
    max_parked: int = Field(default=1000, ge=1)
    """Calls of one upstream that may wait for such an answer without a request of the client; more are refused."""


class UpstreamTable(PluginConfig):
    """The keys of a `[providers.NAME]` table besides `command` or `url`, and `prefix`."""

    env: dict[str, SecretStr] = Field(default_factory=dict)
    """Environment variables of the child."""
    inherit_env: tuple[str, ...] = ()
    """Further variables that the child takes over from the host's environment (L1)."""
    cwd: str | None = None
    """Working directory of the child, relative to the config file; the config file's folder if absent."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Headers of every HTTP request, credentials above all; nothing of the client's request is passed on (A4)."""
    ping: Duration = 30.0
    """How often an idle HTTP upstream is asked whether it is there; 0 turns it off."""
    protocol: Era = "auto"
    """`auto` serves each client in its own era where the upstream knows both; `modern` (2026-07-28) or `legacy`
    (2025-11-25 and earlier) keeps to one, so that a stdio upstream is certainly a single process."""
    sessions: int = Field(default=1, ge=1, le=64)
    """Legacy sessions to spread calls over; for stdio, processes. Leave it at 1 where the server keeps state."""
    max_message: Size = 64 * 2**20
    """Largest message taken from the upstream."""
    timeout: Duration | None = None
    """As in `[plugins.upstream]`, for this upstream."""
    start_timeout: Duration | None = None
    """As in `[plugins.upstream]`, for this upstream."""
    connect_timeout: Duration | None = None
    """As in `[plugins.upstream]`, for this upstream."""
    wait: Duration | None = None
    """As in `[plugins.upstream]`, for this upstream."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """One upstream as configured. Two that are equal need not be told apart: a reload keeps the running one."""

    name: str
    prefix: str
    command: tuple[str, ...]
    url: str
    folder: Path
    table: UpstreamTable
    config: UpstreamConfig
    state_keys: tuple[SecretStr, ...] = ()
    version: str = "0"

    @property
    def timeout(self) -> float:
        return self.config.timeout if self.table.timeout is None else self.table.timeout

    @property
    def start_timeout(self) -> float:
        return self.config.start_timeout if self.table.start_timeout is None else self.table.start_timeout

    @property
    def connect_timeout(self) -> float:
        return self.config.connect_timeout if self.table.connect_timeout is None else self.table.connect_timeout

    @property
    def wait(self) -> float:
        return self.config.wait if self.table.wait is None else self.table.wait

    @property
    def place(self) -> str:
        """The program, or scheme, host and port: what a message may show, for a URL can hold secrets (G6)."""
        parts = urlsplit(self.url)
        return self.command[0] if self.command else f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    @property
    def cwd(self) -> Path:
        return self.folder / (self.table.cwd or "")

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The child's whole environment: an allow-list of the host's, and what the table sets (L1)."""
        names = (*INHERITED, *self.table.inherit_env)
        allowed = {name: inherited[name] for name in names if name in inherited}
        return allowed | {name: value.get_secret_value() for name, value in self.table.env.items()}

    def headers(self) -> dict[str, str]:
        """The headers of every request, in clear (A4)."""
        return {name: value.get_secret_value() for name, value in self.table.headers.items()}


def upstreams(config: HostConfig, defaults: UpstreamConfig, *, version: str) -> list[Upstream]:
    """Every upstream that the configuration names, in its order.

    Raises:
        ConfigError: Names every fault of their tables.
    """
    faults: list[Fault] = []
    found = []
    for name, table in config.providers.items():
        if table.python is not None:
            continue
        try:
            keys = UpstreamTable.model_validate(table.model_extra or {})
        except ValidationError as error:
            faults += faults_of(error, UpstreamTable, f"providers.{name}", ProviderTable.model_fields)
            continue
        faults += _misplaced(table, keys, name)
        found.append(
            Upstream(
                name=name,
                prefix=table.prefix,
                command=table.command or (),
                url=table.url or "",
                folder=config.folder,
                table=keys,
                config=defaults,
                state_keys=config.host.request_state_keys,
                version=version or "0",
            )
        )
    if faults:
        raise ConfigError(faults, source=str(config.source or "configuration"))
    return found


def _misplaced(table: ProviderTable, keys: UpstreamTable, name: str) -> Iterator[Fault]:
    wrong, kind = (_HTTP_ONLY, "url") if table.command else (_STDIO_ONLY, "command")
    for key in keys.model_fields_set.intersection(wrong):
        yield Fault(f"providers.{name}.{key}", f"is for a provider with {kind}; take it out")
