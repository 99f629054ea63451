"""The gate in front of the MCP endpoint, in both protocol eras, over ASGI."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import pytest
from asgi_wire import LegacySession, Reply, exchange, fetch, headers_for, post, request
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.mcpserver import Context, MCPServer
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from plughost import Call, EventType, Host, Result
from plughost_auth import AuthConfig, AuthPlugin
from plughost_auth._issuer import Issuer
from plughost_testing import HostFactory, RecordingMiddleware, ScriptedProvider, VirtualClock, text
from signing import RESOURCE, Signer, jwks
from starlette.applications import Starlette
from starlette.routing import Mount, Route

pytestmark = pytest.mark.anyio

Guarded = Callable[..., Awaitable[Host]]
KEY = Signer()
TOOL = {"name": "notes_add", "arguments": {}}
ADD = request("tools/call", TOOL)
LOOK = request("tools/call", {"name": "look", "arguments": {}})


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


def key(raw: str, **more: Any) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(raw.encode()).hexdigest(), **more}


CONFIG: Mapping[str, Any] = {
    "resource": RESOURCE,
    "issuers": {"main": {"issuer": "https://login.example", "jwks_url": "https://login.example/keys"}},
    "keys": {
        "reader": key("key-of-a-reader", scopes=["mcp", "notes:read"]),
        "writer": key("key-of-a-writer", scopes=["mcp", "notes:read", "notes:write"], roles=["author"]),
        "nobody": key("key-of-nobody"),
    },
    "required_scopes": ["mcp"],
    "scopes": {"notes_*": ["notes:write"], "notes_add": ["notes:read"], "note://secret/*": ["secrets"]},
}


@pytest.fixture
def guarded(host: HostFactory, monkeypatch: pytest.MonkeyPatch) -> Guarded:
    """Hosts behind the plugin, whose issuer is at hand."""

    async def keys(self: Issuer) -> bytes:
        return jwks(KEY)

    monkeypatch.setattr(Issuer, "_fetch_keys", keys)

    async def make(*others: Any, **config: Any) -> Host:
        provider = ScriptedProvider(
            "notes", tools=["notes_add", "look"], prompts=["notes_ask"], resources=["note://secret/1"]
        )
        provider.script("look", tell)
        plugin = AuthPlugin(AuthConfig.model_validate({**CONFIG, **config}), name="auth")
        return await host(plugin, *others, providers=[provider])

    return make


async def tell(call: Call, params: Mapping[str, Any]) -> Result:
    """What reaches the provider of who calls."""
    assert call.request is not None
    assert call.principal is not None
    token = get_access_token()
    assert token is not None
    known = {
        "headers": sorted(call.request.headers),
        "subject": call.principal.subject,
        "roles": sorted(call.principal.roles),
        "token": token.token,
        "client": token.client_id,
    }
    return text(json.dumps(known))


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def parsed(reply: Reply) -> dict[str, str]:
    """The parts of the challenge."""
    value = reply.headers["www-authenticate"]
    assert value.startswith("Bearer")
    return dict(re.findall(r'(\w+)="([^"]*)"', value))


class Session(LegacySession):
    """A session of 2025-11-25 that brings a token."""

    def __init__(self, host: Host, token: str) -> None:
        super().__init__(host.app)
        self.token = token

    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, **bearer(self.token)}


# -- 401 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "bearer  ", "Token x", "key-of-a-writer"]
)
async def test_without_token(header: str | None, guarded: Guarded) -> None:
    """Without a bearer token the answer is 401, with where the metadata is and which scopes to ask for (A1)."""
    app = (await guarded()).app
    get = {"host": "127.0.0.1:8000", **({"authorization": header} if header is not None else {})}
    for reply in (await post(app, ADD, {"authorization": header}), await fetch(app, b"", get, method="GET")):
        assert reply.status == 401
        metadata = "https://mcp.example/.well-known/oauth-protected-resource/mcp"
        assert parsed(reply) == {"resource_metadata": metadata, "scope": "mcp"}


async def test_bad_tokens(guarded: Guarded, virtual_clock: VirtualClock) -> None:
    """A token that proves nothing is answered 401 `invalid_token`, one for another resource too (A3)."""
    app = (await guarded()).app
    now = virtual_clock.time()
    bad = [
        "guessed",
        KEY.token(now, aud="https://other.example"),
        KEY.token(now, exp=int(now) - 60),
        KEY.token(now, iss="https://x.example"),
        Signer().token(now),
        "x" * 20_000,
    ]
    for token in bad:
        reply = await post(app, ADD, bearer(token))
        assert (reply.status, parsed(reply)["error"]) == (401, "invalid_token")
        assert token not in reply.body.decode()


@pytest.mark.parametrize("resource", ["https://mcp.example", "https://mcp.example/"])
async def test_a_resource_without_a_path(resource: str, guarded: Guarded, virtual_clock: VirtualClock) -> None:
    """Clients write it with a slash or without (RFC 3986): tokens for either are for it, others are not (A3)."""
    app = (await guarded(resource=resource, scopes={}, required_scopes=[])).app
    for audience, status in (("", 200), ("/", 200), ("/mcp", 401), ("//", 401)):
        token = KEY.token(virtual_clock.time(), aud=f"https://mcp.example{audience}")
        assert (await post(app, LOOK, bearer(token))).status == status


async def test_sessions_of_earlier_revisions(guarded: Guarded) -> None:
    """An earlier revision's `initialize` needs a token as much as anything else."""
    session = LegacySession((await guarded()).app)
    initialize = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}
    assert (await session.post(initialize)).status == 401
    for method in ("GET", "DELETE", "PUT", "OPTIONS"):
        assert (await fetch(session.app, b"", session.headers, method=method)).status == 401


