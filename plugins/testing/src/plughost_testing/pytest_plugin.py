"""The pytest plugin: fixtures and markers. Every pytest beside the kit imports it, so it imports little."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from plughost_testing._clock import VirtualClock

SEEDS_MARKER = "seeds(n): run the test n times, the order of concurrent tasks drawn from a different seed each time"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Called once, when pytest starts."""
    group = parser.getgroup("plughost")
    group.addoption(
        "--plughost-seed", type=int, help="the only seed that tests marked with `seeds` run with, to repeat a failure"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Called once, after the options are known."""
    config.addinivalue_line("markers", SEEDS_MARKER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Called for each test function; `seeds` multiplies it."""
    marker = metafunc.definition.get_closest_marker("seeds")
    if marker is None:
        return
    if "seed" not in metafunc.fixturenames:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid} is marked with seeds({marker.args[0]}), but runs on no virtual clock; "
            "let anyio_backend return virtual_clock.backend"
        )
    only = metafunc.config.getoption("--plughost-seed")
    seeds = range(*marker.args) if only is None else [only]
    metafunc.parametrize("seed", seeds, indirect=True, ids=[f"seed={seed}" for seed in seeds])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Called after each part of a test; a failure tells how to repeat it."""
    report = yield
    seed = getattr(item, "funcargs", {}).get("seed")
    if report.failed and seed is not None:
        report.sections.append(
            ("seed", f"The order of tasks came from seed {seed}; --plughost-seed={seed} repeats it.")
        )
    return report


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int | None:
    """The seed that orders concurrent tasks in this run of the test; `None` without the marker `seeds`."""
    found: int | None = getattr(request, "param", None)
    return found


@pytest.fixture
def virtual_clock(seed: int | None) -> VirtualClock:
    """Virtual time. Let `anyio_backend` return its `backend` to run the test on it."""
    return VirtualClock(seed)
