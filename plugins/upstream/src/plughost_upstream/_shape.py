"""Results, lists and capabilities between the eras: untouched within one, per revision across."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

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


def shape_listing(kind: Kind, listing: Listing, *, source: str, version: str | None) -> Listing:
    """A list of an upstream at `source`, for a client at `version`; the host's catalog takes the newest revision.

    An entry that the revision cannot express is left out, the others stay.
    """
    version = version or LATEST_MODERN_VERSION
    if is_modern(source) == is_modern(version):
        return listing
    entries = [_shape_entry(kind, entry, version) for entry in listing.entries]
    extra = {key: value for key, value in listing.extra.items() if key not in _MODERN_ONLY}
    if is_modern(version):
        extra = {"ttlMs": 0, "cacheScope": "private", **extra}
    return Listing(tuple(entry for entry in entries if entry is not None), extra)


def _shape_entry(kind: Kind, entry: Mapping[str, Any], version: str) -> Mapping[str, Any] | None:
    candidates = [entry]
    if "outputSchema" in entry:  # before 2026 it describes an object, always
        candidates.append({key: value for key, value in entry.items() if key != "outputSchema"})
    for candidate in candidates:
        result = {kind.value: [candidate], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        try:
            shaped = spec.serialize_server_result(kind.method, version, result)[kind.value][0]
        except ValidationError:
            continue
        assert isinstance(shaped, dict)
        return shaped
    logger.warning("%r of the upstream's %s cannot be expressed at %s", entry.get(kind.key), kind.value, version)
    return None


def shape_capabilities(capabilities: Mapping[str, Any], *, source: str, version: str) -> Mapping[str, Any]:
    """The capabilities of an upstream at `source`, for a client at `version`."""
    if is_modern(source) == is_modern(version):
        return capabilities
    return {key: value for key, value in capabilities.items() if key in _SHARED_CAPABILITIES}


def has_extensions(capabilities: Mapping[str, Any]) -> bool:
    """Whether an upstream declares anything beyond what all revisions have."""
    return any(value for key, value in capabilities.items() if key == "experimental" or key not in _SHARED_CAPABILITIES)