@pytest.mark.parametrize(
    "query", [b"access_token=key-of-a-writer", b"a=1&ACCESS_TOKEN=", b"access%5Ftoken=x", b"a;access_token=x"]
)
async def test_token_in_the_query(query: bytes, guarded: Guarded) -> None:
    """A token in the query string is refused, whatever else the request has (A5)."""
    app = (await guarded()).app
    for headers in ({}, bearer("key-of-a-writer")):
        reply = await post(app, ADD, headers, query_string=query)
        assert (reply.status, parsed(reply)["error"]) == (400, "invalid_request")


async def test_two_tokens(guarded: Guarded) -> None:
    """Two Authorization headers are refused: nobody knows which one others on the way looked at."""
    app = (await guarded()).app
    headers = [*LegacySession(app).headers.items(), *bearer("key-of-a-writer").items(), *bearer("x").items()]
    assert (await fetch(app, b"{}", headers)).status == 400


async def test_other_paths_pass(guarded: Guarded) -> None:
    """Only the MCP endpoint is behind the gate, under every spelling that leads to it."""
    app = (await guarded()).app
    host = {"host": "127.0.0.1:8000"}
    assert (await fetch(app, b"", host, method="GET", path="/elsewhere")).status == 404
    for path in ("/mcp", "/mcp/", "/mcp//"):
        assert (await fetch(app, b"", host, method="GET", path=path)).status == 401
    assert (await fetch(app, b"", host, method="GET", path="/api/mcp", root_path="/api")).status == 401


# -- who it is --------------------------------------------------------------------------------------------------------


async def test_principal(guarded: Guarded, virtual_clock: VirtualClock) -> None:
    """Providers learn who calls, and never see the token: not as a header, not from the SDK (A4)."""
    host = await guarded()
    for token, subject, roles in [
        ("key-of-a-writer", "writer", ["author"]),
        (KEY.token(virtual_clock.time(), scope="mcp"), "alice", []),
    ]:
        session = Session(host, token)
        await session.open()
        replies = [
            (await post(host.app, LOOK, bearer(token))).message,
            await session.ask("tools/call", {"name": "look", "arguments": {}}),
        ]
        for reply in replies:
            told = json.loads(reply["result"]["content"][0]["text"])
            assert (told["subject"], told["roles"], told["token"]) == (subject, roles, "")
            assert "authorization" not in told["headers"]


