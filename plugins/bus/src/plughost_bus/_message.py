"""What replicas say to each other: one JSON object a message. Whatever else is on the channel is no message."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)

VERSION = 1
LISTS: Mapping[str, ServerEvent] = {
    "tools": ToolsListChanged(),
    "prompts": PromptsListChanged(),
    "resources": ResourcesListChanged(),
}
"""The word for each list → the event that it changed."""
Kind = Literal["changes", "watch", "watching", "here", "gone", "event"]


@dataclass(frozen=True, slots=True)
class Message:
    """`sender` is the id of a replica; what else counts depends on the kind.

    - `changes`: these `lists` and the resources `uris` changed.
    - `watch`: clients of the sender watch `uris` too; `watching` is the answer with the same `number`, for `to`.
    - `here`: the sender is there, and its clients watch `uris` and no others; `ask` wants the same of everybody.
    - `gone`: the sender leaves.
    - `event`: a host event, in `body`.
    """

    kind: Kind
    sender: str
    uris: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    number: int = 0
    to: str = ""
    ask: bool = False
    body: Mapping[str, Any] | None = None

    def encode(self) -> bytes:
        """As it is sent, without what is empty."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({"v": VERSION, **{key: value for key, value in fields.items() if value}}).encode()

    @classmethod
    def decode(cls, data: bytes) -> Message | None:
        """What was sent; `None` if it is no message of this version."""
        try:
            found = json.loads(data)
        except ValueError:
            return None
        if not isinstance(found, dict) or found.get("v") != VERSION or found.get("kind") not in get_args(Kind):
            return None
        sender, number, body = found.get("sender"), found.get("number", 0), found.get("body")
        if not isinstance(sender, str) or not sender or not isinstance(number, int):
            return None
        return cls(
            found["kind"],
            sender,
            uris=_texts(found.get("uris")),
            lists=_texts(found.get("lists")),
            number=number,
            to=str(found.get("to", "")),
            ask=bool(found.get("ask")),
            body=body if isinstance(body, dict) else None,
        )

    @property
    def events(self) -> list[ServerEvent]:
        """The events that `changes` stands for."""
        return [*(LISTS[word] for word in self.lists if word in LISTS), *map(ResourceUpdated, self.uris)]


def changes(sender: str, events: Iterable[ServerEvent]) -> Message:
    """The message that these events happened."""
    found = list(events)
    lists = tuple(word for word, event in LISTS.items() if event in found)
    uris = tuple(event.uri for event in found if isinstance(event, ResourceUpdated))
    return Message("changes", sender, uris=uris, lists=lists)


def _texts(found: Any) -> tuple[str, ...]:
    return tuple(item for item in found if isinstance(item, str)) if isinstance(found, list) else ()
