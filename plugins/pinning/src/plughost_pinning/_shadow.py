"""Tools of one provider that pass for those of another, or talk about them.

Names that look alike are found by their skeleton, as UTS #39 of Unicode does it, with a table of the letters that look
like ASCII ones, since tool names are ASCII.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from plughost_pinning._scan import Finding

Name = tuple[str, str]
"""Provider, and the name there."""

_LOOKS_LIKE = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb\u04cf\u051b\u051d"  # Cyrillic
    "\u0261\u0269\u03b1\u03bf\u03c1\u03bd\u03b9\u03ba\u03c4\u03c5\u03c7"  # phonetic and Greek
    "01",
    "aeopcyxijsdhlqwgiaopviktuxol",
    "\ufe0e\ufe0f",  # nothing: they select how a character looks
)
_SEPARATORS = re.compile(r"[-_.\s]+")
_ORDERS = r"\b(?:must|always|never|instead|only|before|after|whenever|redirect|replace[sd]?|deprecated|do not|don't)\b"
SHORTEST = 6
"""Characters of a name from which on it is no everyday word."""
MOST = 10_000
"""Characters of a description that are looked at, beside the other checks."""
MENTIONS = 20
"""Foreign names in one description that are looked at."""


def skeleton(name: str) -> str:
    """The same for names that look the same."""
    folded = unicodedata.normalize("NFKC", name).casefold().translate(_LOOKS_LIKE)
    return folded.replace("rn", "m").replace("vv", "w").replace("i", "l")


def shadows(tools: Mapping[Name, Mapping[str, Any]]) -> dict[Name, list[Finding]]:
    """What is suspicious about tools beside those of other providers."""
    found: defaultdict[Name, list[Finding]] = defaultdict(list)
    for name, finding in (*_look_alike(tools), *_talk(tools)):
        if finding not in found[name]:
            found[name].append(finding)
    return dict(found)


def _look_alike(tools: Mapping[Name, Mapping[str, Any]]) -> Iterator[tuple[Name, Finding]]:
    """Names that look like another provider's. Case and separators alone are everyday; other letters are not."""
    alike: defaultdict[str, list[Name]] = defaultdict(list)
    for name in tools:
        alike[_SEPARATORS.sub("", skeleton(name[1]))].append(name)
    for names in alike.values():
        one_of = {provider: (provider, name) for provider, name in names}
        for mine in names:
            for theirs in one_of.values():
                if mine[0] != theirs[0] and mine[1] != theirs[1]:
                    plain = _SEPARATORS.sub("", mine[1]).casefold() == _SEPARATORS.sub("", theirs[1]).casefold()
                    what = f"a name that looks like {theirs[1]!a} of {theirs[0]!r}"
                    yield mine, Finding("low" if plain else "high", what, "/name")


def _talk(tools: Mapping[Name, Mapping[str, Any]]) -> Iterator[tuple[Name, Finding]]:
    """Descriptions that name another provider's tool; suspicious above all where they say what to do with it."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for provider, name in tools:
        if len(name) >= SHORTEST and name.isascii():
            owners[name.lower()].add(provider)
    if len({provider for provider, _ in tools}) < 2:
        return
    for (provider, own), definition in tools.items():
        text = str(definition.get("description") or "")[:MOST].lower()
        words = dict.fromkeys(word.strip(".-") for word in re.findall(r"[a-z0-9_.-]{6,64}", text))
        foreign = [word for word in words if word in owners and provider not in owners[word]]
        for word in foreign[:MENTIONS]:
            near = rf"{_ORDERS}.{{0,100}}\b{re.escape(word)}\b|\b{re.escape(word)}\b.{{0,100}}{_ORDERS}"
            telling = bool(set("_-.0123456789") & set(word)) and re.search(near, text, re.DOTALL) is not None
            what = f"a mention of {word!r} of {min(owners[word])!r}"
            yield (provider, own), Finding("high" if telling else "low", what, "/description")