async def test_in_process_server_sees_no_token(host: HostFactory) -> None:
    """A server in this process has the caller's identity from the SDK, and no token anywhere in its request (A4)."""
    server = MCPServer("inside")

    @server.tool()
    def whoami(context: Context) -> str:
        token = get_access_token()
        assert token is not None
        inside = context.request_context.request
        assert inside is not None
        return f"{token.subject} {token.token!r} {'authorization' in inside.headers}"

    plugin = AuthPlugin(AuthConfig.model_validate({"keys": {"me": key("key-of-mine")}}), name="auth")
    app = (await host(plugin, providers=[server])).app
    reply = await post(app, request("tools/call", {"name": "whoami", "arguments": {}}), bearer("key-of-mine"))
    assert reply.message["result"]["content"][0]["text"] == "me '' False"


async def test_local_user(host: HostFactory, client: Any) -> None:
    """Where no HTTP is between, the login of this process calls, with roles from the config; scopes are not asked."""
    who: list[Any] = []

    async def note(call: Call, params: Mapping[str, Any]) -> Result:
        who.append(call.principal)
        return text("done")

    provider = ScriptedProvider("notes", tools=["notes_add"])
    provider.script("notes_add", note)
    config = {**CONFIG, "issuers": {}, "local": {"subject": "me", "roles": ["admin"], "tenant": "acme"}}
    running = await host(AuthPlugin(AuthConfig.model_validate(config), name="auth"), providers=[provider])
    caller = await client(running)
    await caller.call_tool("notes_add", {})
    assert (who[0].subject, who[0].issuer, who[0].roles, who[0].tenant) == ("me", "local", {"admin"}, "acme")


async def test_closed_without_the_gate(guarded: Guarded) -> None:
    """A request that comes around the gate is refused in the pipeline: who did not pass it is nobody."""
    host = await guarded()
    host.http.app = host.app.endpoint
    reply = await post(host.app, LOOK, bearer("key-of-a-writer"))
    assert reply.message["error"]["message"].startswith("Authentication is required")


# -- sessions ---------------------------------------------------------------------------------------------------------


async def test_session_of_another(guarded: Guarded, virtual_clock: VirtualClock) -> None:
    """Another's session id answers exactly like one that does not exist, whatever is asked of it (H1)."""
    host = await guarded()
    mine = Session(host, "key-of-a-writer")
    await mine.open()
    missing, thief = Session(host, "key-of-a-reader"), Session(host, "key-of-a-reader")
    missing.session_id, thief.session_id = "0" * 32, mine.session_id
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).encode()
    for method in ("POST", "GET", "DELETE"):
        seen = [await fetch(host.app, body, {**who.headers}, method=method) for who in (missing, thief)]
        assert seen[0].status == seen[1].status == 404
        assert (seen[0].headers, seen[0].body) == (seen[1].headers, seen[1].body)
    assert (await mine.ask("tools/list"))["result"]["tools"]


async def test_session_outlives_its_token(guarded: Guarded, virtual_clock: VirtualClock) -> None:
    """A session is its subject's and client's: a refreshed token goes on with it, another client's does not (H1)."""
    host = await guarded()
    now = virtual_clock.time()
    session = Session(host, KEY.token(now, scope="mcp"))
    await session.open()
    session.token = KEY.token(now, scope="mcp", exp=int(now) + 600, jti="another")
    assert "result" in await session.ask("tools/list")
    for changes in ({"client_id": "other"}, {"sub": "bob"}):
        session.token = KEY.token(now, scope="mcp", **changes)
        assert "error" in await session.ask("tools/list")


