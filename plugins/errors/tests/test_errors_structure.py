"""The algorithm alone: codes, the table, and the structure of an error."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    UNSUPPORTED_PROTOCOL_VERSION,
    URL_ELICITATION_REQUIRED,
)
from mcp_types import jsonrpc as wire
from plughost import ErrorCode, Refusal, unknown_target
from plughost._errors import RETRYABLE
from plughost_errors import ErrorKind, ErrorTable, ErrorType, catalogue
from plughost_errors._structure import details_of, rfc3339, structured, translated


def shape(error: MCPError, kind: ErrorKind | None = None, **request: Any) -> dict[str, Any]:
    asked = {"method": "tools/call", "target": "add", "request_id": 7, "now": 0.0, **request}
    data: dict[str, Any] = structured(error, kind, **asked).data
    return data


def test_whole_structure() -> None:
    """An error says type, code, message, details, time, request id, and when to try again."""
    refusal = Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, "Too many", details={"limit": 3}, retry_after_ms=250)
    assert shape(refusal, now=1_800_000_000.25) == {
        "type": "rate_limit_exceeded",
        "code": -32010,
        "message": "Too many",
        "details": {"limit": 3},
        "timestamp": "2027-01-15T08:00:00.250Z",
        "requestId": 7,
        "retryable": True,
        "retryAfterMs": 250,
        "limit": 3,
    }


def test_code_and_message_stay() -> None:
    """The error keeps the code and the message that it had."""
    answer = structured(MCPError(-31999, "as it was"), None, method="x/y", target=None, request_id="a", now=0.0)
    assert (answer.code, answer.message) == (-31999, "as it was")


def test_advice_is_not_invented() -> None:
    """Where nobody says when to try again, there is no retryAfterMs."""
    assert "retryAfterMs" not in shape(Refusal(ErrorCode.CIRCUIT_OPEN, "open"))


@pytest.mark.parametrize(
    ("code", "data"),
    [
        (INVALID_PARAMS, {"uri": "file:///missing"}),
        (UNSUPPORTED_PROTOCOL_VERSION, {"supported": ["2026-07-28"], "requested": "1999-01-01"}),
        (MISSING_REQUIRED_CLIENT_CAPABILITY, {"requiredCapabilities": {"sampling": {}}}),
        (URL_ELICITATION_REQUIRED, {"elicitations": [{"mode": "url", "url": "https://example.com"}]}),
        (-31000, {"vendor": {"deep": [1]}}),
    ],
)
def test_keys_of_data_stay(code: int, data: dict[str, Any]) -> None:
    """What clients find in `error.data` without the plugin, they find at the same place with it."""
    found = shape(MCPError(code, "m", data))
    assert {key: found[key] for key in data} == data
    assert found["details"] == data


def test_colliding_key_moves_to_details() -> None:
    """A key of the name of one of our fields stands in `details` only."""
    found = shape(MCPError(INTERNAL_ERROR, "m", {"type": "about:blank", "code": "E7"}))
    assert (found["type"], found["code"]) == ("internal_server_error", INTERNAL_ERROR)
    assert found["details"] == {"type": "about:blank", "code": "E7"}


@pytest.mark.parametrize(
    ("data", "details"), [(None, {}), ("", {}), ("tools/fly", {"value": "tools/fly"}), ([1], {"value": [1]}), ({}, {})]
)
def test_details_are_an_object(data: Any, details: dict[str, Any]) -> None:
    """`details` is an object, whatever `data` was."""
    assert details_of(data) == details


def test_given_data_is_not_changed() -> None:
    """The error that came in is left alone: a coalesced call hands the same one to several callers."""
    before = MCPError(INVALID_PARAMS, "m", {"uri": "x"})
    shape(before)
    assert before.data == {"uri": "x"}


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read", "resources/subscribe"])
def test_unknown_target_is_not_found(method: str) -> None:
    """A target that does not exist has the type resource_not_found, whatever kind of target it is."""
    assert shape(unknown_target(method, "nope"), method=method, target="nope")["type"] == "resource_not_found"


def test_other_bad_params_are_validation() -> None:
    """Bad arguments for a target that exists have the type validation."""
    assert shape(MCPError(INVALID_PARAMS, "Invalid request parameters", ""))["type"] == "validation"


def test_code_of_a_server() -> None:
    """A code that nobody allocated is the server's own: type upstream, not retryable."""
    found = shape(MCPError(-31000, "m"))
    assert (found["type"], found["retryable"]) == ("upstream", False)


