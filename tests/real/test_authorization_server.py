"""The auth plugin against an authorization server that others wrote, with the official SDK's OAuth client."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import anyio
import httpx2
import jwt
import pytest
from asgi_wire import headers_for, request
from installation import PINS, node, node_package
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from plughost_testing.services import HostProcess, Stack
from plughost_testing.services.service import Service
from signing import Signer

pytestmark = [pytest.mark.real, pytest.mark.anyio]

SECRET = "d2d0f6d1c3f14f7a9d0b7b3f0f6f3b1e"
REDIRECT = "http://127.0.0.1:1/callback"
SERVER = '''
from mcp.server.mcpserver import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token

mcp = MCPServer("notes")


@mcp.tool()
def whoami() -> str:
    """Who calls."""
    return get_access_token().subject


@mcp.tool()
def notes_add(text: str) -> str:
    """Add a note."""
    return "added"
'''


class AuthorizationServer(Service):
    """`oidc-provider` as a process."""

    def __init__(self, *keys: Signer, lifetime: int = 300, form: str = "jwt") -> None:
        super().__init__()
        self.told: dict[str, Any] = {"port": self.port, "secret": SECRET, "lifetime": lifetime, "format": form}
        self.sign_with(*keys)

    def sign_with(self, *keys: Signer) -> None:
        """Sign with the first of these keys, and publish all, from the next start on."""
        self.told["keys"] = [{**key.private_jwk, "use": "sig"} for key in keys]

    def command(self) -> Sequence[str]:
        ((name, version),) = PINS["authorization-servers"]["node"].items()
        told = self.folder / "told.json"
        told.write_text(json.dumps({**self.told, "folder": str(node_package(name, version))}), "utf-8")
        return [str(node()), str(Path(__file__).with_name("authorization_server.mjs")), str(told)]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def token(self, resource: str, scope: str = "mcp notes:read notes:write") -> str:
        """A token for a program, by the client credentials grant."""
        form = {"grant_type": "client_credentials", "scope": scope, "resource": resource}
        async with httpx2.AsyncClient() as http:
            answer = await http.post(f"{self.url}/token", data=form, auth=("robot", SECRET))
        found: str = answer.raise_for_status().json()["access_token"]
        return found


def guarded(server: AuthorizationServer, **auth: Any) -> HostProcess:
    """A host whose callers that server vouches for."""
    issuer = {"issuer": server.url, **auth.pop("issuer", {})}
    config = {
        "host": {"control": True},
        "providers": {"notes": {"python": "notes_server:mcp"}},
        "plugins": {"auth": {"issuers": {"main": issuer}, "required_scopes": ["mcp"], **auth}},
    }
    return HostProcess(config, files={"notes_server.py": SERVER})


class Memory:
    """What a client keeps of an authorization server."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Person:
    """Somebody at a browser, who signs in and consents to all he is asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[dict[str, list[str]]] = []
        self._back = ""

    async def sign_in(self, url: str) -> None:
        """Open the page and fill in every form until the client is called back."""
        self.asked.append(parse_qs(urlsplit(url).query))
        async with httpx2.AsyncClient() as browser:
            answer = await browser.get(url)
            for _ in range(20):
                if answer.is_redirect:
                    url = urljoin(url, answer.headers["location"])
                    if url.startswith(REDIRECT):
                        self._back = url
                        return
                    answer = await browser.get(url)
                    continue
                page = answer.raise_for_status().text
                action = unescape(re.findall(r'<form[^>]*action="([^"]+)"', page)[0])
                form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="(\w+)"', page))
                if form["prompt"] == "login":
                    form |= {"login": self.name, "password": "any"}
                answer = await browser.post(urljoin(url, action), data=form)
        raise AssertionError("the server never called back")

    async def called_back(self) -> Any:
        """What the server told the client."""
        found = parse_qs(urlsplit(self._back).query)
        return AuthorizationCodeResult(code=found["code"][0], state=found["state"][0], iss=found.get("iss", [None])[0])


def sdk_auth(host: HostProcess, person: Person, memory: Memory) -> OAuthClientProvider:
    """The SDK's OAuth client, for one that cannot keep a secret."""
    metadata = OAuthClientMetadata.model_validate(
        {"client_name": "test", "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none"}
    )
    return OAuthClientProvider(host.url, metadata, memory, person.sign_in, person.called_back)


@asynccontextmanager
async def connected(host: HostProcess, auth: httpx2.Auth, mode: Any = "auto") -> AsyncIterator[Client]:
    """The SDK's client."""
    async with (
        httpx2.AsyncClient(auth=auth, timeout=30) as http,
        Client(streamable_http_client(host.url, http_client=http), mode=mode, cache=None) as client,
    ):
        yield client