async def test_token_expires_within_a_session(guarded: Guarded, virtual_clock: VirtualClock) -> None:
    """Each request of a session brings a token that is valid then: the session's id is no authentication (H1)."""
    host = await guarded()
    session = Session(host, KEY.token(virtual_clock.time(), scope="mcp"))
    await session.open()
    await virtual_clock.sleep(311)
    reply = await session.post({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})
    assert reply.status == 401
    session_only = LegacySession(host.app)
    session_only.session_id = session.session_id
    assert (await session_only.post({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).status == 401


# -- 403 --------------------------------------------------------------------------------------------------------------


async def test_insufficient_scope(guarded: Guarded) -> None:
    """A call that lacks scopes is answered 403 with all that it needs in one challenge, in both eras (A2)."""
    host = await guarded()
    session = Session(host, "key-of-a-reader")
    await session.open()
    legacy = await session.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": TOOL})
    modern = await post(host.app, ADD, bearer("key-of-a-reader"))
    for reply in (legacy, modern):
        assert reply.status == 403
        found = parsed(reply)
        assert (found["error"], found["scope"]) == ("insufficient_scope", "mcp notes:read notes:write")
        assert found["resource_metadata"].startswith("https://mcp.example/.well-known/")
    assert modern.message["error"]["data"]["scopes"] == ["mcp", "notes:read", "notes:write"]
    assert (await post(host.app, ADD, bearer("key-of-a-writer"))).status == 200


async def test_required_scopes_come_in_the_same_challenge(guarded: Guarded) -> None:
    """Who lacks a scope that all requests need is told at once of those that this call needs besides (A2)."""
    reply = await post((await guarded()).app, ADD, bearer("key-of-nobody"))
    assert (reply.status, parsed(reply)["scope"]) == (403, "mcp notes:read notes:write")


async def test_required_scopes_alone(guarded: Guarded) -> None:
    """Scopes that every request needs are asked of every request, whatever its method, in both eras (A2)."""
    app = (await guarded(scopes={})).app
    common = {"host": "127.0.0.1:8000", **bearer("key-of-nobody")}
    replies = [await fetch(app, b"", common, method=method) for method in ("GET", "POST", "DELETE")]
    replies += [await post(app, message, bearer("key-of-nobody")) for message in (ADD, request("server/discover"))]
    assert [(reply.status, parsed(reply)["scope"]) for reply in replies] == [(403, "mcp")] * 5
    assert (await post(app, ADD, bearer("key-of-a-reader"))).status == 200


@pytest.mark.parametrize(
    ("method", "params", "needed"),
    [
        ("prompts/get", {"name": "notes_ask"}, "mcp notes:write"),
        ("resources/read", {"uri": "note://secret/1"}, "mcp secrets"),
        ("resources/read", {"uri": "note://%73ecret/1"}, "mcp secrets"),
        ("resources/read", {"uri": "NOTE:////./Secret//1"}, "mcp secrets"),
        ("resources/read", {"uri": "note://open/../secret/1"}, "mcp notes:read notes:write secrets"),
        ("prompts/get", {"name": "NOTES_ask"}, "mcp notes:write"),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "notes_ask"}}, "mcp notes:write"),
        ("completion/complete", {"ref": {"type": "ref/resource", "uri": "note://secret/{id}"}}, "mcp secrets"),
    ],
)
async def test_scopes_of_other_targets(method: str, params: dict[str, Any], needed: str, guarded: Guarded) -> None:
    """Prompts, resources and completions of either need the scopes of their names, however these are written."""
    host = await guarded()
    params = {**params, "argument": {"name": "a", "value": "b"}} if method.startswith("completion") else params
    reply = await post(host.app, request(method, params), bearer("key-of-a-reader"))
    assert (reply.status, parsed(reply)["scope"]) == (403, needed)
    session = Session(host, "key-of-a-reader")
    await session.open()
    reply = await session.post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    assert (reply.status, parsed(reply)["scope"]) == (403, needed)


async def test_names_of_any_length(guarded: Guarded) -> None:
    """Names are the callers' to invent: long ones need the same scopes, and are not kept."""
    host = await guarded()
    plugin = host.instances["auth"].plugin
    assert isinstance(plugin, AuthPlugin)
    for number in range(10):
        needed = plugin.rules.needed("tools/call", {"name": f"notes_{number}" + "x" * 300})
        assert needed == {"mcp", "notes:write"}
    assert plugin.rules._needed.cache_info().currsize == 0


async def test_headers_decide_nothing(guarded: Guarded) -> None:
    """The scopes are those of the tool in the body; a header that names another is a 400, before any (T3, T4)."""
    app = (await guarded()).app
    reply = await post(app, ADD, {**bearer("key-of-a-reader"), "mcp-name": "look"})
    assert (reply.status, reply.message["error"]["code"]) == (400, -32020)
    reply = await post(app, LOOK, {**bearer("key-of-a-reader"), "mcp-name": "notes_add"})
    assert (reply.status, reply.message["error"]["code"]) == (400, -32020)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b'"x"', b"[[]]", b'{"method": []}', b"\xff", b"[" * 5000])
