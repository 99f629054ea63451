"""What must be equal between a conversation with a server and the same conversation through the host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from real.talk import Conversation, Step

SHOWN = 600
STAMP = "io.modelcontextprotocol/serverInfo"
ENVELOPE = frozenset({"resultType", "ttlMs", "cacheScope"})
"""What 2026-07-28 puts around every result: present or not by the client's revision, whatever the server's is."""


def differences(steps: tuple[Step, ...], direct: Conversation, through: Conversation) -> Iterator[str]:
    """One line for each step whose outcome is not the same, but for who signed it."""
    bridged = direct.protocol_version != through.protocol_version
    for step, before, after in zip(steps, direct.outcomes, through.outcomes, strict=True):
        expected, found = _essence(before, bridged=bridged), _essence(after, bridged=bridged)
        if expected != found:
            before_text, after_text = repr(expected), repr(found)
            at = max(0, len(os.path.commonprefix([before_text, after_text])) - 200)
            yield (
                f"{step.method} {dict(step.params)}, from character {at}:"
                f"\n  direct  {before_text[at : at + SHOWN]}\n  through {after_text[at : at + SHOWN]}"
            )


def _essence(outcome: dict[str, Any], *, bridged: bool) -> dict[str, Any]:
    """The outcome without the server's stamp, and without the envelope of one revision if the two differ."""
    # A client may be told of the last progress after the result, and then passes it over.
    essence = {**outcome, "progress": [each for each in outcome["progress"] if each["progress"] != each.get("total")]}
    if "result" in outcome:
        left_out = ENVELOPE if bridged else frozenset()
        result = {key: value for key, value in outcome["result"].items() if key not in left_out}
        meta = {key: value for key, value in result.pop("_meta", {}).items() if key != STAMP}
        essence["result"] = {**result, **({"_meta": meta} if meta else {})}
    return essence
