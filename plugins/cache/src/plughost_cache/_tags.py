"""Tags: names that several cached answers share, so that all of them can be given up at once."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakValueDictionary

ALL = "all"
"""The tag of every answer."""


class Tag:
    """A name as it was when somebody began to ask. Once given up it stays so; the name gets a new one.

    An answer is as good as the tags that were taken *before* it was asked for: if one of them was given up meanwhile,
    the answer may be from before the change, and is not kept.
    """

    __slots__ = ("__weakref__", "dead", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False

    def __repr__(self) -> str:
        return f"<Tag {self.name!r}{' given up' if self.dead else ''}>"


class Tags:
    """The living tag of each name. A tag that no answer and no question holds is forgotten."""

    def __init__(self) -> None:
        self._living: WeakValueDictionary[str, Tag] = WeakValueDictionary()

    def take(self, names: Iterable[str]) -> tuple[Tag, ...]:
        """The tags of these names, now."""
        taken = []
        for name in names:
            tag = self._living.get(name)
            if tag is None:
                tag = self._living[name] = Tag(name)
            taken.append(tag)
        return tuple(taken)

    def give_up(self, name: str) -> None:
        """Give up whatever holds the tag of this name; takes no time, however many that are."""
        tag = self._living.pop(name, None)
        if tag is not None:
            tag.dead = True

    def __len__(self) -> int:
        return len(self._living)