def test_stated_retryable_wins() -> None:
    """A refusal that says itself whether to retry is believed."""
    assert shape(Refusal(ErrorCode.TIMEOUT, "m", details={"retryable": False}))["retryable"] is False


def test_malformed_advice_is_ignored() -> None:
    """`retryable` that is not a boolean gives way to the catalogue."""
    assert shape(MCPError(ErrorCode.TIMEOUT, "m", {"retryable": "perhaps"}))["retryable"] is True


def test_unmapped_exception_is_generic() -> None:
    """G7: of an exception that nobody mapped, no word leaves."""
    answer = translated(KeyError("password=hunter2"), None, "Internal server error")
    assert (answer.code, answer.message, answer.data) == (INTERNAL_ERROR, "Internal server error", None)


def test_mapped_exception_is_its_kind() -> None:
    """A mapped exception has the type, code, message and advice of the table, and none of its own text."""
    table = ErrorTable()
    error = TimeoutError("redis://:hunter2@db timed out")
    kind = table.find(error)
    answer = translated(error, kind, "")
    found = shape(answer, kind)
    assert (found["type"], found["code"], found["retryable"]) == ("timeout", ErrorCode.TIMEOUT, True)
    assert "hunter2" not in str(found)


def test_most_derived_type_decides() -> None:
    """A subclass takes the entry of its nearest ancestor."""

    class SlowError(TimeoutError): ...

    class SlowerError(SlowError): ...

    table = ErrorTable()
    kind = ErrorKind("slow", -32005, "Slow")
    table.add(SlowError, kind)
    assert table.find(SlowerError()) is kind
    assert table.find(TimeoutError()) is not kind


def test_protocol_errors_can_be_typed() -> None:
    """An MCPError of a plugin's own keeps its code and message and gets the type of the table."""

    class QuotaError(MCPError): ...

    table = ErrorTable()
    table.add(QuotaError, ErrorKind("quota", 0, "unused", retryable=True))
    error = QuotaError(-32005, "3 of 3 used")
    found = shape(translated(error, table.find(error), ""), table.find(error))
    assert (found["type"], found["code"], found["message"], found["retryable"]) == (
        "quota",
        -32005,
        "3 of 3 used",
        True,
    )


def test_removal_takes_its_own_entry() -> None:
    """A plugin that is replaced adds again first: its new entry counts at once, and the old one's removal leaves it."""
    table = ErrorTable()
    old, new = ErrorKind("a", -32005, "m"), ErrorKind("a", -32005, "m")
    remove_old, remove_new = table.add(KeyError, old), table.add(KeyError, new)
    assert table.find(KeyError()) is new
    remove_old()
    assert table.find(KeyError()) is new
    remove_new()
    assert table.find(KeyError()) is None


@pytest.mark.parametrize("exception", [Exception, MCPError])
def test_the_root_cannot_be_mapped(exception: type[Exception]) -> None:
    """Mapping `Exception` itself is refused with the remedy."""
    with pytest.raises(ValueError, match="add the exception types that you raise"):
        ErrorTable().add(exception, ErrorKind("a", -32005, "m"))


def test_table_says_how_much_it_holds() -> None:
    """The repr of a table counts its types."""
    assert repr(ErrorTable()) == "<ErrorTable 3 types>"


def test_catalogue_has_every_code() -> None:
    """Every code of the host and of the SDK has exactly one row."""
    rows = catalogue()
    sdk = {value for name in wire.__all__ if isinstance(value := getattr(wire, name), int)}
    codes = [row.code for row in rows]
    assert sorted(set(codes)) == sorted(codes)
    assert sdk | set(ErrorCode) <= set(codes)


def test_catalogue_names_are_the_constants() -> None:
    """A row has the name of the constant in code, and is of a declared type with meaning and remedy."""
    for row in catalogue():
        if row.name.isidentifier():
            assert row.code in {getattr(wire, row.name, None), getattr(ErrorCode, row.name, None)}
        assert ErrorType(row.type)
        assert row.meaning.endswith(".")
        assert row.remedy.endswith(".")


def test_catalogue_agrees_with_the_host() -> None:
    """The host's own retryable codes are those of the catalogue."""
    assert {row.code for row in catalogue() if row.retryable and row.code in set(ErrorCode)} == RETRYABLE


def test_method_not_found() -> None:
    """An unknown method has a type of its own."""
    assert shape(MCPError(METHOD_NOT_FOUND, "m", "tools/fly"))["type"] == "method_not_found"


def test_time_is_utc() -> None:
    """A timestamp is RFC 3339 in UTC."""
    assert rfc3339(1_800_000_000.0) == "2027-01-15T08:00:00.000Z"
