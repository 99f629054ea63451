"""What the host itself guarantees, by the ids of the security requirements."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from asgi_wire import COMMON, MODERN, LegacySession, exchange, fetch, headers_for, post, request
from asgi_wire import call as call_tool
from doubles import Around, Held, StubProvider, host_of, text, tool
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPError
from plughost import (
    Call,
    CallNext,
    ConfigError,
    ErrorCode,
    Host,
    Kind,
    MCPPlugin,
    Middleware,
    Phase,
    PlughostError,
    PluginConfig,
    PluginTable,
    Result,
    create_host,
    hookimpl,
    load_config,
)
from pydantic import SecretStr, ValidationError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

pytestmark = pytest.mark.anyio
LIMIT = 10
ADD = request("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}})


@asynccontextmanager
async def held_host(
    *plugins: MCPPlugin[Any], config: Mapping[str, Any] | None = None
) -> AsyncIterator[tuple[Host, Held]]:
    held = Held()
    async with create_host(config or {}, providers={"held": held.server}, plugins=plugins) as host:
        yield host, held


# -- T1: who may ask ---------------------------------------------------------------------------------------------------


class Page(MCPPlugin):
    @hookimpl
    def plughost_http_routes(self) -> list[BaseRoute]:
        return [Route("/page", self.answer)]

    async def answer(self, request: Request) -> Response:
        return PlainTextResponse("page")


@pytest.mark.parametrize("path", ["/mcp", "/page"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_foreign_origin_is_forbidden_everywhere(path: str, method: str) -> None:
    """T1: on the endpoint in both eras and on routes of plugins, which a browser reaches no less."""
    async with held_host(Page(name="page")) as (host, _):
        for era in ({}, {"mcp-protocol-version": MODERN}):
            headers = {**COMMON, **era, "origin": "https://evil.example"}
            assert (await fetch(host.app, b"{}", headers, method=method, path=path)).status == 403


@pytest.mark.parametrize(
    ("host_header", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost:1234", 200),
        ("localhost", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("localhost.evil.example:80", 421),
        ("", 421),
    ],
)
async def test_only_known_hosts_are_answered(host_header: str, status: int) -> None:
    """T1: a name that somebody else's DNS points at this machine is not one of ours."""
    async with held_host() as (host, _):
        assert (await post(host.app, ADD, {"host": host_header})).status == status


@pytest.mark.parametrize(
    ("host_header", "method", "path", "status"),
    [
        ("10.1.2.3:8000", "GET", "/page", 200),
        ("10.1.2.3", "HEAD", "/page", 200),
        ("[fd00::1]:8000", "GET", "/page", 200),
        ("10.1.2.3:8000", "GET", "/mcp", 421),
        ("10.1.2.3:8000", "POST", "/mcp", 421),
        ("10.1.2.3:8000", "POST", "/page", 421),
        ("evil.example", "GET", "/page", 421),
        ("10.1.2.3.evil.example", "GET", "/page", 421),
        ("[fd00::1].evil.example", "GET", "/page", 421),
    ],
)
async def test_probes_may_name_an_address(host_header: str, method: str, path: str, status: int) -> None:
    """T1: kubelet and Prometheus ask for a page of a plugin by IP address. DNS rebinding needs a name."""
    async with held_host(Page(name="page")) as (host, _):
        headers = {"host": host_header}
        assert (await fetch(host.app, b"", headers, method=method, path=path)).status == status
        forged = {**headers, "origin": "http://10.1.2.3:8000"}
        assert (await fetch(host.app, b"", forged, method=method, path=path)).status in (403, 421)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 200),
        ("http://localhost:5173", 200),
        ("https://app.example", 200),
        ("https://app.example.evil.example", 403),
        ("http://localhost.evil.example:80", 403),
        ("null", 403),
    ],
)
async def test_allowed_origins_are_exact(origin: str, status: int) -> None:
    """Loopback's and those that are named; a longer name that begins alike is another one (T1)."""
    config = {"host": {"allowed_origins": ["https://app.example"]}}
    async with held_host(config=config) as (host, _):
        assert (await post(host.app, ADD, {"origin": origin})).status == status


