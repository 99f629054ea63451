"""The catalog: one view of many providers, and the way back to each of them."""

from __future__ import annotations

import base64
from itertools import pairwise
from typing import Any

import anyio
import pytest
from asgi_wire import call as call_tool
from asgi_wire import post, request
from doubles import StubProvider, host_of, text, tool
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client, MCPError
from plughost import Kind, ListChanged, Listing, Provider, ProviderDown, ProviderError, ProviderUp
from plughost import _catalog as catalog_module
from plughost._catalog import Catalog, merge
from plughost._sdk import host_call

pytestmark = pytest.mark.anyio


async def tool_names(app: Any) -> list[str]:
    result = (await post(app, request("tools/list"))).message["result"]
    return [item["name"] for item in result["tools"]]


def resource(uri: str) -> dict[str, Any]:
    return {"uri": uri, "name": uri}


# -- names -------------------------------------------------------------------------------------------------------------


async def test_a_prefix_goes_in_front_and_comes_off_again() -> None:
    """Clients see and call `f_read`; the provider is asked for `read`."""
    async with host_of(StubProvider("files", ["read"], prefix="f_")) as host:
        assert await tool_names(host.app) == ["f_read"]
        assert (await call_tool(host.app, "f_read"))["result"]["content"] == text("files:read")["content"]


async def test_a_name_without_its_prefix_does_not_exist() -> None:
    async with host_of(StubProvider("files", ["read"], prefix="f_")) as host:
        response = await call_tool(host.app, "read")
    assert response["error"] == {"code": -32602, "message": "Unknown tool: read"}


async def test_a_prefix_lets_two_providers_offer_one_name() -> None:
    async with host_of(StubProvider("a", ["read"]), StubProvider("b", ["read"], prefix="b_")) as host:
        assert (await call_tool(host.app, "read"))["result"]["content"] == text("a:read")["content"]
        assert (await call_tool(host.app, "b_read"))["result"]["content"] == text("b:read")["content"]


async def test_prompts_are_prefixed_and_uris_are_not() -> None:
    async def answer(call: Any, params: Any) -> dict[str, Any]:
        return {"messages": [], "contents": [], "description": params.get("name", params.get("uri"))}

    entries = {Kind.PROMPTS: [{"name": "greet"}], Kind.RESOURCES: [resource("note://1")]}
    async with host_of(StubProvider("a", prefix="a_", entries=entries, answer=answer)) as host:
        prompts = (await post(host.app, request("prompts/list"))).message["result"]["prompts"]
        resources = (await post(host.app, request("resources/list"))).message["result"]["resources"]
        asked = (await post(host.app, request("prompts/get", {"name": "a_greet"}))).message["result"]["description"]
        read = (await post(host.app, request("resources/read", {"uri": "note://1"}))).message["result"]
    assert ([item["name"] for item in prompts], [item["uri"] for item in resources]) == (["a_greet"], ["note://1"])
    assert (asked, read["description"]) == ("greet", "note://1")


@pytest.mark.parametrize(
    ("kind", "entry", "what"),
    [
        (Kind.TOOLS, tool("same"), "tool 'same'"),
        (Kind.PROMPTS, {"name": "same"}, "prompt 'same'"),
        (Kind.RESOURCES, resource("note://same"), "resource 'note://same'"),
        (Kind.TEMPLATES, {"uriTemplate": "note://{id}", "name": "n"}, "resource 'note://{id}'"),
    ],
)
async def test_one_name_from_two_providers_stops_the_start(kind: Kind, entry: dict[str, Any], what: str) -> None:
    """P5: shadowing is an error that names both providers, not last-wins."""
    providers = [StubProvider(name, entries={kind: [entry]}) for name in ("a", "b")]
    with pytest.raises(ProviderError) as caught:
        async with host_of(*providers):
            pass
    assert str(caught.value).startswith(f"provider 'b': {what} exists in provider 'a' too")


async def test_a_prefix_is_the_remedy_for_a_collision() -> None:
    with pytest.raises(ProviderError, match=r"Set prefix in \[providers.b\]"):
        async with host_of(StubProvider("a", ["t"]), StubProvider("b", ["t"])):
            pass


async def test_a_prefix_can_make_a_collision() -> None:
    """P5: `a_` + `b` is the other provider's `a_b`."""
    with pytest.raises(ProviderError, match="'a_b' exists in provider 'one' too"):
        async with host_of(StubProvider("one", ["a_b"]), StubProvider("two", ["b"], prefix="a_")):
            pass


