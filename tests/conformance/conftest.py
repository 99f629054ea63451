"""Prints the scores at the end of a run."""

from __future__ import annotations

import pytest

from conformance.scores import Row, table

SCORES = pytest.StashKey[list[Row]]()


@pytest.fixture(scope="session")
def scores(pytestconfig: pytest.Config) -> list[Row]:
    """Rows to print when the run is over."""
    return pytestconfig.stash.setdefault(SCORES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = terminalreporter.config.stash.get(SCORES, [])
    if rows:
        terminalreporter.section("conformance scores")
        terminalreporter.write_line("\n".join(table(rows)))
