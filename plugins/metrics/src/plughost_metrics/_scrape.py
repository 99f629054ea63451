"""Answers to Prometheus: who may ask, which format, and that it costs the same however many ask."""

from __future__ import annotations

import gzip
import hmac
from collections.abc import Awaitable, Callable, Sequence

import anyio
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from plughost_metrics._exposition import OPENMETRICS, TEXT, render
from plughost_metrics._ledger import Metric

FRESH = 1.0
"""Seconds that an answer is given again: several Prometheus servers, or an impatient one, cost what one does.

Of several workers one may so repeat what another has overtaken; who asks less often than this sees no counter go back.
"""


class Scrape:
    """The endpoint. `collect` gives the metrics; they are rendered in a thread, at most once a second and format."""

    def __init__(
        self, collect: Callable[[], Awaitable[Sequence[Metric]]], *, now: Callable[[], float], token: str | None
    ) -> None:
        self._collect = collect
        self._now = now
        self._token = token
        self._lock = anyio.Lock()
        self._answers: dict[bool, tuple[float, bytes]] = {}

    async def answer(self, request: Request) -> Response:
        if self._token is not None and not self._authorized(request.headers.get("authorization", "")):
            return PlainTextResponse(
                "This endpoint asks for the bearer token of its config\n", 401, {"WWW-Authenticate": "Bearer"}
            )
        openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
        async with self._lock:
            begin, body = self._answers.get(openmetrics, (-FRESH, b""))
            if not body or self._now() - begin >= FRESH:
                begin = self._now()
                body = await self._render(openmetrics=openmetrics)
                self._answers[openmetrics] = (begin, body)
        headers = {"Content-Type": OPENMETRICS if openmetrics else TEXT, "Content-Encoding": "gzip", "Vary": "Accept"}
        if "gzip" not in request.headers.get("accept-encoding", ""):
            del headers["Content-Encoding"]
            body = await run_sync(gzip.decompress, body)
        return Response(body, headers=headers)

    def _authorized(self, header: str) -> bool:
        assert self._token is not None
        kind, _, given = header.partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token.encode())

    async def _render(self, *, openmetrics: bool) -> bytes:
        metrics = await self._collect()
        return await run_sync(lambda: gzip.compress(render(metrics, openmetrics=openmetrics), 1))
