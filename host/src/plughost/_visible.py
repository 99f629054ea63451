"""What a caller sees where some of it is not for him: answers as if the rest did not exist (A8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from plughost import _catalog
from plughost._call import Call, CallNext, Result
from plughost._catalog import Catalog, cursor_after, invalid_cursor, name_in
from plughost._generation import LISTS
from plughost._provider import Kind

Sees = Callable[[Kind, str, str], bool]
"""Whether the caller sees an entry: its kind, its provider, and its name there."""


async def filter_list(catalog: Catalog, call: Call, call_next: CallNext, sees: Sees) -> Result:
    """Answer a list with only what the caller sees, page by page as if there were nothing else.

    For middleware in GUARD. An entry is judged by the provider and the name that a call of it would lead to. The answer
    is private (K3), and neither the size of a page nor a cursor tells of what is left out.

    Raises:
        MCPError: The cursor names an entry that is not there, or that the caller does not see: both alike.
    """
    kind = LISTS[call.method]

    def shown(name: str) -> bool:
        found = catalog.locate(kind, name)
        return found is not None and sees(kind, *found)

    size = _catalog.PAGE_SIZE
    params = call.params
    if params.get("cursor") is not None and not shown(name_in(params["cursor"])):
        raise invalid_cursor()
    page = result = await call_next(call)
    kept = [entry for entry in page[kind.value] if shown(str(entry.get(kind.key)))]
    try:
        while "nextCursor" in page and len(kept) <= size:
            call.params = {**params, "cursor": page["nextCursor"]}
            page = await call_next(call)
            kept += [entry for entry in page[kind.value] if shown(str(entry.get(kind.key)))]
    finally:
        call.params = params
    answer: dict[str, Any] = {**private(result), kind.value: kept[:size]}
    answer.pop("nextCursor", None)
    if len(kept) > size:
        answer["nextCursor"] = cursor_after(str(kept[size - 1].get(kind.key)))
    return answer


def filter_instructions(catalog: Catalog, result: Result, sees: Callable[[str], bool]) -> Result:
    """The answer to `initialize` or `server/discover`, without the instructions of hidden providers."""
    text = result.get("instructions")
    told = {name: found.instructions for name, found in catalog.providers.items() if found.instructions}
    if not isinstance(text, str) or all(map(sees, told)):
        return result
    if len(catalog.providers) > 1:
        told = {name: f"## {name}\n{words}" for name, words in told.items()}
    left = "\n\n".join(words for name, words in told.items() if words in text and sees(name))
    rest = {key: value for key, value in result.items() if key != "instructions"}
    return {**rest, "instructions": left} if left else rest


def private(result: Result) -> Mapping[str, Any]:
    """The result, for the caller alone to keep: others may not be allowed to read it (K3)."""
    return {**result, "cacheScope": "private"} if result.get("cacheScope") == "public" else result
