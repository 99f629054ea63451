"""What a modern HTTP upstream may answer to one request, told byte by byte."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream, TaskStatus
from mcp import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from plughost import ErrorCode, Kind, Refusal
from plughost_upstream import UpstreamConfig, UpstreamTable
from plughost_upstream._config import Upstream
from plughost_upstream._exchange import Exchange
from plughost_upstream._http import open_http
from plughost_upstream._limit import Limit
from plughost_upstream._listings import Listings
from plughost_upstream._session import Agreement, NotTakenError, Session
from upstreams.clients import MODERN

pytestmark = pytest.mark.anyio

MOST = 2000
RESULT = '{"jsonrpc":"2.0","id":1,"result":{"vendor/field":[1]}}'
NEWS = '{"jsonrpc":"2.0","method":"notifications/%s/list_changed"}'


def reply(body: str, status: str = "200 OK", **headers: str) -> bytes:
    """An HTTP response that ends its connection."""
    named = {"content_type": "application/json", **headers}
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items()]
    return f"HTTP/1.1 {status}\r\nconnection: close\r\n{''.join(lines)}\r\n{body}".encode()


def events(*messages: str) -> bytes:
    return reply("".join(f"event: message\ndata: {item}\n\n" for item in messages), content_type="text/event-stream")


class Scripted:
    """A session with an HTTP server that gives prepared replies, and keeps what it was sent."""

    def __init__(self) -> None:
        self.replies: list[bytes | None] = []
        self.requests: list[bytes] = []
        self.told: list[tuple[str, Mapping[str, Any]]] = []
        self.hung_up = anyio.Event()
        self.session: Session

    def tell(self, method: str, params: Mapping[str, Any]) -> None:
        self.told.append((method, params))

    async def serve(self, stream: SocketStream) -> None:
        async with stream:
            received = b""
            while not _whole(received):
                received += await stream.receive()
            self.requests.append(received)
            answer = self.replies.pop(0)
            if answer is not None:
                await stream.send(answer)
                return
            try:
                await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                self.hung_up.set()

    async def hold(self, upstream: Upstream, *, task_status: TaskStatus[None]) -> None:
        async with open_http(upstream, lambda *_: None) as wire, anyio.create_task_group() as tasks:
            self.session = Session(upstream, wire, tasks, self.tell)
            self.session.agreed = Agreement(MODERN)
            await tasks.start(self.session.run)
            task_status.started()
            await self.session.lost.wait()
            tasks.cancel_scope.cancel()

    async def ask(self, *replies: bytes | None) -> dict[str, Any]:
        """The result of one request that gets these replies."""
        self.replies = list(replies)
        with anyio.fail_after(10):
            return await self.session.send(Exchange(None, {}, Limit(0)), "tools/list", {"cursor": "c"})

    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.requests[-1].partition(b"\r\n\r\n")[2])
        return found


def _whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    return bool(end) and len(body) >= int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])


@pytest.fixture
async def server(anyio_backend: str) -> AsyncIterator[Scripted]:
    scripted = Scripted()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    url = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/mcp"
    table = UpstreamTable(max_message=MOST)
    upstream = Upstream("up", "", (), url, Path(), table, UpstreamConfig())
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, scripted.serve)
        await tasks.start(scripted.hold, upstream)
        yield scripted
        tasks.cancel_scope.cancel()


async def test_result_is_raw(server: Scripted) -> None:
    """A result is handed on with fields nobody knows, and without a `resultType` if it has none."""
    assert await server.ask(reply(RESULT)) == {"vendor/field": [1]}


async def test_request_on_the_wire(server: Scripted) -> None:
    """A request is one POST whose headers mirror its body; each has an id of its own."""
    await server.ask(reply(RESULT))
    first = server.body()
    assert (first["jsonrpc"], first["method"], first["params"]["cursor"]) == ("2.0", "tools/list", "c")
    head = server.requests[0].lower()
    for line in (b"post /mcp ", b"mcp-method: tools/list\r\n", f"mcp-protocol-version: {MODERN}\r\n".encode()):
        assert line in head
    await server.ask(reply(RESULT))
    assert server.body()["id"] != first["id"]


async def test_trace_goes_on_upstream(server: Scripted) -> None:
    """The trace that a call belongs to is named in the `_meta` of the request."""
    parent = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1)))
    with trace.use_span(parent):
        await server.ask(reply(RESULT))
    assert f"{0xABC:032x}" in server.body()["params"]["_meta"]["traceparent"]


async def test_news_come_before_the_result(server: Scripted) -> None:
    """What a stream tells is routed in its order, without requests, which it may not hold; its result ends it."""
    question = '{"jsonrpc":"2.0","id":"q","method":"notifications/resources/list_changed"}'
    assert await server.ask(events(NEWS % "tools", "", question, NEWS % "prompts", RESULT)) == {"vendor/field": [1]}
    assert [method.split("/")[1] for method, _ in server.told] == ["tools", "prompts"]


ERROR = '{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"wrong","data":{"uri":"a"}}}'


@pytest.mark.parametrize("answer", [reply(ERROR), reply(ERROR, "400 Bad Request"), events(ERROR)])
async def test_error_is_the_upstreams_own(server: Scripted, answer: bytes) -> None:
    """A JSON-RPC error is handed on with its data, whichever way it comes and without an id too."""
    with pytest.raises(MCPError) as caught:
        await server.ask(answer)
    assert (caught.value.code, caught.value.message, caught.value.data) == (INVALID_PARAMS, "wrong", {"uri": "a"})


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (reply("", "404 Not Found"), METHOD_NOT_FOUND, "Not Found"),
        (reply("{}", "404 Not Found"), METHOD_NOT_FOUND, "Not Found"),
        (reply("secret", "503 Busy", content_type="text/plain"), INTERNAL_ERROR, "The upstream answered HTTP 503"),
        (reply("", "202 Accepted"), INVALID_REQUEST, "202 Accepted"),
        (reply("hi", content_type="text/html"), INVALID_REQUEST, "text/html"),
        (reply("{"), PARSE_ERROR, "no JSON-RPC"),
        (reply('{"result":{}}'), PARSE_ERROR, "no JSON-RPC"),
        (reply('{"jsonrpc":"2.0","id":1,"result":[]}'), PARSE_ERROR, "no JSON-RPC"),
        (events("{"), PARSE_ERROR, "no JSON-RPC"),
        (reply("", "303 See Other", location="/other"), INVALID_REQUEST, "/other, which is not followed"),
        (reply("", "307 Moved", location="http://elsewhere.test/"), INVALID_REQUEST, "not followed"),
    ],
)
async def test_answer_that_is_no_answer(server: Scripted, answer: bytes, code: int, says: str) -> None:
    """What is no JSON-RPC answer is an error that says what came instead, and not what was in it."""
    with pytest.raises(MCPError, match=says) as caught:
        await server.ask(answer)
    assert caught.value.code == code
    assert not isinstance(caught.value, Refusal)
    assert "secret" not in caught.value.message
    assert server.session.live


async def test_redirect_within_the_origin_is_followed(server: Scripted) -> None:
    """A redirect that keeps method and origin is followed, body and all."""
    await server.ask(reply("", "307 Moved", location="/mcp/"), reply(RESULT))
    assert server.requests[1].startswith(b"POST /mcp/ ")
    assert server.body()["method"] == "tools/list"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (events(NEWS % "tools"), "the stream ended without a result"),
        (reply(RESULT, content_length="1000"), "RemoteProtocolError"),
        (reply(RESULT, content_encoding="gzip"), "incorrect header check"),
        (reply(json.dumps("x" * MOST)), f"more than {MOST} bytes"),
        (reply(json.dumps("x" * MOST), "400 Bad Request"), f"more than {MOST} bytes"),
        (events(json.dumps("x" * MOST)), f"exceeded the {MOST} byte limit"),
    ],
)
async def test_answer_that_breaks_off(server: Scripted, answer: bytes, says: str) -> None:
    """An answer that breaks off or is too large is the upstream's failure: the call may have taken effect."""
    with pytest.raises(Refusal, match="may have taken effect") as caught:
        await server.ask(answer)
    assert caught.value.code == ErrorCode.UPSTREAM_UNAVAILABLE
    assert says in caught.value.data["reason"]
    assert server.session.live


