"""The pytest plugin: fixtures and markers. Every pytest beside the kit imports it, so it imports little."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plughost_testing._clock import VirtualClock, clock_of_loop

if TYPE_CHECKING:
    from plughost_testing._backends import Backend
    from plughost_testing._fixtures import ClientFactory, HostFactory, LiveHostFactory
    from plughost_testing.services import PostgreSQL, Redis, Stack

SEEDS_MARKER = "seeds(n): run the test n times, the order of concurrent tasks drawn from a different seed each time"
BACKENDS_MARKER = "backends(name, ...): run the test once on each of these backends; `on_backends` makes it"
SERVICES_MARKER = "services: on real servers; pip does not install all (redis-server, postgresql, prometheus, nginx)"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Called once, when pytest starts."""
    group = parser.getgroup("plughost")
    group.addoption(
        "--plughost-seed", type=int, help="the only seed that tests marked with `seeds` run with, to repeat a failure"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Called once, after the options are known."""
    config.addinivalue_line("markers", SEEDS_MARKER)
    config.addinivalue_line("markers", BACKENDS_MARKER)
    config.addinivalue_line("markers", SERVICES_MARKER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Called for each test function; `seeds` and `backends` multiply it."""
    marker = metafunc.definition.get_closest_marker("seeds")
    if marker is not None:
        _demand(metafunc, "seed", "runs on no virtual clock; let anyio_backend return virtual_clock.backend")
        only = metafunc.config.getoption("--plughost-seed")
        seeds = range(*marker.args) if only is None else [only]
        metafunc.parametrize("seed", seeds, indirect=True, ids=[f"seed={seed}" for seed in seeds])
    marker = metafunc.definition.get_closest_marker("backends")
    if marker is not None:
        _demand(metafunc, "backend", "does not take the fixture `backend`, which says where it is")
        marks = {"redis": pytest.mark.services, "postgresql": pytest.mark.services}
        names = [pytest.param(name, marks=marks.get(name, ())) for name in marker.args]
        metafunc.parametrize("backend", names, indirect=True)


def _demand(metafunc: pytest.Metafunc, fixture: str, remedy: str) -> None:
    if fixture not in metafunc.fixturenames:
        raise pytest.UsageError(f"{metafunc.definition.nodeid} is to run several times, but {remedy}")


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Called at the end; prints what the plugins under contract cost."""
    reports = terminalreporter.getreports("passed")
    lines = [value for report in reports for name, value in report.user_properties if name == "plughost_overhead"]
    if lines:
        terminalreporter.section("overhead of plugins")
        for line in lines:
            terminalreporter.write_line(str(line))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int | None:
    """The seed that orders concurrent tasks in this run of the test; `None` without the marker `seeds`."""
    found: int | None = getattr(request, "param", None)
    return found


@pytest.fixture
def virtual_clock(seed: int | None) -> VirtualClock:
    """Virtual time. Let `anyio_backend` return its `backend` to run the test on it."""
    return VirtualClock(seed)


@pytest.fixture
async def no_leaks(anyio_backend: object) -> AsyncIterator[None]:
    """Fails a test that leaves a task, timer, thread, child process, descriptor or logger handler; names it."""
    from plughost_testing._leaks import Inventory, check_leaks  # noqa: PLC0415 - see the module's docstring

    del anyio_backend  # asked for, so that it runs on the loop of the test
    before = Inventory.take()
    yield
    await check_leaks(before)


@pytest.fixture
async def host(no_leaks: None) -> AsyncIterator[HostFactory]:
    """Builds hosts in memory of exactly the plugins and providers given, closed at the end; leaves no leak behind.

    Their clock is the virtual one, if the test runs on it.
    """
    from plughost_testing._fixtures import HostFactory  # noqa: PLC0415 - see the module's docstring
    from plughost_testing._holding import holding  # noqa: PLC0415

    del no_leaks  # asked for, so that it looks after everything here is closed
    async with holding() as holder:
        yield HostFactory(holder, clock_of_loop())


@pytest.fixture
async def live_host(host: HostFactory, tmp_path: Path) -> AsyncIterator[LiveHostFactory]:
    """Builds hosts behind HTTP on a free port, or commands of hosts behind stdio."""
    from plughost_testing._fixtures import LiveHostFactory  # noqa: PLC0415 - see the module's docstring
    from plughost_testing._holding import holding  # noqa: PLC0415

    async with holding() as holder:
        yield LiveHostFactory(holder, host, tmp_path)


@pytest.fixture(params=["auto", "legacy"], ids=["2026-07-28", "2025-11-25"])
async def client(request: pytest.FixtureRequest, live_host: LiveHostFactory) -> AsyncIterator[ClientFactory]:
    """Connects SDK clients to a host, in memory or live. A test that takes it runs once for each protocol era."""
    from plughost_testing._fixtures import ClientFactory  # noqa: PLC0415 - see the module's docstring
    from plughost_testing._holding import holding  # noqa: PLC0415

    del live_host  # asked for, so that clients leave before what they are connected to
    async with holding() as holder:
        yield ClientFactory(holder, request.param)


@pytest.fixture
def stack() -> Iterator[Stack]:
    """Starts real processes (`stack.start(Redis())`) that are stopped, with their data, at the end of the test."""
    from plughost_testing.services import Stack  # noqa: PLC0415 - see the module's docstring

    with Stack() as stack:
        yield stack


@pytest.fixture(scope="session")
def session_stack() -> Iterator[Stack]:
    """As `stack`, until the end of the session."""
    from plughost_testing.services import Stack  # noqa: PLC0415 - see the module's docstring

    with Stack() as stack:
        yield stack


@pytest.fixture(scope="session")
def backend_redis(session_stack: Stack) -> Redis:
    """The Redis server that all tests of the session share through `backend`."""
    from plughost_testing.services import Redis  # noqa: PLC0415 - see the module's docstring

    return session_stack.start(Redis())


@pytest.fixture(scope="session")
def backend_postgresql(session_stack: Stack) -> PostgreSQL:
    """The PostgreSQL server that all tests of the session share through `backend`."""
    from plughost_testing.services import PostgreSQL  # noqa: PLC0415 - see the module's docstring

    return session_stack.start(PostgreSQL())


@pytest.fixture
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """Where a plugin keeps its state in this run, as the marker `backends` says. What a test breaks is mended."""
    from plughost_testing._backends import make_backend  # noqa: PLC0415 - see the module's docstring

    def server(name: str) -> Any:
        return request.getfixturevalue(f"backend_{name}")

    backend = make_backend(
        getattr(request, "param", "memory"), tmp_path, partial(server, "redis"), partial(server, "postgresql")
    )
    yield backend
    if backend.service is not None:
        backend.service.thaw()
        if not backend.service.running:
            backend.service.restart()