def test_the_default_address_is_loopback() -> None:
    """Without a word about it nobody on another machine can connect (T1)."""
    assert load_config({}).host.address == ("127.0.0.1", 8000)


@pytest.mark.parametrize("listen", ["0.0.0.0:8000", "[::]:8000", "192.0.2.1:80", "mcp.example.com:80"])
def test_another_address_demands_allowed_hosts(listen: str) -> None:
    """T1: the message says what to add."""
    with pytest.raises(ConfigError, match=r"allowed_hosts = \['mcp.example.com'\]"):
        load_config({"host": {"listen": listen}})
    assert load_config({"host": {"listen": listen, "allowed_hosts": ["mcp.example.com"]}}).host.listen == listen


async def test_allowed_hosts_are_let_in() -> None:
    """By their name, and with `:*` on any port (T1)."""
    config = {"host": {"listen": "0.0.0.0:8000", "allowed_hosts": ["mcp.example.com", "other.example:*"]}}
    async with held_host(config=config) as (host, _):
        statuses = [
            (await post(host.app, ADD, {"host": name})).status for name in ("mcp.example.com", "other.example:9")
        ]
    assert statuses == [200, 200]


# -- T2 to T6: headers, bodies, codes ----------------------------------------------------------------------------------

ROUTED = tool(
    "routed", inputSchema={"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
)


@pytest.mark.parametrize(
    "headers",
    [
        {"mcp-protocol-version": "2099-01-01"},
        {"mcp-method": "tools/list"},
        {"mcp-method": None},
        {"mcp-name": "other"},
        {"mcp-name": None},
        {"mcp-param-region": "us"},
        {"mcp-param-region": None},
    ],
)
async def test_a_header_that_contradicts_the_body_meets_no_middleware(headers: dict[str, str | None]) -> None:
    """T2, T3: 400 and -32020, before any limit or guard has seen the call."""
    message = request("tools/call", {"name": "routed", "arguments": {"region": "eu"}})
    guards = [Around(phase.name, phase, methods=None) for phase in Phase]
    provider = StubProvider("p", entries={Kind.TOOLS: [ROUTED]})
    async with host_of(provider, plugins=guards) as host:
        reply = await post(host.app, message, {"mcp-param-region": "eu", **headers})
        assert (reply.status, reply.message["error"]["code"]) == (400, -32020)
        assert [guard.trace for guard in guards] == [[]] * 6
        assert (await post(host.app, message, {"mcp-param-region": "eu"})).status == 200


async def test_a_parameter_header_is_checked_under_the_public_name() -> None:
    """T3: the prefix of the provider makes no hole."""
    message = request("tools/call", {"name": "a_routed", "arguments": {"region": "eu"}})
    async with host_of(StubProvider("p", prefix="a_", entries={Kind.TOOLS: [ROUTED]})) as host:
        assert (await post(host.app, message, {"mcp-param-region": "us"})).message["error"]["code"] == -32020


async def test_the_body_names_the_target() -> None:
    """T4: in an earlier revision, which knows no such headers, they decide nothing."""
    seen: list[str | None] = []

    async def look(call: Call, call_next: CallNext) -> Result:
        seen.append(call.target)
        return await call_next(call)

    async with host_of(StubProvider("p", ["danger", "safe"]), plugins=[Around("look", handler=look)]) as host:
        session = LegacySession(host.app)
        await session.open()
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "danger"}}
        headers = {**session.headers, "mcp-name": "safe", "mcp-method": "tools/list"}
        reply = await fetch(host.app, json.dumps(message).encode(), headers)
    assert reply.message["result"]["content"] == text("p:danger")["content"]
    assert seen == ["danger"]


async def test_an_unknown_version_is_told_the_supported_ones() -> None:
    """Status 400, -32022, and which versions it could ask for (T5)."""
    message = request("tools/list", {"_meta": {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}})
    async with held_host() as (host, _):
        reply = await post(host.app, message, {"mcp-protocol-version": "2099-01-01"})
    assert reply.status == 400
    assert reply.message["error"]["code"] == -32022
    assert reply.message["error"]["data"] == {"supported": [MODERN], "requested": "2099-01-01"}


