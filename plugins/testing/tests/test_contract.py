"""Each clause of the contract catches a plugin that breaks it, and lets one pass that does not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar

import anyio
import bad_plugins as bad
import pytest
from plughost import Call, CallNext, ErrorCode, MCPPlugin, Middleware, Phase, Refusal, Result, hookimpl
from plughost_testing import PluginContract, Subject, VirtualClock, clauses, run

Clause = Callable[[Subject], Coroutine[Any, Any, Any]]


class TestGoodPlugin(PluginContract):
    plugin_class = bad.Good
    config = {"limit": 500}
    other_config = {"limit": 700}
    invalid = {"limit": [0, "many"], "fail_mode": ["ajar"]}
    keeps_state = True

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        assert isinstance(plugin, bad.Good)
        return plugin.counted


class TestPluginWithBackend(PluginContract):
    plugin_class = bad.Plain
    other_config = {"url": "redis://localhost"}
    has_backend = True

    def broken_backend(self, plugin: MCPPlugin[Any]) -> AbstractContextManager[object]:
        assert isinstance(plugin, bad.Plain)
        return plugin.breaking()


class Claims(Subject):
    """What a bad plugin claims, unless a case says otherwise."""

    config: ClassVar[Any] = {}

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        assert isinstance(plugin, bad.Good)
        return plugin.counted

    def broken_backend(self, plugin: MCPPlugin[Any]) -> AbstractContextManager[object]:
        assert isinstance(plugin, bad.Plain)
        return plugin.breaking()


def claims(plugin_class: type[MCPPlugin[Any]], **attributes: Any) -> Subject:
    made: Subject = type("Claims", (Claims,), {"plugin_class": plugin_class, **attributes})()
    return made


CHANGED = {"keeps_state": True, "other_config": {"limit": 700}}
CASES: list[tuple[Clause, Subject, str]] = [
    (clauses.refuses_bad_config, claims(bad.TakesUnknownKeys), "an unknown key is accepted"),
    (clauses.refuses_bad_config, claims(bad.TakesAnything), "limit takes any value"),
    (clauses.refuses_bad_config, claims(bad.Mumbles), "refused without naming the field"),
    (clauses.refuses_bad_config, claims(bad.TakesTooMuch, invalid={"limit": [0]}), "limit = 0 is accepted"),
    (clauses.leaves_other_methods_alone, claims(bad.ChangesEveryResult), r"tools/list .* is not left alone"),
    (clauses.leaves_other_methods_alone, claims(bad.ChangesEveryRequest), "the provider is asked"),
    (clauses.stands_in_one_place, claims(bad.Wanders), "the chain is once .* and once"),
    (clauses.stands_in_one_place, claims(bad.Good, has_middleware=False), "has_middleware is False"),
    (clauses.stands_in_one_place, claims(bad.Mumbles), "has_middleware is True"),
    (clauses.leaves_nothing_behind, claims(bad.LeavesATask), "left behind:\n  - task 'left-behind'"),
    (clauses.leaves_nothing_behind, claims(bad.LeavesAHandler), "NullHandler.* of logger 'left.behind'"),
    (clauses.leaves_nothing_behind, claims(bad.LeavesAFile), r"descriptor \d+ \(.*bad_plugins.py\)"),
    (clauses.leaves_nothing_behind, claims(bad.LeavesATimer), "timer <TimerHandle.*print"),
    (clauses.leaves_nothing_behind, claims(bad.LeavesAReference), "100 of 100 unregistered instances.*'list'"),
    (clauses.keeps_state_as_declared, claims(bad.Forgets, **CHANGED), "1 became 0"),
    (clauses.keeps_state_as_declared, claims(bad.RefusesToChange, **CHANGED), "reconfigure.. returned False"),
    (clauses.keeps_state_as_declared, claims(bad.Good, other_config={"limit": 7}), "reconfigure.. returned True"),
    (clauses.keeps_state_as_declared, claims(bad.ChangesHalfway, other_config={"limit": 7}), "took the new config"),
    (clauses.keeps_state_as_declared, claims(bad.Good), "give another valid one"),
    (clauses.keeps_state_as_declared, claims(bad.Good, other_config={"limit": 1000}), "is the same"),
    (clauses.fails_as_declared, claims(bad.FailsOpenUnasked), "fails closed, but the client got"),
    (clauses.fails_as_declared, claims(bad.FailsOpenSilently, fails="open"), "neither an event nor the log"),
    (clauses.fails_as_declared, claims(bad.Plain, fails="open"), "fails open, but the client got"),
    (clauses.fails_as_declared, claims(bad.FailsClosedWithOpenMode), "fails open, but the client got"),
    (clauses.fails_as_declared, claims(bad.LooksAtNothing), "reads neither the call nor its config"),
    (clauses.fails_as_declared, claims(bad.Plain, fails=None), "reads the call or its config"),
    (clauses.fails_as_declared_with_its_backend, claims(bad.Plain), "set has_backend"),
    (clauses.fails_as_declared_with_its_backend, claims(bad.FailsOpenUnasked, has_backend=True), "its backend failed"),
    (
        clauses.fails_as_declared_with_its_backend,
        claims(bad.Plain, has_backend=True, degrades=True),
        "fails open, but the client got",
    ),
    (clauses.fails_as_declared_with_its_backend, claims(bad.NeverRecovers, has_backend=True), "calls still fail 300 s"),
    (clauses.right_under_concurrency, claims(bad.MixesCalls), "concurrent ones got"),
    (clauses.right_under_concurrency, claims(bad.CallsTwice), "not once"),
    (clauses.right_under_concurrency, claims(bad.CallsTwice, reuses=True), "not once"),
    (clauses.right_under_concurrency, claims(bad.AnswersAlone), "not once"),
    (clauses.right_under_concurrency, claims(bad.AnswersAlone, repeats=True), "not once"),
    (clauses.survives_cancellation, claims(bad.SwallowsCancellation), r"ends with \{.*, not cancelled"),
    (clauses.survives_cancellation, claims(bad.KeepsThePermit), r"of 100 calls cancelled at .* do not end"),
    (clauses.survives_cancellation, claims(bad.LeavesWorkBehind), r"cancelled at await point \d+ .* left behind"),
    (clauses.survives_cancellation, claims(bad.ForgetsToCountDown), "change the next one"),
]


class FailsFirst(MCPPlugin):
    """Fails the first attempt of each call, after a while."""

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.fail_first, Phase.PROTECT, methods={"tools/call"}, after=("under-test",))]

    async def fail_first(self, call: Call, call_next: CallNext) -> Result:
        if call.state.setdefault(self, 1) == 1:
            call.state[self] = 2
            await anyio.sleep(0.5)
            raise Refusal(ErrorCode.UPSTREAM_UNAVAILABLE, "not yet")
        return await call_next(call)


class TriesAgain(MCPPlugin):
    """A small retry."""

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.retry, Phase.PROTECT, methods={"tools/call"})]

    async def retry(self, call: Call, call_next: CallNext) -> Result:
        try:
            with anyio.fail_after(5):
                return await call_next(call)
        except Refusal:
            await anyio.sleep(1)
            return await call_next(call)


class TestRetryOfWhatFails(PluginContract):
    """A plugin is held to the contract also where no call succeeds without it."""

    plugin_class = TriesAgain
    fails = None

    def needs(self) -> list[MCPPlugin[Any]]:
        return [FailsFirst()]


class TestHedge(PluginContract):
    """A plugin that asks twice, and says so."""

    plugin_class = bad.CallsTwice
    config = {"limit": 500}
    other_config = {"limit": 700}
    keeps_state = True
    repeats = True
    fails = None

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        return None


@pytest.fixture
def tidy() -> Iterator[None]:
    """Takes away what the leaky ones left."""
    yield
    logging.getLogger("left.behind").handlers.clear()
    bad.LeavesAReference.everyone.clear()
    while bad.LeavesAFile.files:
        bad.LeavesAFile.files.pop().close()


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize(
    ("clause", "subject", "message"),
    CASES,
    ids=[f"{clause.__name__}-{subject.plugin_class.__name__}" for clause, subject, _ in CASES],
)
def test_bad_plugin_is_caught(clause: Clause, subject: Subject, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that breaks a clause is caught by it, and the message says how."""
    monkeypatch.setattr("plughost_testing._leaks.PATIENCE", 0.05)  # what these leave does not go
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        run(partial(clause, subject), clock=VirtualClock())


