"""Blanks secrets in text, whoever wrote it there (G6)."""

from __future__ import annotations

import re
from collections.abc import Iterable

BLANK = "[redacted]"
LONGEST = 32_768
"""Characters of one text that are kept; a longer one is cut, and says so."""

_WORDS = (
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|(?:api|access|private|session)[_-]?key|authorization|assertion"
    r"|credential|cookie|signature)"
)
_NAME = rf"[\w-]{{0,40}}{_WORDS}[\w-]{{0,40}}"
_QUOTED = r"b?\"(?:[^\"\\]|\\.)*(?:\"|\Z)|b?'(?:[^'\\]|\\.)*(?:'|\Z)|\\\"[^\"\\]*\\\""
_NAMED = (
    rf"(?i)\b({_NAME}(?:(?:\\?[\"'])?\s{{0,4}}(?:[:=]|%3d)\s{{0,4}}[\[(]?|[\"']\s{{0,4}},\s{{0,4}}(?=b?[\"'])))"
    rf"(?:{_QUOTED}|(?!bearer\b|basic\b|dpop\b)[^\s\"',;&)}}\]\\]+)"
)
"""`password=…`, `"api_key": "…"`, also within JSON in a string, and `(b"cookie", b"…")`."""
_KNOWN = (
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", BLANK),
    (r"(?i)\b(bearer|basic|dpop)\s+[A-Za-z0-9._~+/=-]{6,}", rf"\1 {BLANK}"),
    (
        r"(?i)\b(authorization[ \t]*[:=][ \t]*)(?!bearer\b|basic\b|dpop\b)[A-Za-z][\w-]*[ \t]+[^\s\"',\[]+",
        rf"\1{BLANK}",
    ),
    (r"(?i)\b(cookie[ \t]*[:=][ \t]*)[^\s;,\"']+(?:;[ \t]*[^\s;,\"']+)+", rf"\1{BLANK}"),
    (r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?", BLANK),
    (r"\b(?:(?:gh[a-z]_|github_pat_|glpat-|sk-|xox[a-z]-)[\w-]{16,}|A[KS]IA[0-9A-Z]{16}\b)", BLANK),
    (r"(?<=://)[^\s/?#\"']+(?=@)", BLANK),
    (r"(?i)([?&](?:sig|key|code|auth|x-amz-[a-z-]{1,40})=)[^\s&\"'<>]+", rf"\1{BLANK}"),
    (rf"(?i)(--[\w-]{{0,20}}{_WORDS}[\w-]{{0,20}}\s{{1,4}})[^\s-]\S*", rf"\1{BLANK}"),
    (_NAMED, rf"\1{BLANK}"),
)
_HINT = rf"-----begin|bearer|basic|dpop|eyj|gh[a-z]_|github_pat|glpat|sk-|xox|a[ks]ia|://|[?&]|{_WORDS}"
"""Something of this is in all that the rules above match: most lines have none, and are done with one search."""
_ANY_CASE, _LOWER_CASE = re.compile(_HINT, re.IGNORECASE), re.compile(_HINT)
"""The second takes a fifth of the time. Beyond ASCII, more is alike but for its case than `lower()` makes equal."""
_NAMES = re.compile(_WORDS, re.IGNORECASE)


class Redactor:
    """Blanks what looks like a secret, and what the operator's patterns match."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._known = [(re.compile(pattern), blank) for pattern, blank in _KNOWN]
        self._own = [re.compile(pattern) for pattern in patterns]

    def text(self, text: str) -> str:
        """The text without secrets, and no longer than `LONGEST`."""
        if len(text) > LONGEST:
            text = f"{text[:LONGEST]} … ({len(text) - LONGEST} more characters)"
        if _LOWER_CASE.search(text.lower()) if text.isascii() else _ANY_CASE.search(text):
            for pattern, blank in self._known:
                text = pattern.sub(blank, text)
        for pattern in self._own:
            text = pattern.sub(BLANK, text)
        return text

    def value(self, name: str, value: object) -> str:
        """A named value as text; all of it is blanked if the name says that it is a secret."""
        return BLANK if _NAMES.search(name) else self.text(str(value))
