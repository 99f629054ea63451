"""The plugin in a host, called by a client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from mcp import Client
from plughost import create_host
from plughost_plugin_template import PluginTemplate, PluginTemplateConfig

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    plugin = PluginTemplate(PluginTemplateConfig(greeting="Ahoy"), name="plugin-template")
    async with create_host(plugins=[plugin]) as host, Client(host.front) as client:
        yield client


async def test_tool_greets(client: Client) -> None:
    """The tool greets by name, with the configured greeting."""
    result = await client.call_tool("greet", {"name": "Ada"})
    assert result.structured_content == {"result": "Ahoy, Ada!"}


async def test_results_are_signed(client: Client) -> None:
    """The middleware adds the greeting to the `_meta` of a tool's result."""
    result = await client.call_tool("greet", {"name": "Ada"})
    assert result.meta is not None
    assert result.meta["plugin-template/greeting"] == "Ahoy"


def test_unknown_key_is_refused() -> None:
    """A misspelt key of the config is refused."""
    with pytest.raises(ValueError, match="greting"):
        PluginTemplateConfig.model_validate({"greting": "Ahoy"})
