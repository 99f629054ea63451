"""A session with an upstream: many requests at once, each with its own line back to its client."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import anyio
from anyio.abc import TaskGroup, TaskStatus
from mcp.shared.dispatcher import CallOptions, DispatchContext
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp.shared.subscriptions import LISTEN_STREAM_METHODS
from mcp.shared.transport_context import TransportContext
from mcp_types import CONNECTION_CLOSED, INVALID_REQUEST, METHOD_NOT_FOUND, UNSUPPORTED_PROTOCOL_VERSION
from plughost import ErrorCode, Refusal

from plughost_upstream._config import Upstream
from plughost_upstream._ear import Ear
from plughost_upstream._envelope import headers, outgoing
from plughost_upstream._exchange import CURRENT, Exchange
from plughost_upstream._http import TRACE, HTTPWire, Trace
from plughost_upstream._limit import Limit
from plughost_upstream._questions import check_askable
from plughost_upstream._shape import is_modern

CHANGES = LISTEN_STREAM_METHODS | {"notifications/subscriptions/acknowledged"}
_BAD_REQUEST = 400
"""What some servers answer, instead of 404, to a session they do not know; their message then speaks of it."""
_CLOSED = ("Connection closed", "SSE stream")
"""How the errors begin when no answer can come any more; a server may use the same code for something else."""
_STAND_IN = "Server returned an error response"
"""The SDK's error for an HTTP error without a JSON-RPC error in it."""
_NEVER_CANCELLED = ("initialize", "server/discover")


class Wire(Protocol):
    """An open connection; `streams` are what the SDK's dispatcher takes."""

    streams: tuple[Any, Any]

    def epitaph(self) -> str: ...


class NotTakenError(Exception):
    """Raised when the upstream certainly did not take a request, so that it may be sent again."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was negotiated with an upstream."""

    version: str
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)
    instructions: str | None = None


