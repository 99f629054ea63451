"""Blanks secrets in text, whoever wrote it there (G6)."""

from __future__ import annotations

import re
from collections.abc import Iterable

BLANK = "[redacted]"
LONGEST = 32_768
"""Characters of one text that are kept; a longer one is cut, and says so."""

_WORDS = r"(?:pass(?:word|wd|phrase)?|secret|token|api[_-]?key|authorization|credential|cookie|session[_-]?key)"
_NAMED = (
    rf"(?i)\b([\w-]{{0,40}}{_WORDS}[\w-]{{0,40}}[\"']?\s{{0,4}}[:=]\s{{0,4}})"
    r"(?:\"[^\"]*\"|'[^']*'|(?!bearer\b|basic\b|dpop\b)[^\s\"',;&)}\]]+)"
)
"""`password=…`, `"api_key": "…"`."""
_KNOWN = (
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?", BLANK),
    (r"(?i)\b(bearer|basic|dpop)\s+[A-Za-z0-9._~+/=-]{6,}", rf"\1 {BLANK}"),
    (r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?", BLANK),
    (r"(?<=://)[^\s/@:]*:[^\s/@]*(?=@)", BLANK),
    (_NAMED, rf"\1{BLANK}"),
)
_NAMES = re.compile(_WORDS, re.IGNORECASE)


class Redactor:
    """Blanks what looks like a secret, and what the operator's patterns match."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._rules = [(re.compile(pattern), blank) for pattern, blank in _KNOWN]
        self._rules += [(re.compile(pattern), BLANK) for pattern in patterns]

    def text(self, text: str) -> str:
        """The text without secrets, and no longer than `LONGEST`."""
        if len(text) > LONGEST:
            text = f"{text[:LONGEST]} … ({len(text) - LONGEST} more characters)"
        for pattern, blank in self._rules:
            text = pattern.sub(blank, text)
        return text

    def value(self, name: str, value: object) -> str:
        """A named value as text; all of it is blanked if the name says that it is a secret."""
        return BLANK if _NAMES.search(name) else self.text(str(value))
