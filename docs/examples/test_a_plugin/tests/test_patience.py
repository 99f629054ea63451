"""The plugin in a host in memory, with a provider that answers by script."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import MCPError
from patience import Patience, PatienceConfig
from plughost_testing import ClientFactory, HostFactory, Pause, PluginContract, ScriptedProvider, VirtualClock, text
from plughost_testing.faults import Faults, Faulty, Latency, Rule

pytestmark = pytest.mark.anyio


class TestContract(PluginContract):
    plugin_class = Patience
    config = {"seconds": 3600}
    other_config = {"seconds": 7200}


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider(tools=["add", "sum"])


async def test_patience_ends(host: HostFactory, client: ClientFactory, provider: ScriptedProvider) -> None:
    """The first call takes an hour and is refused after a minute; the second takes half of one, and is answered."""
    provider.script("add", [Pause(3600), text("late")], [Pause(30), text("three")])
    caller = await client(await host(Patience(), providers=[provider]))
    with pytest.raises(MCPError, match="add took more than 60"):
        await caller.call_tool("add", {})
    assert (await caller.call_tool("add", {})).content[0].model_dump()["text"] == "three"
    assert len(provider.calls) == 2


@pytest.mark.seeds(3)
async def test_one_slow_tool_delays_no_other(
    host: HostFactory, client: ClientFactory, provider: ScriptedProvider, seed: int
) -> None:
    """Whatever the order: the slow tool is refused, the other answers."""
    slow = Faulty(provider, Faults([Rule(Latency(600), target="add")], seed=seed))
    caller = await client(await host(Patience(PatienceConfig(seconds=10)), providers=[slow]))
    with pytest.raises(MCPError, match="add took more than 10"):
        await caller.call_tool("add", {})
    assert not (await caller.call_tool("sum", {})).is_error