def test_every_clause_catches_somebody() -> None:
    """No clause is without a plugin that it catches; the one that only measures judges nobody."""
    caught = {clause.__name__ for clause, _, _ in CASES}
    assert caught == set(clauses.__all__) - {"measure_overhead"}


def test_every_bad_plugin_is_used() -> None:
    """No bad plugin stands about without a clause that it breaks."""
    used = {subject.plugin_class for _, subject, _ in CASES}
    made = {item for item in vars(bad).values() if isinstance(item, type) and issubclass(item, MCPPlugin)}
    assert made - used - {MCPPlugin} == set()


def test_claims_must_be_backed() -> None:
    """A claim that needs a method says so if it is not there."""

    class Bare(Subject):
        plugin_class = bad.Plain
        has_backend = True
        keeps_state = True
        other_config = {"url": "x://"}

    with pytest.raises(NotImplementedError, match="must override broken_backend"):
        run(partial(clauses.fails_as_declared_with_its_backend, Bare()))
    with pytest.raises(NotImplementedError, match="must override state_of"):
        run(partial(clauses.keeps_state_as_declared, Bare()))


CONTRACT = """
    from plughost import MCPPlugin
    from plughost_testing import PluginContract

    class TestIdle(PluginContract):
        plugin_class = MCPPlugin
        has_middleware = False
        fails = None
"""


def test_contract_is_a_class_of_tests(pytester: pytest.Pytester) -> None:
    """Naming the plugin is all there is to do; what it costs is printed at the end."""
    pytester.makepyfile(CONTRACT)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=12)
    result.stdout.fnmatch_lines(["*overhead of plugins*", "MCPPlugin: * µs a call"])
