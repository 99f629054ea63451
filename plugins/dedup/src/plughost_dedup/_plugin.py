"""The plugin: which calls are shared, and what is kept of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from fnmatch import translate
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import orjson
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, LOG_LEVEL_META_KEY, ErrorData
from plughost import (
    Call,
    CallNext,
    Duration,
    ErrorCode,
    EventType,
    HealthCheck,
    HostEvent,
    MCPPlugin,
    Middleware,
    Operation,
    Phase,
    PluginConfig,
    Refusal,
    Result,
    SecretBox,
    Size,
    hookimpl,
)
from plughost_redis import BackendUnavailable, RedisBackend, StoreURL
from pydantic import Field

from plughost_dedup._flight import ForOne, SingleFlight
from plughost_dedup._kept import Kept
from plughost_dedup._key import IDEMPOTENCY_KEY, call_key, idempotency_digest
from plughost_dedup._line import SharedLine, flight_call
from plughost_dedup._metrics import meter
from plughost_dedup._replicas import KeyReused, Replicas

if TYPE_CHECKING:
    from plughost import Host

READS = frozenset({"resources/read", "prompts/get"})
"""Methods that only read, by the specification."""
ROUNDS = frozenset({"requestState", "inputResponses", "task"})
"""Parameters of a call that is one step of several, and so this caller's own (H3)."""
LONGEST_KEY = 256
"""Characters of an idempotency key."""
FOR_ONE = b"-"
"""What other replicas are told of an outcome that is not for them."""
STALE_AFTER = frozenset({EventType.PROVIDER_DOWN, EventType.CONFIG_RELOADED})
"""Events after which what was begun or kept before may not be what a new call would get."""


class DedupConfig(PluginConfig):
    """The keys of `[plugins.dedup]`."""

    tools: tuple[str, ...] = ()
    """Tools of which concurrent identical calls are shared: globs on the provider's own names."""
    reads: bool = True
    """Whether concurrent identical `resources/read` and `prompts/get` are shared."""
    window: Duration = 0.0
    """How long a result is handed out after the call that made it has ended; 0: not at all."""
    idempotency_window: Duration = 600.0
    """How long the result of a call with an idempotency key is kept; 0: idempotency keys are ignored."""
    max_entries: Annotated[int, Field(gt=0)] = 10_000
    """Results that are kept at most: that many for the window, and that many for idempotency keys."""
    max_bytes: Size = 16 * 2**20
    """Bytes that they take at most, each of the two."""
    url: StoreURL = StoreURL("memory://")
    """Where replicas find each other's executions: `memory://` (each its own) or `redis://…`."""
    lease: Annotated[Duration, Field(ge=0.1)] = 5.0
    """How long after its death the executions of a replica on Redis are taken over by another."""


class _Ask(NamedTuple):
    """What a call shares with others: under which key, for which arguments, and where its result is kept."""

    key: bytes
    fingerprint: bytes
    kept: Kept
    seconds: float


