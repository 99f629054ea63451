"""The plugin: its configuration, what it contributes, and what a reload keeps."""

from __future__ import annotations

from typing import Any

import pytest
from plughost import ConfigError, HostConfig, Kind, PlughostError, Refusal, load_config
from plughost_upstream import UpstreamConfig, UpstreamPlugin
from plughost_upstream._plugin import Selection
from upstreams.clients import LEGACY, Client
from upstreams.running import LEGACY_STDIO, Upstreams

pytestmark = pytest.mark.anyio


def config(**tables: Any) -> HostConfig:
    return load_config({"providers": tables})


def faults(**table: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        list(UpstreamPlugin().plughost_providers(config(up=table)))
    return [str(fault) for fault in caught.value.faults]


def test_unknown_key_gets_a_suggestion() -> None:
    """A misspelt key is refused, with the key that was meant."""
    assert faults(command=["x"], timout="1s") == ["providers.up.timout: unknown key; did you mean 'timeout'?"]


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"command": ["x"], "headers": {}}, "providers.up.headers: is for a provider with url; take it out"),
        ({"url": "http://h/mcp", "env": {}}, "providers.up.env: is for a provider with command; take it out"),
        (
            {"url": "file:///etc/passwd"},
            "providers.up.url: is not an HTTP URL; write for example 'https://example.com/mcp'",
        ),
        ({"url": ""}, "providers.up.url: is not an HTTP URL; write for example 'https://example.com/mcp'"),
    ],
)
def test_misplaced_keys_are_faults(table: dict[str, Any], fault: str) -> None:
    """A key of the other transport, or a URL of another scheme, is a fault that names table and field."""
    assert faults(**table) == [fault]


def test_faults_hold_no_secrets() -> None:
    """A fault in a table of secrets names the field, never the value (G6)."""
    (fault,) = faults(url="http://h/mcp", headers={"Authorization": ["s3cret"]})
    assert fault.startswith("providers.up.headers.Authorization")
    assert "s3cret" not in fault


def test_secrets_are_not_shown() -> None:
    """Configured credentials do not appear in any representation (G6)."""
    (provider,) = UpstreamPlugin().plughost_providers(config(up={"url": "http://h/mcp", "headers": {"X": "s3cret"}}))
    assert "s3cret" not in repr(provider.upstream)
    assert provider.upstream.headers() == {"X": "s3cret"}


def test_unchanged_table_keeps_its_provider() -> None:
    """A reload gives the same object for an upstream that did not change, and a new one for one that did."""
    plugin = UpstreamPlugin()
    before = list(plugin.plughost_providers(config(a={"command": ["a"]}, b={"command": ["b"]})))
    after = list(plugin.plughost_providers(config(a={"command": ["a"]}, b={"command": ["b", "-v"]})))
    assert after[0] is before[0]
    assert after[1] is not before[1]
    again = list(plugin.plughost_providers(config(a={"command": ["a"]}, b={"command": ["b"]})))
    assert again == before  # a reload that was refused is no change


async def test_stopped_provider_is_not_given_again(upstreams: Upstreams) -> None:
    """An upstream that was taken out and comes back is a new provider: one is started once only."""
    one = await upstreams.one(command=LEGACY_STDIO)
    await one.stop()
    upstreams.started.clear()
    (other,) = upstreams.plugin.plughost_providers(upstreams.config(up={"command": LEGACY_STDIO}))
    assert other is not one.provider


async def test_new_defaults_replace_the_provider() -> None:
    """A changed default of the plugin reaches its upstreams, and the plugin itself stays."""
    plugin = UpstreamPlugin()
    (before,) = plugin.plughost_providers(config(a={"command": ["a"]}))
    assert await plugin.reconfigure(UpstreamConfig(timeout=5))
    (after,) = plugin.plughost_providers(config(a={"command": ["a"]}))
    assert after is not before
    assert after.upstream.timeout == 5


async def test_operations(upstreams: Upstreams) -> None:
    """`show` tells the state of each upstream; `reconnect` opens a new session."""
    one = await upstreams.one(command=LEGACY_STDIO)
    operations = {item.name: item for item in upstreams.plugin.plughost_operations()}
    (shown,) = await operations["show"].run(Selection())
    assert (shown["name"], shown["up"], shown["server"]["name"]) == ("up", True, "legacy")
    session = one.provider._first.first.live
    assert await operations["reconnect"].run(Selection(provider="up")) == ["up"]
    await Client(LEGACY).tool(one.provider, "count")
    assert one.provider._first.first.live is not session
    with pytest.raises(PlughostError, match="there is no upstream 'nix'; there are: up"):
        await operations["show"].run(Selection(provider="nix"))


@pytest.mark.parametrize(
    ("table", "place"),
    [
        ({"command": ["/opt/bin/notes", "--token=s3cret"]}, "/opt/bin/notes"),
        ({"url": "https://ada:s3cret@h.example:8443/mcp?key=s3cret"}, "https://h.example:8443"),
    ],
)
def test_where_an_upstream_is_said_to_be(table: dict[str, Any], place: str) -> None:
    """Messages name the program, or scheme, host and port: arguments and the rest of a URL may be secrets (G6)."""
    (provider,) = UpstreamPlugin().plughost_providers(config(up=table))
    assert provider.upstream.place == place


async def test_health(upstreams: Upstreams) -> None:
    """Each upstream has a check that fails, without being critical, while it is down."""
    await upstreams.start(good={"command": LEGACY_STDIO}, bad={"command": [*LEGACY_STDIO, "--fail"]})
    checks = {check.name: check for check in upstreams.plugin.plughost_health_checks()}
    await checks["good"].check()
    with pytest.raises(Refusal, match="no licence found"):
        await checks["bad"].check()
    assert not any(check.critical for check in checks.values())


async def test_instructions_and_capabilities(upstreams: Upstreams) -> None:
    """The upstream's instructions and capabilities are the provider's."""
    one = await upstreams.one(command=LEGACY_STDIO)
    assert one.provider.instructions == "Be kind."
    assert one.provider.capabilities(LEGACY)["resources"] == {"subscribe": True}
    assert [entry["name"] for entry in (await one.provider.list(Kind.PROMPTS, None)).entries] == ["greet"]
