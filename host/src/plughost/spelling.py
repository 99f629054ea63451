"""How else a name, a path or a URI may be written: for plugins whose rules must not be got around by spelling."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote

__all__ = ["plain", "usual"]

ROUNDS = 4
"""How often something may be percent-encoded and still be understood."""
LONGEST = 8192
"""Characters of a text that is looked at: no URI and no path that leads anywhere is longer."""
REMEMBERED = 256
"""Texts that are remembered, since each of many rules asks for the same one."""
_SLASHES = re.compile(r"[/\\]+")
_UP = re.compile(r"(?:^|[/\\;?#])\.\.(?:[/\\;?#]|\Z)")
_DROPPED = re.compile(r"\A[\x00-\x20]+|[\x00-\x20]+\Z|[\t\r\n]")
"""What parsers of URLs drop (WHATWG URL, 4.4): so a tab may stand in the middle of a name, or between two dots."""


def plain(text: str) -> bool:
    """Whether a text says where it leads: not too long, and no `..` segment in it, however it is encoded.

    `note://public/../secret` fits the glob `note://public/*`, and is not in `public`; nor is, to some servers, what has
    `..;` in between.
    """
    return len(text) <= LONGEST and _leads_down(text)


@lru_cache(REMEMBERED)
def _leads_down(text: str) -> bool:
    for _ in range(ROUNDS):
        text = _DROPPED.sub("", text)
        if _UP.search(text):
            return False
        decoded = unquote(text, errors="replace")
        if decoded == text:
            return True
        text = decoded
    return False


@lru_cache(REMEMBERED)
def usual(text: str) -> str:
    """The text as those that mean the same are written, too: decoded, in lower case, without `.` and empty segments.

    For what is `plain`: it takes its time with what is long.
    """
    for _ in range(ROUNDS):
        text = unquote(_DROPPED.sub("", text), errors="replace")
    text = _DROPPED.sub("", text)
    return "/".join(part for part in _SLASHES.split(text.lower()) if part != ".")