async def test_giving_up_closes_the_response(server: Scripted) -> None:
    """A request that is given up closes its connection, and is thereby cancelled (T7)."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.ask, None)
        with anyio.fail_after(10):
            while not server.requests:  # noqa: ASYNC110 - it happens at the server
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    with anyio.fail_after(10):
        await server.hung_up.wait()


async def test_other_revision_is_negotiated_anew(server: Scripted) -> None:
    """An upstream that does not speak the revision any more took nothing: its session is over."""
    server.session.settled = True
    gone = '{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"Unsupported protocol version"}}'
    with pytest.raises(NotTakenError):
        await server.ask(reply(gone, "400 Bad Request"))
    assert not server.session.live


async def test_a_list_has_a_size(server: Scripted) -> None:
    """All pages together are bounded as one message is: an upstream fills no memory by listing on and on."""
    server.session.agreed = Agreement(MODERN, {"tools": {}})
    tools = [{"name": f"t{number}", "description": "x" * 50, "inputSchema": {}} for number in range(10)]

    def page(**more: str) -> bytes:
        return reply(json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools, **more}}))

    server.replies = [page(nextCursor=str(number)) for number in range(9)]
    with pytest.raises(Refusal, match=f"tools/list has pages of more than {MOST} characters together"):
        await Listings("up").fetch(server.session, Kind.TOOLS, 10)
    assert len(server.requests) < 5
    server.replies = [page(nextCursor="1"), page()]
    assert await Listings("up").fetch(server.session, Kind.TOOLS, 10)


async def test_end_of_the_session_ends_its_requests(server: Scripted) -> None:
    """A request whose upstream is taken away ends with an error that says so; nothing waits for ever."""
    ended: list[str] = []

    async def ask() -> None:
        with pytest.raises(Refusal) as caught:
            await server.ask(None)
        ended.append(caught.value.message)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        with anyio.fail_after(10):
            while not server.requests:  # noqa: ASYNC110 - it happens at the server
                await anyio.sleep(0.01)
        server.session.lose("it was closed")
    assert "may have taken effect" in ended[0]
