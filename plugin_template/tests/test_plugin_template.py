"""The plugin in a host, called by clients of both protocol eras; and what every plugin owes, owed by this one."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import Client
from plughost_plugin_template import PluginTemplate, PluginTemplateConfig
from plughost_testing import ClientFactory, HostFactory, PluginContract, ScriptedProvider, VirtualClock

pytestmark = pytest.mark.anyio


class TestContract(PluginContract):
    plugin_class = PluginTemplate
    config = {"greeting": "Ahoy"}
    other_config = {"greeting": "Hello"}


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


@pytest.fixture
async def caller(host: HostFactory, client: ClientFactory) -> Client:
    """A client of a host with the plugin and another server's tool `add`."""
    plugin = PluginTemplate(PluginTemplateConfig(greeting="Ahoy"), name="plugin-template")
    return await client(await host(plugin, providers=[ScriptedProvider(tools=["add"])]))


async def test_tool_greets(caller: Client) -> None:
    """The tool greets by name, with the configured greeting."""
    result = await caller.call_tool("greet", {"name": "Ada"})
    assert result.structured_content == {"result": "Ahoy, Ada!"}


async def test_results_are_signed(caller: Client) -> None:
    """The middleware adds the greeting to the `_meta` of every tool's result."""
    result = await caller.call_tool("add", {"a": 1})
    assert result.meta is not None
    assert result.meta["plugin-template/greeting"] == "Ahoy"
