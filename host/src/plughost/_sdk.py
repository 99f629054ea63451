"""The one module that touches what the SDK marks provisional or keeps private. Tested with mcp 2.3."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from copy import copy
from typing import TYPE_CHECKING, Any, cast

import anyio
from mcp.server._otel import OpenTelemetryMiddleware
from mcp.server.connection import Connection
from mcp.server.context import ServerMiddleware, ServerRequestContext
from mcp.server.lowlevel.server import HandlerEntry, NotificationOptions, Server
from mcp.server.request_state import AESGCMRequestStateCodec, RequestStateBoundary, RequestStateSecurity
from mcp.server.runner import ServerRunner
from mcp.server.session import ServerSession
from mcp.server.streamable_http import EventStore
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.dispatcher import DispatchContext
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.message import MessageMetadata, ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import CLIENT_CAPABILITIES_META_KEY, PROTOCOL_VERSION_META_KEY, RequestId, RequestParams
from mcp_types.version import LATEST_MODERN_VERSION
from pydantic import ValidationError

if TYPE_CHECKING:
    from plughost._call import Call, Principal

_CALLER: ContextVar[tuple[str | None, Principal | None]] = ContextVar("plughost_caller", default=(None, None))
"""The provider at work, and for whom."""
MODERN_ENVELOPE: Mapping[str, Any] = {
    PROTOCOL_VERSION_META_KEY: LATEST_MODERN_VERSION,
    CLIENT_CAPABILITIES_META_KEY: {},
}
"""The `_meta` of a request that the host itself makes."""


def lowlevel_server(obj: object) -> Server[Any] | None:
    """The low-level server inside an `MCPServer`, a FastMCP server or itself; `None` for anything else."""
    for candidate in (obj, getattr(obj, "_lowlevel_server", None), getattr(obj, "_mcp_server", None)):
        if isinstance(candidate, Server):
            return candidate
    return None


def channel_of(ctx: ServerRequestContext[Any, Any]) -> tuple[Connection, DispatchContext[Any]]:
    """The connection and the request's line to its client, out of the SDK's request context."""
    session = ctx.session
    return session._connection, session._request_outbound  # noqa: SLF001 - no public way to them in 2.3


def make_context(call: Call) -> ServerRequestContext[Any, Any]:
    """The request context that the SDK would have made for this call."""
    metadata = call.dispatch.message_metadata
    extra = metadata if isinstance(metadata, ServerMessageMetadata) else ServerMessageMetadata()
    try:
        meta = RequestParams.model_validate({"_meta": dict(call.meta)}, by_name=False).meta
    except ValidationError:
        meta = None
    asked = meta if call.request_id is not None else None
    return ServerRequestContext(
        session=ServerSession(call.dispatch, call.connection, request_meta=asked),
        lifespan_context={},
        method=call.method,
        params=call.params,
        request_id=call.request_id,
        meta=meta,
        protocol_version=call.protocol_version,
        request=call.request,
        close_sse_stream=extra.close_sse_stream,
        close_standalone_sse_stream=extra.close_standalone_sse_stream,
    )


class ServerView:
    """A provider's server as its `ServerRunner` sees it: all its own, but the SDK's tracing and identity stamp.

    Running the provider's runner over this view keeps its middleware, and with it the sealing of request state;
    running its bare handlers would not.
    """

    def __init__(self, server: Server[Any], stamp: Mapping[str, Any], state_keys: tuple[str, ...] = ()) -> None:
        self.server = server
        self.get_request_handler: Callable[[str], HandlerEntry[Any] | None] = server.get_request_handler
        self.get_notification_handler: Callable[[str], HandlerEntry[Any] | None] = server.get_notification_handler
        self._stamp = stamp
        self._boundaries: dict[int, RequestStateBoundary] = {}
        self._state_keys = state_keys

    @property
    def cache_hints(self) -> Mapping[str, Any]:
        return self.server.cache_hints

    @property
    def server_info_stamp(self) -> dict[str, Any]:
        return dict(self._stamp)

    @property
    def middleware(self) -> list[ServerMiddleware[Any]]:
        return [self._sealed(item) for item in self.server.middleware if not isinstance(item, OpenTelemetryMiddleware)]

    def _sealed(self, item: ServerMiddleware[Any]) -> ServerMiddleware[Any]:
        """The boundary that seals request state: bound to who calls, and under the host's keys, if it has some (H2)."""
        if not isinstance(item, RequestStateBoundary):
            return item
        if id(item) not in self._boundaries:
            policy = item._security  # noqa: SLF001 - its time limit and binding are kept
            found = self._boundaries[id(item)] = copy(item)
            found._security = RequestStateSecurity(  # noqa: SLF001 - see above
                codec=AESGCMRequestStateCodec(self._state_keys) if self._state_keys else policy.codec,
                ttl=policy.ttl,
                bind_principal=_bound_to_caller(policy.bind_principal),
                audience=policy.audience,
            )
        return self._boundaries[id(item)]

    def capabilities(self, protocol_version: str) -> dict[str, Any]:
        """What the server can do, as a wire mapping."""
        changes = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
        found = self.server.get_capabilities(changes, protocol_version=protocol_version)
        return found.model_dump(by_alias=True, mode="json", exclude_none=True)


