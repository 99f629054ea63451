"""What counts as worse between two runs of the suite."""

from __future__ import annotations

import pytest

from conformance.checks import Run, collect, regressions
from conformance.scores import Row, table


def entry(name: str, status: str, message: str = "") -> dict[str, str]:
    """A check as the suite writes it."""
    return {"id": name, "name": name.title(), "status": status, **({"errorMessage": message} if message else {})}


def run(*entries: dict[str, str], scenario: str = "tools-list") -> Run:
    return Run({scenario: collect(entries)}, (scenario,))


DIRECT = run(entry("list", "SUCCESS"), entry("names", "SUCCESS"), entry("names", "SUCCESS"), entry("note", "INFO"))


def test_the_same_checks_are_no_regression() -> None:
    """Two equal runs differ in nothing."""
    assert list(regressions(DIRECT, DIRECT)) == []


def test_a_failed_check_is_a_regression() -> None:
    """A check that fails is named with its scenario, both statuses and the suite's own words."""
    through = run(entry("list", "FAILURE", "no tools"), entry("names", "SUCCESS"), entry("names", "SUCCESS"))
    assert list(regressions(DIRECT, through)) == ["tools-list: list is FAILURE, direct SUCCESS: no tools"]


def test_the_worst_of_several_times_counts() -> None:
    """One failure among the times that a check is made is enough."""
    through = run(entry("list", "SUCCESS"), entry("names", "FAILURE", "two a"), entry("names", "SUCCESS"))
    assert list(regressions(DIRECT, through)) == ["tools-list: names is FAILURE, direct SUCCESS: two a"]


@pytest.mark.parametrize("status", ["SKIPPED", "WARNING"])
def test_a_check_that_did_not_fail_can_still_be_worse(status: str) -> None:
    """A check that is skipped, or only warns, got worse though the suite calls the scenario passed."""
    through = run(entry("list", status, "not offered"), entry("names", "SUCCESS"), entry("names", "SUCCESS"))
    assert list(regressions(DIRECT, through)) == [f"tools-list: list is {status}, direct SUCCESS: not offered"]


def test_a_lost_check_is_a_regression() -> None:
    """A check that is not made any more is one."""
    through = run(entry("names", "SUCCESS"), entry("names", "SUCCESS"))
    assert list(regressions(DIRECT, through)) == ["tools-list: list is not made any more"]


def test_a_check_made_less_often_is_a_regression() -> None:
    """A check that the scenario makes twice and is made once is one."""
    through = run(entry("list", "SUCCESS"), entry("names", "SUCCESS"))
    assert list(regressions(DIRECT, through)) == ["tools-list: names is made 1 of 2 times"]


def test_a_lost_scenario_loses_all_its_checks() -> None:
    """A scenario that broke off before it wrote a check is not overlooked."""
    through = Run({}, ("tools-list",))
    lost = ["tools-list: list is not made any more", "tools-list: names is not made any more"]
    assert list(regressions(DIRECT, through)) == lost


def test_a_failure_of_a_check_that_direct_never_made_is_a_regression() -> None:
    """The suite adds a check when a message breaks the schema: new and failed is worse."""
    through = run(
        entry("list", "SUCCESS"),
        entry("names", "SUCCESS"),
        entry("names", "SUCCESS"),
        entry("schema", "FAILURE", "bad"),
    )
    assert list(regressions(DIRECT, through)) == ["tools-list: schema is FAILURE, direct not made: bad"]


def test_a_check_that_the_way_cannot_have_is_no_regression() -> None:
    """What is named as impossible is passed over, and nothing else is."""
    through = run(entry("names", "FAILURE", "two a"))
    lost = list(regressions(DIRECT, through, {"list"}))
    assert lost == ["tools-list: names is FAILURE, direct SUCCESS: two a"]


def test_a_better_check_is_no_regression() -> None:
    """What fails direct and passes through the host is fine, and so is what is as bad as direct."""
    direct = run(entry("list", "FAILURE"), entry("names", "SKIPPED"))
    through = run(entry("list", "SUCCESS"), entry("names", "SKIPPED"))
    assert list(regressions(direct, through)) == []


@pytest.mark.parametrize(
    ("entries", "score"),
    [
        ([entry("list", "SUCCESS"), entry("note", "INFO")], "1/1"),
        ([entry("list", "SUCCESS"), entry("names", "SKIPPED")], "0/1"),
        ([entry("list", "SUCCESS"), entry("names", "WARNING")], "0/1"),
        ([entry("list", "SUCCESS"), entry("list", "FAILURE")], "0/1"),
        ([entry("note", "INFO")], "0/1"),
        ([], "0/1"),
    ],
)
def test_a_scenario_passes_when_it_made_checks_and_all_succeeded(entries: list[dict[str, str]], score: str) -> None:
    """Nothing failed is not passed: a scenario without checks, or with one skipped, does not score."""
    assert run(*entries).score == score


def test_only_required_scenarios_score() -> None:
    """Scenarios that the revision does not require are compared and not counted."""
    two = Run({"ping": collect([entry("ping", "SUCCESS")]), "draft": collect([entry("new", "FAILURE")])}, ("ping",))
    assert (two.score, two.checks, two.failed) == ("1/1", 1, [])


def test_the_table_has_a_row_per_leg_and_revision() -> None:
    """The table shows scenarios, checks, and how many checks are worse than direct."""
    lost = ("tools-list: list is not made any more",)
    heading, row = table([Row("stdio upstream", "2026-07-28", DIRECT, lost)])
    assert heading.split() == ["leg", "revision", "scenarios", "checks", "worse", "than", "direct"]
    assert row.split() == ["stdio", "upstream", "2026-07-28", "1/1", "3", "1"]
