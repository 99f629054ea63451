"""Retries and time limits together, as they stand in the pipeline."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import MCPError
from plughost import ErrorCode, MCPPlugin
from plughost_errors import ErrorsPlugin
from plughost_retry import RetryConfig, RetryPlugin
from plughost_testing import Hang, ScriptedProvider, VirtualClock, make_call, make_host, text
from plughost_timeout import TimeoutConfig, TimeoutPlugin

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider("notes", tools=["echo"])


def plugins(timeout: dict[str, Any], **retry: Any) -> list[MCPPlugin[Any]]:
    return [
        TimeoutPlugin(TimeoutConfig.model_validate(timeout), name="timeout"),
        RetryPlugin(RetryConfig.model_validate({"tools": ["echo"], **retry}), name="retry"),
        ErrorsPlugin(name="errors"),
    ]


CALL = ("tools/call", {"name": "echo", "arguments": {}})


async def test_an_attempt_that_ran_out_of_time_is_made_again(
    provider: ScriptedProvider, virtual_clock: VirtualClock
) -> None:
    """The limit of one attempt ends that attempt; the next one answers."""
    provider.script("echo", Hang(), text("done"))
    async with make_host(*plugins({"attempt": "2s"}), providers=[provider], clock=virtual_clock) as host:
        assert [at["instance"] for at in host.chain("echo")] == ["errors", "timeout", "retry", "timeout"]
        result = await host.dispatch(make_call(*CALL))
    assert result["content"] == text("done")["content"]


@pytest.mark.parametrize(
    ("total", "expected"),
    [(60, ("attempt", "attempts", 4)), (5, ("total", "deadline", 3)), (1.5, ("total", "deadline", 1))],
)
async def test_the_total_holds_over_all_attempts(
    provider: ScriptedProvider, virtual_clock: VirtualClock, total: float, expected: tuple[str, str, int]
) -> None:
    """T8: attempts and waits end at the total; the client sees which limit ended the last attempt, and how many."""
    provider.script("echo", Hang())
    together = plugins({"attempt": "2s", "total": total}, attempts=4, backoff="1ms")
    async with make_host(*together, providers=[provider], clock=virtual_clock) as host:
        began = virtual_clock.monotonic()
        with pytest.raises(MCPError) as caught:
            await host.dispatch(make_call(*CALL))
        assert virtual_clock.monotonic() - began <= total
    assert caught.value.code == ErrorCode.TIMEOUT
    assert caught.value.data["type"] == "timeout"
    details = caught.value.data["details"]
    assert (details["limit"], details["stopped"], details["attempts"]) == expected
    assert len(provider.calls) == details["attempts"]


async def test_hedged_attempts_have_limits_of_their_own(
    provider: ScriptedProvider, virtual_clock: VirtualClock
) -> None:
    """Of two attempts side by side each is ended by its own limit; the next round answers."""
    provider.script("echo", Hang(), Hang(), text("done"))
    together = plugins({"attempt": "3s"}, backoff="1ms", hedge={"tools": ["echo"], "delay": "1s"})
    async with make_host(*together, providers=[provider], clock=virtual_clock) as host:
        began = virtual_clock.monotonic()
        await host.dispatch(make_call(*CALL))
        assert virtual_clock.monotonic() - began == pytest.approx(4, abs=0.01)
    assert [item.outcome for item in provider.calls] == ["cancelled", "cancelled", "success"]
