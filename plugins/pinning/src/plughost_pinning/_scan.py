"""What in a text is meant for the model and not for the reader: hidden characters, and instructions.

The shapes are those published for tool poisoning: hidden sections and orders to keep something from the user, markup
of chats, reading of key files on the way, invisible and bidirectional characters, text smuggled as Unicode tags or
variation selectors. A finding is `high` where hardly any honest server writes so, else `low`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

MOST_TEXTS = 20_000
"""Texts that are looked at in one definition or result."""
MOST_CHARACTERS = 256 * 1024
"""Characters that are looked at in one definition or result."""

BLOB = 400
"""Characters of a word from which on it is none."""

SHORT = 60
"""Characters up to which a text is looked at once: schemas say `type` and `string` over and over."""

Severity = Literal["high", "low"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something suspicious: what, and where (a JSON pointer). Never the text itself, which a model could read."""

    severity: Severity
    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.what} in {self.where or 'it'}"


TOO_MUCH = Finding("high", "more than can be looked at", "")


# -- characters -------------------------------------------------------------------------------------------------------

_FLAG = re.compile(
    "\U0001f3f4\U000e0067\U000e0062"
    "(?:\U000e0065\U000e006e\U000e0067|\U000e0073\U000e0063\U000e0074|\U000e0077\U000e006c\U000e0073)\U000e007f"
)
"""The flags of England, Scotland and Wales, the one honest use of tag characters; any other could spell a word."""
_TAGS = re.compile("[\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]")
_SELECTORS = re.compile(
    "[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2}"
    "|[\x00-\x7f][\ufe00-\ufe0d\U000e0100-\U000e01ef]"
    "|(?:[\x00-\x22\x24-\x29\x2b-\x2f\x3a-\x7f][\ufe0e\ufe0f]){2}"
)
"""One selects how a character looks; several in a row carry bytes, and so does one after each letter.

A single one that selects text or emoji is what is left in pages where an emoji was taken out.
"""
_OVERRIDES = re.compile("[\u202a-\u202e\u2066-\u2069]")
_MARKS = re.compile("[\u200e\u200f\u061c]")
_JOINERS = re.compile("[\u200c\u200d]")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2065\u206a-\u206f\u2800\u3164\ufeff\uffa0"
    "\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a]"
)
_UNREAD = re.compile(f"{_INVISIBLE.pattern}|[\ufe0e\ufe0f]")
"""What changes nothing of the words that a model reads."""
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_CHARACTERS = (
    (_TAGS, "tag characters"),
    (_SELECTORS, "variation selectors that select nothing"),
    (_INVISIBLE, "invisible characters"),
)


def hidden_characters(text: str) -> str | None:
    """Which kind of characters a reader does not see, or sees in another order; `None` if there are none.

    Of several the one that is rarer in honest texts: what everybody uses covers nothing.
    """
    if not text.isascii() and (kind := _hidden_beyond_ascii(text)) is not None:
        return kind
    return "control characters" if _CONTROLS.search(text) else None


def _hidden_beyond_ascii(text: str) -> str | None:
    if _SURROGATES.search(text):
        return "lone surrogates"
    plain = _FLAG.sub("", text)
    for pattern, what in _CHARACTERS:
        if pattern.search(plain):
            return what
    if _OVERRIDES.search(text) or (_MARKS.search(text) and not _is_written_from_the_right(text)):
        return "bidirectional characters"
    if any(_joins_nothing(text, found.start()) for found in _JOINERS.finditer(text)):
        return "invisible characters"
    return None


def _is_written_from_the_right(text: str) -> bool:
    return any(unicodedata.bidirectional(letter) in {"R", "AL"} and letter.isalpha() for letter in text)


def _joins_nothing(text: str, at: int) -> bool:
    """Whether a joiner stands where no script and no emoji needs one."""
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    return not before or not after or before.isascii() or after.isascii()


# -- words ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Order:
    """A shape of instructions. Its pattern is tried on lower-case text that holds one word of each group."""

    severity: Severity
    what: str
    groups: tuple[tuple[str, ...], ...]
    pattern: re.Pattern[str]