@pytest.mark.parametrize(("code", "status"), [(-32021, 400), (-32602, 400), (-32601, 404), (-32015, 200)])
async def test_an_error_of_a_provider_gets_the_status_of_its_code(code: int, status: int) -> None:
    """T5: a missing capability is 400 and -32021, whoever says so."""

    async def refuses(call: Call, params: Any) -> dict[str, Any]:
        raise MCPError(code, "no")

    async with host_of(StubProvider("p", ["t"], answer=refuses)) as host:
        reply = await post(host.app, request("tools/call", {"name": "t"}))
    assert (reply.status, reply.message["error"]["code"]) == (status, code)


@pytest.mark.parametrize("legacy", [True, False])
async def test_an_unknown_method_does_not_exist(*, legacy: bool) -> None:
    """T5: -32601, also when a plugin takes all methods."""
    async with held_host(Around("all", methods=None)) as (host, _):
        if legacy:
            session = LegacySession(host.app)
            await session.open()
            error = (await session.ask("tools/nonsense"))["error"]
        else:
            error = (await post(host.app, request("tools/nonsense"))).message["error"]
    assert error["code"] == -32601


def test_own_codes_stay_in_their_range() -> None:
    """T6: within -32000…-32019, and away from those that SDKs use."""
    assert all(-32019 <= code <= -32010 for code in ErrorCode)


# -- T7, T9: streams ---------------------------------------------------------------------------------------------------


async def test_a_client_that_vanishes_before_any_answer_cancels_the_call() -> None:
    """T7: the provider's task is cancelled, and nothing is sent any more."""
    message = request("tools/call", {"name": "hold"})
    async with held_host() as (host, held):
        async with exchange(host.app, json.dumps(message).encode(), headers_for(message)) as client:
            with anyio.fail_after(LIMIT):
                await held.entered.wait()
                client.vanish()
                await held.cancelled.wait()
                await client.done.wait()
        assert (client.reply.status, client.reply.body) == (0, b"")
        assert host.generation.pipeline.gate.inside == 0


async def test_a_client_that_vanishes_in_a_stream_cancels_the_call() -> None:
    """T7: once the response is a stream, closing it is the cancellation; no result follows."""
    entered, cancelled = anyio.Event(), anyio.Event()
    server = MCPServer("streaming")

    @server.tool()
    async def stream(ctx: Context) -> str:
        await ctx.report_progress(1)
        entered.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()
            await ctx.report_progress(2)
        return "never"

    message = request("tools/call", {"name": "stream", "_meta": {"progressToken": 1}})
    async with (
        create_host({}, providers={"s": server}) as host,
        exchange(host.app, json.dumps(message).encode(), headers_for(message)) as client,
    ):
        with anyio.fail_after(LIMIT):
            await client.until(b"notifications/progress")
            client.vanish()
            await cancelled.wait()
            await client.done.wait()
    assert [message["params"]["progress"] for message in client.reply.messages] == [1]
    assert not client.reply.complete


async def test_middleware_sees_the_cancellation() -> None:
    """T7: whoever holds something for the call can let go of it."""
    message = request("tools/call", {"name": "hold"})
    async with (
        held_host(guard := Around("guard")) as (host, held),
        exchange(host.app, json.dumps(message).encode(), headers_for(message)) as client,
    ):
        with anyio.fail_after(LIMIT):
            await held.entered.wait()
            client.vanish()
            await client.done.wait()
    assert guard.trace == ["+guard", "-guard"]


async def test_a_cancelled_notification_cancels_a_legacy_call() -> None:
    """T7: in earlier revisions the client says so."""
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "hold"}}
    async with held_host() as (host, held):
        session = LegacySession(host.app)
        await session.open()
        async with exchange(host.app, json.dumps(message).encode(), session.headers):
            with anyio.fail_after(LIMIT):
                await held.entered.wait()
                params = {"requestId": 7}
                await session.post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
                await held.cancelled.wait()


async def test_a_server_of_2026_asks_its_client_nothing() -> None:
    """T9: a tool that tries to send a request fails; no request stands in the stream."""
    server = MCPServer("asking")

    @server.tool()
    async def ask(ctx: Context) -> str:
        await ctx.report_progress(1)
        await ctx.session.send_ping()
        return "asked"

    message = request("tools/call", {"name": "ask", "_meta": {"progressToken": 1}})
    async with create_host({}, providers={"s": server}) as host:
        reply = await post(host.app, message)
    assert [("id" in item, "method" in item) for item in reply.messages] == [(False, True), (True, False)]
    assert "error" in reply.message


