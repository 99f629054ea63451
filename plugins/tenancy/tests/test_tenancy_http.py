"""The plugin over HTTP: tenants in headers and paths, and sessions of earlier revisions."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import anyio
import httpx2
import pytest
from asgi_wire import LegacySession, Reply, exchange, fetch, headers_for, post, request
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from plughost import Call, CallNext, ErrorCode, Host, MCPPlugin, Middleware, Phase, Principal, Refusal, Result, hookimpl
from plughost_tenancy import TenancyConfig, TenancyPlugin
from plughost_testing import ScriptedProvider, make_host
from plughost_testing.services import HostProcess, Stack
from starlette.middleware import Middleware as HTTPMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

pytestmark = pytest.mark.anyio

PRINCIPAL = "plughost.auth.principal"
BEHIND_PROXY = {"header": "x-tenant", "trusted_proxies": ["127.0.0.1"]}
LIST = request("tools/list")
TENANTS = {"a": {"providers": ["a-*"]}, "b": {"providers": ["b-*"]}}


class Gate:
    """Does what the auth plugin does in front of the endpoint: `x-token` is `SUBJECT` or `SUBJECT@TENANT`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = dict(scope["headers"]).get(b"x-token", b"").decode()
        if token and scope["path"].removeprefix(scope["root_path"]) == "/mcp":
            subject, _, tenant = token.partition("@")
            scope = {**scope, PRINCIPAL: Principal(subject, tenant=tenant or None, claims={"orgs": ["a", "b"]})}
        await self.app(scope, receive, send)


class SignedIn(MCPPlugin):
    """Stands for the auth plugin."""

    @hookimpl
    def plughost_http_middleware(self) -> list[HTTPMiddleware]:
        return [HTTPMiddleware(Gate)]

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.sign_in, Phase.ADMIT, before=("tenancy",))]

    async def sign_in(self, call: Call, call_next: CallNext) -> Result:
        assert call.request is not None
        call.principal = call.request.scope.get(PRINCIPAL)
        if call.principal is None:
            raise Refusal(ErrorCode.UNAUTHORIZED, "sign in")
        return await call_next(call)


def plugin(**keys: Any) -> TenancyPlugin:
    return TenancyPlugin(TenancyConfig.model_validate(keys), name="tenancy")


def providers() -> list[ScriptedProvider]:
    return [
        ScriptedProvider(f"{tenant}-notes", tools=["add"], prefix=f"{tenant}_", instructions=f"Only {tenant} knows.")
        for tenant in "ab"
    ]


def tools(reply: Reply) -> list[str]:
    return [entry["name"] for entry in reply.message["result"]["tools"]]


async def test_a_header_counts_from_a_trusted_proxy() -> None:
    """From anybody else it is nobody's word."""
    async with make_host(plugin(**BEHIND_PROXY, tenants=TENANTS), providers=providers()) as host:
        assert tools(await post(host.app, LIST, {"x-tenant": "b"})) == ["b_add"]
        refused = await post(host.app, LIST, {"x-tenant": "b"}, client=("203.0.113.9", 1))
        assert refused.message["error"]["data"] == {"reason": "not_a_member"}
        assert (await post(host.app, LIST)).message["error"]["code"] == ErrorCode.TENANT_REQUIRED
        twice = [*headers_for(LIST).items(), ("x-tenant", "a"), ("x-tenant", "b")]
        body = httpx2.Request("POST", "http://x", json=LIST).content
        assert (await fetch(host.app, body, twice)).message["error"]["data"] == {"reason": "ambiguous"}


async def test_an_address_that_a_client_wrote_is_not_trusted() -> None:
    """Not where the server took it from `X-Forwarded-For`, before the host could see who connected."""
    proxies = {"header": "x-tenant", "trusted_proxies": ["10.0.0.0/8"]}
    async with make_host(plugin(**proxies), providers=providers()) as host:
        told = {"x-tenant": "a", "x-forwarded-for": "198.51.100.1, 10.0.0.7:99"}
        reply = await post(host.app, LIST, told, client=("10.0.0.7", 99))
        assert reply.message["error"]["data"] == {"reason": "not_a_member"}
        assert "result" in (await post(host.app, LIST, told, client=("10.0.0.8", 99))).message