class Session:
    """One session, or at a modern HTTP upstream simply the way to it.

    `tasks` is where what it starts lives; it ends when `lost` is set. `on_change(method, params)` is told of list and
    resource changes.
    """

    def __init__(
        self, upstream: Upstream, wire: Wire, tasks: TaskGroup, on_change: Callable[[str, Mapping[str, Any]], None]
    ) -> None:
        self.upstream = upstream
        self.tasks = tasks
        self.identity = {"name": "plughost", "version": upstream.version}
        self.agreed = Agreement("")
        self.settled = False
        """Whether the negotiation is over."""
        self.lost = anyio.Event()
        self.suspected = anyio.Event()
        self.reason = ""
        self.calls: dict[int, Exchange] = {}
        """The clients' requests under way, the oldest first."""
        self._by_token: dict[Any, Exchange] = {}
        self.last_heard = anyio.current_time()
        self._idle = anyio.Event()
        self._wire = wire
        self._direct = wire.direct if isinstance(wire, HTTPWire) else None
        incoming, outgoing_stream = wire.streams
        self._ear = Ear(incoming, self._ended)
        self._dispatcher: JSONRPCDispatcher = JSONRPCDispatcher(self._ear, outgoing_stream)
        self._on_change = on_change
        self._log = logging.getLogger(f"plughost.upstream.{upstream.name}")
        self._warned = False

    @property
    def modern(self) -> bool:
        return is_modern(self.agreed.version)

    @property
    def live(self) -> bool:
        return not self.lost.is_set()

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Receive until the connection ends."""
        try:
            await self._dispatcher.run(self._asked, self._ignore, self._heard, task_status=task_status)
        finally:
            self._ended()

    def _ended(self) -> None:
        self.lose(self._wire.epitaph() or "the connection was closed")

    def lose(self, reason: str) -> None:
        """This session is over: nothing new is sent on it. What is under way may finish, if it can."""
        if self.live:
            self.reason = reason
            self.lost.set()
            if not self.calls:
                self._idle.set()

    def doubt(self, reason: str, certain: bool) -> None:  # noqa: FBT001 - the HTTP client calls it
        """Something failed that nobody waited for: end the session, or have it probed."""
        if certain:
            self.lose(reason)
        else:
            self.suspected.set()

    async def drained(self, limit: float) -> None:
        """Return when no client's request is under way any more."""
        with anyio.move_on_after(limit):
            await self._idle.wait()

    # -- to the upstream ----------------------------------------------------------------------------------------------

    async def send(
        self, exchange: Exchange, method: str, params: Mapping[str, Any], *, schema: Any = None, request_id: str = ""
    ) -> dict[str, Any]:
        """Send a request and return its raw result, after everything that was told on the way.

        Raises:
            NotTakenError: The upstream certainly did not take it; the session is over.
            MCPError: Its answer is an error; `Refusal` if the connection broke on the way.
        """
        if not self.live:
            raise NotTakenError(self.reason)
        body = outgoing(exchange, params, version=self.agreed.version, identity=self.identity)
        stamp = headers(method, body, self.agreed.version, schema)
        trace = Trace()
        tokens = CURRENT.set(exchange), TRACE.set(trace)
        counted = exchange.call is not None
        if counted:
            self.calls[id(exchange)] = exchange
            self._by_token[exchange.token] = exchange
        try:
            if self._direct is not None and self.modern:
                heard = partial(self._heard, origin=exchange)
                result = await self._direct.request(method, body, stamp, heard, request_id=request_id)
            else:
                result = await self._dispatch(method, body, stamp, request_id)
            self.last_heard = anyio.current_time()
        except MCPError as error:
            raise self._explained(error, trace) from None
        finally:
            CURRENT.reset(tokens[0])
            TRACE.reset(tokens[1])
            if counted:
                self._done(exchange)
        await exchange.settle()
        return result

    async def _dispatch(
        self, method: str, body: Mapping[str, Any], stamp: dict[str, str], request_id: str
    ) -> dict[str, Any]:
        options: CallOptions = {"headers": stamp}
        if request_id:
            options["request_id"] = request_id
        if method in _NEVER_CANCELLED:
            options["cancel_on_abandon"] = False
        return await self._dispatcher.send_raw_request(method, body, options)

    def _done(self, exchange: Exchange) -> None:
        self.calls.pop(id(exchange), None)
        self._by_token.pop(exchange.token, None)
        if not self.calls and not self.live:
            self._idle.set()

    def _explained(self, error: MCPError, trace: Trace) -> Exception:
        """What an error means: the upstream's own answer, or the end of the way to it."""
        if self.settled and self._is_over(error, trace):
            self.lose("the upstream forgot the session, or speaks another protocol revision now")
            return NotTakenError(self.reason)
        if trace.unsent:
            self.lose(trace.fault)
            return NotTakenError(trace.fault)
        closed = error.code == CONNECTION_CLOSED and error.message.startswith(_CLOSED)
        if not closed and not trace.fault:
            if error.message == _STAND_IN and trace.status is not None:
                return MCPError(error.code, f"The upstream answered HTTP {trace.status}", error.data)
            return error
        if trace.fault:
            self.suspected.set()
        name, problem = self.upstream.name, trace.fault or self.reason or error.message
        return Refusal(
            ErrorCode.UPSTREAM_UNAVAILABLE,
            f"The connection to upstream {name!r} broke during the call, which may have taken effect: {problem}",
            details={"provider": name, "reason": problem},
        )

    def _is_over(self, error: MCPError, trace: Trace) -> bool:
        """Whether the upstream, or another one in its place, knows nothing of what was negotiated."""
        if error.code == UNSUPPORTED_PROTOCOL_VERSION:
            return True
        if self.modern:
            return False
        some_say_so = trace.status == _BAD_REQUEST and "session" in error.message.lower()
        return some_say_so or (trace.forgotten and error.code != METHOD_NOT_FOUND)

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        """Send a notification; it is dropped if the connection is gone."""
        await self._dispatcher.notify(method, params or None, {"headers": headers(method, {}, self.agreed.version)})

    async def probe(self, limit: float) -> bool:
        """Whether the upstream still answers on this session."""
        exchange = Exchange(None, {}, Limit(limit))
        with exchange.limit:
            try:
                await self.send(exchange, "server/discover" if self.modern else "ping", {})
            except (NotTakenError, Refusal):
                return False
            except MCPError as error:  # an answer all the same; of a modern one, that it is modern no more
                return not self.modern and error.code != CONNECTION_CLOSED
        return not exchange.limit.expired

    # -- from the upstream --------------------------------------------------------------------------------------------

    def _heard(self, method: str, params: Mapping[str, Any] | None, origin: Exchange | None = None) -> bool:
        """Route a notification, in the order of arrival. Always consumed: nothing else listens."""
        params = params or {}
        self.last_heard = anyio.current_time()
        if method in CHANGES:
            self._on_change(method, params)
        elif method == "notifications/progress":
            token = params.get("progressToken")
            if isinstance(token, str) and (asker := self._by_token.get(token)) is not None:
                asker.hear(method, params, self.tasks.start_soon)
        elif method != "notifications/cancelled":
            listener = origin or self._origin() or self._only_client()
            if listener is not None and listener.call is not None:
                listener.hear(method, params, self.tasks.start_soon)
            elif method == "notifications/message":
                self._log.debug("logged a message that belongs to no call: level %r", params.get("level"))
        return True

    async def _ignore(
        self, asked: DispatchContext[TransportContext], method: str, params: Mapping[str, Any] | None
    ) -> None:
        """Everything is consumed in the order of arrival."""

    async def _asked(
        self, asked: DispatchContext[TransportContext], method: str, params: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Answer a request of the upstream: by asking the client whose call it belongs to."""
        if method == "ping":
            return {}
        if self.modern:
            raise MCPError(METHOD_NOT_FOUND, "Servers of this revision send no requests", method)
        exchange = CURRENT.get() or self._only_client()
        if exchange is None:
            raise MCPError(INVALID_REQUEST, self._nobody(method))
        if exchange.ask is None:
            if exchange.call is not None:
                check_askable(exchange.call, method, params or {})
            raise MCPError(INVALID_REQUEST, f"{method} cannot be answered during this request")
        return await exchange.ask(method, params or {}, asked)

    def _origin(self) -> Exchange | None:
        """The exchange on whose response stream the dispatcher's last message came, over HTTP."""
        context = self._ear.last_context
        return context.get(CURRENT) if context is not None else None

    def _only_client(self) -> Exchange | None:
        """The most recent call, if all calls under way are of one client: nobody gets another's question."""
        calls = list(self.calls.values())
        clients = {id(exchange.client) for exchange in calls}
        return calls[-1] if len(clients) == 1 else None

    def _nobody(self, method: str) -> str:
        if not self.calls:
            return f"{method} cannot be answered: no call of a client is under way"
        if not self._warned:
            self._warned = True
            self._log.warning(
                "asked %s while calls of several clients were under way, and nothing says whose question it is; it is"
                " refused. Raise `sessions` of the provider, or run one host per client",
                method,
            )
        return (
            f"{method} cannot be answered: several clients have calls under way, and nothing says whose question it is"
        )

    def __repr__(self) -> str:
        return f"<Session with {self.upstream.name!r} at {self.agreed.version}>"
