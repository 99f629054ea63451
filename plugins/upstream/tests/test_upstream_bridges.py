"""Questions that an upstream asks in the middle of a call, between all eras."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import anyio
import pytest
from mcp import MCPError
from plughost import ErrorCode, Principal
from plughost_upstream import UpstreamConfig, UpstreamPlugin
from upstreams.clients import ALL, LEGACY, MODERN, Client, text_of
from upstreams.running import LEGACY_STDIO, SDK_STDIO, HTTPServer, Upstreams, until

pytestmark = pytest.mark.anyio

ANN = {"action": "accept", "content": {"name": "Ann"}}


async def say_ann(method: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
    if method == "roots/list":
        return {"roots": [{"uri": "file:///here"}]}
    if method == "sampling/createMessage":
        return {"role": "assistant", "content": {"type": "text", "text": "hello"}, "model": "m"}
    return ANN


async def never(method: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
    await anyio.sleep_forever()
    raise AssertionError


async def refused(provider: Any, client: Client, tool: str) -> MCPError:
    with pytest.raises(MCPError) as caught:
        await client.tool(provider, tool)
    return caught.value


async def resume(provider: Any, client: Client, tool: str, result: Mapping[str, Any], **answers: Any) -> dict[str, Any]:
    params = {"name": tool, "arguments": {}, "inputResponses": answers, "requestState": result["requestState"]}
    return await client.request(provider, "tools/call", params)


# -- legacy client, legacy upstream -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "method"),
    [("ask", "elicitation/create"), ("sample", "sampling/createMessage"), ("roots", "roots/list")],
)
async def test_legacy_client_is_asked_directly(upstreams: Upstreams, tool: str, method: str) -> None:
    """A legacy upstream's question goes to the legacy client as a request, its answer back, both raw."""
    one = await upstreams.one(command=LEGACY_STDIO)
    client = Client(LEGACY, ALL, answer=say_ann)
    answer = json.loads(text_of(await client.tool(one.provider, tool)))
    assert [asked for asked, _ in client.line.asked] == [method]
    assert answer == await say_ann(method, None)


async def test_question_needs_the_capability(upstreams: Upstreams) -> None:
    """A client that declared no elicitation is not asked; the upstream gets an error that says so."""
    one = await upstreams.one(command=LEGACY_STDIO)
    client = Client(LEGACY, {"sampling": {}}, answer=say_ann)
    answer = json.loads(text_of(await client.tool(one.provider, "ask")))
    assert answer["data"] == {"missingCapability": "elicitation"}
    assert client.line.asked == []


async def test_url_question_needs_its_own_capability(upstreams: Upstreams) -> None:
    """A client that can fill forms only is not asked to open a URL."""
    one = await upstreams.one(command=LEGACY_STDIO)
    client = Client(LEGACY, {"elicitation": {}}, answer=say_ann)
    answer = json.loads(text_of(await client.tool(one.provider, "ask_url")))
    assert answer["data"] == {"missingCapability": "elicitation.url"}


async def test_question_among_several_clients_is_refused(
    upstreams: Upstreams, caplog: pytest.LogCaptureFixture
) -> None:
    """While calls of two clients are under way on one stdio session, nobody gets the other's question."""
    one = await upstreams.one(command=LEGACY_STDIO)
    busy, asking = Client(LEGACY, ALL, answer=never), Client(LEGACY, ALL, answer=say_ann)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(busy.tool, one.provider, "ask")
        await until(lambda: bool(busy.line.asked))
        answer = json.loads(text_of(await asking.tool(one.provider, "ask")))
        tasks.cancel_scope.cancel()
    assert "nothing says whose question it is" in answer["message"]
    assert asking.line.asked == []
    assert len(busy.line.asked) == 1
    assert caplog.text.count("it is refused") == 1


async def test_question_among_calls_of_one_client_is_its(upstreams: Upstreams) -> None:
    """Several calls of one client: the question is certainly its, and goes with the most recent call."""
    one = await upstreams.one(command=LEGACY_STDIO)
    client = Client(LEGACY, ALL, answer=say_ann)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(client.tool, one.provider, "hang", {"mark": "/dev/null"}, progressToken=1))
        hanging = client
        await until(lambda: bool(hanging.line.heard))
        assert json.loads(text_of(await client.tool(one.provider, "ask"))) == ANN
        tasks.cancel_scope.cancel()


async def test_more_sessions_give_questions_their_own(upstreams: Upstreams) -> None:
    """With several sessions a client that can be asked gets one of its own, and its question is answered."""
    one = await upstreams.one(command=LEGACY_STDIO, sessions=2)
    await until(lambda: len(one.provider.describe()["sessions"]) == 2)
    busy, asking = Client(LEGACY, ALL, answer=never), Client(LEGACY, ALL, answer=say_ann)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(busy.tool, one.provider, "ask")
        await until(lambda: bool(busy.line.asked))
        assert json.loads(text_of(await asking.tool(one.provider, "ask"))) == ANN
        tasks.cancel_scope.cancel()


