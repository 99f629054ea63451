"""The error codes: the host's own from `ErrorCode`, all that a client may see from the catalogue of plughost-errors."""

from __future__ import annotations

from plughost import ErrorCode
from plughost._errors import RETRYABLE
from plughost_errors import catalogue

from plughost_docs.comments import member_comments
from plughost_docs.markdown import table


def section() -> str:
    """Two tables."""
    return f"## Plughost's own\n\n{_own()}\n## All that a client may see\n\n{_all()}"


def _own() -> str:
    comments = member_comments(ErrorCode)
    return table(
        ("code", "name", "retryable", "meaning"),
        (
            (str(code.value), f"`{code.name.lower()}`", "yes" if code in RETRYABLE else "no", comments[code.name])
            for code in ErrorCode
        ),
    )


def _all() -> str:
    return table(
        ("code", "`type`", "retryable", "meaning", "remedy"),
        (
            (str(row.code), f"`{row.type}`", "yes" if row.retryable else "no", row.meaning, row.remedy)
            for row in catalogue()
        ),
    )
