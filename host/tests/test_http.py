"""The ASGI application: where it answers, what plugins add to it, sessions and streams."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from asgi_wire import COMMON, LegacySession, exchange, fetch, headers_for, post, request
from doubles import Bringing, Held, StubProvider, host_of, text
from mcp.server.mcpserver import Context, MCPServer
from plughost import MCPPlugin, PluginError, _modern, create_host, hookimpl
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio
LIMIT = 10
CALL = request("tools/call", {"name": "t"})


@asynccontextmanager
async def lifespan_of(app: ASGIApp) -> AsyncIterator[list[Message]]:
    """Run an application's lifespan around the block, as a server does."""
    told: list[Message] = []
    stop, started = anyio.Event(), anyio.Event()
    steps = iter(("lifespan.startup", "lifespan.shutdown"))

    async def receive() -> Message:
        step = next(steps)
        if step == "lifespan.shutdown":
            await stop.wait()
        return {"type": step}

    async def send(message: Message) -> None:
        told.append(message)
        started.set()

    async def serve() -> None:
        await app({"type": "lifespan", "state": {}}, receive, send)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        with anyio.fail_after(LIMIT):
            await started.wait()
        yield told
        stop.set()


# -- where it answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"), [("/mcp", 200), ("/mcp/", 200), ("/", 404), ("/other", 404), ("/mcpx", 404)]
)
async def test_the_endpoint_has_one_path(path: str, status: int) -> None:
    async with host_of(StubProvider("p", ["t"])) as host:
        assert (await post(host.app, CALL, path=path)).status == status


async def test_the_path_is_the_configs() -> None:
    async with host_of(StubProvider("p", ["t"]), config={"host": {"path": "/tools"}}) as host:
        assert (await post(host.app, CALL, path="/tools")).status == 200
        assert (await post(host.app, CALL, path="/mcp")).status == 404


async def test_the_application_starts_and_stops_its_host() -> None:
    """Under any ASGI server: its lifespan is the host's life."""
    provider = StubProvider("p", ["t"])
    host = host_of(provider)
    async with lifespan_of(host.app) as told:
        assert (await post(host.app, CALL)).status == 200
    assert provider.log == ["start", "stop"]
    assert [message["type"] for message in told] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_host_that_runs_already_is_left_running() -> None:
    async with host_of(StubProvider("p", ["t"])) as host:
        async with lifespan_of(host.app):
            assert (await post(host.app, CALL)).status == 200
        assert host.running


async def test_a_start_that_fails_is_told_to_the_server() -> None:
    """With the message that names the cause."""

    class Broken(MCPPlugin):
        async def register(self, host: Any) -> None:
            raise ValueError("no database")

    told: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        told.append(message)

    with pytest.raises(PluginError):
        await create_host(plugins=[Broken(name="broken")]).app({"type": "lifespan"}, receive, send)
    assert told[0]["type"] == "lifespan.startup.failed"
    assert "no database" in told[0]["message"]


async def test_it_can_be_mounted_in_another_application() -> None:
    """Below any prefix, beside other routes; whoever mounts it enters the host."""
    host = host_of(StubProvider("p", ["t"]))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with host:
            yield

    async def hello(request: Request) -> Response:
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/hello", hello), Mount("/ai", app=host.app)], lifespan=lifespan)
    async with lifespan_of(app):
        reply = await post(app, CALL, path="/ai/mcp")
        other = await fetch(app, method="GET", path="/hello")
    assert reply.message["result"]["content"] == text("p:t")["content"]
    assert other.body == b"hello"


async def test_a_mounted_host_that_nobody_entered_says_so() -> None:
    """503 and what to do, no traceback."""
    app = Starlette(routes=[Mount("/ai", app=host_of(StubProvider("p", ["t"])).app)])
    reply = await post(app, CALL, path="/ai/mcp")
    assert reply.status == 503
    assert b"enter it in the lifespan" in reply.body


# -- what plugins add --------------------------------------------------------------------------------------------------


