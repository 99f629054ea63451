"""Answers as if what the caller may not see did not exist."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from doubles import StubProvider, host_of
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import MCPError
from plughost import Call, Host, MCPPlugin, Middleware, Phase, Result, filter_instructions, hookimpl, private
from plughost import _catalog as catalog_module
from plughost._catalog import Catalog
from plughost._sdk import host_call
from plughost._visible import filter_list

pytestmark = pytest.mark.anyio


class Hiding(MCPPlugin):
    """Hides the tools of these local names."""

    def __init__(self, *hidden: str) -> None:
        super().__init__(name=f"hiding-{'-'.join(hidden)}")
        self.hidden = hidden

    async def register(self, host: Host) -> None:
        self.host = host

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.hide, Phase.GUARD, methods={"tools/list"})]

    async def hide(self, call: Call, call_next: Any) -> Result:
        catalog = self.host.generation.catalog
        return await filter_list(catalog, call, call_next, lambda kind, provider, name: name not in self.hidden)


async def pages(host: Host) -> list[dict[str, Any]]:
    """Every page of the tools."""
    found = [await host.dispatch(host_call("tools/list"))]
    while "nextCursor" in found[-1]:
        found.append(await host.dispatch(host_call("tools/list", {"cursor": found[-1]["nextCursor"]})))
    return [{**page, "tools": [entry["name"] for entry in page["tools"]]} for page in found]


@settings(max_examples=30, deadline=None)
@given(
    hidden=st.lists(st.sets(st.integers(0, 10)), min_size=1, max_size=2),
    size=st.integers(1, 5),
)
async def test_pages_are_those_of_a_host_without_it(hidden: Sequence[set[int]], size: int) -> None:
    """A8: page for page and cursor for cursor, also where two plugins hide something."""
    names = [f"t{number}" for number in range(12)]
    gone = {f"t{number}" for numbers in hidden for number in numbers}
    plugins = [Hiding(*(f"t{number}" for number in sorted(numbers))) for numbers in hidden]
    before, catalog_module.PAGE_SIZE = catalog_module.PAGE_SIZE, size
    try:
        left = StubProvider("a", [name for name in names if name not in gone], prefix="a_")
        async with host_of(left) as bare, host_of(StubProvider("a", names, prefix="a_")) as host:
            for number, plugin in enumerate(plugins):
                plugin.name = f"hiding-{number}"
                await host.register(plugin)
            assert await pages(host) == await pages(bare)
    finally:
        catalog_module.PAGE_SIZE = before


@pytest.mark.parametrize("name", ["secret", "missing"])
async def test_a_cursor_does_not_tell_what_is_hidden(name: str) -> None:
    """A8: the cursor of a hidden entry is as invalid as that of a missing one."""
    async with host_of(StubProvider("a", ["open", "secret"])) as host:
        await host.register(Hiding("secret"))
        cursor = base64.urlsafe_b64encode(name.encode()).decode()
        with pytest.raises(MCPError, match="Invalid cursor; list again from the start"):
            await host.dispatch(host_call("tools/list", {"cursor": cursor}))


def test_hidden_providers_instruct_nobody() -> None:
    """A8: their instructions, and their names in it, are left out."""
    catalog = Catalog([StubProvider("a"), StubProvider("b"), StubProvider("c")])
    for provider in catalog.providers.values():
        provider.instructions = f"Use {provider.name}."  # type: ignore[misc]  # a property of the protocol, a field of the double
    result = {"x": 1, "instructions": catalog.instructions}
    without_b = filter_instructions(catalog, result, lambda name: name != "b")
    assert without_b["instructions"] == "## a\nUse a.\n\n## c\nUse c."
    assert filter_instructions(catalog, without_b, lambda name: name != "c")["instructions"] == "## a\nUse a."
    assert filter_instructions(catalog, result, lambda _: False) == {"x": 1}
    assert filter_instructions(catalog, result, lambda _: True) is result


def test_an_answer_made_private_says_so() -> None:
    """K3: and where nothing was said, the host says it."""
    assert private({"cacheScope": "public", "ttlMs": 5}) == {"cacheScope": "private", "ttlMs": 5}
    assert private({"tools": []}) == {"tools": []}
