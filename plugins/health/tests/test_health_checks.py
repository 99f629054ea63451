"""Judging, and running checks: side by side, within their limits, once for everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plughost import HealthCheck
from plughost_health import Finding, State, judge
from plughost_health._checks import Checks, NamedCheck
from plughost_testing import VirtualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


# -- judging -----------------------------------------------------------------------------------------------------------

FINDINGS = st.lists(
    st.builds(
        Finding,
        st.sampled_from(["check/a/b", "check/c/d", "provider/one", "provider/two", "plugin/x"]),
        reason=st.sampled_from(["", "is down"]),
        critical=st.booleans(),
    )
)
WORSE = [State.HEALTHY, State.DEGRADED, State.UNHEALTHY]


@given(FINDINGS)
def test_the_state_is_what_the_findings_amount_to(findings: list[Finding]) -> None:
    """Critical, or all providers: unhealthy. Anything else: degraded."""
    providers = [item.failed for item in findings if item.name.startswith("provider/")]
    expected = State.HEALTHY
    if any(item.failed for item in findings):
        expected = State.DEGRADED
    if any(item.failed and item.critical for item in findings) or (providers and False not in providers):
        expected = State.UNHEALTHY
    assert judge(findings) is expected


@given(FINDINGS, st.booleans())
def test_one_more_failure_never_makes_it_better(findings: list[Finding], critical: bool) -> None:  # noqa: FBT001
    more = [*findings, Finding("check/new/one", reason="broken", critical=critical)]
    assert WORSE.index(judge(more)) >= WORSE.index(judge(findings))


def test_a_host_without_providers_is_healthy() -> None:
    """One that is being set up; nothing is broken."""
    assert judge([]) is State.HEALTHY


# -- running -----------------------------------------------------------------------------------------------------------


class Backend:
    """What checks ask: it counts them, and answers as it is told to."""

    def __init__(self, answer: Callable[[], Awaitable[None]]) -> None:
        self.asked = 0
        self._answer = answer

    async def check(self) -> None:
        self.asked += 1
        await self._answer()


def named(name: str, backend: Backend, **more: Any) -> NamedCheck:
    return name, HealthCheck(name, backend.check, **more)


def checks(clock: VirtualClock, *known: NamedCheck, cache: float = 1, limit: float = 10) -> Checks:
    return Checks(clock, lambda: known, cache=cache, limit=limit)


def reasons(findings: Sequence[Finding]) -> dict[str, str]:
    return {finding.name: finding.reason for finding in findings}


async def fail() -> None:
    raise ConnectionError("refused")


async def ignore_cancellation() -> None:
    while True:
        try:
            await anyio.sleep(1000)
            break
        except asyncio.CancelledError:
            continue


async def test_checks_run_side_by_side(virtual_clock: VirtualClock) -> None:
    """Ten that take two seconds take two seconds."""
    slow = [named(str(number), Backend(partial(anyio.sleep, 2))) for number in range(10)]
    begin = virtual_clock.monotonic()
    findings = await checks(virtual_clock, *slow).findings()
    assert virtual_clock.monotonic() - begin == pytest.approx(2)
    assert [finding.seconds for finding in findings] == pytest.approx([2] * 10)
    assert not any(finding.failed for finding in findings)


async def test_each_is_cut_at_its_limit(virtual_clock: VirtualClock) -> None:
    """Its own, or that of the config, whichever is shorter; the others are not touched by it."""
    found = await checks(
        virtual_clock,
        named("own", Backend(partial(anyio.sleep, 60)), timeout=3),
        named("config", Backend(partial(anyio.sleep, 60)), timeout=60),
        named("broken", Backend(fail)),
        named("fine", Backend(partial(anyio.sleep, 1))),
        limit=5,
    ).findings()
    assert reasons(found) == {
        "own": "no answer within 3 s",
        "config": "no answer within 5 s",
        "broken": "ConnectionError: refused",
        "fine": "",
    }


async def test_a_check_that_ignores_cancellation_blocks_nobody(virtual_clock: VirtualClock) -> None:
    """It is left behind, and not started once more on top of itself; when it is over, it is asked again."""
    stubborn = Backend(ignore_cancellation)
    running = checks(virtual_clock, named("stubborn", stubborn), cache=0, limit=2)
    begin = virtual_clock.monotonic()
    assert reasons(await running.findings()) == {"stubborn": "no answer within 2 s"}
    assert reasons(await running.findings()) == {"stubborn": "still hangs since an earlier look"}
    assert virtual_clock.monotonic() - begin == pytest.approx(2)
    assert stubborn.asked == 1
    await virtual_clock.sleep(1001)
    stubborn._answer = partial(anyio.sleep, 0)
    assert reasons(await running.findings()) == {"stubborn": ""}


async def test_probes_cannot_load_what_is_probed(virtual_clock: VirtualClock) -> None:
    """A thousand that come at once or within the moment share one look; the next moment has its own."""
    backend = Backend(partial(anyio.sleep, 0.5))
    running = checks(virtual_clock, named("backend", backend), cache=1)
    async with anyio.create_task_group() as tasks:
        for _ in range(1000):
            tasks.start_soon(running.findings)
    await virtual_clock.sleep(0.9)
    await running.findings()
    assert backend.asked == 1
    await virtual_clock.sleep(0.2)
    await running.findings()
    assert backend.asked == 2


async def test_a_probe_that_gives_up_takes_the_answer_from_nobody(virtual_clock: VirtualClock) -> None:
    backend = Backend(partial(anyio.sleep, 2))
    running = checks(virtual_clock, named("backend", backend))
    found: list[Sequence[Finding]] = []

    async def patient() -> None:
        found.append(await running.findings())

    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(1):
            tasks.start_soon(patient)
            await running.findings()
    assert (reasons(found[0]), backend.asked) == ({"backend": ""}, 1)


async def test_a_hook_that_raises_is_a_finding(virtual_clock: VirtualClock) -> None:
    """And no end of the probe."""

    def broken() -> Sequence[NamedCheck]:
        raise RuntimeError("no checks here")

    found = await Checks(virtual_clock, broken, cache=1, limit=1).findings()
    assert reasons(found) == {"check": "RuntimeError: no checks here"}


async def test_nothing_runs_on_after_close(virtual_clock: VirtualClock) -> None:
    """A look under way is over, for whoever waits for it too."""
    running = checks(virtual_clock, named("slow", Backend(anyio.sleep_forever)))
    before = asyncio.all_tasks()
    asking = asyncio.create_task(running.findings())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before