async def test_what_a_provider_lists_twice_or_without_a_name_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """The first of a name counts; nothing else suffers from it (G5), and the log tells once."""
    first, second = tool("t", title="first"), tool("t", title="second")
    entries = {Kind.TOOLS: [first, second, tool("u"), {"name": None}, {"title": "nameless"}]}
    async with host_of(StubProvider("a", prefix="a_", entries=entries), StubProvider("b", ["t"])) as host:
        listed = (await post(host.app, request("tools/list"))).message["result"]["tools"]
    assert [(item["name"], item.get("title")) for item in listed] == [("a_t", "first"), ("a_u", None), ("t", None)]
    (line,) = [text for text in caplog.messages if "left out" in text]
    assert line == "provider 'a': left out 3 of its tools, listed twice or without a name: 't', None, None"


@pytest.mark.parametrize("name", ["x" * 63, "no spaces", "ümlaut"])
async def test_a_prefixed_name_stays_within_the_specification(name: str) -> None:
    """Longer than 64 characters, or others than letters, digits, `_`, `.` and `-`, is an error at load."""
    with pytest.raises(ProviderError, match="is not valid"):
        async with host_of(StubProvider("a", [name], prefix="a_")):
            pass


async def test_a_prefixed_name_of_64_characters_is_fine() -> None:
    async with host_of(StubProvider("a", ["x" * 62], prefix="a_")) as host:
        assert await tool_names(host.app) == ["a_" + "x" * 62]


async def test_an_unprefixed_name_is_the_providers_own_affair() -> None:
    """A gateway hands on what servers call their tools."""
    async with host_of(StubProvider("a", ["a tool with spaces"])) as host:
        assert await tool_names(host.app) == ["a tool with spaces"]


@pytest.mark.parametrize(
    ("method", "params", "error"),
    [
        ("tools/call", {"name": "nope"}, {"code": -32602, "message": "Unknown tool: nope"}),
        ("prompts/get", {"name": "nope"}, {"code": -32602, "message": "Unknown prompt: nope"}),
        (
            "resources/read",
            {"uri": "nope://1"},
            {"code": -32602, "message": "Unknown resource: nope://1", "data": {"uri": "nope://1"}},
        ),
    ],
)
async def test_what_nobody_has_is_unknown(method: str, params: dict[str, Any], error: dict[str, Any]) -> None:
    """With several providers that might have it, the host answers itself."""
    entries: dict[str, dict[Kind, list[dict[str, Any]]]] = {
        name: {
            kind: [{"name": name, "uri": f"{name}://1", "inputSchema": {}}] for kind in Kind if kind != Kind.TEMPLATES
        }
        for name in ("a", "b")
    }
    async with host_of(*(StubProvider(name, entries=entries[name]) for name in entries)) as host:
        assert (await post(host.app, request(method, params))).message["error"] == error


async def test_a_hidden_name_goes_to_the_only_provider_that_could_have_it() -> None:
    """A server may serve what it does not list; where only one could, it answers itself."""
    async with host_of(StubProvider("a", ["t"])) as host:
        assert (await call_tool(host.app, "hidden"))["result"]["content"] == text("a:hidden")["content"]


# -- resources ---------------------------------------------------------------------------------------------------------


async def test_a_uri_finds_its_provider_through_a_template() -> None:
    entries = {
        name: {Kind.TEMPLATES: [{"uriTemplate": f"{name}://{{id}}/{{part}}", "name": name}]} for name in ("a", "b")
    }
    catalog = await Catalog.build([StubProvider(name, entries=entries[name]) for name in entries])
    call = host_call("resources/read", {"uri": "b://7/title"})
    catalog.resolve(call)
    assert (call.provider, call.local_name) == ("b", "b://7/title")


@pytest.mark.parametrize("uri", ["note://sec\tret", "note://secret\n", " note://secret", "note://\x7fsecret"])
async def test_what_no_uri_holds_leads_nowhere(uri: str) -> None:
    """Parsers of URIs drop it, so a server would read another resource than the one that plugins decided on (A9)."""
    entries = {
        Kind.TEMPLATES: [{"uriTemplate": "note://{+id}", "name": "n"}],
        Kind.RESOURCES: [resource("note://listed\tso")],
    }
    catalog = await Catalog.build([StubProvider("notes", entries=entries)])
    assert catalog.locate(Kind.RESOURCES, uri) is None
    assert catalog.locate(Kind.RESOURCES, "note://secret") is not None
    assert catalog.locate(Kind.RESOURCES, "note://listed\tso") is not None


