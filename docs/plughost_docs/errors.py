"""The error codes, from `ErrorCode`."""

from __future__ import annotations

from plughost import ErrorCode
from plughost._errors import RETRYABLE

from plughost_docs.comments import member_comments
from plughost_docs.markdown import table


def section() -> str:
    """One table of Plughost's own codes."""
    comments = member_comments(ErrorCode)
    return table(
        ("code", "type", "the same call may succeed later", "meaning"),
        (
            (
                f"{member.value}",
                f"`{member.name.lower()}`",
                "yes" if member in RETRYABLE else "no",
                comments[member.name],
            )
            for member in ErrorCode
        ),
    )
