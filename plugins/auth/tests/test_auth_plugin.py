"""The plugin in a host: what it refuses to start with, what it tells of its issuers; and how keys are made."""

from __future__ import annotations

import json
import tomllib
from hashlib import sha256
from typing import Any

import pytest
from click.testing import CliRunner
from mcp import Client
from plughost import EventType, PluginError
from plughost_auth import AuthConfig, AuthPlugin
from plughost_auth._fetch import Fetcher, FetchError
from plughost_auth.cli import auth
from plughost_testing import HostFactory, LiveHostFactory, RecordingMiddleware, VirtualClock
from pydantic import ValidationError
from signing import Signer, jwks

pytestmark = pytest.mark.anyio

ISSUER = "https://login.example"
RESOURCE = "https://mcp.example/mcp"


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


def plugin(**config: Any) -> AuthPlugin:
    return AuthPlugin(AuthConfig.model_validate(config), name="auth")


class Net:
    """What the plugin finds on the network, and what it asked for."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.asked: list[str] = []

    async def get(self, fetcher: Fetcher, url: str, *, trusted: str) -> bytes:
        await fetcher._dial(url, trusted)  # the address is looked at as ever
        self.asked.append(url)
        if url not in self.documents:
            raise FetchError(f"GET {url}: answered 404")
        return self.documents[url]


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Net:
    net = Net()

    async def get(self: Fetcher, url: str, *, trusted: str) -> bytes:
        return await net.get(self, url, trusted=trusted)

    monkeypatch.setattr(Fetcher, "get", get)
    return net


def publish(net: Net, keys_at: str, *signers: Signer) -> None:
    metadata = {"issuer": ISSUER, "jwks_uri": keys_at}
    net.documents = {
        f"{ISSUER}/.well-known/openid-configuration": json.dumps(metadata).encode(),
        keys_at: jwks(*signers),
    }


@pytest.mark.parametrize("listen", ["0.0.0.0:8000", "127.0.0.1:8000"])
async def test_static_tokens_are_for_one_machine(listen: str, host: HostFactory) -> None:
    """A host that others can reach, by itself or through a proxy, does not start with static tokens (G3)."""
    token = {"dev": {"token": "only-for-development-7f3a"}}
    reachable = {"host": {"listen": listen, "allowed_hosts": ["mcp.example"]}}
    with pytest.raises(PluginError, match="new-key"):
        await host(plugin(tokens=token), config=reachable)
    await host(plugin(tokens=token))


async def test_two_instances(host: HostFactory) -> None:
    """The second would find no token, and refuse everybody: a host does not start with both (G2)."""
    second = AuthPlugin(AuthConfig(), name="auth-2")
    with pytest.raises(PluginError, match="Disable 'auth' or 'auth-2'"):
        await host(plugin(), second)


def test_placeholder_secrets() -> None:
    """A placeholder is no secret, however deep it stands in the config (G3)."""
    asking = {"client_id": "host", "client_secret": "changeme"}
    with pytest.raises(ValidationError, match="placeholder"):
        AuthConfig.model_validate({"issuers": {"a": {"issuer": ISSUER, "introspection": asking}}})


def test_secrets_are_redacted() -> None:
    """No dump of the config holds a secret (G6)."""
    asking = {"client_id": "host", "client_secret": "s3cr3t-of-the-host"}
    config = AuthConfig.model_validate(
        {
            "issuers": {"a": {"issuer": ISSUER, "introspection": asking}},
            "tokens": {"dev": {"token": "s3cr3t-for-development"}},
        }
    )
    assert "s3cr3t" not in repr(config) + config.model_dump_json()


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"issuers": {"a": {"issuer": ISSUER}, "b": {"issuer": ISSUER}}}, "same issuer"),
        (
            {
                "issuers": {
                    name: {"issuer": f"{ISSUER}/{name}", "introspection": {"client_id": "x", "client_secret": "y"}}
                    for name in "ab"
                }
            },
            "leave one",
        ),
        ({"keys": {"a": {"sha256": "0" * 64}, "b": {"sha256": "0" * 64}}}, "same sha256"),
    ],
)
def test_config_that_means_two_things(config: dict[str, Any], problem: str) -> None:
    """Two issuers, keys or introspection endpoints that cannot be told apart are refused, with what to do."""
    with pytest.raises(ValidationError, match=problem):
        AuthConfig.model_validate(config)


async def test_resource(host: HostFactory, net: Net) -> None:
    """The resource comes from `listen` on loopback only; what clients call another host, its operator says (A3)."""
    issuers = {"main": {"issuer": ISSUER}}
    with pytest.raises(PluginError, match="Set resource"):
        await host(
            plugin(issuers=issuers), config={"host": {"listen": "0.0.0.0:8000", "allowed_hosts": ["mcp.example"]}}
        )
    local = plugin(issuers=issuers)
    await host(local)
    assert local.resource == "http://127.0.0.1:8000/mcp"


async def test_keys_are_fetched_before_they_are_needed(
    host: HostFactory, net: Net, virtual_clock: VirtualClock
) -> None:
    """Keys are fetched at the start and every ten minutes, with no token asking for it."""
    publish(net, f"{ISSUER}/keys", Signer("one"))
    running = await host(plugin(resource=RESOURCE, issuers={"main": {"issuer": ISSUER}}))
    await virtual_clock.sleep(1)
    assert net.asked.count(f"{ISSUER}/keys") == 1
    publish(net, f"{ISSUER}/keys", Signer("two"))
    await virtual_clock.sleep(600)
    assert (await running.run_operation("auth", "show"))["issuers"]["main"]["keys"] == ["two ES256"]


async def test_start_without_the_issuer(host: HostFactory, net: Net, virtual_clock: VirtualClock) -> None:
    """A host starts while its issuer is away, says so in its health and once as an event, and recovers alone."""
    recorder = RecordingMiddleware()
    running = await host(plugin(resource=RESOURCE, issuers={"main": {"issuer": ISSUER}}), recorder)
    await virtual_clock.sleep(100)
    ((_, check),) = running.health_checks
    with pytest.raises(FetchError, match="there are no keys to use"):
        await check.check()
    assert not check.critical
    publish(net, f"{ISSUER}/keys", Signer("one"))
    await virtual_clock.sleep(30)
    await check.check()
    net.documents = {}
    await virtual_clock.sleep(600)
    with pytest.raises(FetchError, match="its last good keys are used"):
        await check.check()
    told = [event.type for event in recorder.events if event.subject == "auth" and event.type.startswith("backend")]
    assert told == [EventType.BACKEND_DOWN, EventType.BACKEND_UP, EventType.BACKEND_DOWN]


@pytest.mark.parametrize(
    "lure",
    ["http://login.example/keys", "https://127.0.0.1/keys", "https://[fd00:ec2::254]/latest", "https://10.0.0.1:8443"],
)
async def test_luring_metadata(lure: str, host: HostFactory, net: Net, virtual_clock: VirtualClock) -> None:
    """An issuer's metadata cannot send the host to private addresses, or to where there is no TLS (S1)."""
    publish(net, lure, Signer("one"))
    running = await host(plugin(resource=RESOURCE, issuers={"main": {"issuer": ISSUER}}))
    await virtual_clock.sleep(1)
    assert lure not in net.asked
    assert "comes from a document" in (await running.run_operation("auth", "show"))["issuers"]["main"]["problem"]


