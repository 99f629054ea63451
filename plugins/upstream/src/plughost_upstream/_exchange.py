"""One request under way at an upstream, and its line back to the client that waits for the result."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from mcp.shared.message import ServerMessageMetadata
from mcp_types import LOG_LEVEL_META_KEY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from plughost import Call

from plughost_upstream._limit import Limit

if TYPE_CHECKING:
    from mcp.shared.dispatcher import DispatchContext

logger = logging.getLogger("plughost.upstream")

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""Log levels, the most talkative first."""
MAX_NEWS = 1024
"""Notifications of one request that wait for a slow client; more are dropped."""
SLOW_CLIENT = 10.0
"""Seconds after which a client that does not read loses a notification, so that its result is not held up."""
_IN_MEMORY = "direct"
"""The SDK's transport between objects of one process: it carries progress without a token."""
_PROGRESS_KEYS = frozenset({"progressToken", "progress", "total", "message"})
_tokens = count(1)


class Asker(Protocol):
    """Puts a question of the upstream to the client of a call."""

    async def __call__(self, method: str, params: Mapping[str, Any], asked: DispatchContext[Any]) -> dict[str, Any]: ...


class Exchange:
    """One request: who waits for it, how long it may take, and what the upstream tells meanwhile.

    `call` is `None` for the plugin's own requests. `level` is the least severe log level the client wants; `None`
    if it wants none. `ask` is set for calls whose client may be asked.
    """

    def __init__(self, call: Call | None, params: Mapping[str, Any], limit: Limit, *, level: str | None = None) -> None:
        self.call = call
        self.params = params
        self.limit = limit
        self.level = level
        self.ask: Asker | None = None
        self._token: str | int | None = None
        self._wants_progress = False
        self.token: str | None = None
        self._news: deque[tuple[str, Mapping[str, Any]]] = deque()
        self._idle: anyio.Event | None = None
        self._held = False
        if call is not None:
            self.attach(call)

    @property
    def client(self) -> object:
        """Stands for the client: two exchanges with the same one may hear each other's news and questions."""
        assert self.call is not None
        connection = self.call.connection
        if connection.has_standalone_channel:
            return connection.outbound
        who = self.call.principal
        return who if who is not None and (who.subject or who.issuer) else connection

    @property
    def modern(self) -> bool:
        """Whether the client speaks 2026-07-28."""
        return self.call is not None and self.call.protocol_version in MODERN_PROTOCOL_VERSIONS

    def attach(self, call: Call) -> None:
        """The client comes (back) with this request: what the upstream tells goes to it from now on."""
        self.call = call
        self._held = False
        token = call.meta.get("progressToken")
        self._token = token if isinstance(token, str | int) and not isinstance(token, bool) else None
        self._wants_progress = self._token is not None or call.dispatch.transport.kind == _IN_MEMORY
        if self._wants_progress and self.token is None:
            self.token = f"plughost-{next(_tokens)}"
        if self.modern:
            wanted = call.meta.get(LOG_LEVEL_META_KEY)
            self.level = wanted if wanted in LEVELS else None

    def detach(self) -> None:
        """The client has been answered for now: keep what the upstream tells until it comes back."""
        self._held = True

    async def release(self) -> None:
        """The upstream lets go of the response stream, to be polled: let the client poll too, if it can resume."""
        metadata = self.call.dispatch.message_metadata if self.call is not None else None
        if isinstance(metadata, ServerMessageMetadata) and metadata.close_sse_stream is not None:
            await metadata.close_sse_stream()

    def hear(self, method: str, params: Mapping[str, Any], spawn: Callable[..., object]) -> None:
        """Hand a notification on to the client, in order, from a task of its own."""
        if len(self._news) >= MAX_NEWS:
            logger.debug("dropped %s: the client does not read", method)
            return
        self._news.append((method, params))
        self.flush(spawn)

    def flush(self, spawn: Callable[..., object]) -> None:
        """Start to hand on what waits."""
        if self._news and self._idle is None and not self._held:
            self._idle = anyio.Event()
            spawn(self._pump, self._idle)

    async def settle(self) -> None:
        """Return when everything heard so far is handed on: a result must not overtake it."""
        if self._idle is not None:
            await self._idle.wait()

    async def _pump(self, idle: anyio.Event) -> None:
        try:
            while self._news and not self._held:
                method, params = self._news.popleft()
                with anyio.move_on_after(SLOW_CLIENT):
                    await self._tell(method, params)
        except Exception:  # the client's line may fail in any way; the upstream's session must not
            logger.debug("a notification could not be handed on", exc_info=True)
        finally:
            self._idle = None
            idle.set()

    async def _tell(self, method: str, params: Mapping[str, Any]) -> None:
        call = self.call
        assert call is not None
        if method == "notifications/progress":
            if not self._wants_progress:
                return
            if self._token is None or _PROGRESS_KEYS.issuperset(params):
                await call.dispatch.progress(params["progress"], params.get("total"), params.get("message"))
            else:
                await call.dispatch.notify(method, {**params, "progressToken": self._token})
        elif method != "notifications/message" or self._wants(params.get("level")):
            await call.dispatch.notify(method, params)

    def _wants(self, level: object) -> bool:
        if self.level is None or level not in LEVELS:
            return False
        return LEVELS.index(str(level)) >= LEVELS.index(self.level)

    def __repr__(self) -> str:
        return f"<Exchange for {self.call!r}>"


CURRENT: ContextVar[Exchange | None] = ContextVar("plughost_upstream_exchange", default=None)
"""The exchange being sent. Over HTTP what the upstream says on a request's own stream carries its sender's context,
so that it is known for certain which call it belongs to; over stdio nothing does."""
