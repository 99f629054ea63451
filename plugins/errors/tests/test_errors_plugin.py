"""The middleware alone, around a hand-made `Call`."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

import pytest
from mcp import MCPError
from mcp.server.connection import Connection
from mcp.shared.dispatcher import DispatchContext
from opentelemetry.metrics import Counter
from plughost import Call, Clock, ErrorCode, Phase, Refusal, Result, unknown_target
from plughost_errors import ErrorKind, ErrorsConfig, ErrorsPlugin, ErrorTable
from pydantic import BaseModel

if TYPE_CHECKING:
    from plughost import Host

pytestmark = pytest.mark.anyio


class StoppedClock:
    def time(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None: ...


class Shared:
    """What of a host the plugin uses."""

    def __init__(self) -> None:
        self.clock: Clock = StoppedClock()
        self.things: dict[type, Any] = {}

    def provide(self, kind: type, value: object) -> None:
        self.things[kind] = value


class Dispatch:
    request_id = 41


class Tally(Counter):
    def __init__(self) -> None:
        self.types: list[object] = []

    def add(self, amount: Any, attributes: Any = None, context: Any = None) -> None:
        self.types += [attributes["error.type"]] * amount


@pytest.fixture
def shared() -> Shared:
    return Shared()


@pytest.fixture
async def plugin(shared: Shared) -> ErrorsPlugin:
    plugin = ErrorsPlugin(name="errors")
    plugin._count = Tally()
    await plugin.register(cast("Host", shared))
    return plugin


def counted(plugin: ErrorsPlugin) -> list[object]:
    return cast("Tally", plugin._count).types


def call(method: str = "tools/call", **params: Any) -> Call:
    connection = Connection.from_envelope("2026-07-28", None, None)
    return Call(method, params, connection=connection, dispatch=cast("DispatchContext[Any]", Dispatch()))


async def answer(plugin: ErrorsPlugin, error: BaseException) -> MCPError:
    async def provider(call: Call) -> Result:
        raise error

    with pytest.raises(MCPError) as caught:
        await plugin.answer(call(name="add"), provider)
    return caught.value


@pytest.mark.parametrize("result", [{"content": []}, {"content": [], "isError": True}])
async def test_results_are_untouched(plugin: ErrorsPlugin, result: dict[str, Any]) -> None:
    """A result passes as the same object, also a tool's own failure, and is not counted."""

    async def provider(call: Call) -> Result:
        return result

    assert await plugin.answer(call(name="add"), provider) is result
    assert counted(plugin) == []


async def test_refusal_gets_its_structure(plugin: ErrorsPlugin) -> None:
    """A refusal is answered with request id and the host's time, and counted by type."""
    refusal = Refusal(ErrorCode.CIRCUIT_OPEN, "open", retry_after_ms=10)
    data = (await answer(plugin, refusal)).data
    assert (data["type"], data["requestId"], data["timestamp"]) == ("circuit_open", 41, "2027-01-15T08:00:00.000Z")
    assert counted(plugin) == ["circuit_open"]


async def test_cause_is_kept_for_the_layers_outside(plugin: ErrorsPlugin) -> None:
    """The original exception is the cause, so that logs and traces outside see it."""
    error = KeyError("k")
    assert (await answer(plugin, error)).__cause__ is error


async def test_unhandled_exception(plugin: ErrorsPlugin, caplog: pytest.LogCaptureFixture) -> None:
    """G7: an unhandled exception is a generic error with the request id; the log has the traceback and the id."""
    found = await answer(plugin, RuntimeError("password=hunter2"))
    assert (found.code, found.message, found.data["requestId"]) == (-32603, "Internal server error", 41)
    assert found.data["type"] == "internal_server_error"
    assert "hunter2" not in str(found.data)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "41" in record.getMessage()
    assert "password=hunter2" in caplog.text
    assert "Traceback" in caplog.text


async def test_mapped_exception_is_quiet(plugin: ErrorsPlugin, caplog: pytest.LogCaptureFixture) -> None:
    """Bad parameters, which clients can send at will, write no traceback at the usual level."""

    class Params(BaseModel):
        name: str

    caplog.set_level(logging.INFO)
    try:
        Params.model_validate({"name": ["hunter2"]})
    except ValueError as error:
        found = await answer(plugin, error)
    assert (found.code, found.message, found.data["type"]) == (-32602, "Invalid request parameters", "validation")
    assert "hunter2" not in str(found.data)
    assert caplog.records == []


async def test_hidden_and_missing_alike(plugin: ErrorsPlugin) -> None:
    """A8: a target that was resolved and then hidden is answered as one that does not exist."""

    async def missing(call: Call) -> Result:
        raise unknown_target(call.method, call.target)

    async def hidden(call: Call) -> Result:
        call.provider, call.local_name = "vault", "open"
        raise unknown_target(call.method, call.target)

    answers = []
    for end in (missing, hidden):
        with pytest.raises(MCPError) as caught:
            await plugin.answer(call(name="open"), end)
        answers.append(caught.value.error)
    assert answers[0] == answers[1]
    assert answers[0].data["type"] == "resource_not_found"


async def test_cancellation_passes(plugin: ErrorsPlugin) -> None:
    """A cancelled call stays cancelled, and is counted as that."""

    async def provider(call: Call) -> Result:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await plugin.answer(call(name="add"), provider)
    assert counted(plugin) == ["cancelled"]


async def test_table_is_shared(plugin: ErrorsPlugin, shared: Shared) -> None:
    """What another plugin adds to the shared table maps its exceptions."""
    shared.things[ErrorTable].add(LookupError, ErrorKind("quota", -32005, "Quota used up", retryable=True))
    found = await answer(plugin, KeyError("k"))
    assert (found.code, found.message, found.data["type"]) == (-32005, "Quota used up", "quota")


async def test_reconfigured_in_place(plugin: ErrorsPlugin) -> None:
    """A new config is taken without losing what others added to the table."""
    plugin.table.add(KeyError, ErrorKind("quota", -32005, "Quota used up"))
    assert await plugin.reconfigure(ErrorsConfig(internal_message="Ask the operator"))
    assert (await answer(plugin, RuntimeError())).message == "Ask the operator"
    assert (await answer(plugin, KeyError())).data["type"] == "quota"


async def test_place_in_the_pipeline(plugin: ErrorsPlugin) -> None:
    """The middleware stands innermost in OBSERVE and takes every request."""
    (layer,) = plugin.plughost_middleware()
    assert layer.phase is Phase.OBSERVE
    assert layer.methods is None
    assert set(layer.after) == {"tracing", "metrics", "logs", "events"}


def test_config_refuses_unknown_keys() -> None:
    """A misspelt key is refused."""
    with pytest.raises(ValueError, match="internal_mesage"):
        ErrorsConfig.model_validate({"internal_mesage": "x"})
