"""The clauses of the contract: each a function that takes a `Subject`, and raises `AssertionError` if it is broken.

They need no pytest; run one on virtual time with `plughost_testing.run(partial(clause, subject))`.
"""

from __future__ import annotations

from plughost_testing.clauses.config import refuses_bad_config
from plughost_testing.clauses.failure import fails_as_declared, fails_as_declared_with_its_backend
from plughost_testing.clauses.lifetime import keeps_state_as_declared, leaves_nothing_behind
from plughost_testing.clauses.load import measure_overhead, right_under_concurrency, survives_cancellation
from plughost_testing.clauses.place import leaves_other_methods_alone, stands_in_one_place

__all__ = [
    "fails_as_declared",
    "fails_as_declared_with_its_backend",
    "keeps_state_as_declared",
    "leaves_nothing_behind",
    "leaves_other_methods_alone",
    "measure_overhead",
    "refuses_bad_config",
    "right_under_concurrency",
    "stands_in_one_place",
    "survives_cancellation",
]
