"""The event vocabulary, from `EventType` and the comments beside its members."""

from __future__ import annotations

from plughost import EventType, HostEvent

from plughost_docs.api import constructor
from plughost_docs.comments import member_comments
from plughost_docs.markdown import docstring, table


def section() -> str:
    """`HostEvent`, and a table of the types."""
    comments = member_comments(EventType)
    rows = ((f"`{member.value}`", f"`EventType.{member.name}`", comments[member.name]) for member in EventType)
    return (
        f"## `{constructor(HostEvent)}`\n\n{docstring(HostEvent)}\n\n"
        f"## Types\n\n{docstring(EventType)}\n\n{table(('type', 'in code', 'when'), rows)}"
    )
