"""The entry for 2026-07-28 over HTTP answers the same bytes as the SDK's own entry does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from asgi_wire import COMMON, MODERN, Reply, fetch, headers_for, request
from mcp import MCPDeprecationWarning
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp_types import Completion, CompletionContext, RequestParams
from plughost import create_host
from pydantic import Field
from starlette.types import ASGIApp

pytestmark = pytest.mark.anyio
STAMP = "io.modelcontextprotocol/serverInfo"
VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"


def make_server() -> MCPServer:
    """A server with one of everything that a request can lead to."""
    server = MCPServer("both", version="1")

    @server.tool()
    async def add(a: int, b: int) -> int:
        return a + b

    @server.tool()
    async def echo(words: str) -> str:
        return words

    @server.tool()
    async def anything(value: Any = None) -> str:
        return json.dumps(value)[:100]

    @server.tool()
    async def fails() -> str:
        raise ValueError("the tool's own failure")

    @server.tool()
    async def refuses() -> str:
        raise MCPError(-32050, "not today", {"why": "closed"})

    @server.tool()
    async def routed(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
        return region

    @server.tool()
    async def talks(ctx: Context) -> str:
        await ctx.report_progress(1, 2, "half")
        with pytest.warns(MCPDeprecationWarning):
            await ctx.info("a word")
        return "talked"

    @server.tool()
    async def asks(ctx: Context) -> str:
        await ctx.session.send_ping()
        return "asked"

    @server.prompt()
    async def greet(name: str) -> str:
        return f"Greet {name}"

    @server.resource("note://1")
    async def note() -> str:
        return "a note"

    @server.resource("note://{part}/text")
    async def part(part: str) -> str:
        return f"part {part}"

    @server.completion()  # type: ignore[no-untyped-call, untyped-decorator]  # as the SDK has it
    async def complete(ref: Any, argument: Any, context: CompletionContext | None) -> Completion:
        return Completion(values=[argument.value + "!"])

    async def custom(ctx: ServerRequestContext[Any, Any], params: RequestParams) -> dict[str, Any]:
        return {"custom": True}

    server._lowlevel_server.add_request_handler("vendor.example/custom", RequestParams, custom)
    return server


@pytest.fixture(scope="module")
async def both(anyio_backend: str) -> AsyncIterator[tuple[ASGIApp, ASGIApp]]:
    """The server alone, and the server behind a host."""
    alone = make_server()
    rules = TransportSecuritySettings(
        allowed_hosts=["127.0.0.1:8000"],
        allowed_origins=["http://127.0.0.1:8000"],
        enable_dns_rebinding_protection=True,
    )
    app = alone.streamable_http_app(transport_security=rules)
    async with create_host({}, providers={"both": make_server()}) as host, alone.session_manager.run():
        yield app, host.app


@dataclass(frozen=True)
class Case:
    """The bytes of one request."""

    body: bytes
    headers: Mapping[str, str]
    method: str = "POST"
    extra: tuple[tuple[str, str], ...] = field(default=())


def case(message: Any, headers: Mapping[str, str | None] | None = None, **options: Any) -> Case:
    """A request with the headers that belong to it, changed by `headers`; `None` leaves one out."""
    whole = isinstance(message, dict) and isinstance(message.get("params"), dict) and "method" in message
    own = headers_for(message) if whole else {**COMMON, "mcp-protocol-version": MODERN}
    changed = {name: value for name, value in {**own, **(headers or {})}.items() if value is not None}
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return Case(body, changed, **options)


def call(name: Any, **arguments: Any) -> dict[str, Any]:
    return request("tools/call", {"name": name, "arguments": arguments})


def without_meta(*keys: str) -> dict[str, Any]:
    message = call("add", a=1, b=2)
    for key in keys:
        del message["params"]["_meta"][key]
    return message


def with_meta(**changes: Any) -> dict[str, Any]:
    names = {"version": VERSION, "capabilities": CAPABILITIES, "token": "progressToken", "level": LOG_LEVEL}
    meta = {names[key]: value for key, value in changes.items()}
    return request("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}, "_meta": meta})


LOG_LEVEL = "io.modelcontextprotocol/logLevel"
ADD = call("add", a=1, b=2)
NOTIFICATION = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}

REFUSED = {
    # the HTTP layer
    "GET": case(b"", method="GET"),
    "DELETE": case(b"", method="DELETE"),
    "PUT": case(ADD, method="PUT"),
    "no content type": case(ADD, {"content-type": None}),
    "another content type": case(ADD, {"content-type": "text/plain"}),
    "no accept": case(ADD, {"accept": None}),
    "accepts JSON only": case(ADD, {"accept": "application/json"}),
    "accepts a stream only": case(ADD, {"accept": "text/event-stream"}),
    "accepts text": case(ADD, {"accept": "text/plain"}),
    "a foreign host (T1)": case(ADD, {"host": "evil.example"}),
    "no host (T1)": case(ADD, {"host": None}),
    "a foreign origin (T1)": case(ADD, {"origin": "http://evil.example"}),
    # JSON and JSON-RPC
    "an empty body": case(b""),
    "no JSON": case(b"{nonsense"),
    "half a message": case(json.dumps(ADD).encode()[:-5]),
    "10,000 deep (T10)": case(b"[" * 10_000 + b"]" * 10_000),
    "arguments 10,000 deep (T10)": case(
        json.dumps(call("anything", value="X")).encode().replace(b'"X"', b"[" * 10_000 + b"]" * 10_000),
        headers_for(call("anything")),
    ),
    "a number of 5,000 digits": case(
        json.dumps(call("anything", value="X")).encode().replace(b'"X"', b"9" * 5000), headers_for(call("anything"))
    ),
    "a lone surrogate as bytes": case(b'{"jsonrpc":"2.0","id":1,"method":"\xed\xa0\x80"}'),
    "null": case(None),
    "a number": case(7),
    "a batch": case([ADD, ADD]),
    "an empty batch": case([]),
    "a response": case({"jsonrpc": "2.0", "id": 1, "result": {}}),
    "an error response": case({"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "x"}}),
    "no jsonrpc": case({key: value for key, value in ADD.items() if key != "jsonrpc"}),
    "jsonrpc 1.0": case({**ADD, "jsonrpc": "1.0"}),
    "id null": case({**ADD, "id": None}),
    "id list": case({**ADD, "id": [1]}),
    "id true": case({**ADD, "id": True}),
    "id 1.5": case({**ADD, "id": 1.5}),
    "no method": case({key: value for key, value in ADD.items() if key != "method"}, headers_for(ADD)),
    "a method that is a number": case({**ADD, "method": 5}, headers_for(ADD)),
    "no params": case({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, {"mcp-method": "tools/list"}),
    "params null": case({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": None}),
    "params list": case({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": []}),
    "a notification without a method": case({"jsonrpc": "2.0", "params": {}}),
    "a notification of an unknown version": case(NOTIFICATION, {"mcp-protocol-version": "2099-01-01"}),
    # versions and headers
    "no meta": case({**ADD, "params": {"name": "add", "arguments": {}}}),
    "meta null": case({**ADD, "params": {"name": "add", "_meta": None}}),
    "meta list": case({**ADD, "params": {"name": "add", "_meta": []}}),
    "no version in meta": case(without_meta(VERSION)),
    "no capabilities in meta": case(without_meta(CAPABILITIES)),
    "neither in meta": case(without_meta(VERSION, CAPABILITIES)),
    "version null": case(with_meta(version=None)),
    "version number": case(with_meta(version=7)),
    "capabilities number": case(with_meta(capabilities=7)),
    "log level unknown": case(with_meta(level="loud")),
    "progress token list": case(with_meta(token=[1])),
    "another version in the header (T2)": case(ADD, {"mcp-protocol-version": "2099-01-01"}),
    "another version in the body (T2)": case(with_meta(version="2099-01-01")),
    "an older version in the body (T2)": case(with_meta(version="2025-11-25")),
    "an unknown version in both (T5)": case(with_meta(version="2099-01-01"), {"mcp-protocol-version": "2099-01-01"}),
    "an empty version in the header": case(ADD, {"mcp-protocol-version": ""}),
    "no method header (T3)": case(ADD, {"mcp-method": None}),
    "another method in the header (T3)": case(ADD, {"mcp-method": "tools/list"}),
    "no name header (T3)": case(ADD, {"mcp-name": None}),
    "another name in the header (T3)": case(ADD, {"mcp-name": "echo"}),
    "a broken base64 name (T3)": case(ADD, {"mcp-name": "=?base64?!!?="}),
    "another prompt in the header (T3)": case(
        request("prompts/get", {"name": "greet", "arguments": {"name": "x"}}), {"mcp-name": "other"}
    ),
    "another URI in the header (T3)": case(request("resources/read", {"uri": "note://1"}), {"mcp-name": "note://2"}),
    "the method header twice": case(ADD, extra=(("mcp-method", "tools/call"),)),
    "the name header twice": case(ADD, extra=(("mcp-name", "add"),)),
    "the version header twice": case(ADD, extra=(("mcp-protocol-version", MODERN),)),
    "a parameter header that differs (T3)": case(call("routed", region="eu"), {"mcp-param-region": "us"}),
    "a parameter header that is missing (T3)": case(call("routed", region="eu")),
    "a parameter header without its argument (T3)": case(call("routed"), {"mcp-param-region": "eu"}),
    "a parameter header twice (T3)": case(
        call("routed", region="eu"), {"mcp-param-region": "eu"}, extra=(("mcp-param-region", "eu"),)
    ),
    "a parameter header that is broken base64 (T3)": case(
        call("routed", region="eu"), {"mcp-param-region": "=?base64?!!?="}
    ),
    # methods and parameters
    "an unknown method (T5)": case(request("tools/nonsense")),
    "an unknown custom method (T5)": case(request("vendor.example/other")),
    "initialize": case(request("initialize", {"protocolVersion": MODERN, "capabilities": {}, "clientInfo": {}})),
    "ping": case(request("ping")),
    "logging/setLevel": case(request("logging/setLevel", {"level": "info"})),
    "resources/subscribe": case(request("resources/subscribe", {"uri": "note://1"})),
    "tools/call without a name": case(request("tools/call", {"arguments": {}})),
    "tools/call with a number as name": case(request("tools/call", {"name": 7})),
    "tools/call with arguments in a list": case(request("tools/call", {"name": "add", "arguments": [1]})),
    "a cursor that is a number": case(request("tools/list", {"cursor": 7})),
    "prompts/get without a name": case(request("prompts/get")),
    "an unknown prompt": case(request("prompts/get", {"name": "nope"})),
    "resources/read without a URI": case(request("resources/read")),
    "resources/read with a number as URI": case(request("resources/read", {"uri": 7})),
    "an unknown resource": case(request("resources/read", {"uri": "note://nope"})),
    "completion without a reference": case(request("completion/complete")),
    "completion with nonsense": case(request("completion/complete", {"ref": 7, "argument": []})),
    "discover with a bad meta": case(request("server/discover", {"_meta": {LOG_LEVEL: "loud"}})),
    "listen without notifications": case(request("subscriptions/listen")),
    "listen with nonsense": case(request("subscriptions/listen", {"notifications": {"resourceSubscriptions": 7}})),
    "a request to the client in a tool (T9)": case(call("asks")),
    "an error of the tool's own": case(call("refuses")),
}

ANSWERED = {
    "a call": case(ADD),
    "a text id": case({**ADD, "id": "one"}),
    "a negative id": case({**ADD, "id": -1}),
    "a large id": case({**ADD, "id": 2**70}),
    "an empty text id": case({**ADD, "id": ""}),
    "no arguments": case(request("tools/call", {"name": "anything"})),
    "arguments null": case(request("tools/call", {"name": "anything", "arguments": None})),
    "unknown members": case({**ADD, "vendor": 1, "params": {**ADD["params"], "vendor": {"a": 1}}}),
    "accepts anything": case(ADD, {"accept": "*/*"}),
    "accepts by type": case(ADD, {"accept": "application/*, text/*;q=0.5"}),
    "a charset": case(ADD, {"content-type": "application/json; charset=utf-8"}),
    "the own origin": case(ADD, {"origin": "http://127.0.0.1:8000"}),
    "a base64 name": case(ADD, {"mcp-name": "=?base64?YWRk?="}),
    "UTF-16": case(json.dumps(ADD).encode("utf-16"), headers_for(ADD)),
    "a byte order mark": case(b"\xef\xbb\xbf" + json.dumps(ADD).encode(), headers_for(ADD)),
    "not a number": case(b'{"x":NaN,' + json.dumps(ADD).encode()[1:], headers_for(ADD)),
    "the same key twice": case(b'{"id":9,' + json.dumps(ADD).encode()[1:], headers_for(ADD)),
    "unicode": case(call("echo", words="grüße 🎈\u2028")),
    "an escaped lone surrogate": case(
        json.dumps(call("echo", words="X")).encode().replace(b'"X"', b'"\\ud800"'), headers_for(call("echo"))
    ),
    "300 deep": case(
        json.dumps(call("anything", value="X")).encode().replace(b'"X"', b"[" * 300 + b"]" * 300),
        headers_for(call("anything")),
    ),
    "wrong arguments": case(call("add", a="one")),
    "a failing tool": case(call("fails")),
    "an unknown tool, which the server answers itself": case(call("nope")),
    "a parameter header": case(call("routed", region="eu"), {"mcp-param-region": "eu"}),
    "client info": case(
        request("tools/call", {"name": "echo", "arguments": {"words": "hi"}, "_meta": {"vendor.example/x": [1]}})
    ),
    "tools/list": case(request("tools/list")),
    "prompts/list": case(request("prompts/list")),
    "resources/list": case(request("resources/list")),
    "resources/templates/list": case(request("resources/templates/list")),
    "resources/read": case(request("resources/read", {"uri": "note://1"})),
    "resources/read by template": case(request("resources/read", {"uri": "note://7/text"})),
    "prompts/get": case(request("prompts/get", {"name": "greet", "arguments": {"name": "Ada"}})),
    "completion/complete": case(
        request(
            "completion/complete",
            {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "name", "value": "A"}},
        )
    ),
    "a custom method": case(request("vendor.example/custom")),
    "progress and logging": case(
        request("tools/call", {"name": "talks", "_meta": {"progressToken": "p", LOG_LEVEL: "debug"}})
    ),
    "progress unasked": case(request("tools/call", {"name": "talks"})),
}


async def ask(app: ASGIApp, case: Case) -> Reply:
    return await fetch(app, case.body, [*case.headers.items(), *case.extra], method=case.method)


def outcome(reply: Reply) -> tuple[int, Any, Any]:
    """Status, and the code and the id of the JSON-RPC error, if the body is one."""
    if not reply.headers.get("content-type", "").startswith("application/json"):
        return reply.status, None, None
    return reply.status, reply.message["error"]["code"], reply.message["id"]


def unstamped(message: Any) -> Any:
    """A response without the name of who served it."""
    meta = {key: value for key, value in message.get("result", {}).get("_meta", {}).items() if key != STAMP}
    result = {key: value for key, value in message.get("result", {}).items() if key != "_meta"}
    return {**message, "result": {**result, "_meta": meta}} if "result" in message else message


@pytest.mark.parametrize("name", REFUSED)
async def test_what_the_sdk_refuses_is_refused_alike(name: str, both: tuple[ASGIApp, ASGIApp]) -> None:
    """Same HTTP status, same JSON-RPC code, same id."""
    alone, hosted = both
    expected = outcome(await ask(alone, REFUSED[name]))
    assert expected[0] >= 400 or expected[1] is not None
    assert outcome(await ask(hosted, REFUSED[name])) == expected


@pytest.mark.parametrize("name", ANSWERED)
async def test_what_the_sdk_answers_is_answered_alike(name: str, both: tuple[ASGIApp, ASGIApp]) -> None:
    """Same status, same kind of body, same messages apart from the stamp of the server."""
    alone, hosted = both
    expected, found = await ask(alone, ANSWERED[name]), await ask(hosted, ANSWERED[name])
    assert expected.status == 200
    assert (found.status, found.headers["content-type"]) == (expected.status, expected.headers["content-type"])
    assert "result" in expected.message
    assert [unstamped(message) for message in found.messages] == [unstamped(item) for item in expected.messages]


async def test_the_stamp_is_the_hosts(both: tuple[ASGIApp, ASGIApp]) -> None:
    _, hosted = both
    message = (await ask(hosted, ANSWERED["a call"])).message
    assert message["result"]["_meta"][STAMP]["name"] == "plughost"


async def test_a_notification_is_accepted_and_dropped(both: tuple[ASGIApp, ASGIApp]) -> None:
    alone, hosted = both
    expected, found = await ask(alone, case(NOTIFICATION)), await ask(hosted, case(NOTIFICATION))
    assert (found.status, found.body) == (expected.status, expected.body) == (202, b"")


async def test_discover_says_what_the_host_serves(both: tuple[ASGIApp, ASGIApp]) -> None:
    """As the server alone, but for lists that may change, since plugins and providers come and go."""
    alone, hosted = both
    expected = (await ask(alone, case(request("server/discover")))).message["result"]
    found = (await ask(hosted, case(request("server/discover")))).message["result"]
    assert found["supportedVersions"] == expected["supportedVersions"]
    assert set(found["capabilities"]) == set(expected["capabilities"])
    assert all(found["capabilities"][name]["listChanged"] for name in ("tools", "prompts", "resources"))


async def test_a_body_in_pieces_is_one_body(both: tuple[ASGIApp, ASGIApp]) -> None:
    _, hosted = both
    whole = ANSWERED["a call"]
    pieces = [whole.body[index : index + 7] for index in range(0, len(whole.body), 7)]
    reply = await fetch(hosted, pieces, whole.headers)
    assert reply.message["result"]["structuredContent"] == {"result": 3}


async def test_an_exception_that_is_no_mcp_error_is_an_internal_error() -> None:
    """G7: neither its text nor its type reaches the client; the request id does."""

    async def broken(ctx: ServerRequestContext[Any, Any], params: RequestParams) -> dict[str, Any]:
        raise KeyError("a secret detail")

    server = make_server()
    server._lowlevel_server.add_request_handler("vendor.example/broken", RequestParams, broken)
    async with create_host({}, providers={"both": server}) as host:
        reply = await ask(host.app, case(request("vendor.example/broken", request_id="r7")))
    assert reply.message["error"] == {"code": -32603, "message": "Internal error", "data": {"requestId": "r7"}}
    assert b"secret" not in reply.body