Bind = Callable[[ServerRequestContext[Any, Any]], str | None]


def _bound_to_caller(bind: Bind | None) -> Bind:
    """What the server binds state to, its provider, and the call's principal.

    The SDK knows no tenants and not every way to sign in, and two servers of a host may have one name and its keys.
    """

    def bound(ctx: ServerRequestContext[Any, Any]) -> str:
        own = bind(ctx) if bind is not None else None
        provider, who = _CALLER.get()
        return json.dumps([own, provider, who and [who.issuer, who.subject, who.tenant]])

    return bound


async def run_request(view: ServerView, lifespan: Any, call: Call, method: str, params: Any) -> dict[str, Any]:
    """Serve one request with the server's own runner.

    Not through `on_request`: that property keeps a bound method on the runner, a cycle for the garbage collector with
    the whole connection in it, once per call.
    """
    runner = ServerRunner(cast("Server[Any]", view), call.connection, lifespan)
    before = _CALLER.set((call.provider, call.principal))
    try:
        return await runner._on_request(call.dispatch, method, params)  # noqa: SLF001 - see above
    finally:
        _CALLER.reset(before)


class HostDispatch:
    """A dispatch context for requests that the host makes itself: notifications go to `on_notify`, the rest nowhere."""

    can_send_request = False
    message_metadata: MessageMetadata = None
    transport = TransportContext(kind="host", can_send_request=False)

    def __init__(self, request_id: RequestId = "host", on_notify: Callable[[str, Any], None] | None = None) -> None:
        self.request_id: RequestId | None = request_id
        self.cancel_requested = anyio.Event()
        self._on_notify = on_notify

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        del opts
        if self._on_notify is not None:
            self._on_notify(method, params)

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Nobody waits for it."""

    async def send_raw_request(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> dict[str, Any]:
        del params, opts
        raise NoBackChannelError(method)


def host_call(method: str, params: Mapping[str, Any] | None = None, dispatch: HostDispatch | None = None) -> Call:
    """A call that the host makes itself, in the newest revision."""
    from plughost._call import Call  # noqa: PLC0415 - `_call` reaches this module lazily too

    connection = Connection.from_envelope(LATEST_MODERN_VERSION, None, {})
    body = {**(params or {}), "_meta": MODERN_ENVELOPE}
    return Call(method, body, connection=connection, dispatch=dispatch or HostDispatch())


class SessionManager(StreamableHTTPSessionManager):
    """Sessions of earlier revisions, each with an event store of its own: one session must not replay another's."""

    def __init__(self, app: Server[Any], make_store: Callable[[], EventStore | None], **options: Any) -> None:
        self._make_store = make_store
        super().__init__(app, **options)

    @property
    def event_store(self) -> EventStore | None:
        """Read by the SDK once for each new session."""
        return self._make_store()

    @event_store.setter
    def event_store(self, value: EventStore | None) -> None:
        del value

    def end_standalone_streams(self) -> None:
        """End the open GET streams; their clients reconnect."""
        for transport in list(self._server_instances.values()):
            transport.close_standalone_sse_stream()
