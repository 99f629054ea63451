"""The HTTP side: no request reaches the MCP endpoint without a token that proves somebody, and the token ends here.

Status codes and challenges are HTTP's, so they are decided here: 401, 403 and 503 (RFC 6750, RFC 9728). What a call
may do is decided in the pipeline, on what its body says; where it is refused there for want of scopes, the answer that
comes back is turned into a 403.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plughost_auth._authenticator import digest_of
from plughost_auth._claims import Reason, RejectedToken, Verified
from plughost_auth._keys import IssuerUnavailable

if TYPE_CHECKING:
    from plughost_auth._plugin import AuthPlugin

logger = logging.getLogger("plughost.auth")

PRINCIPAL = "plughost.auth.principal"
"""Where the ASGI scope has who asks."""
LACKING = "plughost.auth.lacking"
"""Where the ASGI scope has a list for the scopes that a call was refused for."""
WELL_KNOWN = "/.well-known/oauth-protected-resource"
RETRY_AFTER = 5
"""Seconds after which a client may try again while an issuer is away."""
_HANDSHAKE = frozenset(version.encode() for version in HANDSHAKE_PROTOCOL_VERSIONS)


class BadRequest(Exception):  # noqa: N818 - the name of its status
    """Raised when a request has a token where none may be, or two of them; the answer is 400."""


def challenge(metadata: str | None, scopes: Collection[str], error: str = "", description: str = "") -> str:
    """A `WWW-Authenticate` header (RFC 6750, RFC 9728)."""
    parts = {
        "error": error,
        "error_description": description,
        "scope": " ".join(sorted(scopes)),
        "resource_metadata": metadata or "",
    }
    given = ", ".join(f'{name}="{value}"' for name, value in parts.items() if value)
    return f"Bearer {given}".rstrip()


def metadata_url(resource: str) -> str:
    """Where the metadata of a resource is: the well-known path goes between its host and its path (RFC 9728)."""
    parts = urlsplit(resource)
    path = "" if parts.path == "/" else parts.path
    return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{path}"


def metadata_routes(resource: str, document: Any) -> Iterable[Route]:
    """Routes of the protected resource metadata: at the path of the resource, and at the root."""

    async def serve(_: Request) -> Response:
        return JSONResponse(document(), headers={"cache-control": "public, max-age=300"})

    paths = dict.fromkeys([urlsplit(metadata_url(resource)).path, WELL_KNOWN])
    return [Route(path, serve, methods=["GET"]) for path in paths]


def token_in(scope: Scope) -> bytes | None:
    """The bearer token of a request, if it has one.

    Raises:
        BadRequest: It has several, or one in the query (A5).
    """
    query = scope["query_string"]
    if query and "access_token" in unquote(query.decode("latin-1")).lower():  # whatever separates it: it is logged
        raise BadRequest("A token in the query string is refused; send it in the Authorization header")
    found: bytes | None = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            if found is not None:
                raise BadRequest("There are two Authorization headers")
            found = value
    if found is None or found[:7].lower() != b"bearer ":
        return None
    return found[7:].strip(b" ")


class Gate:
    """ASGI middleware in front of the MCP endpoint; other paths pass."""

    def __init__(self, app: ASGIApp, *, plugin: AuthPlugin, path: str, max_body: int) -> None:
        self._app = app
        self._plugin = plugin
        self._path = path.rstrip("/")
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._is_endpoint(scope):
            return await self._app(scope, receive, send)
        plugin = self._plugin
        try:
            verified = await self._verify(scope)
        except BadRequest as error:
            refused = self._answer(400, "invalid_request", str(error))
        except RejectedToken as error:
            plugin.count_refused(error.reason.name.lower())
            missing = error.reason is Reason.MISSING
            refused = self._answer(401, "" if missing else "invalid_token", str(error))
        except IssuerUnavailable as error:
            plugin.count_refused("unavailable")
            logger.debug("a token cannot be verified: %s", error)  # health and events tell it, not each request
            refused = self._answer(503, "temporarily_unavailable", "The token cannot be verified at the moment")
        else:
            return await self._admit(verified, scope, receive, send)
        if plugin.config.mode == "observe":
            logger.warning("would refuse %s %s: %s", scope["method"], self._path, refused.body)
            return await self._app(_without_token(scope), receive, send)
        return await refused(scope, receive, send)

    def _is_endpoint(self, scope: Scope) -> bool:
        return str(scope["path"]).removeprefix(scope.get("root_path", "")).rstrip("/") == self._path

    async def _verify(self, scope: Scope) -> Verified:
        token = token_in(scope)
        if not token:
            raise RejectedToken(Reason.MISSING)
        digest = digest_of(token)
        authenticator = self._plugin.authenticator
        return authenticator.known(digest) or await authenticator.verify(token, digest)

    async def _admit(self, verified: Verified, scope: Scope, receive: Receive, send: Send) -> None:
        rules = self._plugin.rules
        scopes = verified.principal.scopes
        inner = _without_token(scope)
        inner["user"] = verified.user
        inner[PRINCIPAL] = verified.principal
        if rules.required or rules.by_target:
            if not rules.required <= scopes or (rules.by_target and _is_handshake_era(scope)):
                # The answer to a session of an earlier revision begins before its call does: look ahead.
                body, receive = await _read(receive, self._max_body)
                needed = rules.needed_by_body(_decode(body))
                if not needed <= scopes and self._plugin.lacks(needed, "http"):
                    return await self._answer(403, "insufficient_scope", _lack(needed), needed)(scope, receive, send)
            if rules.by_target:
                lacking: list[Collection[str]] = []
                inner[LACKING] = lacking
                send = self._turning_into_403(send, lacking)
        known = auth_context_var.set(verified.user)
        try:
            return await self._app(inner, receive, send)
        finally:
            auth_context_var.reset(known)

    def _turning_into_403(self, send: Send, lacking: list[Collection[str]]) -> Send:
        async def turn(message: Message) -> None:
            if lacking and message["type"] == "http.response.start":
                value = challenge(self._plugin.metadata_url, lacking[0], "insufficient_scope", _lack(lacking[0]))
                headers = [*message["headers"], (b"www-authenticate", value.encode())]
                message = {**message, "status": 403, "headers": headers}
            await send(message)

        return turn

    def _answer(self, status: int, error: str, text: str, needed: Collection[str] | None = None) -> Response:
        headers = {"cache-control": "no-store"}
        if status == 503:
            headers["retry-after"] = str(RETRY_AFTER)
        else:
            scopes = self._plugin.rules.required if needed is None else needed
            said = text if error else ""
            headers["www-authenticate"] = challenge(self._plugin.metadata_url, scopes, error, said)
        body = {"error": error or "unauthorized", "error_description": text}
        return JSONResponse(body, status, headers)


def _lack(needed: Collection[str]) -> str:
    return f"Needed are the scopes {', '.join(sorted(needed))}"


def _without_token(scope: Scope) -> Scope:
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"authorization"]}


def _is_handshake_era(scope: Scope) -> bool:
    if scope["method"] != "POST":
        return False
    version = next((value for name, value in scope["headers"] if name == b"mcp-protocol-version"), None)
    return version is None or version in _HANDSHAKE


async def _read(receive: Receive, limit: int) -> tuple[bytes, Receive]:
    """The body, as far as it goes within the limit, and a `receive` that gives it again."""
    messages: list[Message] = []
    size, more = 0, True
    while more and size <= limit:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)
    body = b"".join(message.get("body", b"") for message in messages)

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return body, again


def _decode(body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError:
        return None  # the endpoint says what is wrong with it
