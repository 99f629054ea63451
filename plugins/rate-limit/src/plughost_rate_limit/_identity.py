"""Whose bucket a call is counted in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv6Address, ip_network
from typing import Literal, TypeAlias
from urllib.parse import quote, unquote

from plughost import Call

Per: TypeAlias = Literal["tenant", "principal", "provider", "tool"]

EVERYBODY = "everybody"
"""The bucket that all share where `per` is empty."""
PLAIN = "/@!*'()+,;=$&"
"""Characters that need no quoting in a line of labels; a colon and a space do."""
NETWORK_BITS = 64
"""Of an IPv6 address: what one client is given, and can choose any address of."""


@lru_cache(maxsize=4096)
def _network(address: str) -> str:
    try:
        wide = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(wide.ipv4_mapped or ip_network((wide, NETWORK_BITS), strict=False))


def address_of(call: Call) -> str:
    """Where a call comes from: the client's address, an IPv6 one without its last 64 bits; `local` on stdio."""
    request = call.request
    client = request.client if request is not None else None
    if client is None:
        return "local"
    host = client.host
    return _network(host) if ":" in host else host


def _principal(call: Call) -> tuple[str, ...]:
    who = call.principal
    # The tenant too: subjects of two tenants may be named alike. One that has none is not the one named "".
    tenant = () if who is None or who.tenant is None else (who.tenant,)
    if who is None or not (who.subject or who.issuer):
        return ("address", address_of(call), *tenant)
    return ("principal", who.subject, who.issuer, *tenant)


def _tenant(call: Call) -> tuple[str, ...]:
    """Who belongs to no tenant has a bucket of his own, or strangers would share one."""
    who = call.principal
    return ("tenant", who.tenant) if who is not None and who.tenant is not None else _principal(call)


def _provider(call: Call) -> tuple[str, ...]:
    return ("provider", call.provider or "")


def _tool(call: Call) -> tuple[str, ...]:
    """What is no tool counts by method: URIs are the caller's to invent, and each would be a new bucket."""
    if call.method == "tools/call":
        return ("tool", call.provider or "", call.local_name or "")
    return ("method", call.method, call.provider or "")


_PARTS: dict[Per, Callable[[Call], tuple[str, ...]]] = {
    "tenant": _tenant,
    "principal": _principal,
    "provider": _provider,
    "tool": _tool,
}


def labels(call: Call, per: Sequence[Per]) -> tuple[tuple[str, ...], ...]:
    """What tells one bucket from another, for people."""
    return tuple(_PARTS[each](call) for each in per)


@lru_cache(maxsize=1024)  # of those who call most
def digest(labels: tuple[tuple[str, ...], ...]) -> int:
    """Labels as 120 bits: as short for a long name as for a short one, and no two alike."""
    return int.from_bytes(blake2b(repr(labels).encode("utf-8", "surrogatepass"), digest_size=15).digest(), "big")


def describe(labels: Sequence[Sequence[str]]) -> str:
    """Labels in one line, as `show` prints them and `remaining` and `reset` take them."""
    return " ".join(":".join(map(_quoted, each)) for each in labels) or EVERYBODY


def _quoted(text: str) -> str:
    return quote(text, safe=PLAIN, errors="backslashreplace")


def parse(text: str) -> tuple[tuple[str, ...], ...]:
    """The labels that `describe` made a line of."""
    return tuple(tuple(map(unquote, each.split(":"))) for each in text.split() if each != EVERYBODY)
