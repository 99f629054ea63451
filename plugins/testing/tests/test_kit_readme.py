"""The README's examples run, and its tables hold what there is."""

from __future__ import annotations

import plughost_testing
import pytest
from plughost_testing import PluginContract, clauses, pytest_plugin, services
from readmes import Readme

README = Readme(__file__)
CODE = README.blocks("python")


def test_two_minutes(pytester: pytest.Pytester) -> None:
    """The plugin and its tests pass as they stand there."""
    pytester.makepyfile(quota=CODE[0], test_quota=CODE[1])
    pytester.syspathinsert()
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=14)
    result.stdout.fnmatch_lines(["Quota: * µs a call"])


def test_faults() -> None:
    """The rules that it shows can be made."""
    names: dict[str, object] = {"ScriptedProvider": plughost_testing.ScriptedProvider}
    exec(CODE[2], names)
    assert "3 rules" in repr(names["provider"])


def test_services() -> None:
    """The fixtures that it shows are fixtures, of services that there are."""
    names: dict[str, object] = {"pytest": pytest}
    exec(CODE[3], names)
    shown = {name for name in services.__all__ if name in names}
    assert shown == {"HostProcess", "Nginx", "PostgreSQL", "Program", "Prometheus", "Redis"}


def test_fixtures_are_listed() -> None:
    """Each fixture of the kit has a row; what others are made of is left out."""
    marked = {name for name, item in vars(pytest_plugin).items() if "FixtureFunctionDefinition" in type(item).__name__}
    rows = set(README.rows("Fixtures"))
    assert marked - {"session_stack", "backend_redis", "backend_postgresql"} == rows


def test_clauses_are_listed() -> None:
    """The table of the contract has a row for each clause, and names each claim."""
    table = README.text.partition("| clause |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(table) == len(clauses.__all__)
    claims = {name for name in PluginContract.__annotations__ | vars(plughost_testing.Subject) if name[0] != "_"}
    inner = {"plugin_class", "name", "make", "stage", "needs"}
    assert {name for name in claims - inner if f"`{name}" not in "".join(table)} == set()


def test_public_names_are_there() -> None:
    """Each public name can be imported; one that is not there is an error."""
    assert all(getattr(plughost_testing, name) for name in plughost_testing.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        plughost_testing.Nothing  # noqa: B018 - looking it up is the test
