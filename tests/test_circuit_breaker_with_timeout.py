"""The circuit breaker around a real timeout: what ran out of time counts, and what nearly did is slow."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from plughost import ErrorCode
from plughost_circuit_breaker import CircuitBreakerConfig, CircuitBreakerPlugin
from plughost_retry import RetryConfig, RetryPlugin
from plughost_testing import Hang, HostFactory, Pause, ScriptedProvider, VirtualClock, make_call, text
from plughost_timeout import TimeoutConfig, TimeoutPlugin

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


@pytest.mark.parametrize(
    ("reply", "reason"),
    [(Hang(), "4 of 4 calls failed"), ([Pause(25), text("late")], "4 of 4 calls were slow")],
)
async def test_defaults_fit_together(host: HostFactory, reply: Any, reason: str) -> None:
    """With the defaults of both, calls that hang open the breaker, and so do calls that take 25 of their 30 seconds."""
    provider = ScriptedProvider("notes", tools=["add"])
    provider.script("add", reply)
    breaker = CircuitBreakerPlugin(CircuitBreakerConfig(minimum_calls=4, window=600), name="circuit-breaker")
    hosted = await host(breaker, TimeoutPlugin(name="timeout"), providers=[provider])
    codes = []
    for _ in range(5):
        try:
            await hosted.dispatch(make_call("tools/call", {"name": "add"}))
        except MCPError as error:
            codes.append(error.code)
    assert codes[-1] == ErrorCode.CIRCUIT_OPEN
    found = await hosted.run_operation("circuit-breaker", "show", {"tool": "add"})
    assert found["breakers"][0]["reason"] == reason


@pytest.mark.parametrize(
    ("limits", "replies", "counted"),
    [
        ({"attempt": 2, "total": 5}, [Hang()], {"failures": 2, "slow": 2}),
        ({"attempt": "none", "total": 5}, [Hang()], {"failures": 1, "slow": 1}),
        ({"attempt": 30, "total": 5}, [Hang()], {"failures": 1, "slow": 1}),
        ({"attempt": 2, "total": 5}, [[Pause(1.9), text("late")]], {"failures": 0, "slow": 1}),
        ({"attempt": 2, "total": 5}, [Hang(), Hang(), [Pause(0.9), text("in time")]], {"failures": 2, "slow": 2}),
    ],
)
async def test_attempt_that_the_total_cuts_short(
    host: HostFactory, limits: dict[str, Any], replies: list[Any], counted: dict[str, int]
) -> None:
    """It says nothing about the provider: only one that had (nearly) its own full time counts.

    Here the third attempt begins a second before the total is over, and each may take two.
    """
    provider = ScriptedProvider("notes", tools=["add"])
    provider.script("add", *replies)
    hosted = await host(
        RetryPlugin(RetryConfig(tools=("add",), attempts=4, backoff=0.001), name="retry"),
        CircuitBreakerPlugin(name="circuit-breaker"),
        TimeoutPlugin(TimeoutConfig.model_validate(limits), name="timeout"),
        providers=[provider],
    )
    with suppress(MCPError):
        await hosted.dispatch(make_call("tools/call", {"name": "add"}))
    found = await hosted.run_operation("circuit-breaker", "show", {"tool": "add"})
    assert {key: found["breakers"][0][key] for key in counted} == counted
