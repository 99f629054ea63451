"""Progress of several attempts as that of one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class OneProgress:
    """A request's line back to its client on which progress only ever grows, as the specification demands.

    What a later attempt reports is held back until it is further than those before it were.
    """

    def __init__(self, line: Any) -> None:
        self._line = line
        self._furthest = float("-inf")

    def _grows(self, progress: float) -> bool:
        further = progress > self._furthest
        self._furthest = max(self._furthest, progress)
        return further

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        if self._grows(progress):
            await self._line.progress(progress, total, message)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        progress = (params or {}).get("progress") if method == "notifications/progress" else None
        if not isinstance(progress, int | float) or self._grows(progress):
            await self._line.notify(method, params, opts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._line, name)
