"""Seals `requestState`: what a client brings back is an attacker's input until it is proven to be ours (H2)."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from mcp.server.request_state import AESGCMRequestStateCodec, InvalidRequestState
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from plughost import Call
from pydantic import SecretStr

_CHANGES = ("_meta", "inputResponses", "requestState")


class Seal:
    """Authenticated encryption of a request's state, bound to provider, principal, method and parameters."""

    def __init__(self, provider: str, keys: tuple[SecretStr, ...], lifetime: float) -> None:
        self._provider = provider
        self._codec = AESGCMRequestStateCodec([key.get_secret_value() for key in keys] or [os.urandom(32)])
        self._lifetime = lifetime

    def seal(self, call: Call, params: Mapping[str, Any], state: str) -> str:
        """An opaque text that `open` accepts for the same client and request, as long as it lives."""
        claims = {"s": state, "exp": time.time() + self._lifetime, "for": self._binding(call, params)}
        return self._codec.seal(json.dumps(claims).encode())

    def open(self, call: Call, params: Mapping[str, Any]) -> str:
        """The state that was sealed.

        Raises:
            MCPError: It is not ours, too old, or of another request or client; the answer does not say which.
        """
        token = params.get("requestState")
        try:
            claims = json.loads(self._codec.unseal(token if isinstance(token, str) else ""))
        except InvalidRequestState:
            raise invalid_state() from None
        if claims["exp"] < time.time() or claims["for"] != self._binding(call, params):
            raise invalid_state()
        return str(claims["s"])

    def _binding(self, call: Call, params: Mapping[str, Any]) -> str:
        who = call.principal
        rest = {key: value for key, value in params.items() if key not in _CHANGES}
        parts = [self._provider, who and [who.issuer, who.subject, who.tenant], call.method, rest]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def invalid_state() -> MCPError:
    """The one answer for any state that is not accepted; the SDK's servers give the same."""
    return MCPError(INVALID_PARAMS, "Invalid or expired requestState", {"reason": "invalid_request_state"})
