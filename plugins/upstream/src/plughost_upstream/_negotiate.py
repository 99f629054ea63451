"""Finds out which protocol revision an upstream speaks: `server/discover` first, `initialize` if that fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, SERVER_INFO_META_KEY, UNSUPPORTED_PROTOCOL_VERSION
from mcp_types.version import (
    HANDSHAKE_PROTOCOL_VERSIONS,
    LATEST_HANDSHAKE_VERSION,
    LATEST_MODERN_VERSION,
    MODERN_PROTOCOL_VERSIONS,
)
from plughost import Refusal

from plughost_upstream._config import Era
from plughost_upstream._exchange import Exchange
from plughost_upstream._limit import Limit
from plughost_upstream._questions import OUR_CAPABILITIES
from plughost_upstream._session import Agreement, Session

PROBE_LIMIT = 10.0
"""Seconds after which a server that does not answer `server/discover` is taken for a legacy one."""


class MuteError(Exception):
    """Raised when a server ended the connection, or kept silent, at `server/discover`."""


async def negotiate(session: Session, era: Era, *, limit: float) -> Agreement:
    """Agree on a revision, and set it on the session.

    Raises:
        MCPError: The upstream refuses every revision of the era.
        NotTakenError: It cannot be reached.
        MuteError: It broke off at `server/discover`, as some legacy servers do; try again with era `legacy`.
        TimeoutError: It did not answer in time.
    """
    session.agreed = await _agree(session, era, limit)
    session.settled = True
    return session.agreed


async def _agree(session: Session, era: Era, limit: float) -> Agreement:
    if era != "legacy":
        agreed = await _discover(session, LATEST_MODERN_VERSION, limit=limit, only=era == "modern")
        if agreed is not None:
            return agreed
    try:
        return await _initialize(session, limit)
    except MCPError as error:
        # The probe may have locked the connection to the modern era after all: a server that was slow to start.
        mutual = _mutual(error)
        if era == "legacy" or not mutual:
            raise
        agreed = await _discover(session, mutual[-1], limit=limit, only=True)
        assert agreed is not None
        return agreed


async def _discover(session: Session, version: str, *, limit: float, only: bool) -> Agreement | None:
    """Probe for the modern era. `None` means legacy: anything that is no evidence of a modern server."""
    session.agreed = Agreement(version)
    probe = limit if only else min(limit, PROBE_LIMIT)
    try:
        result = await _request(session, "server/discover", {}, probe)
    except TimeoutError:
        if only:
            raise
        return None
    except MCPError as error:
        if isinstance(error, Refusal):
            raise MuteError(error.data["reason"]) from None
        mutual = [item for item in _mutual(error) if item != version]
        if mutual:
            return await _discover(session, mutual[-1], limit=limit, only=only)
        if only or _is_modern_only(error):
            raise
        return None
    versions = [item for item in MODERN_PROTOCOL_VERSIONS if item in result.get("supportedVersions", ())]
    if not versions:
        if only:
            raise MCPError(
                UNSUPPORTED_PROTOCOL_VERSION, "The upstream shares no modern protocol revision with the host"
            )
        return None
    meta = result.get("_meta")
    identity = meta.get(SERVER_INFO_META_KEY) if isinstance(meta, Mapping) else None
    return _agreement(versions[-1], result, identity)


async def _initialize(session: Session, limit: float) -> Agreement:
    session.agreed = Agreement("")  # no revision is agreed: the handshake carries no version header
    params = {
        "protocolVersion": LATEST_HANDSHAKE_VERSION,
        "capabilities": OUR_CAPABILITIES,
        "clientInfo": session.identity,
    }
    result = await _request(session, "initialize", params, limit)
    version = result.get("protocolVersion")
    if version not in HANDSHAKE_PROTOCOL_VERSIONS:
        raise MCPError(INTERNAL_ERROR, f"The upstream speaks the protocol revision {version!r}, which is not known")
    session.agreed = _agreement(str(version), result, result.get("serverInfo"))
    await session.notify("notifications/initialized", None)
    return session.agreed


async def _request(session: Session, method: str, params: Mapping[str, Any], limit: float) -> dict[str, Any]:
    exchange = Exchange(None, params, Limit(limit))
    with anyio.fail_after(limit):
        return await session.send(exchange, method, params)


def _agreement(version: str, result: Mapping[str, Any], identity: Any) -> Agreement:
    capabilities = result.get("capabilities")
    instructions = result.get("instructions")
    return Agreement(
        version,
        capabilities if isinstance(capabilities, Mapping) else {},
        identity if isinstance(identity, Mapping) else {},
        instructions if isinstance(instructions, str) else None,
    )


def _supported(error: MCPError) -> list[Any] | None:
    if error.code != UNSUPPORTED_PROTOCOL_VERSION or not isinstance(error.data, Mapping):
        return None
    supported = error.data.get("supported")
    return supported if isinstance(supported, list) else None


def _mutual(error: MCPError) -> list[str]:
    return [item for item in MODERN_PROTOCOL_VERSIONS if item in (_supported(error) or ())]


def _is_modern_only(error: MCPError) -> bool:
    supported = _supported(error)
    return supported is not None and not any(item in HANDSHAKE_PROTOCOL_VERSIONS for item in supported)
