"""A call: what middleware sees of a request, and what it may change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgi_wire import call as call_tool
from asgi_wire import post, request
from doubles import Around, StubProvider, host_of, text
from mcp import Client
from mcp.server.context import ServerRequestContext
from plughost import Call, CallNext, Phase, Result
from plughost._sdk import host_call

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("method", "params", "target"),
    [
        ("tools/call", {"name": "add"}, "add"),
        ("prompts/get", {"name": "greet"}, "greet"),
        ("resources/read", {"uri": "note://1"}, "note://1"),
        ("resources/subscribe", {"uri": "note://1"}, "note://1"),
        ("tools/call", {"name": ["add"]}, None),
        ("tools/call", {"name": {"add": 1}}, None),
        ("tools/call", {}, None),
        ("tools/list", {"name": "add"}, None),
    ],
)
def test_the_target_is_the_name_or_uri_that_was_sent(method: str, params: dict[str, Any], target: str | None) -> None:
    """Absent, of another type, or of a method that names nothing, there is no target."""
    assert host_call(method, params).target == target


def test_replaced_parameters_change_the_target() -> None:
    """TRANSFORM may send a call elsewhere."""
    call = host_call("tools/call", {"name": "old"})
    call.replace_params({"name": "new"})
    assert call.target == "new"


def test_a_resolved_call_keeps_its_parameters() -> None:
    """What guards decided on cannot be changed after them."""
    call = host_call("tools/call", {"name": "add"})
    call.provider = "notes"
    with pytest.raises(RuntimeError, match="only TRANSFORM may change"):
        call.replace_params({"name": "delete"})


def test_nothing_limits_a_call_from_the_start() -> None:
    """Both deadlines are for middleware to set."""
    call = host_call("tools/call", {"name": "add"})
    assert (call.deadline, call.attempt_deadline) == (None, None)


def test_malformed_meta_reads_as_empty() -> None:
    call = host_call("tools/list")
    call.params = {"_meta": ["not", "a", "mapping"]}
    assert call.meta == {}


def test_state_is_private_to_a_call() -> None:
    first, second = host_call("tools/list"), host_call("tools/list")
    first.state["seen"] = True
    assert second.state == {}


def test_a_call_shows_where_it_goes() -> None:
    call = host_call("tools/call", {"name": "files_read"})
    assert repr(call) == "<Call tools/call files_read>"
    call.provider, call.local_name = "files", "read"
    assert repr(call) == "<Call tools/call files_read -> files/read>"


async def test_provider_and_local_name_are_known_from_guard_on() -> None:
    """Before, they are None; from GUARD on they are the provider's own."""
    seen: dict[str, Any] = {}

    def looking(name: str) -> Any:
        async def look(call: Call, call_next: CallNext) -> Result:
            seen[name] = (call.target, call.provider, call.local_name)
            return await call_next(call)

        return look

    phases = {"early": Phase.TRANSFORM, "late": Phase.GUARD}
    plugins = [Around(name, phase, handler=looking(name)) for name, phase in phases.items()]
    async with host_of(StubProvider("files", ["read"], prefix="f_"), plugins=plugins) as host:
        await call_tool(host.app, "f_read")
    assert seen == {"early": ("f_read", None, None), "late": ("f_read", "files", "read")}


async def test_a_transform_redirects_a_call() -> None:
    """Changed parameters reach the provider they now name."""

    async def redirect(call: Call, call_next: CallNext) -> Result:
        call.replace_params({**call.params, "name": "new"})
        return await call_next(call)

    plugin = Around("redirect", Phase.TRANSFORM, handler=redirect)
    async with host_of(StubProvider("a", ["old", "new"]), plugins=[plugin]) as host:
        response = await call_tool(host.app, "old")
    assert response["result"]["content"] == text("a:new")["content"]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_context_is_the_sdks_own(mode: str) -> None:
    """What the host does not wrap is reached through the SDK's request context, in both eras."""
    seen: list[ServerRequestContext[Any, Any]] = []

    async def look(call: Call, call_next: CallNext) -> Result:
        seen.append(call.context)
        assert call.context.protocol_version == call.protocol_version
        return await call_next(call)

    async with (
        host_of(StubProvider("a", ["t"]), plugins=[Around("look", handler=look)]) as host,
        Client(host.front, mode=mode) as client,
    ):
        await client.call_tool("t", {})
    assert seen[0].method == "tools/call"


async def test_the_context_of_a_request_over_http_is_made_on_demand() -> None:
    """Where the SDK made none, the call makes one with the HTTP request in it."""
    seen: list[Any] = []

    async def look(call: Call, call_next: CallNext) -> Result:
        assert call.context.request is not None
        seen.append((call.context.request.headers["x-mine"], call.context.request_id, call.context is call.context))
        return await call_next(call)

    async with host_of(StubProvider("a", ["t"]), plugins=[Around("look", handler=look)]) as host:
        await post(host.app, request("tools/call", {"name": "t"}, request_id="r1"), {"x-mine": "yes"})
    assert seen == [("yes", "r1", True)]


async def test_unknown_meta_reaches_middleware_and_provider() -> None:
    """A gateway hands on what it does not know."""
    seen: list[Any] = []

    async def answer(call: Call, params: Any) -> dict[str, Any]:
        seen.append(params["_meta"]["vendor.example/trace"])
        return text("ok")

    message = request("tools/call", {"name": "t", "_meta": {"vendor.example/trace": {"a": [1]}}})
    async with host_of(StubProvider("a", ["t"], answer=answer)) as host:
        await post(host.app, message)
    assert json.dumps(seen) == '[{"a": [1]}]'