async def test_bodies_of_any_kind(body: bytes, guarded: Guarded) -> None:
    """The gate leaves it to the endpoint to say what is wrong with a body."""
    host = await guarded()
    reply = await fetch(host.app, body, Session(host, "key-of-a-reader").headers)
    assert reply.status in {400, 406, 415}


async def test_long_bodies(guarded: Guarded) -> None:
    """The gate reads no more of a body than the host's limit, and the endpoint refuses the rest (T10)."""
    host = await guarded()
    headers = Session(host, "key-of-a-reader").headers
    reply = await fetch(host.app, (b" " * 2**20 for _ in range(20)), headers)
    assert reply.status == 413


async def test_subscriptions_stay_open(guarded: Guarded) -> None:
    """A stream that listens to a resource beyond one's scopes opens without it: it is no call that failed."""
    host = await guarded()
    message = request("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["note://secret/1"]}})
    headers = {**headers_for(message), **bearer("key-of-a-reader")}
    async with exchange(host.app, json.dumps(message).encode(), headers) as stream:
        await stream.begun.wait()
        assert stream.reply.status == 200


async def test_refusals_are_told(guarded: Guarded, virtual_clock: VirtualClock) -> None:
    """A call refused for want of scopes is an event for the audit."""
    recorder = RecordingMiddleware()
    host = await guarded(recorder)
    await post(host.app, ADD, bearer("key-of-a-reader"))
    await virtual_clock.sleep(1)
    event = next(event for event in recorder.events if event.type == EventType.REFUSED)
    assert event.details == {"method": "tools/call", "scopes": ["mcp", "notes:read", "notes:write"]}


async def test_observe(guarded: Guarded) -> None:
    """In `mode = "observe"` nobody is refused, in both eras; who proves himself is known all the same."""
    host = await guarded(mode="observe")
    for headers in ({}, bearer("guessed"), bearer("key-of-nobody"), bearer("key-of-a-reader")):
        reply = await post(host.app, ADD, headers)
        assert (reply.status, "result" in reply.message) == (200, True)
    session = Session(host, "key-of-nobody")
    await session.open()
    assert "result" in await session.ask("tools/call", TOOL)
    told = (await post(host.app, LOOK, bearer("key-of-a-writer"))).message["result"]["content"][0]["text"]
    assert json.loads(told)["subject"] == "writer"


async def test_metrics(guarded: Guarded, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals are counted by reason, tokens that were verified and keys that were fetched by issuer."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr("opentelemetry.metrics.get_meter", provider.get_meter)
    app = (await guarded()).app
    token = KEY.token(virtual_clock.time(), scope="mcp")
    for one in (token, token, "guessed", "key-of-a-reader", None):
        await post(app, ADD, bearer(one) if one else {})
    await virtual_clock.sleep(1)
    data: Any = reader.get_metrics_data()
    points = {
        (metric.name, *sorted(str(value) for value in point.attributes.values())): point.value
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        for point in metric.data.data_points
    }
    provider.shutdown()
    assert points == {
        ("plughost.auth.refused", "auth", "insufficient_scope"): 3,
        ("plughost.auth.refused", "auth", "missing"): 1,
        ("plughost.auth.refused", "auth", "unknown"): 1,
        ("plughost.auth.verifications", "auth", "main"): 1,
        ("plughost.auth.key_fetches", "auth", "fetched", "main"): 1,
    }


# -- metadata and operations ------------------------------------------------------------------------------------------


async def test_metadata(guarded: Guarded) -> None:
    """Protected resource metadata is at the path of the resource and at the root, for everybody (A1)."""
    app = (await guarded()).app
    for path in ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"):
        reply = await fetch(app, b"", {"host": "127.0.0.1:8000"}, method="GET", path=path)
        assert json.loads(reply.body) == {
            "resource": RESOURCE,
            "resource_name": "plughost",
            "authorization_servers": ["https://login.example"],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["mcp", "notes:read", "notes:write", "secrets"],
        }


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        ("https://mcp.example", ""),
        ("https://mcp.example/", ""),
        ("https://mcp.example/mcp/", "/mcp/"),
        ("https://mcp.example:8443/a/mcp", "/a/mcp"),
    ],
)
async def test_where_the_metadata_is(resource: str, path: str, guarded: Guarded) -> None:
    """The challenge names the place that a client finds by itself (RFC 9728): only a lone slash is left out (A1)."""
    app = (await guarded(resource=resource)).app
    found = parsed(await post(app, ADD))["resource_metadata"]
    place = f"/.well-known/oauth-protected-resource{path}"
    assert found == f"{resource.removesuffix(path or '/')}{place}"
    reply = await fetch(app, b"", {"host": "127.0.0.1:8000"}, method="GET", path=place)
    assert json.loads(reply.body)["resource"] == resource


