"""What a request looks like on the way to the upstream: its `_meta` and its HTTP headers, per era."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    encode_header_value,
    find_invalid_x_mcp_header,
    mcp_param_headers,
    x_mcp_header_map,
)
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    LOG_LEVEL_META_KEY,
    PROTOCOL_VERSION_META_KEY,
)
from plughost import Call
from pydantic import BaseModel

from plughost_upstream._exchange import Exchange
from plughost_upstream._questions import OUR_CAPABILITIES
from plughost_upstream._shape import is_modern

_RESERVED = (PROTOCOL_VERSION_META_KEY, CLIENT_INFO_META_KEY, CLIENT_CAPABILITIES_META_KEY, LOG_LEVEL_META_KEY)
_ROUNDS = ("inputResponses", "requestState")


def own_meta(version: str, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The `_meta` of a request that the plugin makes itself at a modern upstream."""
    return {
        PROTOCOL_VERSION_META_KEY: version,
        CLIENT_INFO_META_KEY: dict(identity),
        CLIENT_CAPABILITIES_META_KEY: {key: OUR_CAPABILITIES[key] for key in ("sampling", "elicitation")}
        | {"roots": {}},
    }


def outgoing(
    exchange: Exchange, params: Mapping[str, Any], *, version: str, identity: Mapping[str, Any]
) -> dict[str, Any]:
    """The parameters as the upstream gets them. Within one era all but the progress token is the client's own."""
    call = exchange.call
    if call is None:
        return {**params, "_meta": own_meta(version, identity)} if is_modern(version) else dict(params)
    meta = dict(call.meta)
    body = {key: value for key, value in params.items() if key != "_meta"}
    if is_modern(version):
        if exchange.modern:
            meta[PROTOCOL_VERSION_META_KEY] = version
        else:
            meta |= _client_meta(call, version, exchange.level)
    elif exchange.modern:
        meta = {key: value for key, value in meta.items() if key not in _RESERVED}
        body = {key: value for key, value in body.items() if key not in _ROUNDS}
    if exchange.token is not None:
        meta["progressToken"] = exchange.token
    if meta:
        body["_meta"] = meta
    return body


def _client_meta(call: Call, version: str, level: str | None) -> dict[str, Any]:
    """What a legacy client said once at `initialize`, as a modern upstream wants it with every request."""
    connection = call.connection
    can: dict[str, Any] = {}
    if connection.client_capabilities is not None and call.dispatch.can_send_request:  # else it cannot be asked at all
        can = _wire(connection.client_capabilities)
        if "roots" in can:
            can["roots"] = {}
    meta = {PROTOCOL_VERSION_META_KEY: version, CLIENT_CAPABILITIES_META_KEY: can}
    if connection.client_params is not None:
        meta[CLIENT_INFO_META_KEY] = _wire(connection.client_params.client_info)
    if level is not None:
        meta[LOG_LEVEL_META_KEY] = level
    return meta


def _wire(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


def headers(method: str, params: Mapping[str, Any], version: str, schema: Any = None) -> dict[str, str]:
    """The HTTP headers that mirror the body; `schema` is the input schema of the tool being called."""
    if not is_modern(version):
        return {MCP_PROTOCOL_VERSION_HEADER: version} if version else {}
    found = {MCP_PROTOCOL_VERSION_HEADER: version}
    found[MCP_METHOD_HEADER] = method
    name = params.get(NAME_BEARING_METHODS.get(method, ""))
    if isinstance(name, str):
        found[MCP_NAME_HEADER] = encode_header_value(name)
    arguments = params.get("arguments")
    mirrors = method == "tools/call" and schema is not None and find_invalid_x_mcp_header(schema) is None
    if mirrors and isinstance(arguments, Mapping):
        found |= mcp_param_headers(x_mcp_header_map(schema), arguments)
    return found
