"""What every plugin owes, owed by this one: while calls succeed, while they are retried, while they are hedged."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

import anyio
from plughost import Call, CallNext, ErrorCode, MCPPlugin, Middleware, Phase, Refusal, Result, hookimpl
from plughost_retry import RetryPlugin
from plughost_testing import PluginContract


class Flaky(MCPPlugin):
    """Fails the first attempt of each call, after a while."""

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.fail_first, Phase.PROTECT, methods={"tools/call"}, after=("under-test",))]

    async def fail_first(self, call: Call, call_next: CallNext) -> Result:
        call.state[self] = call.state.get(self, 0) + 1
        if call.state[self] == 1:
            await anyio.sleep(0.2)
            raise Refusal(ErrorCode.UPSTREAM_UNAVAILABLE, "not yet")
        return await call_next(call)


class TestRetry(PluginContract):
    plugin_class = RetryPlugin
    config = {"tools": ["echo"], "budget_floor": 10_000, "trusted": ["stage"]}
    invalid = {"attempts": [0, 21], "tools": ["echo", [""]], "budget": [1.5], "backoff": [0, "10s"]}
    other_config = {"tools": ["ech*"], "attempts": 5}
    handles: ClassVar[Collection[str]] = ()
    keeps_state = True

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        """Whose calls it counted."""
        assert isinstance(plugin, RetryPlugin)
        return {provider: sum(budget._calls) for provider, budget in plugin.budgets.items()}


class TestRetryOfFailures(TestRetry):
    handles = ("tools/call",)

    def needs(self) -> list[MCPPlugin[Any]]:
        return [Flaky(name="flaky")]


class TestHedging(TestRetry):
    handles = ("tools/call",)
    config = {"budget_floor": 10_000, "hedge": {"tools": ["*"], "delay": "500ms"}}
    repeats = True
