"""What makes two calls the same call."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import orjson
from mcp_types import CLIENT_INFO_META_KEY, LOG_LEVEL_META_KEY, PROTOCOL_VERSION_META_KEY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

if TYPE_CHECKING:
    from mcp.server.connection import Connection
    from plughost import Call, Principal

IDEMPOTENCY_KEY = "io.plughost/idempotencyKey"
"""The key in a request's `_meta` by which a client says: this is the same call again, run it once."""

UNRELATED_META = frozenset(
    {
        "progressToken",
        "traceparent",
        "tracestate",
        "baggage",
        LOG_LEVEL_META_KEY,
        CLIENT_INFO_META_KEY,
        PROTOCOL_VERSION_META_KEY,
        IDEMPOTENCY_KEY,
    }
)
"""What in `_meta` says how the caller wants to be told, traced or shown, but not what it asks for.

Everything else there makes two calls different: client capabilities and the keys of extensions may change the answer.
The protocol version is in the key by itself.
"""
CREDENTIAL_HEADERS = frozenset({b"authorization", b"cookie", b"x-api-key"})
"""What tells callers apart whom no plugin has authenticated: a server in process can read these."""
CLIENT_CLAIMS = ("client_id", "azp")
"""The claim that names the credentials of an authenticated caller: which client acts for the subject."""

_capabilities: WeakKeyDictionary[Connection, Any] = WeakKeyDictionary()


def call_key(call: Call, *, public: bool = False) -> bytes:
    """A digest of 16 bytes, equal for calls that may share one answer and for no others (K2).

    It holds who calls (tenant, issuer, subject, roles, scopes, client or credentials), at which protocol version and
    with which client capabilities, the method, the provider and its own name of the target, and the parameters without
    what in `_meta` is no part of the question. With `public` it leaves out who calls. The order of keys does not
    matter; `1`, `1.0` and `true` are three values.

    Raises:
        TypeError: The parameters are not JSON.
    """
    body = call.params
    asked: Any = 0
    if "_meta" in body:
        asked = body["_meta"]
        body = {name: value for name, value in body.items() if name != "_meta"}
        if isinstance(asked, dict):
            asked = {name: value for name, value in asked.items() if name not in UNRELATED_META} or 0
    who = 0 if public else _caller(call)
    version = call.protocol_version
    able = 0 if version in MODERN_PROTOCOL_VERSIONS else _declared(call.connection)
    question = (who, version, able, call.method, call.provider or 0, call.local_name or 0, body, asked)
    return blake2b(_canonical(question), digest_size=16).digest()


def idempotency_digest(call: Call, value: str) -> bytes:
    """A digest of an idempotency key and who calls: each caller has its own keys (K2)."""
    return blake2b(_canonical((_caller(call), value)), digest_size=16, person=b"idempotency").digest()


def _canonical(value: Any) -> bytes:
    """JSON with sorted keys, and so unambiguous: no two different values have the same text."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # an integer over 64 bit, or a lone surrogate: rare, and still a key
        return json.dumps(value, sort_keys=True).encode()
    return json.dumps(value, sort_keys=True).encode() if b"null" in text else text  # orjson writes NaN as null


def _caller(call: Call) -> Any:
    who = call.principal
    if who is None:
        return _anonymous(call)
    return _authenticated(who) if who.subject or who.issuer else (who.tenant, _anonymous(call))


def _authenticated(who: Principal) -> Any:
    claims = who.claims
    client = next((claims[name] for name in CLIENT_CLAIMS if name in claims), 0) if claims else 0
    tenant = 0 if who.tenant is None else who.tenant
    roles, scopes = who.roles and sorted(who.roles), who.scopes and sorted(who.scopes)
    return tenant, who.issuer, who.subject, roles or 0, scopes or 0, client


def _anonymous(call: Call) -> Any:
    if call.request is None:
        return ()
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in call.request.scope["headers"]
        if name in CREDENTIAL_HEADERS
    ]


def _declared(connection: Connection) -> Any:
    """The client capabilities of a legacy connection, which says them once; newer ones say them in each `_meta`."""
    if (found := _capabilities.get(connection)) is None:
        declared = connection.client_capabilities
        found = {} if declared is None else declared.model_dump(mode="json", by_alias=True, exclude_none=True)
        _capabilities[connection] = found
    return found
