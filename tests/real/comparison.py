"""What must be equal between a conversation with a server and the same conversation through the host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from real.talk import Conversation, Step

STAMP = "io.modelcontextprotocol/serverInfo"
ENVELOPE = frozenset({"resultType", "ttlMs", "cacheScope"})
"""What 2026-07-28 puts around every result: present or not by the client's revision, whatever the server's is."""
TASKS = "execution"
"""What 2025-11-25 says of a tool's tasks: 2026-07-28 has none, and a host that translates drops it."""


def differences(steps: tuple[Step, ...], direct: Conversation, through: Conversation) -> Iterator[str]:
    """One line for each step whose outcome is not the same, but for who signed it."""
    bridged = direct.protocol_version != through.protocol_version
    for step, before, after in zip(steps, direct.outcomes, through.outcomes, strict=True):
        expected, found = _essence(before, bridged=bridged), _essence(after, bridged=bridged)
        if expected != found:
            yield f"{step.method} {dict(step.params)}{_side_by_side(_text(expected), _text(found))}"


def _text(outcome: dict[str, Any]) -> str:
    return json.dumps(outcome, ensure_ascii=False, sort_keys=True)


def _side_by_side(direct: str, through: str) -> str:
    """Both answers around where they part: some are long."""
    parted = next((at for at, (one, other) in enumerate(zip(direct, through, strict=False)) if one != other), 0)
    part = slice(max(0, parted - 200), parted + 400)
    return f", from character {part.start}:\n  direct  {direct[part]}\n  through {through[part]}"


def _essence(outcome: dict[str, Any], *, bridged: bool) -> dict[str, Any]:
    """The outcome without the server's stamp, and without the envelope of one revision if the two differ."""
    # A client may be told of the last progress after the result, and then passes it over.
    essence = {**outcome, "progress": [each for each in outcome["progress"] if each["progress"] != each.get("total")]}
    if "result" in outcome:
        left_out = ENVELOPE if bridged else frozenset()
        result = {key: value for key, value in outcome["result"].items() if key not in left_out}
        if bridged and "tools" in result:
            result["tools"] = [{key: value for key, value in tool.items() if key != TASKS} for tool in result["tools"]]
        meta = {key: value for key, value in result.pop("_meta", {}).items() if key != STAMP}
        essence["result"] = {**result, **({"_meta": meta} if meta else {})}
    return essence
