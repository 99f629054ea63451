"""The `#:` comments that describe the members of an enumeration in its source."""

from __future__ import annotations

import inspect
import re
from enum import Enum

_MEMBER = re.compile(r"^    ([A-Z][A-Z0-9_]*) = .*?#: (.+)$", re.MULTILINE)


def member_comments(enumeration: type[Enum]) -> dict[str, str]:
    """The description of each member.

    Raises:
        LookupError: A member has none.
    """
    comments = dict(_MEMBER.findall(inspect.getsource(enumeration)))
    if missing := [name for name in enumeration.__members__ if name not in comments]:
        raise LookupError(f"{enumeration.__name__} has members without a '#: …' comment: {', '.join(missing)}")
    return comments