_IGNORE = ("ignore", "disregard", "forget", "override", "bypass")
_NOT = ("do not", "don't", "never", "must not", "should not", "without")
_ROLES = ("important", "system", "instruction", "secret", "hidden", "admin", "critical", "assistant", "override")
_KEYS = (".ssh", "id_rsa", "mcp.json", ".aws", "/etc/passwd", "/etc/shadow", ".netrc", ".kube", ".gnupg")
_ORDERS = (
    _Order(
        "high",
        "a hidden section",
        (("<",), _ROLES),
        re.compile(rf"</? ?(?:{'|'.join(_ROLES)})s? ?>"),
    ),
    _Order(
        "high",
        "markup of a chat",
        (("<|", "[inst", "[/inst", "<<sys"),),
        re.compile(r"<\|(?:im_start|im_end|system|user|assistant|endoftext)\|>|\[/?inst\]|<<sys>>"),
    ),
    _Order(
        "high",
        "an order to ignore other instructions",
        (_IGNORE, ("instruction", "prompt", "directives", "guidelines", "system message", "safety rules")),
        re.compile(
            rf"\b(?:{'|'.join(_IGNORE)})\b(?: \w{{1,12}}){{0,2}} "
            r"(?:previous|prior|above|earlier|preceding|foregoing|other|your|all|any|these|those|system)"
            r"(?: \w{1,12}){0,4} (?:instructions?|prompts?|directives|guidelines|system message|safety rules)\b"
        ),
    ),
    _Order(
        "high",
        "an order to keep something from the user",
        ((" user",), _NOT, ("tell", "inform", "mention", "reveal", "notify", "disclos", "alert", "show")),
        re.compile(
            rf"\b(?:{'|'.join(_NOT)}) (?:\w{{1,12}} ){{0,2}}?"
            r"(?:tell|telling|inform|informing|mention|mentioning|reveal|revealing|notify|notifying|disclose|disclosing"
            r"|alert|alerting|show|showing)\b(?:[^.]|\.(?! )){0,30}\b(?:the |your )users?\b"
        ),
    ),
    _Order(
        "high",
        "an order to read keys",
        (_KEYS,),
        re.compile(
            r"\b(?:read|cat|open|load|access|fetch|include|attach|send|pass)\b(?:[^.]|\.(?! )){0,80}"
            rf"(?:{'|'.join(map(re.escape, _KEYS))})"
        ),
    ),
    _Order(
        "high",
        "an order to show the system prompt",
        (("system ", "hidden ", "developer ", "initial "), ("reveal", "print", "repeat", "output", "leak", "dump")),
        re.compile(
            r"\b(?:reveal|print|repeat|output|leak|dump)\b(?:[^.]|\.(?! )){0,40}"
            r"\b(?:system|hidden|developer|initial) (?:prompts?|instructions|messages?)\b"
        ),
    ),
    _Order(
        "low",
        "an order to the model",
        (("you must", "you are now", "from now on", "before using", "before calling", "new instructions"),),
        re.compile(
            r"\byou must (?:always|first|now|never)\b|\byou are now\b|\bfrom now on\b|\bnew instructions:"
            r"|\bbefore (?:using|calling) (?:this|any|other)\b"
        ),
    ),
)


def instructions(text: str) -> Iterator[tuple[Severity, str]]:
    """What in a text gives orders to a model: severity, and what it is."""
    folded = text if text.isascii() else unicodedata.normalize("NFKC", _UNREAD.sub("", text)).replace("\u2019", "'")
    folded = " ".join(folded.lower().split())
    for order in _ORDERS:
        if _has_each(folded, order.groups) and order.pattern.search(folded):
            yield order.severity, order.what


def _has_each(text: str, groups: tuple[tuple[str, ...], ...]) -> bool:
    """Whether a text holds a word of each group. Plain loops: this is most of what an honest result costs."""
    for group in groups:
        for word in group:
            if word in text:
                break
        else:
            return False
    return True


def has_blob(text: str) -> bool:
    """Whether a text holds a long word that could be another one encoded."""
    return any(len(word) >= BLOB and word.isascii() for word in text.split())


# -- values -----------------------------------------------------------------------------------------------------------


def scan(value: Any) -> list[Finding]:
    """What is suspicious in all texts of a value, keys included, in the order they stand.

    Bounded in time: what is beyond the bounds is itself a finding.
    """
    found: dict[Finding, None] = {}
    characters = 0
    for count, (where, text) in enumerate(_texts(value)):
        characters += len(text)
        if count >= MOST_TEXTS or characters > MOST_CHARACTERS:
            found[TOO_MUCH] = None
            break
        found.update(dict.fromkeys(scan_text(text, where)))
    return list(found)


def scan_text(text: str, where: str = "") -> Iterator[Finding]:
    """What is suspicious in one text."""
    for severity, what in _look(text) if len(text) > SHORT else _look_once(text):
        yield Finding(severity, what, where)


def _look(text: str) -> tuple[tuple[Severity, str], ...]:
    found: list[tuple[Severity, str]] = []
    if (kind := hidden_characters(text)) is not None:
        found.append(("high", kind))
    found += instructions(text)
    if len(text) >= BLOB and has_blob(text):
        found.append(("low", "a long encoded text"))
    return tuple(found)


_look_once = lru_cache(maxsize=4096)(_look)


def _texts(value: Any) -> Iterator[tuple[str, str]]:
    """Every text of a value with its JSON pointer, keys included; without recursion, for what is nested deep."""
    todo: list[tuple[str, Any]] = [("", value)]
    while todo:
        where, item = todo.pop()
        if isinstance(item, str):
            yield where, item
        elif isinstance(item, Mapping):
            for key in item:
                yield where, str(key)
            todo += [(f"{where}/{_shown(str(key))}", item[key]) for key in reversed(item)]
        elif isinstance(item, list | tuple):
            todo += [(f"{where}/{index}", part) for index, part in reversed(list(enumerate(item)))]


def _shown(key: str) -> str:
    """A key in a pointer; what cannot be read is not shown."""
    return key[:60].replace("~", "~0").replace("/", "~1") if key.isprintable() else "?"
