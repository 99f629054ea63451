"""What the source says of each member of an enumeration: a `#:` comment beside it, or a string under it."""

from __future__ import annotations

import inspect
import re
from enum import Enum

_MEMBER = re.compile(r'^    ([A-Z][A-Z0-9_]*) = [^#\n]+?(?:  #: (.+)|\n    """(.+)""")$', re.MULTILINE)


def member_comments(enumeration: type[Enum]) -> dict[str, str]:
    """The description of each member.

    Raises:
        LookupError: A member has none.
    """
    found = _MEMBER.findall(inspect.getsource(enumeration))
    comments = {name: beside or under for name, beside, under in found}
    if missing := [name for name in enumeration.__members__ if name not in comments]:
        raise LookupError(f"{enumeration.__name__} has members without a '#: …' comment: {', '.join(missing)}")
    return comments
