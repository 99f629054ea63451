"""The parts that need no upstream: pauses, limits, shapes, seals."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest
from mcp import MCPError
from plughost import Kind, Listing, Principal
from plughost_upstream._backoff import Backoff
from plughost_upstream._envelope import headers, outgoing
from plughost_upstream._exchange import Exchange
from plughost_upstream._limit import Limit
from plughost_upstream._seal import Seal
from plughost_upstream._shape import has_extensions, shape_capabilities, shape_listing, shape_result
from pydantic import SecretStr
from upstreams.clients import ALL, LEGACY, MODERN, Client

pytestmark = pytest.mark.anyio
BOTH_ERAS = pytest.mark.parametrize("source", [LEGACY, MODERN])


def test_pauses_grow_up_to_the_longest() -> None:
    """Each pause is drawn below twice the bound of the one before, never above the longest."""
    backoff = Backoff(1, 5)
    for bound in (1, 2, 4, 5, 5):
        assert bound / 2 <= backoff.pause() <= bound
    backoff.reset()
    assert backoff.pause() <= 1


def test_pauses_differ() -> None:
    """Two hosts that lost the same upstream do not come back at the same moments."""
    assert len({Backoff(10, 10).pause() for _ in range(20)}) > 10


async def test_limit_stands_still_in_a_pause() -> None:
    """Overlapping pauses stop the clock once; afterwards it goes on with what was left."""
    with Limit(0.2) as limit:
        with limit.paused(), limit.paused():
            await anyio.sleep(0.4)
        await anyio.sleep(5)
    assert limit.expired


async def test_limit_in_time() -> None:
    """A block that ends in time is not expired."""
    with Limit(5) as limit:
        await anyio.lowlevel.checkpoint()
    assert not limit.expired


def test_missing_result_type_means_complete() -> None:
    """A modern upstream's result without `resultType` is taken as complete."""
    assert shape_result("tools/call", {"content": []}, source=MODERN, version=MODERN)["resultType"] == "complete"


def test_upstreams_stamp_is_taken_off() -> None:
    """The upstream's identity does not reach the client; the rest of `_meta` does."""
    meta = {"io.modelcontextprotocol/serverInfo": {"name": "inner"}, "vendor/x": 1}
    result = shape_result("tools/call", {"resultType": "complete", "_meta": meta}, source=MODERN, version=MODERN)
    assert result["_meta"] == {"vendor/x": 1}


def test_structured_content_that_is_no_object() -> None:
    """A legacy client gets a modern result without structured content that its revision cannot have."""
    result = {"content": [{"type": "text", "text": "[1]"}], "structuredContent": [1], "resultType": "complete"}
    shaped = shape_result("tools/call", result, source=MODERN, version=LEGACY)
    assert shaped == {"content": [{"type": "text", "text": "[1]"}]}


def test_result_that_cannot_be_expressed() -> None:
    """A result that the client's revision has no words for is an error that says so."""
    with pytest.raises(MCPError, match=f"tools/call at {MODERN} cannot be expressed at {LEGACY}"):
        shape_result("tools/call", {"resultType": "task", "taskId": "1"}, source=MODERN, version=LEGACY)


def test_one_inexpressible_entry_leaves_the_others() -> None:
    """A tool whose output schema the older revision cannot have is listed without it; a broken one is left out."""
    good = {"name": "good", "inputSchema": {"type": "object"}}
    rich = {**good, "name": "rich", "outputSchema": {"type": "array"}}
    listing = Listing((good, rich, {"name": "broken"}), {"ttlMs": 5, "cacheScope": "public", "_meta": {"a": 1}})
    shaped = shape_listing(Kind.TOOLS, listing, upstream="up", source=MODERN, version=LEGACY)
    assert [entry["name"] for entry in shaped.entries] == ["good", "rich"]
    assert "outputSchema" not in shaped.entries[1]
    assert shaped.extra == {"_meta": {"a": 1}}


@BOTH_ERAS
def test_entry_within_an_era_is_raw(source: str) -> None:
    """What the revision does not know of is handed on."""
    entry = {"name": "t", "inputSchema": {"type": "object"}, "vendor": 7}
    shaped = shape_listing(Kind.TOOLS, Listing((entry,)), upstream="up", source=source, version=source)
    assert shaped.entries == (entry,)