class DedupPlugin(MCPPlugin[DedupConfig]):
    """Runs concurrent identical calls once (K5), for the same caller only (K2), and repeats none of them by itself."""

    def __init__(self, config: DedupConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self.flights = SingleFlight[Result]()
        self.answered = 0
        """Calls answered with a result that was kept."""
        self._arguments: dict[bytes, bytes] = {}
        """Idempotency key under way → fingerprint."""
        self.replicas: Replicas | None = None
        self._bind()

    # -- life cycle ---------------------------------------------------------------------------------------------------

    async def register(self, host: Host) -> None:
        config = self.config
        self.host = host
        now = self._now = host.clock.monotonic
        self._changed_at: float | None = None
        self._routes: object = None
        self.window = Kept(now, max_entries=config.max_entries, max_bytes=config.max_bytes)
        self.idempotent = Kept(now, max_entries=config.max_entries, max_bytes=config.max_bytes)
        if not config.url.is_memory:
            self.replicas = Replicas(
                RedisBackend(config.url, name=self.name, host=host, prefix="plughost:dedup"),
                lease=config.lease,
                clock=host.clock,
                seal=lambda: host.get(SecretBox, default=None),  # type: ignore[type-abstract]  # the key is a protocol
                on_clear=self._forget,
            )
            await self.replicas.start()
        self._deaf = host.subscriptions.bus.subscribe(lambda _: self._outdate())
        meter.watch(self)

    async def unregister(self) -> None:
        meter.unwatch(self)
        self._deaf()
        self._routes = None
        await self.flights.aclose()
        self._forget()
        if self.replicas is not None:
            await self.replicas.aclose()

    async def reconfigure(self, config: DedupConfig) -> bool:
        if (config.url, config.lease) != (self.config.url, self.config.lease):
            return False
        self.config = config
        self._bind()
        for kept in (self.window, self.idempotent):
            kept.bound(max_entries=config.max_entries, max_bytes=config.max_bytes)
        return True

    def _bind(self) -> None:
        """What each call reads, out of the config."""
        config = self.config
        self._named = re.compile("|".join(map(translate, config.tools)) or r"(?!)").match
        self._reads = READS if config.reads else frozenset[str]()
        self._seconds, self._idempotent_seconds = config.window, config.idempotency_window

    # -- hooks --------------------------------------------------------------------------------------------------------

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        home = object()  # the pipeline that is being composed: it must not go while one of its flights is under way

        def share(call: Call, call_next: CallNext) -> Awaitable[Result]:
            return self.share(call, call_next, home)

        return [Middleware(share, Phase.REUSE, methods={"tools/call", *READS}, after=("cache",))]

    @hookimpl
    def plughost_health_checks(self) -> Iterable[HealthCheck]:
        return [] if self.replicas is None else [self.replicas.backend.health_check()]

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [
            Operation("show", self._show, summary="what is under way, shared and kept"),
            Operation("clear", self._clear, changes=True, summary="forget what is kept, idempotency keys too"),
        ]

    @hookimpl
    def plughost_event(self, event: HostEvent) -> None:
        if event.type in STALE_AFTER:
            self._outdate()
        elif event.type == EventType.CATALOG_CHANGED:
            self._follow()

    def _outdate(self) -> None:
        """Hand out nothing that was begun before: something that clients can see has changed."""
        self.window.clear()
        self._changed_at = self._now()

    def _follow(self) -> None:
        """Notice a changed catalog, of which events tell a moment later."""
        routes = self.host.generation.catalog.routes
        if routes is not self._routes:
            known, self._routes = self._routes, routes
            if known is not None and known != routes:
                self._outdate()

    # -- a call -------------------------------------------------------------------------------------------------------

    def share(self, call: Call, call_next: CallNext, home: object = None) -> Awaitable[Result]:
        """The result of the same call that is under way or was kept; or of this one."""
        ask = self._ask(call)
        if ask is None:
            return call_next(call)
        return self._share(ask, call, call_next, home)

    def _ask(self, call: Call) -> _Ask | None:
        """What this call shares with others; `None` if it is its caller's alone."""
        name, params = call.local_name, call.params
        meta = params.get("_meta")
        told = meta if isinstance(meta, dict) else {}
        wanted = self._idempotent_seconds > 0 and IDEMPOTENCY_KEY in told
        shared = call.method in self._reads if call.method != "tools/call" else name and self._named(name)
        if not (wanted or shared) or call.provider is None or not ROUNDS.isdisjoint(params):
            return None
        if wanted:
            key = idempotency_digest(call, _checked(told[IDEMPOTENCY_KEY]))
            return _Ask(key, call_key(call), self.idempotent, self._idempotent_seconds)
        if "progressToken" in told or LOG_LEVEL_META_KEY in told:  # what it streams is for its caller
            return None
        key = call_key(call)
        return _Ask(key, key, self.window, self._seconds)

    async def _share(self, ask: _Ask, call: Call, call_next: CallNext, home: object) -> Result:
        key = ask.key
        self._follow()
        flight = key if ask.kept is self.idempotent else (key, self.window.epoch)  # nobody joins one from before
        if ask.seconds and (entry := ask.kept.get(key)) is not None:
            _compare(entry.fingerprint, ask.fingerprint)
            self.answered += 1
            return _loaded(entry.payload)
        if key in self._arguments:
            _compare(self._arguments[key], ask.fingerprint)
        elif key is not ask.fingerprint:
            self._arguments[key] = ask.fingerprint
        line = SharedLine(call.dispatch)

        def execute() -> Awaitable[Result | ForOne[Result]]:
            return self._execute(ask, call, call_next, line)

        try:
            shared = self.flights.run(flight, execute, home=home)
            return await (shared if call.deadline is None else self._in_time(call.deadline, call, shared))
        except KeyReused:
            raise _reused() from None
        finally:
            line.detach()
            if flight not in self.flights:
                self._arguments.pop(key, None)

    async def _in_time(self, deadline: float, call: Call, result: Awaitable[Result]) -> Result:
        """The result, within the deadline of this caller: the flight has none."""
        left = deadline - self._now()
        try:
            async with asyncio.timeout(left) as limit:
                return await result
        except TimeoutError:
            if not limit.expired():
                raise
            message = f"{call.target!r} did not answer within {max(left, 0):g} s, which were left until its deadline"
            details = {"limit": "deadline", "provider": call.provider, "target": call.target}
            raise Refusal(ErrorCode.TIMEOUT, message, details=details) from None

    async def _execute(self, ask: _Ask, call: Call, call_next: CallNext, line: SharedLine) -> Result | ForOne[Result]:
        """One execution: in this replica, or another one's."""
        epoch = ask.kept.epoch

        async def work() -> Result | ForOne[Result]:
            try:
                result = await call_next(flight_call(call, line))
            except Exception as error:
                if line.asked:
                    return ForOne(error)
                raise
            if line.asked or result.get("resultType", "complete") != "complete":
                return ForOne(result)
            return result

        if self.replicas is not None:
            tenant = None if call.principal is None else call.principal.tenant
            return await self._across(self.replicas, ask, work, epoch, tenant)
        found = await work()
        if ask.seconds and not isinstance(found, ForOne) and not found.get("isError"):  # K3
            ask.kept.put(ask.key, ask.fingerprint, _dumped(found), seconds=ask.seconds, epoch=epoch)
        return found

    async def _across(
        self,
        replicas: Replicas,
        ask: _Ask,
        work: Callable[[], Awaitable[Result | ForOne[Result]]],
        epoch: int,
        tenant: str | None,
    ) -> Result | ForOne[Result]:
        """What `work()` gives here, or gave in the replica that holds the lock."""
        mine: list[Result | ForOne[Result] | Exception] = []
        keep = 0.0

        async def publishable() -> bytes:
            nonlocal keep
            try:
                found = await work()
            except Exception as error:  # noqa: BLE001 - raised below
                mine.append(error)
                return b"E" + _of_error(error) if isinstance(error, MCPError) else FOR_ONE
            mine.append(found)
            if isinstance(found, ForOne):
                return FOR_ONE
            payload = _dumped(found)
            if ask.seconds and payload and not found.get("isError") and epoch == ask.kept.epoch:
                keep = ask.seconds
                ask.kept.put(ask.key, ask.fingerprint, payload, seconds=keep, epoch=epoch)
            return b"R" + payload if payload else FOR_ONE

        changed = self._changed_at if ask.kept is self.window else None
        outcome = await replicas.run(
            ask.key, ask.fingerprint, publishable, keep=lambda: keep, tenant=tenant, changed=changed
        )
        if not mine:
            return await work() if (theirs := _theirs(outcome)) is None else theirs
        found = mine.pop()
        if isinstance(found, Exception):
            raise found
        return found

    # -- operations ---------------------------------------------------------------------------------------------------

    def _forget(self) -> int:
        count = len(self.window)
        self._outdate()
        return count + self.idempotent.clear()

    async def _show(self, _: Any) -> dict[str, Any]:
        shown = {
            "underWay": len(self.flights),
            "executed": self.flights.started,
            "joined": self.flights.joined,
            "answered": self.answered,
            "window": {"entries": len(self.window), "bytes": self.window.size},
            "idempotency": {"entries": len(self.idempotent), "bytes": self.idempotent.size},
            "store": str(self.config.url),
        }
        if self.replicas is not None:
            shown |= {"up": self.replicas.backend.up, "stale": self.replicas.stale}
        return shown

    async def _clear(self, _: Any) -> dict[str, Any]:
        cleared = {"cleared": self._forget()}
        if self.replicas is not None:
            try:
                cleared["clearedInStore"] = await self.replicas.clear()
            except BackendUnavailable as error:
                raise RuntimeError(f"cleared in memory, but not in the store: {error}") from error
        return cleared


def _checked(value: object) -> str:
    if isinstance(value, str) and 0 < len(value) <= LONGEST_KEY:
        return value
    raise MCPError(
        INVALID_PARAMS, f"_meta[{IDEMPOTENCY_KEY!r}] is no idempotency key; send 1 to {LONGEST_KEY} characters"
    )


def _compare(known: bytes, asked: bytes) -> None:
    if known != asked:
        raise _reused()


def _reused() -> MCPError:
    message = (
        f"_meta[{IDEMPOTENCY_KEY!r}] was sent with other arguments before; send a new key for a new call, "
        "or the same arguments for the same one"
    )
    return MCPError(INVALID_PARAMS, message)


# -- results as bytes -------------------------------------------------------------------------------------------------


def _dumped(result: Result) -> bytes:
    """The result as JSON; empty if it is none."""
    try:
        return orjson.dumps(result)
    except orjson.JSONEncodeError:
        return b""


def _loaded(payload: bytes) -> Result:
    result: dict[str, Any] = orjson.loads(payload)
    return result


def _of_error(error: MCPError) -> bytes:
    return error.error.model_dump_json(by_alias=True, exclude_none=True).encode()


def _theirs(outcome: bytes) -> Result | None:
    """What another replica published: its result, or its error, raised; `None` if there is nothing in it for others."""
    try:
        if outcome[:1] == b"R":
            return _loaded(outcome[1:])
        if outcome[:1] != b"E":
            return None
        error = ErrorData.model_validate_json(outcome[1:])
    except ValueError:
        return None
    raise MCPError(error.code, error.message, error.data)
