"""What was found, and what it amounts to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How the host does."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """Something does not work; most calls do."""
    UNHEALTHY = "unhealthy"
    """What matters does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `name` begins with what it is: `check/`, `provider/` or `plugin/`."""

    name: str
    _: KW_ONLY
    reason: str = ""
    """What is wrong with it; empty if nothing is."""
    critical: bool = False
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return self.reason != ""

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        status = "failed" if self.failed else "passed"
        found: dict[str, Any] = {"name": self.name, "status": status, "critical": self.critical}
        if self.failed:
            found["reason"] = self.reason
        return {**found, "ms": round(self.seconds * 1000, 3)}


def judge(findings: Sequence[Finding]) -> State:
    """Unhealthy if something critical failed, or every provider did; degraded if anything else failed."""
    failed = [finding for finding in findings if finding.failed]
    providers = [finding for finding in findings if finding.name.startswith("provider/")]
    if any(finding.critical for finding in failed) or (providers and all(item.failed for item in providers)):
        return State.UNHEALTHY
    return State.DEGRADED if failed else State.HEALTHY