@BOTH_ERAS
def test_malformed_advice_is_dropped(source: str) -> None:
    """Clients refuse a list whose `_meta` or cache advice is malformed, and it would spoil that of other upstreams."""
    extra = {"_meta": 5, "ttlMs": "soon"}
    shaped = shape_listing(Kind.TOOLS, Listing((), extra), upstream="up", source=source, version=MODERN)
    assert shaped.extra == {"ttlMs": 0, "cacheScope": "private"}


def test_log_names_a_few_of_many(caplog: pytest.LogCaptureFixture) -> None:
    """An upstream that is wrong a thousand times does not fill the log."""
    listing = Listing(tuple({"name": f"t{number}"} for number in range(1000)))
    shape_listing(Kind.TOOLS, listing, upstream="up", source=MODERN, version=MODERN)
    (line,) = caplog.messages
    assert "left out 1000" in line
    assert len(line) < 1000


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"tools": {}}, False),
        ({"extensions": {"x": {}}}, True),
        ({"tasks": {"list": {}}}, True),
        ({"experimental": {}}, False),
    ],
)
def test_extensions_are_what_not_all_revisions_have(capabilities: dict[str, Any], *, expected: bool) -> None:
    """What an upstream declares beyond the core decides whether it is asked for methods of extensions."""
    assert has_extensions(capabilities) is expected
    assert ("tasks" in shape_capabilities(capabilities, source=LEGACY, version=MODERN)) is False


async def test_modern_keys_do_not_reach_a_legacy_upstream() -> None:
    """The reserved `_meta` keys and the answers of a round are left out, the client's other keys stay."""
    call = Client(MODERN).call(
        "tools/call", {"name": "t", "inputResponses": {}, "requestState": "s"}, **{"vendor/x": 1}
    )
    exchange = Exchange(call, call.params, Limit(1))
    assert outgoing(exchange, call.params, version=LEGACY, identity={}) == {"name": "t", "_meta": {"vendor/x": 1}}


async def test_a_tenants_strangers_are_not_one_client() -> None:
    """Who has a tenant and no name is known by his connection; who has a name, by it."""
    ada, stranger = Principal("ada", tenant="acme"), Principal("", tenant="acme")
    seen = []
    for who in (ada, ada, stranger, stranger, None):
        call = Client(MODERN).call("tools/call", {"name": "t"})
        call.principal = who
        seen.append(Exchange(call, call.params, Limit(1)).client)
    assert seen[0] == seen[1]
    assert len({id(client) if client is not ada else 0 for client in seen}) == 4


async def test_legacy_client_that_cannot_be_reached_declares_nothing() -> None:
    """Without a way back to the client a modern upstream is not told that it could be asked."""
    call = Client(LEGACY, ALL).call("tools/call", {"name": "t"})  # no back-channel
    sent = outgoing(Exchange(call, call.params, Limit(1)), call.params, version=MODERN, identity={})
    assert sent["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {}
    assert sent["_meta"]["io.modelcontextprotocol/clientInfo"]["name"] == "old client"


def test_invalid_mirroring_is_left_out() -> None:
    """A schema with an invalid `x-mcp-header` mirrors nothing, and the call is made all the same."""
    schema = {"type": "object", "properties": {"a": {"type": "number", "x-mcp-header": "A"}}}
    found = headers("tools/call", {"name": "t", "arguments": {"a": 1.5}}, MODERN, schema)
    assert [name for name in found if name.startswith("Mcp-Param")] == []


async def test_replicas_with_the_same_keys_accept_each_others_state() -> None:
    """State sealed by one replica opens on another with the same keys; without configured keys it does not (H2)."""
    keys = (SecretStr("k" * 32),)
    call = Client(MODERN, principal=Principal("ann")).call("tools/call", {"name": "t"})
    sealed = Seal("up", keys, 60).seal(call, call.params, "state")
    brought = {"name": "t", "requestState": sealed}
    assert Seal("up", keys, 60).open(call, brought) == "state"
    for other in (Seal("up", (), 60), Seal("down", keys, 60)):
        with pytest.raises(MCPError, match="Invalid or expired requestState"):
            other.open(call, brought)


async def test_state_expires() -> None:
    """State is void after its lifetime (H2)."""
    call = Client(MODERN).call("tools/call", {"name": "t"})
    seal = Seal("up", (), -1)
    with pytest.raises(MCPError, match="Invalid or expired requestState"):
        seal.open(call, {"name": "t", "requestState": seal.seal(call, call.params, "state")})
