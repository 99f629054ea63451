"""What an upstream lists: all pages, kept until it says that they changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import METHOD_NOT_FOUND
from plughost import ErrorCode, Kind, Listing, Refusal

from plughost_upstream._exchange import Exchange
from plughost_upstream._limit import Limit
from plughost_upstream._session import Session
from plughost_upstream._shape import is_modern, shape_listing, without_stamp

logger = logging.getLogger("plughost.upstream")

MAX_PAGES = 1000
"""A list that does not end by then is a defect of the upstream."""


class Listings:
    """The lists of one upstream, at the revision it speaks, and shaped for others on demand."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.version = ""
        self._raw: dict[Kind, Listing] = {}
        self._shaped: dict[tuple[Kind, bool], Listing] = {}
        self._schemas: dict[str, Any] | None = None

    def get(self, kind: Kind, version: str | None) -> Listing:
        """A list for a client at `version`, or for the host's catalog."""
        key = (kind, version is None or is_modern(version))
        if key not in self._shaped:
            raw = self._raw.get(kind, Listing())
            self._shaped[key] = shape_listing(kind, raw, upstream=self.upstream, source=self.version, version=version)
        return self._shaped[key]

    def input_schema(self, tool: Any) -> Any:
        """The input schema of a tool, by the upstream's own name of it."""
        if self._schemas is None:
            entries = self._raw.get(Kind.TOOLS, Listing()).entries
            self._schemas = {str(entry.get("name")): entry.get("inputSchema") for entry in entries}
        return self._schemas.get(tool)

    async def fetch_all(self, session: Session, limit: float) -> None:
        """Fetch every list that the upstream has. One that fails stays as it was, and is logged."""
        self.version = session.agreed.version
        self._shaped.clear()
        for kind in Kind:
            try:
                await self.fetch(session, kind, limit)
            except MCPError as error:
                if isinstance(error, Refusal):
                    raise
                logger.warning("upstream %r cannot list its %s: %s", session.upstream.name, kind.value, error)

    async def fetch(self, session: Session, kind: Kind, limit: float) -> bool:
        """Fetch one list, and say whether it differs from before.

        Raises:
            MCPError: The upstream's answer is an error, or it did not answer in time.
            NotTakenError: It cannot be reached.
        """
        listing = Listing()
        if kind.capability in session.agreed.capabilities:
            exchange = Exchange(None, {}, Limit(limit))
            with exchange.limit:
                listing = await self._pages(session, exchange, kind)
            if exchange.limit.expired:
                details = {"provider": session.upstream.name}
                raise Refusal(ErrorCode.TIMEOUT, f"{kind.method} did not end within {limit:g} s", details=details)
        if self._raw.get(kind) == listing:
            return False
        self._raw[kind] = listing
        self._shaped = {key: value for key, value in self._shaped.items() if key[0] is not kind}
        self._schemas = None
        return True

    async def _pages(self, session: Session, exchange: Exchange, kind: Kind) -> Listing:
        entries: list[Mapping[str, Any]] = []
        params: dict[str, Any] = {}
        listed = size = 0
        details = {"provider": session.upstream.name}
        for _ in range(MAX_PAGES):
            try:
                result = without_stamp(await session.send(exchange, kind.method, params))
            except MCPError as error:
                if error.code == METHOD_NOT_FOUND:  # resources without templates, for example
                    return Listing()
                raise
            page = result.get(kind.value)
            found = page if isinstance(page, list) else []
            size += len(repr(found)) if params else 0  # the first page is no longer than a message
            if size > (most := session.upstream.table.max_message):
                problem = f"{kind.method} has pages of more than {most} characters together"
                raise Refusal(ErrorCode.UPSTREAM_UNAVAILABLE, problem, details=details)
            entries += [entry for entry in found if isinstance(entry, Mapping)]
            listed += len(found) if isinstance(page, list) else 1
            cursor = result.get("nextCursor")
            if not isinstance(cursor, str) or cursor == params.get("cursor"):
                extra = {
                    key: value for key, value in result.items() if key not in (kind.value, "nextCursor", "resultType")
                }
                if listed > len(entries):
                    logger.warning("upstream %r: its %s are not a list of objects", self.upstream, kind.value)
                return Listing(tuple(entries), extra)
            params = {"cursor": cursor}
        problem = f"{kind.method} did not end after {MAX_PAGES} pages"
        raise Refusal(ErrorCode.UPSTREAM_UNAVAILABLE, problem, details=details)
