"""Providers in the host's own process: an SDK server object, served without a serialize/parse round trip."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import anyio
from anyio.abc import TaskGroup, TaskStatus
from mcp.server.lowlevel.server import Server
from mcp.server.runner import ServerRunner
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import event_from_wire
from mcp_types import INVALID_PARAMS
from pydantic import ValidationError

from plughost._call import Call
from plughost._errors import ProviderError, located
from plughost._provider import Kind, ListChanged, Listing, ProviderListener, ResourceChanged
from plughost._sdk import HostDispatch, ServerView, host_call, lowlevel_server, run_request

logger = logging.getLogger("plughost")

LISTEN_AGAIN = 1.0
"""Seconds before a listen stream that ended is opened again."""
MAX_PAGES = 1000
"""A list that does not end by then is a defect of the provider."""
_KINDS = {"ToolsListChanged": (Kind.TOOLS,), "PromptsListChanged": (Kind.PROMPTS,)}


def load_server(name: str, reference: str, folder: Path) -> object:
    """The object that `module:object` names, its module imported with `folder` first on `sys.path`.

    The root logger gets a handler first: otherwise an SDK server puts a rich one there while it is made, which blocks
    the event loop for a second with each traceback.

    Raises:
        ProviderError: Names what could not be imported or found.
    """
    module, _, attribute = reference.partition(":")
    if not attribute:
        raise ProviderError(name, f"python = {reference!r} names no object", remedy=f"Write '{module}:OBJECT'")
    if not logging.getLogger().handlers:
        logging.basicConfig(stream=sys.stderr)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        return reduce(getattr, attribute.split("."), import_module(module))
    except (Exception, SystemExit) as error:
        remedy = f"python names 'module:object', found from {folder}"
        problem = f"{reference!r} failed: {located(error, module)}"
        raise ProviderError(name, problem, remedy=remedy) from error


class InProcessProvider:
    """Serves an SDK `MCPServer`, a low-level `Server` or a FastMCP server object.

    The server's own runner handles each request, so that its lifespan, middleware, extensions, completions,
    progress, multi-round-trip results and the sealing of request state work as without a host.

    Raises:
        ProviderError: `server` is none of these.
    """

    def __init__(self, name: str, server: object, *, prefix: str = "") -> None:
        lowlevel = lowlevel_server(server)
        if lowlevel is None:
            raise ProviderError(
                name,
                f"{type(server).__module__}.{type(server).__qualname__} object is not an MCP server",
                remedy="Name an MCPServer, a low-level Server or a FastMCP object",
            )
        self.name = name
        self.prefix = prefix
        self._owner = server  # a FastMCP low-level server holds its owner only weakly
        self._server: Server[Any] = lowlevel
        self._view = ServerView(lowlevel, lowlevel.server_info_stamp)
        self._lifespan: Any = None
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None
        self._listener: ProviderListener = lambda _: None
        self._watched: dict[str, anyio.CancelScope] = {}

    @property
    def instructions(self) -> str | None:
        return self._server.instructions

    def join(self, stamp: Mapping[str, Any], state_keys: tuple[str, ...]) -> None:
        """Answer with the host's identity, and seal request state under its keys, if it has some (H2)."""
        self._view = ServerView(self._server, stamp, state_keys)

    async def start(self, listener: ProviderListener) -> None:
        self._listener = listener
        self._lifespan = await self._stack.enter_async_context(self._server.lifespan(self._server))
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.callback(self._tasks.cancel_scope.cancel)
        if self._server.get_request_handler("subscriptions/listen") is not None:
            wanted = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}
            await self._tasks.start(self._listen, wanted)

    async def stop(self) -> None:
        await self._stack.aclose()

    def capabilities(self, protocol_version: str) -> Mapping[str, Any]:
        return self._view.capabilities(protocol_version)

    async def list(self, kind: Kind, call: Call | None) -> Listing:
        if self._server.get_request_handler(kind.method) is None:
            return Listing()
        if call is None:
            call = host_call(kind.method)
        params = {key: value for key, value in call.params.items() if key != "cursor"}
        entries: list[Mapping[str, Any]] = []
        for _ in range(MAX_PAGES):
            result = await self._run(call, kind.method, params)
            entries += result.pop(kind.value, ())
            cursor = result.pop("nextCursor", None)
            if not isinstance(cursor, str):
                return Listing(tuple(entries), result)
            params = {**params, "cursor": cursor}
        raise ProviderError(self.name, f"{kind.method} did not end after {MAX_PAGES} pages")

    async def request(self, call: Call, params: Mapping[str, Any]) -> dict[str, Any]:
        return await self._run(call, call.method, params)

    async def _run(self, call: Call, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await run_request(self._view, self._lifespan, call, method, params)
        except ValidationError:  # the client's parameters; what else is wrong in the server is not this exception
            raise MCPError(INVALID_PARAMS, "Invalid request parameters", "") from None

    async def notify(self, call: Call) -> None:
        if self._server.get_notification_handler(call.method) is not None:
            runner = ServerRunner(cast("Server[Any]", self._view), call.connection, self._lifespan)
            await runner.on_notify(call.dispatch, call.method, call.params)

    async def subscribe(self, uri: str) -> None:
        if self._tasks is not None and self._server.get_request_handler("subscriptions/listen") is not None:
            self._watched[uri] = await self._tasks.start(self._listen, {"resourceSubscriptions": [uri]})

    async def unsubscribe(self, uri: str) -> None:
        if (scope := self._watched.pop(uri, None)) is not None:
            scope.cancel()

    def serves(self, method: str) -> bool:
        return self._server.get_request_handler(method) is not None

    async def _listen(self, wanted: Mapping[str, Any], *, task_status: TaskStatus[anyio.CancelScope]) -> None:
        """Hold a `subscriptions/listen` of the server's own open until cancelled; open another if it ends."""
        with anyio.CancelScope() as scope:
            waiting = True

            def heard(method: str, params: Mapping[str, Any] | None) -> None:
                nonlocal waiting
                if waiting:
                    waiting = False
                    task_status.started(scope)
                self._emit(method, params)

            while True:
                call = host_call(
                    "subscriptions/listen", {"notifications": wanted}, HostDispatch(f"host-{id(scope)}", heard)
                )
                try:
                    await self._run(call, call.method, call.params)
                except Exception:
                    logger.exception("provider %r: listening for its changes failed", self.name)
                if waiting:  # it never acknowledged: it can serve, and will not tell of changes
                    waiting = False
                    task_status.started(scope)
                await anyio.sleep(LISTEN_AGAIN)

    def _emit(self, method: str, params: Mapping[str, Any] | None) -> None:
        event = event_from_wire(method, params)
        if event is None:
            return
        uri = getattr(event, "uri", None)
        if uri is not None:
            self._listener(ResourceChanged(uri))
            return
        for kind in _KINDS.get(type(event).__name__, (Kind.RESOURCES, Kind.TEMPLATES)):
            self._listener(ListChanged(kind))

    def __repr__(self) -> str:
        return f"<InProcessProvider {self.name!r}>"