# -- T10: size and depth -----------------------------------------------------------------------------------------------

ERAS = {"2026": {"mcp-protocol-version": MODERN}, "2025": dict[str, str]()}


@pytest.mark.parametrize("era", ERAS)
async def test_a_declared_100_mb_body_is_refused_unread(era: str) -> None:
    """T10: 413 by its length, before a byte of it is read or parsed."""
    async with held_host() as (host, _):
        headers = {**COMMON, **ERAS[era], "content-length": str(100 * 2**20)}
        async with exchange(host.app, [b"x" * 2**20] * 100, headers) as client:
            with anyio.fail_after(LIMIT):
                await client.done.wait()
    assert (client.reply.status, client.chunks_read) == (413, 0)


@pytest.mark.parametrize("era", ERAS)
async def test_an_undeclared_100_mb_body_is_refused_at_the_limit(era: str) -> None:
    """T10: in pieces, it is cut as soon as it is too large."""
    async with (
        held_host() as (host, _),
        exchange(host.app, [b"x" * 2**20] * 100, {**COMMON, **ERAS[era]}) as client,
    ):
        with anyio.fail_after(LIMIT):
            await client.done.wait()
    assert (client.reply.status, client.chunks_read) == (413, 5)


@pytest.mark.parametrize("era", ERAS)
async def test_the_limit_is_the_configs(era: str) -> None:
    """A byte more than `max_body` is answered 413 in both eras (T10)."""
    async with held_host(config={"host": {"max_body": "1KiB"}}) as (host, _):
        reply = await fetch(host.app, b" " * 1025, {**COMMON, **ERAS[era]})
    assert reply.status == 413


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "body", [b"[" * 10_000, b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000]
)
async def test_json_of_ten_thousand_levels_is_refused(era: str, body: bytes) -> None:
    """T10: a parse error, no crash, and the host serves on."""
    async with held_host() as (host, _):
        reply = await fetch(host.app, body, {**COMMON, **ERAS[era]})
        assert (reply.status, reply.message["error"]["code"]) == (400, -32700)
        assert (await post(host.app, ADD)).status == 200


# -- H1: sessions ------------------------------------------------------------------------------------------------------


def user(name: str) -> dict[str, Any]:
    """What a plugin that authenticates puts into the scope."""
    return {"user": AuthenticatedUser(AccessToken(token=name, client_id="client", scopes=[], subject=name))}


@pytest.mark.parametrize("intruder", [{}, user("mallory")])
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_a_foreign_session_answers_like_a_missing_one(intruder: dict[str, Any], method: str) -> None:
    """H1: a session belongs to the credential that opened it; its id opens nothing."""
    async with held_host() as (host, _):
        session = LegacySession(host.app, **user("ada"))
        await session.open()
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).encode()
        options: dict[str, Any] = {"method": method, **intruder}
        foreign = await fetch(host.app, body, session.headers, **options)
        missing = await fetch(host.app, body, {**session.headers, "mcp-session-id": "0" * 32}, **options)
        assert (foreign.status, foreign.body, foreign.headers) == (missing.status, missing.body, missing.headers)
        assert foreign.status == 404
        assert "result" in await session.ask("tools/list")


async def test_a_session_cannot_replay_what_another_one_was_sent() -> None:
    """H1: event ids are the session's own; another session's give nothing."""
    async with held_host() as (host, _):
        ada, mallory = LegacySession(host.app), LegacySession(host.app)
        await ada.open()
        await mallory.open()
        reply = await ada.post({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})
        ids = [line[3:].strip() for line in reply.body.decode().splitlines() if line.startswith("id:")]
        assert ids
        for event_id in ids:
            headers = {**mallory.headers, "accept": "text/event-stream", "last-event-id": event_id}
            async with exchange(host.app, b"", headers, method="GET") as client:
                for _ in range(50):
                    await anyio.lowlevel.checkpoint()
            assert b"add" not in client.reply.body