class Tagging:
    """ASGI middleware that appends its tag to a header of every response."""

    def __init__(self, app: ASGIApp, tag: str) -> None:
        self.app = app
        self.tag = tag

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tagged(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = dict(message["headers"])
                tags = headers.get(b"x-tags", b"") + self.tag.encode()
                message = {**message, "headers": [*({**headers, b"x-tags": tags}).items()]}
            await send(message)

        await self.app(scope, receive, tagged)


class Web(MCPPlugin):
    """Contributes a route and an ASGI middleware, both called like itself."""

    @hookimpl
    def plughost_http_routes(self) -> list[BaseRoute]:
        return [Route(f"/{self.name}", self.answer)]

    @hookimpl
    def plughost_http_middleware(self) -> list[Middleware]:
        return [Middleware(Tagging, tag=self.name)]

    async def answer(self, request: Request) -> Response:
        return PlainTextResponse(self.name)


async def test_http_middleware_stands_around_endpoint_and_routes() -> None:
    """The first plugin's outermost: its tag is written last."""
    async with host_of(StubProvider("p", ["t"]), plugins=[Web(name="a"), Web(name="b")]) as host:
        endpoint = await post(host.app, CALL)
        route = await fetch(host.app, b"", COMMON, method="GET", path="/b")
        unknown = await fetch(host.app, b"", COMMON, method="GET", path="/c")
    assert [reply.headers["x-tags"] for reply in (endpoint, route, unknown)] == ["ba"] * 3
    assert (endpoint.status, route.body, unknown.status) == (200, b"b", 404)


async def test_http_middleware_may_ask_for_its_place() -> None:
    """One that rewrites the path goes around one that authenticates, whatever the order of the plugins."""

    class Ordered(MCPPlugin):
        @hookimpl
        def plughost_http_middleware(self) -> list[Middleware]:
            places = {"inner": 1, "middle": 0, "outer": -1}
            classes: dict[str, Any] = {tag: type(tag, (Tagging,), {"http_order": n}) for tag, n in places.items()}
            return [Middleware(cls, tag=tag) for tag, cls in classes.items()]

    async with host_of(StubProvider("p", ["t"]), plugins=[Ordered(name="x"), Web(name="a")]) as host:
        reply = await post(host.app, CALL)
    assert reply.headers["x-tags"] == "inneramiddleouter"


# -- sessions of earlier revisions -------------------------------------------------------------------------------------


async def test_a_session_lives_until_it_is_deleted() -> None:
    async with host_of(StubProvider("p", ["t"])) as host:
        session = LegacySession(host.app)
        opened = await session.open()
        assert opened.message["result"]["capabilities"]["tools"] == {"listChanged": True}
        assert (await session.ask("tools/call", {"name": "t"}))["result"] == text("p:t")
        assert (await fetch(host.app, b"", session.headers, method="DELETE")).status == 200
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        assert (await session.post(message)).status == 404


async def test_both_eras_are_served_at_once() -> None:
    async with host_of(StubProvider("p", ["t"])) as host:
        session = LegacySession(host.app)
        await session.open()
        legacy = (await session.ask("tools/call", {"name": "t"}))["result"]
        modern = (await post(host.app, CALL)).message["result"]
    assert legacy["content"] == modern["content"]
    assert "resultType" not in legacy
    assert modern["resultType"] == "complete"


async def test_without_sessions_each_request_stands_alone() -> None:
    """`stateless_legacy`: no session id is given, none is needed, any replica answers."""
    async with host_of(StubProvider("p", ["t"]), config={"host": {"stateless_legacy": True}}) as host:
        session = LegacySession(host.app)
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        reply = await session.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        assert "mcp-session-id" not in reply.headers
        assert (await session.ask("tools/call", {"name": "t"}))["result"] == text("p:t")


async def test_the_standing_stream_of_a_session_hears_of_changes() -> None:
    """And it is ended properly when the host ends its streams; the client may open another."""
    async with host_of(StubProvider("p", ["t"])) as host:
        session = LegacySession(host.app)
        await session.open()
        for number in range(2):
            async with exchange(
                host.app, b"", {**session.headers, "accept": "text/event-stream"}, method="GET"
            ) as stream:
                with anyio.fail_after(LIMIT):
                    await stream.begun.wait()
                    await host.register(Bringing(f"more{number}", StubProvider(f"q{number}", [f"u{number}"])))
                    await stream.until(b"notifications/tools/list_changed")
                    host.end_streams()
                    await stream.done.wait()
            assert stream.reply.complete


async def test_a_broken_stream_is_resumed_where_it_broke() -> None:
    """A legacy client that lost its connection gets the rest by the id of the last event it saw, and again."""
    held = Held()
    async with create_host({}, providers={"held": held.server}) as host:
        session = LegacySession(host.app)
        await session.open()
        message = {"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "hold"}}
        async with exchange(host.app, json.dumps(message).encode(), session.headers) as broken:
            with anyio.fail_after(LIMIT):
                await broken.until(b"id:")
                await held.entered.wait()
        last = [line[3:].strip() for line in broken.reply.body.decode().splitlines() if line.startswith("id:")][-1]
        headers = {**session.headers, "accept": "text/event-stream", "last-event-id": last}
        for _ in ("live", "replayed"):
            async with exchange(host.app, b"", headers, method="GET") as resumed:
                with anyio.fail_after(LIMIT):
                    await resumed.until(b"id:")
                    held.release.set()
                    await resumed.until(b'"done"')
            assert resumed.reply.messages[-1]["id"] == 9
        assert b'"done"' not in broken.reply.body


# -- streams of 2026-07-28 ---------------------------------------------------------------------------------------------


async def test_a_silent_call_is_answered_with_json() -> None:
    async with host_of(StubProvider("p", ["t"])) as host:
        reply = await post(host.app, CALL)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["content-length"] == str(len(reply.body))


async def test_the_first_notification_makes_a_stream() -> None:
    """Notifications in their order, then the result, then the end."""
    server = MCPServer("streaming")

    @server.tool()
    async def count(ctx: Context) -> str:
        for number in range(3):
            await ctx.report_progress(number)
        return "counted"

    message = request("tools/call", {"name": "count", "_meta": {"progressToken": "p"}})
    async with create_host({}, providers={"s": server}) as host:
        reply = await post(host.app, message)
    assert reply.headers["content-type"] == "text/event-stream"
    assert [item["params"]["progress"] for item in reply.messages[:-1]] == [0, 1, 2]
    assert {item["params"]["progressToken"] for item in reply.messages[:-1]} == {"p"}
    assert reply.message["result"]["structuredContent"] == {"result": "counted"}
    assert reply.complete


async def test_a_long_silence_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment goes out before proxies lose patience; the answer is a stream then."""
    monkeypatch.setattr(_modern, "PING_EVERY", 0.01)
    monkeypatch.setattr(_modern, "WATCH_AFTER", 0.0)
    held = Held()
    message = request("tools/call", {"name": "hold"})
    async with (
        create_host({}, providers={"held": held.server}) as host,
        exchange(host.app, json.dumps(message).encode(), headers_for(message)) as slow,
    ):
        with anyio.fail_after(LIMIT):
            await slow.until(b": ping")
            held.release.set()
            await slow.done.wait()
    assert slow.reply.message["result"]["structuredContent"] == {"result": "done"}
    assert slow.reply.complete


async def test_a_listen_stream_ends_with_its_result() -> None:
    """When the host ends its streams the client learns that it was meant, and listens again."""
    message = request("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, request_id="s")
    async with (
        host_of(StubProvider("p", ["t"])) as host,
        exchange(host.app, json.dumps(message).encode(), headers_for(message)) as stream,
    ):
        with anyio.fail_after(LIMIT):
            await stream.until(b"acknowledged")
            host.end_streams()
            await stream.done.wait()
    assert (stream.reply.message["id"], stream.reply.message["result"]["resultType"]) == ("s", "complete")


async def test_leaving_the_host_ends_its_streams() -> None:
    """No open stream holds it up, and each is ended properly."""
    message = request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    host = host_of(StubProvider("p", ["t"]))
    entered, leave = anyio.Event(), anyio.Event()

    async def run() -> None:
        async with host:
            entered.set()
            await leave.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await entered.wait()
        async with exchange(host.app, json.dumps(message).encode(), headers_for(message)) as stream:
            with anyio.fail_after(5):
                await stream.until(b"acknowledged")
                leave.set()
                await stream.done.wait()
    assert stream.reply.complete
    assert not host.running
