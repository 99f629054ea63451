"""What a run of the suite found, and what got worse between two runs.

The suite's own verdict is not enough: a check that is skipped, or not made any more, does not fail it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

WORSE = ("SUCCESS", "WARNING", "SKIPPED", "FAILURE")
"""Statuses from best to worst. INFO is a remark, not a check."""


@dataclass(frozen=True, slots=True)
class Check:
    """All times that a scenario made one check: the worst status, the suite's words on it, and how often."""

    status: str
    message: str = ""
    times: int = 1

    @property
    def rank(self) -> int:
        """Larger is worse."""
        return WORSE.index(self.status)

    def __add__(self, other: Check) -> Check:
        worst = max(self, other, key=lambda check: check.rank)
        return Check(worst.status, worst.message, self.times + other.times)


Checks = Mapping[str, Check]
"""The checks of one scenario by id."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a revision's requirements: the checks of each scenario, and which scenarios count for the score."""

    scenarios: Mapping[str, Checks]
    required: tuple[str, ...]

    def passes(self, scenario: str) -> bool:
        """Whether the scenario made checks and each of them succeeded."""
        checks = self.scenarios.get(scenario, {})
        return bool(checks) and all(check.status == "SUCCESS" for check in checks.values())

    @property
    def failed(self) -> list[str]:
        """The required scenarios that do not pass."""
        return [scenario for scenario in self.required if not self.passes(scenario)]

    @property
    def score(self) -> str:
        """Passed and required scenarios, as in `30/30`."""
        return f"{len(self.required) - len(self.failed)}/{len(self.required)}"

    @property
    def checks(self) -> int:
        """How many checks the required scenarios made."""
        return sum(check.times for name in self.required for check in self.scenarios.get(name, {}).values())


def collect(found: Iterable[Mapping[str, str]]) -> Checks:
    """The checks of one scenario, from the suite's own list of them."""
    checks: dict[str, Check] = {}
    for entry in found:
        if entry["status"] != "INFO":
            check = Check(entry["status"], entry.get("errorMessage", ""))
            name = entry["id"]
            checks[name] = checks[name] + check if name in checks else check
    return checks


def regressions(direct: Run, through: Run, without: Container[str] = ()) -> Iterator[str]:
    """One line for each check that is worse `through` than `direct`, or made fewer times, or not at all.

    `without` names checks, by id, that the way through the host cannot have.
    """
    for scenario, expected in direct.scenarios.items():
        found = through.scenarios.get(scenario, {})
        names = [*expected, *sorted(found.keys() - expected.keys())]
        for name in (name for name in names if name not in without):
            before, after = expected.get(name), found.get(name)
            if after is None:
                yield f"{scenario}: {name} is not made any more"
            elif after.rank > (before.rank if before else 0):
                was = before.status if before else "not made"
                yield f"{scenario}: {name} is {after.status}, direct {was}: {after.message}"
            elif before and after.times < before.times:
                yield f"{scenario}: {name} is made {after.times} of {before.times} times"
