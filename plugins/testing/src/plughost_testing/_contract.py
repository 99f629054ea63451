"""The contract as a class of tests."""

from __future__ import annotations

from typing import Any

import pytest

from plughost_testing import clauses
from plughost_testing._clock import VirtualClock
from plughost_testing._subject import Subject


@pytest.mark.anyio
class PluginContract(Subject):
    """Subclass it, name the plugin, and its tests prove what every plugin owes to hosts and operators.

        class TestGreeting(PluginContract):
            plugin_class = GreetingPlugin
            config = {"text": "hello"}
            other_config = {"text": "ahoy"}

    What a plugin does otherwise it declares in the class attributes of `Subject`. All runs in memory, on virtual time.
    """

    @pytest.fixture
    def anyio_backend(self, virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
        return virtual_clock.backend

    async def test_config_refuses_what_is_unknown_or_invalid(self) -> None:
        """The config refuses unknown keys and invalid values with a message that names the field."""
        await clauses.refuses_bad_config(self)

    async def test_other_methods_pass_untouched(self) -> None:
        """What the plugin does not handle passes as if it were not there."""
        await clauses.leaves_other_methods_alone(self)

    async def test_place_in_the_chain_is_fixed(self) -> None:
        """The plugin stands at the same place in whatever order plugins are registered."""
        await clauses.stands_in_one_place(self)

    async def test_nothing_is_left_behind(self) -> None:
        """Registered and unregistered 100 times, the plugin leaves nothing."""
        await clauses.leaves_nothing_behind(self)

    async def test_failing_middleware_fails_as_declared(self) -> None:
        """When the plugin itself fails, the client sees what it declares."""
        await clauses.fails_as_declared(self)

    async def test_failing_backend_fails_as_declared(self) -> None:
        """When the plugin's backend fails, the client sees what it declares, until the backend is back."""
        await clauses.fails_as_declared_with_its_backend(self)

    @pytest.mark.seeds(3)
    async def test_concurrent_calls_do_not_mix(self) -> None:
        """100 concurrent calls get the answers that they would get alone."""
        await clauses.right_under_concurrency(self)

    async def test_cancellation_anywhere_is_survived(self) -> None:
        """A call may be cancelled at every await point."""
        await clauses.survives_cancellation(self)

    async def test_reconfiguration_does_what_it_says(self) -> None:
        """A new config is taken in place with the state kept, or not at all."""
        await clauses.keeps_state_as_declared(self)

    async def test_overhead(self, record_property: Any) -> None:
        """What the plugin adds to a call is printed, and judged by nobody."""
        overhead = await clauses.measure_overhead(self)
        record_property("plughost_overhead", f"{self.plugin_class.__name__}: {overhead:+.1f} µs a call")
