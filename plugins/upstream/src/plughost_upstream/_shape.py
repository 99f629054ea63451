"""Results, lists and capabilities between the eras: untouched within one, per revision across."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, SERVER_INFO_META_KEY
from mcp_types import methods as spec
from mcp_types.version import LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS
from plughost import Kind, Listing
from pydantic import ValidationError

logger = logging.getLogger("plughost.upstream")

_MODERN_ONLY = frozenset({"resultType", "ttlMs", "cacheScope", "inputRequests", "requestState"})
_SHARED_CAPABILITIES = frozenset({"completions", "experimental", "logging", "prompts", "resources", "tools"})
_RESOURCE_NOT_FOUND = -32002
"""What revisions before 2026-07-28 answer for a missing resource."""
NAMED = 10
"""Malformed entries of one list that the log names."""


def is_modern(version: str) -> bool:
    """Whether a protocol revision is one of the stateless era, 2026-07-28 and later."""
    return version in MODERN_PROTOCOL_VERSIONS


def without_stamp(result: dict[str, Any]) -> dict[str, Any]:
    """The result without the upstream's identity: the host puts its own."""
    meta = result.get("_meta")
    if not isinstance(meta, Mapping) or SERVER_INFO_META_KEY not in meta:
        return result
    kept = {key: value for key, value in meta.items() if key != SERVER_INFO_META_KEY}
    bare = {key: value for key, value in result.items() if key != "_meta"}
    return {**bare, "_meta": kept} if kept else bare


def shape_result(method: str, result: dict[str, Any], *, source: str, version: str) -> dict[str, Any]:
    """A result of an upstream at revision `source`, for a client at `version`.

    Raises:
        MCPError: The client's revision cannot express it.
    """
    if is_modern(source):
        result = without_stamp(result)
    if is_modern(source) == is_modern(version):
        if is_modern(version) and "resultType" not in result:
            return {**result, "resultType": "complete"}  # absent means complete
        return result
    data = _to_modern(method, result) if is_modern(version) else _to_legacy(result)
    try:
        return spec.serialize_server_result(method, version, data)
    except KeyError:  # a method of an extension
        return data if is_modern(version) else {key: value for key, value in data.items() if key not in _MODERN_ONLY}
    except ValidationError:
        problem = f"The upstream's result of {method} at {source} cannot be expressed at {version}"
        raise MCPError(INTERNAL_ERROR, problem) from None


def _to_modern(method: str, result: dict[str, Any]) -> dict[str, Any]:
    hints = {"ttlMs": 0, "cacheScope": "private"} if method in spec.CACHEABLE_METHODS else {}
    return {"resultType": "complete", **hints, **result}


def _to_legacy(result: dict[str, Any]) -> dict[str, Any]:
    if isinstance(result.get("structuredContent", {}), dict):
        return result
    return {key: value for key, value in result.items() if key != "structuredContent"}  # only objects, before 2026


def shape_error(method: str, error: MCPError, *, source: str, version: str) -> MCPError:
    """An error of an upstream at `source`, for a client at `version`."""
    if (
        error.code == _RESOURCE_NOT_FOUND
        and method == "resources/read"
        and is_modern(version)
        and not is_modern(source)
    ):
        return MCPError(INVALID_PARAMS, error.message, error.data)
    return error


def shape_listing(kind: Kind, listing: Listing, *, upstream: str, source: str, version: str | None) -> Listing:
    """A list of an upstream at `source`, for a client at `version`; the host's catalog takes the newest revision.

    An entry that the revision does not allow is left out, the others stay: clients refuse a list as a whole.
    """
    version = version or LATEST_MODERN_VERSION
    across = is_modern(source) != is_modern(version)
    entries: list[Mapping[str, Any]] = []
    left_out: list[str] = []
    for entry in listing.entries:
        try:
            entries.append(_shape_entry(kind, entry, version, across=across))
        except ValidationError as error:
            left_out.append(f"{entry.get(kind.key)!r:.80} ({_reason(error)})")
    if left_out:
        names = ", ".join(left_out[:NAMED]) + ", …" * (len(left_out) > NAMED)
        what = "upstream %r: left out %d of its %s, which revision %s does not allow: %s"
        logger.warning(what, upstream, len(left_out), kind.value, version, names)
    return Listing(tuple(entries), _shape_extra(kind, listing.extra, version, across=across))


def _shape_entry(kind: Kind, entry: Mapping[str, Any], version: str, *, across: bool) -> Mapping[str, Any]:
    """The entry itself within an era, as the revision writes it across.

    Raises:
        ValidationError: The revision does not allow it.
    """
    schema = entry.get("inputSchema")
    if kind is Kind.TOOLS and isinstance(schema, Mapping) and "type" not in schema:
        entry = {**entry, "inputSchema": {"type": "object", **schema}}  # what else: arguments are an object
    try:
        shaped = _validated(kind, [entry], {}, version)[kind.value][0]
    except ValidationError:
        if "outputSchema" not in entry:  # before 2026 it describes an object, always
            raise
        return _shape_entry(kind, {k: v for k, v in entry.items() if k != "outputSchema"}, version, across=across)
    return cast("Mapping[str, Any]", shaped) if across else entry


def _shape_extra(kind: Kind, extra: Mapping[str, Any], version: str, *, across: bool) -> Mapping[str, Any]:
    if across or not is_modern(version):
        extra = {key: value for key, value in extra.items() if key not in _MODERN_ONLY}
    try:
        _validated(kind, [], extra, version)
    except ValidationError:
        extra = {}
    return {"ttlMs": 0, "cacheScope": "private", **extra} if is_modern(version) else extra


def _validated(
    kind: Kind, entries: list[Mapping[str, Any]], extra: Mapping[str, Any], version: str
) -> Mapping[str, Any]:
    result = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", **extra, kind.value: entries}
    return spec.serialize_server_result(kind.method, version, result)


def _reason(error: ValidationError) -> str:
    """The first thing wrong with the one entry of a list, without its value."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'][2:]))}: {first['msg']}"


def shape_capabilities(capabilities: Mapping[str, Any], *, source: str, version: str) -> Mapping[str, Any]:
    """The capabilities of an upstream at `source`, for a client at `version`."""
    if is_modern(source) == is_modern(version):
        return capabilities
    return {key: value for key, value in capabilities.items() if key in _SHARED_CAPABILITIES}


def has_extensions(capabilities: Mapping[str, Any]) -> bool:
    """Whether an upstream declares anything beyond what all revisions have."""
    return any(value for key, value in capabilities.items() if key == "experimental" or key not in _SHARED_CAPABILITIES)
