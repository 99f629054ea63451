"""Which resource URIs a client may name: allow-list, no traversal, no private addresses. Nothing is resolved."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Annotated, Any
from urllib.parse import unquote

import jsonschema_rs
from pydantic import PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import Url

MAX_URI = 8192
DECODINGS = 4
"""How often a path may be percent-encoded over; deeper is no accident."""
FETCHED = frozenset({"http", "https", "ws", "wss", "ftp"})
"""Schemes whose host is dialled."""
LOCAL_NAMES = re.compile(
    r"(?:.*\.)?(?:localhost|localdomain|local|internal|svc|home\.arpa)\.?|(?:metadata|instance-data)\.?"
)
LOCAL_NETWORKS = (IPv4Network("192.0.0.0/24"), IPv6Network("64:ff9b:1::/48"))
"""What older versions of `ipaddress` take for global."""
NAT64 = int(IPv6Address("64:ff9b::"))

_SPLIT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?://([^/?#]*))?(.*)", re.DOTALL)
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\\ud800-\udfff]")


class RefusedURI(ValueError):  # noqa: N818 - it is an answer
    """Raised for a URI that a client may not name. `rule` is what it breaks; a `hidden` one must look missing."""

    def __init__(self, rule: str, words: str, *, hidden: bool = False) -> None:
        super().__init__(words)
        self.rule = rule
        self.hidden = hidden


@dataclass(frozen=True, slots=True)
class URIPattern:
    """A pattern of an allow-list. In host and path `*` stands for anything but a `/`, `**` in the path for anything."""

    text: str
    scheme: str
    authority: str
    """A regular expression, as `path` is."""
    path: str

    @classmethod
    def parse(cls, text: str) -> URIPattern:
        """A pattern from its text.

        Raises:
            ValueError: It has no scheme, or could not match anything.
        """
        found = _SPLIT.fullmatch(text)
        if found is None or _FORBIDDEN.search(text):
            raise ValueError(f"{text!r} is no URI pattern; write for example 'https://*.example.com/docs/**'")
        scheme, authority, path = found.groups()
        return cls(text, scheme.lower(), _expression((authority or "").lower()), _expression(path))

    def __str__(self) -> str:
        return self.text


def _expression(glob: str) -> str:
    parts = ({"**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in re.split(r"(\*\*|\*)", glob))
    return f"^{''.join(parts)}$"


def _matcher(pattern: URIPattern) -> Callable[[str, str, str], bool]:
    """What tells whether scheme, authority and path match, in time linear in their length: clients choose them."""
    authority, path = (
        jsonschema_rs.validator_for({"pattern": text}, pattern_options=jsonschema_rs.RegexOptions()).is_valid
        for text in (pattern.authority, pattern.path)
    )
    return lambda scheme, host, rest: scheme == pattern.scheme and authority(host) and path(rest)


def _pattern(value: Any) -> URIPattern:
    if isinstance(value, URIPattern):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no URI pattern; write for example 'note://*'")  # noqa: TRY004 - for pydantic
    return URIPattern.parse(value)


URIPatternField = Annotated[
    URIPattern,
    PlainValidator(_pattern),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "examples": ["https://*.example.com/docs/**"]}),
]


class URIPolicy:
    """Decides on URIs. `allowed=None` allows every scheme, host and path that is not refused by itself."""

    def __init__(self, allowed: Sequence[URIPattern] | None, *, private: bool = False) -> None:
        self._allowed = None if allowed is None else [_matcher(item) for item in allowed]
        self._private = private
        self._decide = lru_cache(maxsize=1024)(self._refusal)

    def check(self, uri: str, *, listed: bool = False) -> None:
        """Return if a client may name `uri`. One that a provider lists itself is no client's invention.

        Raises:
            RefusedURI: It may not.
        """
        if len(uri) > MAX_URI:
            raise RefusedURI("length", f"is longer than {MAX_URI} characters")
        refusal = self._decide(uri, listed)
        if refusal is not None:
            raise RefusedURI(*refusal[:2], hidden=refusal[2])

    def _refusal(self, uri: str, listed: bool) -> tuple[str, str, bool] | None:  # noqa: FBT001 - a key of the cache
        found = _SPLIT.fullmatch(uri)
        if found is None:
            return "syntax", "is no absolute URI", False
        if _FORBIDDEN.search(uri):
            return "syntax", "holds a space, a backslash or a control character", False
        scheme, authority, rest = found[1].lower(), (found[2] or "").lower(), found[3]
        if not listed:
            if (words := _leads_out(scheme, authority, rest)) is not None:
                return "traversal", words, False
            if scheme in FETCHED and (words := self._host_refusal(uri)) is not None:
                return "address", words, False
        if self._allowed is not None and not any(matches(scheme, authority, rest) for matches in self._allowed):
            return "allow_uris", "is not allowed", True
        return None

    def _host_refusal(self, uri: str) -> str | None:
        try:
            url = Url(uri)
        except ValueError:
            return "is no URL"
        if url.username is not None or url.password is not None:
            return "holds credentials"
        if not self._private and is_private(url.host or ""):
            return "leads to a private address"
        return None


def _leads_out(scheme: str, authority: str, rest: str) -> str | None:
    """Why a URI may lead out of where it belongs; `None` if it does not.

    What stands in the place of a host is one where it is dialled, and else part of what servers take for a path.
    """
    path, _, query = rest.partition("#")[0].partition("?")
    if scheme in FETCHED:
        return traversal(path)
    if any(".." in re.split(r"[/\\&=;]", text) for text in _decoded(query)):
        return "holds '..' in its query"
    return traversal(authority + path)


def _decoded(text: str) -> list[str]:
    """A text, and what it is once decoded, and twice."""
    found = [text]
    while len(found) < DECODINGS and (text := unquote(text)) != found[-1]:
        found.append(text)
    return found


def traversal(path: str) -> str | None:
    """Why a path may lead out of where it stands, however often it is encoded; `None` if it does not."""
    for _ in range(DECODINGS):
        segments = re.split(r"[/\\]", path)
        if any(segment.partition(";")[0] == ".." for segment in segments):
            return "holds '..' in its path"
        if _CONTROL.search(path):
            return "holds an encoded control character"
        try:
            decoded = unquote(path, errors="strict")
        except UnicodeDecodeError:
            return "is not UTF-8 once decoded"
        if decoded == path:
            return None
        path = decoded
    return "is percent-encoded too often"


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def is_private(host: str) -> bool:
    """Whether a host, as a URL parser of the WHATWG kind normalizes it, is one of this machine or network.

    Names are not resolved: that is for whoever dials, at dial time, or the answer may have changed.
    """
    if LOCAL_NAMES.fullmatch(host.lower()):
        return True
    try:
        address = ip_address(host.strip("[]").rstrip("."))
    except ValueError:
        return False
    inside = _embedded(address) if isinstance(address, IPv6Address) else None
    return any(_is_local(item) for item in (address, inside) if item is not None)


def _is_local(address: IPv4Address | IPv6Address) -> bool:
    return not address.is_global or address.is_multicast or any(address in network for network in LOCAL_NETWORKS)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to: mapped, compatible, 6to4 or NAT64."""
    if int(address) >> 32 in (0, NAT64 >> 32):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
