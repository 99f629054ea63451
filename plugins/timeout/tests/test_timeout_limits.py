"""Which limit a call has, and which runs out first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plughost_timeout import Limits, LimitTable, TimeoutConfig
from pydantic import ValidationError

seconds = st.none() | st.floats(0.001, 1e6)


@given(attempt=seconds, total=seconds, left=seconds)
def test_the_first_limit_is_the_shortest(attempt: float | None, total: float | None, left: float | None) -> None:
    """Of what is left of the total and the attempt's own limit the shorter one counts, and is named."""
    found, name = Limits(attempt, total).first(left)
    assert found == min((limit for limit in (attempt, left) if limit is not None), default=None)
    assert found is None or found == {"attempt": attempt, "total": left}[name]


def test_the_first_glob_that_fits_counts() -> None:
    """Overrides are looked at in their order; a tool that none fits has the default."""
    table = LimitTable(Limits(1, 2), {"report_*": Limits(3, 4), "*_all": Limits(5, 6)})
    assert table.of_tool("report_all") == Limits(3, 4)
    assert table.of_tool("delete_all") == Limits(5, 6)
    assert table.of_tool("echo") == table.of_tool(None) == Limits(1, 2)


def test_overrides_inherit_what_they_do_not_say() -> None:
    """A tool with a limit of its own keeps the other one; `none` takes one away."""
    config = TimeoutConfig.model_validate(
        {"attempt": "5s", "total": "none", "tools": {"slow": {"attempt": "2m"}, "endless": {"attempt": "none"}}}
    )
    table = config.table()
    assert table.default == Limits(5, None)
    assert table.of_tool("slow") == Limits(120, None)
    assert table.of_tool("endless") == Limits(None, None)


@pytest.mark.parametrize("value", [0, -1, "soon", "0s", None, float("inf")])
def test_a_limit_is_longer_than_nothing(value: object) -> None:
    """No limit is written `none`; nothing else that is no length of time is taken."""
    with pytest.raises(ValidationError, match="attempt"):
        TimeoutConfig.model_validate({"attempt": value})


def test_the_names_that_clients_invent_are_forgotten() -> None:
    """A million names of tools that do not exist leave a bounded trace."""
    table = LimitTable(Limits(1, 2), {"x": Limits(3, 4)})
    for number in range(3000):
        table.of_tool(f"invented-{number}")
    assert table.of_tool.cache_info().currsize == 1024