async def test_a_listed_resource_outranks_a_template() -> None:
    wide = StubProvider("wide", entries={Kind.TEMPLATES: [{"uriTemplate": "note://{id}", "name": "n"}]})
    exact = StubProvider("exact", entries={Kind.RESOURCES: [resource("note://1")]})
    catalog = await Catalog.build([wide, exact])
    found = catalog.locate_resource("note://1")
    assert found is not None
    assert found.provider == "exact"


async def test_a_template_that_cannot_be_matched_is_listed_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; nothing else is lost."""
    broken = {"uriTemplate": "note://{id", "name": "n"}
    async with host_of(StubProvider("a", entries={Kind.TEMPLATES: [broken]})) as host:
        result = (await post(host.app, request("resources/templates/list"))).message["result"]
    assert [item["uriTemplate"] for item in result["resourceTemplates"]] == ["note://{id"]
    assert "cannot be matched" in caplog.text


@pytest.mark.parametrize(
    ("ref", "where"),
    [
        ({"type": "ref/prompt", "name": "b_greet"}, ("b", "greet")),
        ({"type": "ref/resource", "uri": "b://{id}"}, ("b", "b://{id}")),
        ({"type": "ref/prompt", "name": "greet"}, (None, None)),
        ({"type": "ref/prompt"}, (None, None)),
        ("nonsense", (None, None)),
        ({"name": "b_greet"}, (None, None)),
        ({"uri": "b://{id}"}, (None, None)),
        ({"type": ["ref/prompt"], "name": "b_greet"}, (None, None)),
        ({"type": "ref/resource", "name": "b_greet", "uri": "b://{id}"}, (None, None)),
        ({"type": "ref/prompt", "name": "b_greet", "uri": "b://{id}"}, (None, None)),
        ({"type": "ref/resource", "name": "b_greet"}, (None, None)),
    ],
)
async def test_a_completion_goes_where_its_reference_is(ref: Any, where: tuple[str | None, str | None]) -> None:
    """By its type, as servers read it. What names two things goes nowhere: a rule for one must not let in the other."""
    entries = {Kind.PROMPTS: [{"name": "greet"}], Kind.TEMPLATES: [{"uriTemplate": "b://{id}", "name": "b"}]}
    able: dict[str, Any] = {"completions": {}}
    a = StubProvider("a", prefix="a_", entries={Kind.PROMPTS: [{"name": "greet"}]}, able=able)
    catalog = await Catalog.build([a, StubProvider("b", prefix="b_", entries=entries, able=able)])
    call = host_call("completion/complete", {"ref": ref, "argument": {"name": "id", "value": ""}})
    catalog.resolve(call)
    assert (call.provider, call.local_name) == where


async def test_a_completion_of_nothing_is_an_error() -> None:
    """Of several providers none has it: -32602, as the specification has it."""
    providers = [StubProvider(name, prefix=name, able={"completions": {}}) for name in "ab"]
    params = {"ref": {"type": "ref/prompt", "name": "nope"}, "argument": {"name": "id", "value": ""}}
    async with host_of(*providers) as host:
        error = (await post(host.app, request("completion/complete", params))).message["error"]
    assert (error["code"], error["message"]) == (-32602, "Unknown prompt or resource template")


# -- order and pages ---------------------------------------------------------------------------------------------------


async def test_the_order_is_the_providers_and_their_own() -> None:
    """Not sorted, and the same each time."""
    async with host_of(StubProvider("z", ["b", "a"]), StubProvider("a", ["d", "c"])) as host:
        assert await tool_names(host.app) == ["b", "a", "d", "c"]
        assert await tool_names(host.app) == ["b", "a", "d", "c"]


def parts_of(lists: list[list[str]]) -> list[tuple[Provider, Listing]]:
    return [(StubProvider(f"p{n}"), Listing(tuple(tool(name) for name in names))) for n, names in enumerate(lists)]


@given(
    names=st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=3),
    page=st.integers(1, 12),
)
def test_pages_joined_are_the_whole_list(names: list[str], cuts: list[int], page: int) -> None:
    """Each entry once, in order, whatever the providers' sizes and the size of a page."""
    edges = [0, *sorted(min(cut, len(names)) for cut in cuts), len(names)]
    parts = parts_of([names[start:end] for start, end in pairwise(edges)])
    joined: list[str] = []
    cursor = None
    before, catalog_module.PAGE_SIZE = catalog_module.PAGE_SIZE, page
    try:
        while True:
            result = merge(parts, Kind.TOOLS, cursor)
            assert len(result["tools"]) <= page
            joined += [item["name"] for item in result["tools"]]
            cursor = result.get("nextCursor")
            if cursor is None:
                break
    finally:
        catalog_module.PAGE_SIZE = before
    assert joined == names