async def test_http_says_whose_question_it_is(upstreams: Upstreams, dual: HTTPServer) -> None:
    """Over HTTP a question comes on its call's own stream: each client of one session gets its own."""
    one = await upstreams.one(url=dual.url, protocol="legacy")

    def named(name: str) -> Client:
        async def answer(method: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
            await anyio.sleep(0.2)  # so that both questions are open at once
            return {"action": "accept", "content": {"name": name}}

        return Client(LEGACY, ALL, answer=answer)

    answers: dict[str, str] = {}

    async def ask(name: str) -> None:
        answers[name] = text_of(await named(name).tool(one.provider, "ask"))

    async with anyio.create_task_group() as tasks:
        for name in ("Ann", "Bob", "Eve"):
            tasks.start_soon(ask, name)
    assert answers == {name: f"accept {name}" for name in ("Ann", "Bob", "Eve")}


async def test_person_may_take_longer_than_the_limit(upstreams: Upstreams) -> None:
    """The time that a client takes to answer does not count against the call's limit."""
    one = await upstreams.one(command=LEGACY_STDIO, timeout=0.5)

    async def slow(method: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
        await anyio.sleep(0.8)
        return ANN

    client = Client(LEGACY, ALL, answer=slow)
    assert json.loads(text_of(await client.tool(one.provider, "ask"))) == ANN


# -- modern client, legacy upstream -----------------------------------------------------------------------------------


async def test_modern_client_is_asked_by_input_required(upstreams: Upstreams) -> None:
    """A legacy upstream's question becomes an `input_required` result, and the retry goes on with the same call."""
    one = await upstreams.one(command=LEGACY_STDIO)
    client = Client(MODERN, ALL)
    result = await client.tool(one.provider, "ask")
    assert result["resultType"] == "input_required"
    ((key, question),) = result["inputRequests"].items()
    assert question["method"] == "elicitation/create"
    assert question["params"]["message"] == "Who?"
    final = await resume(one.provider, client, "ask", result, **{key: ANN})
    assert (json.loads(text_of(final)), final["resultType"]) == (ANN, "complete")
    assert text_of(await client.tool(one.provider, "count")) == "2"


async def test_call_may_be_parked_twice(upstreams: Upstreams) -> None:
    """A call that asks twice takes two rounds; progress and logs go with the request that is there."""
    one = await upstreams.one(command=LEGACY_STDIO)
    client = Client(MODERN, ALL)
    result = await client.tool(one.provider, "ask_twice")
    for answer in ({"action": "decline"}, ANN):
        assert result["resultType"] == "input_required"
        (key,) = result["inputRequests"]
        result = await resume(one.provider, client, "ask_twice", result, **{key: answer})
    assert json.loads(text_of(result)) == [{"action": "decline"}, ANN]


async def test_unanswered_question_is_asked_again(upstreams: Upstreams) -> None:
    """A retry without the answer gets the same question again."""
    one = await upstreams.one(command=LEGACY_STDIO)
    client = Client(MODERN, ALL)
    first = await client.tool(one.provider, "ask")
    second = await resume(one.provider, client, "ask", first)
    assert second["inputRequests"] == first["inputRequests"]


async def test_answer_is_checked(upstreams: Upstreams) -> None:
    """An answer that is none is refused with its name, and a right one is still taken."""
    one = await upstreams.one(command=LEGACY_STDIO)
    client = Client(MODERN, ALL)
    result = await client.tool(one.provider, "ask")
    (key,) = result["inputRequests"]
    with pytest.raises(MCPError, match=key):
        await resume(one.provider, client, "ask", result, **{key: {"action": "maybe"}})
    assert json.loads(text_of(await resume(one.provider, client, "ask", result, **{key: ANN}))) == ANN


@pytest.mark.parametrize("change", ["forged", "tool", "arguments", "principal"])
async def test_state_is_bound(upstreams: Upstreams, change: str) -> None:
    """State is refused when forged, replayed, or brought for another request or by another principal (H2)."""
    one = await upstreams.one(command=LEGACY_STDIO)
    client = Client(MODERN, ALL, principal=Principal("ann"))
    result = await client.tool(one.provider, "ask")
    (key,) = result["inputRequests"]
    params = {"name": "ask", "arguments": {}, "inputResponses": {key: ANN}, "requestState": result["requestState"]}
    if change == "forged":
        params["requestState"] = params["requestState"][:-4] + "AAAA"
    elif change == "tool":
        params["name"] = "ask_twice"
    elif change == "arguments":
        params["arguments"] = {"other": 1}
    else:
        client = Client(MODERN, ALL, principal=Principal("eve"))
    with pytest.raises(MCPError, match="Invalid or expired requestState") as caught:
        await client.request(one.provider, "tools/call", params)
    assert caught.value.code == -32602


async def test_state_is_good_for_one_round(upstreams: Upstreams) -> None:
    """State that was brought once is refused, also while the same call goes on (H2)."""
    one = await upstreams.one(command=LEGACY_STDIO)
    client = Client(MODERN, ALL)
    first = await client.tool(one.provider, "ask_twice")
    (key,) = first["inputRequests"]
    second = await resume(one.provider, client, "ask_twice", first, **{key: ANN})
    with pytest.raises(MCPError, match="Invalid or expired requestState"):
        await resume(one.provider, client, "ask_twice", first, **{key: ANN})
    (key,) = second["inputRequests"]
    assert (await resume(one.provider, client, "ask_twice", second, **{key: ANN}))["resultType"] == "complete"


async def test_parked_call_expires(upstreams: Upstreams) -> None:
    """A parked call whose client does not come back is cancelled upstream, and its state is void."""
    upstreams.plugin = UpstreamPlugin(UpstreamConfig(answer_timeout=0.3))
    one = await upstreams.one(command=LEGACY_STDIO)
    client = Client(MODERN, ALL)
    result = await client.tool(one.provider, "ask")
    (key,) = result["inputRequests"]
    await until(lambda: one.provider.describe()["sessions"][0]["calls"] == 0)
    with pytest.raises(MCPError, match="Invalid or expired requestState"):
        await resume(one.provider, client, "ask", result, **{key: ANN})


async def test_parked_calls_are_bounded(upstreams: Upstreams) -> None:
    """More parked calls than allowed are refused, and cancelled upstream."""
    upstreams.plugin = UpstreamPlugin(UpstreamConfig(max_parked=1))
    one = await upstreams.one(command=LEGACY_STDIO, sessions=2)
    await until(lambda: len(one.provider.describe()["sessions"]) == 2)
    client = Client(MODERN, ALL)
    await client.tool(one.provider, "ask")
    error = await refused(one.provider, client, "ask")
    assert error.code == ErrorCode.BULKHEAD_FULL
    assert one.provider.describe()["parked"] == 1
    await until(lambda: sum(item["calls"] for item in one.provider.describe()["sessions"]) == 1)


async def test_modern_client_without_capabilities_is_not_asked(upstreams: Upstreams) -> None:
    """A modern client that declares nothing gets its result; the upstream gets the error."""
    one = await upstreams.one(command=LEGACY_STDIO)
    answer = json.loads(text_of(await Client(MODERN).tool(one.provider, "ask")))
    assert answer["data"] == {"missingCapability": "elicitation"}


async def test_url_error_becomes_input_required(upstreams: Upstreams) -> None:
    """The error by which a legacy upstream demands a visit to a URL becomes a question; the retry calls again."""
    one = await upstreams.one(command=LEGACY_STDIO)
    client = Client(MODERN, ALL)
    result = await client.tool(one.provider, "url_first")
    assert result["inputRequests"] == {
        "url-1": {
            "method": "elicitation/create",
            "params": {"mode": "url", "message": "Go", "url": "https://x.example"},
        }
    }
    final = await resume(one.provider, client, "url_first", result, **{"url-1": {"action": "accept"}})
    assert text_of(final) == "welcome"


# -- modern upstream --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_legacy_client_is_asked_for_a_modern_upstream(
    upstreams: Upstreams, http_server: Callable[..., HTTPServer], transport: str
) -> None:
    """What a modern upstream needs is asked the old way, and the call is retried with answer and state."""
    table = {"command": [*SDK_STDIO, "--modern"]} if transport == "stdio" else {"url": http_server("--modern").url}
    one = await upstreams.one(**table)
    client = Client(LEGACY, ALL, answer=say_ann)
    assert text_of(await client.tool(one.provider, "need")) == "hello Ann, step-1"
    assert [method for method, _ in client.line.asked] == ["elicitation/create"]


async def test_legacy_client_lacking_the_capability(
    upstreams: Upstreams, http_server: Callable[..., HTTPServer]
) -> None:
    """A legacy client that cannot answer gets an error that names the capability."""
    one = await upstreams.one(url=http_server("--modern").url)
    error = await refused(one.provider, Client(LEGACY, {"roots": {}}, answer=say_ann), "need")
    assert "elicitation" in error.message


@pytest.mark.parametrize("principal", [None, Principal("ann")])
async def test_input_required_passes_within_one_era(
    upstreams: Upstreams, dual: HTTPServer, principal: Principal | None
) -> None:
    """Between a modern client and a modern upstream question, answer and state pass."""
    one = await upstreams.one(url=dual.url)
    client = Client(MODERN, ALL, principal=principal)
    result = await client.tool(one.provider, "need")
    assert list(result["inputRequests"]) == ["who"]
    final = await resume(one.provider, client, "need", result, who=ANN)
    assert text_of(final) == "hello Ann, step-1"


async def test_state_of_an_upstream_is_bound_to_the_principal(upstreams: Upstreams, dual: HTTPServer) -> None:
    """An upstream knows only the host, so the host binds its state to the principal (H2)."""
    one = await upstreams.one(url=dual.url)
    result = await Client(MODERN, ALL, principal=Principal("ann")).tool(one.provider, "need")
    with pytest.raises(MCPError, match="Invalid or expired requestState"):
        await resume(one.provider, Client(MODERN, ALL, principal=Principal("eve")), "need", result, who=ANN)