# -- G2, G3: nothing falls back silently -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"plugins": {"rate-limt": {}}}, "rate-limt"),
        ({"plugins": {"x": {"plugin": "./no_such_file.py:X"}}}, "no_such_file.py"),
        ({"providers": {"x": {"python": "no_such_module:mcp"}}}, "no_such_module"),
        ({"providers": {"x": {"python": "json:nothing"}}}, "has no attribute 'nothing'"),
        ({"providers": {"x": {"python": "json:dumps"}}}, "is not an MCP server"),
        ({"providers": {"x": {}}}, "exactly one of python, command, url"),
        ({"hots": {}}, "did you mean 'host'"),
        ({"host": {"lissten": "a"}}, "did you mean 'listen'"),
        ({"host": {"listen": "8000"}}, "HOST:PORT"),
        ({"providers": {"x": {"python": "a:b", "prefx": "y"}}}, "did you mean 'prefix'"),
    ],
)
async def test_what_is_wrong_stops_the_start(config: dict[str, Any], message: str) -> None:
    """G2: with a message that names it; nothing is skipped."""
    with pytest.raises(PlughostError, match=message):
        async with create_host(config):
            pass


async def test_a_match_on_an_unknown_provider_is_refused() -> None:
    """G2: a limit that is meant for a provider must not apply to nothing."""
    table = PluginTable.model_validate({"match": {"provider": "notse"}})
    async with host_of(StubProvider("notes", ["t"])) as host:
        with pytest.raises(PlughostError, match="the provider 'notse', which does not exist; did you mean 'notes'"):
            await host.register(Around("limit"), table)


class Secretive(PluginConfig):
    """A config with a secret."""

    key: SecretStr


@pytest.mark.parametrize("secret", ["changeme", "CHANGEME", " secret ", "password", "xxx", "todo"])
def test_a_placeholder_is_no_secret(secret: str) -> None:
    """G3: and there is no default one either."""
    with pytest.raises(ValidationError, match="placeholder, not a secret"):
        Secretive.model_validate({"key": secret})
    with pytest.raises(ValidationError, match="Field required"):
        Secretive.model_validate({})


@pytest.mark.parametrize("keys", [["changeme"], ["short"]])
def test_state_keys_are_long_and_chosen(keys: list[str]) -> None:
    """A short key, or a placeholder, stops the start (G3)."""
    with pytest.raises(ConfigError, match=r"32 bytes|placeholder"):
        load_config({"host": {"request_state_keys": keys}})


# -- G7: what leaves the host ------------------------------------------------------------------------------------------


class Breaking(MCPPlugin):
    """Raises in the phase that it is told."""

    def __init__(self, phase: Phase, methods: Iterable[str] | None) -> None:
        super().__init__(name="breaking")
        self.middleware = Middleware(self.breaks, phase, methods=methods)

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [self.middleware]

    async def breaks(self, call: Call, call_next: CallNext) -> Result:
        raise ZeroDivisionError("postgres://admin:hunter2@db")


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("legacy", [True, False])
async def test_an_exception_of_a_plugin_stays_inside(
    phase: Phase, caplog: pytest.LogCaptureFixture, *, legacy: bool
) -> None:
    """G7: the client gets a generic error with the request id; the log has the traceback."""
    caplog.set_level(logging.ERROR)
    async with held_host(Breaking(phase, {"tools/call"})) as (host, _):
        if legacy:
            session = LegacySession(host.app)
            await session.open()
            response = await session.ask("tools/call", {"name": "add"})
        else:
            response = await call_tool(host.app, "add", a=1, b=2)
    assert response["error"]["code"] == -32603
    assert response["error"]["message"] == "Internal error"
    assert "requestId" in response["error"]["data"]
    assert "hunter2" not in json.dumps(response)
    assert "ZeroDivisionError: postgres://admin:hunter2@db" in caplog.text


async def test_an_exception_in_the_handshake_stays_inside(caplog: pytest.LogCaptureFixture) -> None:
    """G7: `initialize` and `server/discover` too."""
    async with held_host(Breaking(Phase.OBSERVE, None)) as (host, _):
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        initialize = await LegacySession(host.app).ask("initialize", params)
        discover = (await post(host.app, request("server/discover"))).message
    for response in (initialize, discover):
        assert response["error"]["code"] == -32603
        assert "hunter2" not in json.dumps(response)
