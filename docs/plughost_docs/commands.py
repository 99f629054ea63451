"""The command line reference, from the click commands."""

from __future__ import annotations


def section() -> str:
    return ""