@pytest.mark.parametrize(
    "cursor", ["", "nonsense", "AAAA", "ümlaut", 3, ["t"], {"a": 1}, base64.urlsafe_b64encode(b"gone").decode()]
)
def test_a_cursor_that_is_not_ours_is_invalid(cursor: Any) -> None:
    with pytest.raises(MCPError, match="Invalid cursor"):
        merge(parts_of([["t"]]), Kind.TOOLS, cursor)


async def test_an_invalid_cursor_reaches_the_client_as_invalid_params() -> None:
    async with host_of(StubProvider("a", ["t"])) as host:
        reply = await post(host.app, request("tools/list", {"cursor": "nonsense"}))
    assert (reply.status, reply.message["error"]["code"]) == (400, -32602)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_walks_the_pages_of_a_merged_list(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "PAGE_SIZE", 3)
    first, second = [f"a{n}" for n in range(4)], [f"b{n}" for n in range(4)]
    found: list[str] = []
    async with (
        host_of(StubProvider("a", first), StubProvider("b", second)) as host,
        Client(host.front, mode=mode) as client,
    ):
        cursor = None
        while True:
            page = await client.list_tools(cursor=cursor)
            found += [item.name for item in page.tools]
            if (cursor := page.next_cursor) is None:
                break
    assert found == first + second


@pytest.mark.parametrize(
    ("extras", "merged"),
    [
        (
            [{"ttlMs": 5, "cacheScope": "public", "_meta": {"a": 1}}],
            {"ttlMs": 5, "cacheScope": "public", "_meta": {"a": 1}},
        ),
        (
            [{"ttlMs": 5, "cacheScope": "public"}, {"ttlMs": 9, "cacheScope": "public"}],
            {"ttlMs": 5, "cacheScope": "public"},
        ),
        (
            [{"ttlMs": 5, "cacheScope": "public"}, {"ttlMs": 9, "cacheScope": "private"}],
            {"ttlMs": 5, "cacheScope": "private"},
        ),
        ([{"ttlMs": 5, "cacheScope": "public"}, {}], {"ttlMs": 0, "cacheScope": "private"}),
        ([{}, {}], {}),
    ],
)
def test_the_strictest_cache_advice_wins(extras: list[dict[str, Any]], merged: dict[str, Any]) -> None:
    """K2: a list is public only if every part of it is."""
    parts: list[tuple[Provider, Listing]] = [
        (StubProvider(f"p{n}"), Listing((tool(f"t{n}"),), extra)) for n, extra in enumerate(extras)
    ]
    result = merge(parts, Kind.TOOLS, None)
    assert {key: value for key, value in result.items() if key != "tools"} == merged


# -- failure and change ------------------------------------------------------------------------------------------------


async def test_a_provider_that_cannot_list_loses_its_own_names_only() -> None:
    """G5: one that fails takes nobody else's tools with it, at the start and in a list."""
    broken = StubProvider("broken", ["b"], fails_to_list=RuntimeError("down"))
    async with host_of(StubProvider("sound", ["s"]), broken) as host:
        assert await tool_names(host.app) == ["s"]
        assert (await call_tool(host.app, "s"))["result"]["content"] == text("sound:s")["content"]


async def test_a_single_provider_that_cannot_list_says_so() -> None:
    """Where nothing else would be in the answer, the error is the answer."""
    broken = StubProvider("broken", ["b"], fails_to_list=MCPError(-32016, "down"))
    async with host_of(broken) as host:
        assert (await post(host.app, request("tools/list"))).message["error"]["code"] == -32016


async def test_a_provider_that_comes_up_brings_its_names(anyio_backend: str) -> None:
    """It was down at the start; when it says that it is up, its tools are there, and can be called."""
    late = StubProvider("late", ["l"], fails_to_list=RuntimeError("down"))
    sound = StubProvider("sound", ["s"])
    async with host_of(sound, late) as host, Client(host.front) as client:
        async with client.listen(tools_list_changed=True) as news:
            late.fails_to_list = None
            late.listener(ProviderUp())
            with anyio.fail_after(5):
                await anext(aiter(news))
        assert await tool_names(host.app) == ["s", "l"]
        assert (await call_tool(host.app, "l"))["result"]["content"] == text("late:l")["content"]


