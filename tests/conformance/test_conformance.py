"""The host passes the official suite exactly as the server behind it passes alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.checks import Run, regressions
from conformance.legs import THROUGH, Leg, cannot_have, direct
from conformance.scores import Row
from conformance.suite import REVISIONS, run_suite

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(300)]


@dataclass(frozen=True, slots=True)
class Measured:
    """One leg's run of each revision, and the folder of its files."""

    leg: str
    runs: dict[str, Run]
    folder: Path

    def explain(self, lost: list[str]) -> str:
        """What a failing test shows: the checks that got worse, and the end of the host's log."""
        return "\n".join([f"through the host ({self.leg}), against the same server alone:", *lost, *self._log()])

    def _log(self) -> list[str]:
        return ["end of the host's log:", (self.folder / "host.log").read_text("utf-8", "replace")[-2000:]]


def _measure(name: str, leg: Leg, folder: Path) -> Measured:
    with leg(folder) as url:
        return Measured(name, {revision: run_suite(url, revision, folder / revision) for revision in REVISIONS}, folder)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future[Measured]]]:
    """All legs, two at a time: the suite waits as much as it computes."""
    pool = ThreadPoolExecutor(2)
    legs = {"direct": direct, **THROUGH}
    yield {name: pool.submit(_measure, name, leg, tmp_path_factory.mktemp("leg")) for name, leg in legs.items()}
    pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def alone(measured: Mapping[str, Future[Measured]], scores: list[Row]) -> Measured:
    """The everything server without the host, on this machine and day."""
    alone = measured["direct"].result()
    scores += [Row("direct", revision, run) for revision, run in alone.runs.items()]
    return alone


@pytest.fixture(scope="module", params=THROUGH)
def through(
    request: pytest.FixtureRequest, measured: Mapping[str, Future[Measured]], alone: Measured, scores: list[Row]
) -> Measured:
    """The same server through the host."""
    through = measured[request.param].result()
    scores += [
        Row(request.param, revision, run, tuple(_lost(alone, through, revision)))
        for revision, run in through.runs.items()
    ]
    return through


def _lost(alone: Measured, through: Measured, revision: str) -> list[str]:
    return list(regressions(alone.runs[revision], through.runs[revision], cannot_have(through.leg)))


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_server_alone_passes_every_required_scenario(alone: Measured, revision: str) -> None:
    """The yardstick is whole: the everything server alone passes all that the revision requires."""
    assert alone.runs[revision].failed == []
    assert len(alone.runs[revision].required) == REVISIONS[revision]


@pytest.mark.parametrize("revision", REVISIONS)
def test_no_check_is_worse_through_the_host(alone: Measured, through: Measured, revision: str) -> None:
    """Each check that the server passes alone passes through the host, in every scenario that the suite runs."""
    lost = _lost(alone, through, revision)
    assert not lost, through.explain(lost)
    assert through.runs[revision].failed == []