async def test_metadata_of_a_mounted_host(guarded: Guarded) -> None:
    """The well-known path is at the root, beside the mount; the application hands it on (A1)."""
    host = await guarded(resource="https://mcp.example/tools/mcp")
    outer = Starlette(
        routes=[Route("/.well-known/oauth-protected-resource/{path:path}", host.app), Mount("/tools", host.app)]
    )
    reply = await post(outer, ADD, path="/tools/mcp")
    assert reply.status == 401
    place = parsed(reply)["resource_metadata"].removeprefix("https://mcp.example")
    reply = await fetch(outer, b"", {"host": "127.0.0.1:8000"}, method="GET", path=place)
    assert json.loads(reply.body)["resource"] == "https://mcp.example/tools/mcp"
    assert (await post(outer, LOOK, bearer("key-of-a-writer"), path="/tools/mcp")).status == 200


async def test_no_metadata_without_issuers(guarded: Guarded) -> None:
    """With keys alone there is no authorization server to send anybody to."""
    app = (await guarded(issuers={})).app
    path = "/.well-known/oauth-protected-resource"
    assert (await fetch(app, b"", {"host": "127.0.0.1:8000"}, method="GET", path=path)).status == 404
    assert "resource_metadata" not in (await post(app, ADD)).headers["www-authenticate"]


async def test_operations(guarded: Guarded, virtual_clock: VirtualClock) -> None:
    """Operators see issuers, keys and names, never a secret; they can fetch keys and forget tokens."""
    host = await guarded(tokens={"dev": {"token": "a-token-for-development"}})
    await post(host.app, LOOK, bearer(KEY.token(virtual_clock.time(), scope="mcp")))
    shown = await host.run_operation("auth", "show")
    assert shown["issuers"]["main"]["keys"] == ["key-1 ES256"]
    assert shown["known"] == 1
    assert "a-token-for-development" not in json.dumps(shown)
    assert await host.run_operation("auth", "flush") == {"forgotten": 1}
    assert (await host.run_operation("auth", "refresh-keys"))["issuers"]["main"]["problem"] is None


async def test_revoked_key(guarded: Guarded) -> None:
    """A key that leaves the config is refused at the next request; the issuers' keys stay."""
    host = await guarded()
    assert (await post(host.app, ADD, bearer("key-of-a-writer"))).status == 200
    plugin = host.instances["auth"].plugin
    assert isinstance(plugin, AuthPlugin)
    before = plugin.authenticator
    assert await plugin.reconfigure(AuthConfig.model_validate({**CONFIG, "keys": {}}))
    assert (await post(host.app, ADD, bearer("key-of-a-writer"))).status == 401
    assert plugin.authenticator is before


async def test_streams_of_a_revoked_key_end(guarded: Guarded) -> None:
    """What a key opened does not outlive it in the config, nor `flush`: clients come again, and prove who they are."""
    host = await guarded()
    message = request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    headers = {**headers_for(message), **bearer("key-of-a-writer")}
    plugin = host.instances["auth"].plugin
    assert isinstance(plugin, AuthPlugin)
    for end in (plugin.flush, lambda: plugin.reconfigure(AuthConfig.model_validate({**CONFIG, "keys": {}}))):
        async with exchange(host.app, json.dumps(message).encode(), headers) as stream:
            await stream.begun.wait()
            await end()
            with anyio.fail_after(10):
                await stream.done.wait()
    assert (await post(host.app, message, bearer("key-of-a-writer"))).status == 401