async def test_stdio(live_host: LiveHostFactory) -> None:
    """Over stdio the login of this process calls, and needs no token."""
    server = """
from mcp.server.mcpserver import MCPServer

mcp = MCPServer("notes")


@mcp.tool()
def add() -> str:
    return "added"
"""
    command = live_host.stdio({"providers": {"notes": {"python": "notes:mcp"}}, "plugins": {"auth": {}}})
    assert command.cwd is not None
    with open(f"{command.cwd}/notes.py", "w", encoding="utf-8") as file:  # noqa: ASYNC230, PTH123 - a small file
        file.write(server)
    async with Client(command) as caller:
        assert (await caller.call_tool("add", {})).structured_content == {"result": "added"}


@pytest.mark.parametrize("name", ["ci", "ada's laptop", 'a "b" c.d', "Åsa"])
def test_new_key(name: str) -> None:
    """`plughost auth new-key` prints a key that fits the table it prints; two keys are never the same."""
    found = CliRunner().invoke(auth, ["new-key", name])
    key = found.stdout.strip()
    table = tomllib.loads(found.stderr)["plugins"]["auth"]
    assert table["keys"][name]["sha256"] == sha256(key.encode()).hexdigest()
    AuthConfig.model_validate(table)
    assert key != CliRunner().invoke(auth, ["new-key"]).stdout.strip()
    assert len(key) >= 43