async def said(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    found: str = result.content[0].text  # type: ignore[union-attr]  # tools of this server answer with text
    return found


@pytest.mark.parametrize(
    ("mode", "algorithm"), [("auto", "ES256"), ("legacy", "ES256"), ("auto", "RS256"), ("auto", "EdDSA")]
)
async def test_sign_in_call_step_up_and_refresh(stack: Stack, mode: str, algorithm: str) -> None:
    """Discovery, registration, PKCE, token, call; step-up on `insufficient_scope`; refresh (A1, A2, A3)."""
    server = stack.start(AuthorizationServer(Signer("one", algorithm)))
    host = stack.start(guarded(server, scopes={"notes_*": ["notes:write"]}))
    person, memory = Person("alice"), Memory()
    auth = sdk_auth(host, person, memory)
    async with connected(host, auth, mode) as client:
        assert await said(client, "whoami") == "alice"
        assert memory.tokens is not None
        (asked,) = person.asked
        assert asked["code_challenge_method"] == ["S256"]
        assert asked["resource"] == [host.url]
        assert "notes:write" not in asked["scope"][0]
        claims = jwt.decode(memory.tokens.access_token, options={"verify_signature": False})
        assert (claims["aud"], claims["scope"]) == (host.url, "mcp")

        assert await said(client, "notes_add", text="water the plants") == "added"
        assert {"mcp", "notes:write"} <= set(person.asked[1]["scope"][0].split())

        stepped_up = memory.tokens.access_token
        auth.context.token_expiry_time = 1.0  # so that the client takes its token for expired
        assert await said(client, "notes_add", text="again") == "added"
        assert memory.tokens.access_token != stepped_up
        assert len(person.asked) == 2


async def test_opaque_tokens(stack: Stack) -> None:
    """Tokens that say nothing are asked about (RFC 7662), at the endpoint that the server's metadata names."""
    server = stack.start(AuthorizationServer(Signer("one"), form="opaque"))
    asking = {"introspection": {"client_id": "host", "client_secret": SECRET}}
    host = stack.start(guarded(server, issuer={**asking, "subject_claim": "client_id"}))
    assert await status(host, await server.token(host.url)) == 200
    assert await status(host, await server.token("http://127.0.0.1:1/other")) == 401
    assert await status(host, "invented") == 401


async def test_token_for_another_resource(stack: Stack) -> None:
    """The same server's token for another resource opens nothing (A3)."""
    server = stack.start(AuthorizationServer(Signer("one")))
    host = stack.start(guarded(server))
    assert await status(host, await server.token(host.url)) == 200
    assert await status(host, await server.token("http://127.0.0.1:1/other")) == 401


async def status(host: HostProcess, token: str) -> int:
    """What a call with this token is answered."""
    message = request("tools/call", {"name": "whoami", "arguments": {}})
    headers = {**headers_for(message), "authorization": f"Bearer {token}"}
    del headers["host"]
    async with httpx2.AsyncClient() as http:
        return (await http.post(host.url, json=message, headers=headers)).status_code


async def control(host: HostProcess, operation: str) -> Mapping[str, Any]:
    """Run an operation of the plugin as an operator does."""
    command = [sys.executable, "-m", "plughost", "ctl", "auth", operation, "--json", "--config", str(host.config)]
    done = await anyio.run_process(command, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    return dict(found["result"])


async def test_rotation_and_outage_under_load(stack: Stack) -> None:
    """No call fails while the server is away, restarts or rotates its keys; a key that is gone opens nothing (A7)."""
    one, two = Signer("one"), Signer("two")
    server = stack.start(AuthorizationServer(one, lifetime=3600))
    host = stack.start(guarded(server))
    old = await server.token(host.url)
    seen: dict[str, list[int]] = {"old": [], "new": []}

    async def load(name: str, token: str) -> None:
        while True:
            seen[name].append(await status(host, token))

    async with anyio.create_task_group() as callers:
        for _ in range(3):
            callers.start_soon(load, "old", old)
        await more(seen["old"])

        server.kill()
        shown = await control(host, "refresh-keys")
        assert shown["issuers"]["main"]["problem"]
        await control(host, "flush")
        await more(seen["old"])

        server.sign_with(two, one)
        await anyio.to_thread.run_sync(server.start)
        new = await server.token(host.url)
        assert jwt.get_unverified_header(new)["kid"] == "two"
        for _ in range(3):
            callers.start_soon(load, "new", new)
        await more(seen["new"])
        await more(seen["old"])

        assert {*seen["old"], *seen["new"]} == {200}
        server.kill()
        server.sign_with(two)
        await anyio.to_thread.run_sync(server.start)
        assert (await control(host, "refresh-keys"))["issuers"]["main"]["keys"] == ["two ES256"]
        assert await status(host, old) == 401
        assert await status(host, new) == 200
        callers.cancel_scope.cancel()


async def more(answers: list[int], count: int = 30) -> None:
    """Wait until so many more calls were answered."""
    wanted = len(answers) + count
    with anyio.fail_after(30):
        while len(answers) < wanted:  # noqa: ASYNC110 - the answers are what is waited for, and they are a list
            await anyio.sleep(0.01)
