"""What the configuration takes, and how it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from plughost import ConfigError, create_host
from plughost_chaos import ChaosConfig, FaultTable
from plughost_testing.faults import Disconnect, Error, Hang, Latency, Malformed, Rule, SlowStream
from pydantic import ValidationError

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("config", [{}, {"i_know": False}, {"i_know": "true"}, {"i_know": 1}])
async def test_nothing_starts_by_accident(config: dict[str, Any]) -> None:
    """A host whose configuration does not say `i_know = true` does not start."""
    with pytest.raises(ConfigError, match=r"plugins\.chaos\.i_know: "):
        async with create_host({"plugins": {"chaos": config}}):
            pass


async def test_refusal_says_why() -> None:
    """The message names the reason and the remedy."""
    with pytest.raises(ConfigError, match="makes calls fail on purpose; set i_know = true where that is wanted"):
        async with create_host({"plugins": {"chaos": {}}}):
            pass


async def test_no_faults_unless_configured() -> None:
    """Who knows and asks for nothing gets nothing; a disabled instance needs to know nothing."""
    assert ChaosConfig(i_know=True).faults == ()
    async with create_host({"plugins": {"chaos": {"enabled": False}}}) as host:
        assert host.chain() == []


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"kind": "error"}, Error()),
        ({"kind": "error", "message": "no", "code": -32000, "data": [1]}, Error("no", -32000, [1])),
        ({"kind": "latency", "seconds": "200ms", "jitter": "1s"}, Latency(0.2, 1)),
        ({"kind": "hang"}, Hang()),
        ({"kind": "disconnect"}, Disconnect()),
        ({"kind": "disconnect", "seconds": "1m"}, Disconnect(60)),
        ({"kind": "malformed"}, Malformed()),
        ({"kind": "malformed", "result": {"content": 1}}, Malformed({"content": 1})),
        ({"kind": "slow-stream", "seconds": 2}, SlowStream(2)),
    ],
)
def test_kinds(table: dict[str, Any], fault: Any) -> None:
    """Each kind is a fault of the engine, with the engine's defaults."""
    assert FaultTable.model_validate(table).rule() == Rule(fault)


def test_which_calls() -> None:
    """Rate, numbers, target and methods narrow it."""
    table = {"kind": "hang", "rate": 0.5, "on": [1, 3], "target": "delete_*", "methods": ["tools/call"]}
    expected = Rule(Hang(), rate=0.5, on={1, 3}, target="delete_*", methods={"tools/call"})
    assert FaultTable.model_validate(table).rule() == expected


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "hang", "seconds": 1}, "kind = 'hang' takes no 'seconds'; its own keys: none"),
        ({"kind": "error", "jitter": 1}, "kind = 'error' takes no 'jitter'; its own keys: message, code, data"),
        ({"kind": "latency"}, "kind = 'latency' needs 'seconds'"),
        ({"kind": "slow-stream"}, "kind = 'slow-stream' needs 'seconds'"),
        ({"kind": "latency", "seconds": -1}, "seconds"),
        ({"kind": "hang", "rate": 1.5}, "rate"),
        ({"kind": "hang", "on": [0]}, "on"),
        ({"kind": "hang", "methods": ["add"]}, "methods"),
        ({"kind": "explode"}, "kind"),
        ({"kind": "hang", "tool": "add"}, "tool"),
    ],
)
def test_what_makes_no_sense_is_refused(table: dict[str, Any], message: str) -> None:
    """A key that the kind ignores, a value out of range and a missing one are faults."""
    with pytest.raises(ValidationError) as caught:
        ChaosConfig.model_validate({"i_know": True, "faults": [table]})
    [error] = caught.value.errors()
    assert message in f"{error['loc']} {error['msg']}"