@pytest.mark.parametrize(("trusted", "served"), [("127.0.0.1", True), ("10.0.0.0/8", False)])
def test_the_proxy_is_who_connects(stack: Stack, trusted: str, served: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """On `plughost serve`, a proxy on this machine is trusted as such, and no `X-Forwarded-For` makes one."""
    config = {
        "providers": {"notes": {"python": "server:mcp"}},
        "plugins": {"tenancy": {"header": "x-tenant", "trusted_proxies": [trusted]}},
    }
    server = 'from mcp.server.mcpserver import MCPServer\n\nmcp = MCPServer("notes")\n'
    process = stack.start(HostProcess(config, files={"server.py": server}))
    headers = {**headers_for(LIST), "x-tenant": "a", "x-forwarded-for": "10.0.0.7"}
    del headers["host"]
    reply = httpx2.post(process.url, json=LIST, headers=headers).json()
    assert ("result" in reply) is served, reply


async def test_a_header_that_contradicts_the_token_is_refused() -> None:
    """Also from a trusted proxy."""
    async with make_host(SignedIn(name="auth"), plugin(**BEHIND_PROXY), providers=providers()) as host:
        token = {"x-token": "ada@a"}
        assert "result" in (await post(host.app, LIST, token)).message
        assert "result" in (await post(host.app, LIST, {**token, "x-tenant": "a"})).message
        refused = await post(host.app, LIST, {**token, "x-tenant": "b"})
        assert refused.message["error"]["code"] == ErrorCode.UNAUTHORIZED


@pytest.mark.parametrize("order", [0, 1])
async def test_a_path_names_the_tenant(order: int) -> None:
    """For one of several that the token names; authentication sees the endpoint's path, whatever the plugins' order."""
    tenancy = plugin(path="/t", memberships="orgs", tenants=TENANTS)
    plugins: list[MCPPlugin[Any]] = [SignedIn(name="auth"), tenancy]
    async with make_host(*(plugins if order else reversed(plugins)), providers=providers()) as host:
        token = {"x-token": "ada"}
        assert tools(await post(host.app, LIST, token, path="/t/a/mcp")) == ["a_add"]
        assert tools(await post(host.app, LIST, token, path="/t/b/mcp/")) == ["b_add"]
        assert tools(await post(host.app, LIST, token, path="/proxy/t/b/mcp", root_path="/proxy")) == ["b_add"]
        foreign = await post(host.app, LIST, token, path="/t/c/mcp")
        assert foreign.message["error"]["data"] == {"reason": "not_a_member"}
        assert (await post(host.app, LIST, {}, path="/t/a/mcp")).message["error"]["message"] == "sign in"
        for path in ("/t/a/other", "/t/mcp", "/t//mcp", "/t/a/b/mcp", "/x/a/mcp"):
            reply = await post(host.app, LIST, token, path=path)
            assert reply.status == 404 or reply.message["error"]["data"] == {"reason": "invalid"}, path


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("intruder", [{"x-tenant": "b"}, {}, {"x-tenant": "?"}])
async def test_another_tenants_session_answers_like_a_missing_one(method: str, intruder: dict[str, str]) -> None:
    """H1: to the byte, and it goes on for its own tenant."""
    async with make_host(plugin(**BEHIND_PROXY), providers=providers()) as host:
        session = await opened(host, {"x-tenant": "a"})
        common = {key: value for key, value in session.headers.items() if key != "x-tenant"}
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}' if method == "POST" else b""
        foreign = await fetch(host.app, body, {**common, **intruder}, method=method)
        missing = await fetch(host.app, body, {**common, **intruder, "mcp-session-id": "f" * 32}, method=method)
        assert (foreign.status, foreign.headers, foreign.body) == (missing.status, missing.headers, missing.body)
        assert foreign.status == 404
        assert "result" in await session.ask("tools/list")


async def test_one_user_in_two_tenants_has_two_sessions() -> None:
    """H1: the token of one tenant does not open the session of the other, also where the stream has no call."""
    async with make_host(SignedIn(name="auth"), plugin(), providers=providers()) as host:
        session = await opened(host, {"x-token": "ada@a"})
        headers = {**session.headers, "accept": "text/event-stream"}
        assert (await fetch(host.app, b"", {**headers, "x-token": "ada@b"}, method="GET")).status == 404
        async with exchange(host.app, b"", headers, method="GET") as own:
            while not own.reply.status:
                await anyio.lowlevel.checkpoint()
        assert own.reply.status == 200


async def test_sessions_from_before_it_was_enabled_are_nobodys() -> None:
    """H1: nobody knows whose they are; their clients open new ones."""
    async with make_host(providers=providers()) as host:
        session = await opened(host, {"x-tenant": "a"})
        await host.register(plugin(**BEHIND_PROXY))
        reply = await session.post({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})
        assert reply.status == 404
        await host.unregister("tenancy")
        assert "result" in await session.ask("tools/list")


async def test_sessions_are_forgotten_when_they_end() -> None:
    """Nothing of them is kept."""
    tenancy = plugin(**BEHIND_PROXY)
    async with make_host(tenancy, providers=providers()) as host:
        session = await opened(host, {"x-tenant": "a"})
        assert len(tenancy.sessions) == 1
        assert (await fetch(host.app, b"", session.headers, method="DELETE")).status == 200
        del session
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        assert len(tenancy.sessions) == 0


async def test_greetings_tell_of_ones_own_providers() -> None:
    """A8: the instructions of another tenant's server are not for this one, in both protocol eras."""
    async with make_host(plugin(**BEHIND_PROXY, tenants=TENANTS), providers=providers()) as host:
        reply = await post(host.app, request("server/discover"), {"x-tenant": "a"})
        assert reply.message["result"]["instructions"] == "## a-notes\nOnly a knows."
        nobody = await post(host.app, request("server/discover"))
        assert "instructions" not in nobody.message["result"]
        session = Session(host, {"x-tenant": "b"})
        greeting = (await session.open()).message["result"]
        assert greeting["instructions"] == "## b-notes\nOnly b knows."


async def test_over_http(live_host: Callable[..., Awaitable[Any]]) -> None:
    """Clients of two tenants, one host, both protocol eras."""
    live = await live_host(plugin(path="/t", trusted_proxies=["127.0.0.0/8"], tenants=TENANTS), providers=providers())
    for mode in ("auto", "legacy"):
        for tenant in "ab":
            url = live.url.replace("/mcp", f"/t/{tenant}/mcp")
            async with (
                httpx2.AsyncClient() as http,
                Client(streamable_http_client(url, http_client=http), mode=mode) as client,
            ):
                assert [item.name for item in (await client.list_tools()).tools] == [f"{tenant}_add"]
                assert not (await client.call_tool(f"{tenant}_add", {})).is_error


class Session(LegacySession):
    """A session whose requests all have some headers."""

    def __init__(self, host: Host, own: dict[str, str]) -> None:
        super().__init__(host.app)
        self.own = own

    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, **self.own}


async def opened(host: Host, headers: dict[str, str]) -> Session:
    session = Session(host, headers)
    await session.open()
    return session
