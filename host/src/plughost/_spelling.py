"""How else a name, a path or a URI may be written: for plugins whose rules must not be got around by spelling."""

from __future__ import annotations

import re
from urllib.parse import unquote

ROUNDS = 4
"""How often something may be percent-encoded and still be understood."""
_SLASHES = re.compile(r"[/\\]+")
_SEGMENT_ENDS = re.compile(r"[/\\;?#]")


def plain(text: str) -> bool:
    """Whether a text says where it leads: no `..` segment in it, however it is encoded.

    `note://public/../secret` fits the glob `note://public/*`, and is not in `public`; nor is, to some servers, what has
    `..;` in between.
    """
    for _ in range(ROUNDS):
        if ".." in _SEGMENT_ENDS.split(text):
            return False
        decoded = unquote(text, errors="replace")
        if decoded == text:
            return True
        text = decoded
    return False


def usual(text: str) -> str:
    """The text as those that mean the same are written, too: decoded, in lower case, without `.` and empty segments."""
    for _ in range(ROUNDS):
        text = unquote(text, errors="replace")
    return "/".join(part for part in _SLASHES.split(text.lower()) if part != ".")