async def test_a_provider_that_goes_down_takes_only_its_own_names() -> None:
    """The tools of the others are listed as before, and clients hear that the list changed (G5)."""
    frail, sound = StubProvider("frail", ["f"]), StubProvider("sound", ["s"])
    async with host_of(sound, frail) as host, Client(host.front) as client:
        async with client.listen(tools_list_changed=True) as news:
            frail.down = True
            frail.listener(ProviderDown("lost"))
            with anyio.fail_after(5):
                await anext(aiter(news))
        assert await tool_names(host.app) == ["s"]


async def test_a_name_of_a_provider_that_is_down_is_not_taken_over() -> None:
    """P5: while it is away, no other provider gets the calls that were meant for it."""
    frail, greedy = StubProvider("frail", ["f"]), StubProvider("greedy", ["g"])
    async with host_of(greedy, frail) as host, Client(host.front) as client:
        async with client.listen(tools_list_changed=True) as news:
            frail.down = True
            frail.listener(ProviderDown("lost"))
            greedy.entries[Kind.TOOLS].append(tool("f"))
            greedy.listener(ListChanged(Kind.TOOLS))
            with anyio.fail_after(5):
                await anext(aiter(news))
        assert (await call_tool(host.app, "f"))["result"]["content"] == text("frail:f")["content"]


async def test_a_collision_that_appears_later_keeps_the_first(caplog: pytest.LogCaptureFixture) -> None:
    """P5: at runtime the name that was there first stays, and the other one is left out and logged."""
    first, second = StubProvider("first", ["t"]), StubProvider("second", ["u"])
    async with host_of(first, second) as host, Client(host.front) as client:
        async with client.listen(tools_list_changed=True) as news:
            second.entries[Kind.TOOLS].append(tool("t"))
            second.listener(ListChanged(Kind.TOOLS))
            with anyio.fail_after(5):
                await anext(aiter(news))
        assert await tool_names(host.app) == ["t", "u"]
        assert (await call_tool(host.app, "t"))["result"]["content"] == text("first:t")["content"]
    assert "left out until it is mended" in caplog.text


async def test_a_name_that_was_there_first_stays_where_it_is() -> None:
    """P5: a provider that stands earlier cannot take over a name that another one serves already."""
    early, late = StubProvider("early", ["e"]), StubProvider("late", ["t"])
    async with host_of(early, late) as host, Client(host.front) as client:
        async with client.listen(tools_list_changed=True) as news:
            early.entries[Kind.TOOLS].append(tool("t", title="mine"))
            early.listener(ListChanged(Kind.TOOLS))
            with anyio.fail_after(5):
                await anext(aiter(news))
        assert (await call_tool(host.app, "t"))["result"]["content"] == text("late:t")["content"]
        tools = (await post(host.app, request("tools/list"))).message["result"]["tools"]
        assert [(item["name"], item.get("title")) for item in tools] == [("e", None), ("t", None)]


# -- what all providers together can do --------------------------------------------------------------------------------


def test_capabilities_are_merged_and_lists_may_always_change() -> None:
    a = StubProvider("a", ["t"], able={"logging": {}, "experimental": {"x": {}}})
    b = StubProvider("b", able={"resources": {"subscribe": True}, "experimental": {"y": {}}})
    assert Catalog([a, b]).capabilities("2025-11-25") == {
        "tools": {"listChanged": True},
        "logging": {},
        "experimental": {"x": {}, "y": {}},
        "resources": {"subscribe": True, "listChanged": True},
    }


def test_a_provider_that_is_down_may_have_any_list() -> None:
    """A client that connects meanwhile must not conclude that there will never be tools."""
    assert set(Catalog([StubProvider("down")]).capabilities("2025-11-25")) == {"tools", "prompts", "resources"}


@pytest.mark.parametrize(
    ("instructions", "shown"),
    [
        ({"a": "Be brief."}, "Be brief."),
        ({"a": "Be brief.", "b": "Be kind."}, "## a\nBe brief.\n\n## b\nBe kind."),
        ({"a": None, "b": "Be kind."}, "## b\nBe kind."),
        ({"a": None}, None),
    ],
)
def test_instructions_stand_under_the_providers_names(instructions: dict[str, str | None], shown: str | None) -> None:
    """A single provider's stand alone."""
    providers = [StubProvider(name, instructions=words) for name, words in instructions.items()]
    assert Catalog(providers).instructions == shown
