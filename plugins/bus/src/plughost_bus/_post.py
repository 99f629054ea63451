"""Posting over HTTP: to the configured URL and nowhere else (S1)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from plughost_bus._cloud_event import CONTENT_TYPE
from plughost_bus._webhook import Answer

if TYPE_CHECKING:
    from plughost import Clock

    from plughost_bus._config import WebhookConfig

USER_AGENT = "plughost-bus"


class Poster:
    """Posts to one webhook. A redirect is a failure like another: whoever answers does not choose where events go."""

    def __init__(self, config: WebhookConfig, clock: Clock) -> None:
        import httpx2  # noqa: PLC0415 - only who has webhooks pays for it

        self._url = config.url.get_secret_value()
        self._timeout = config.timeout
        self._clock = clock
        self._failures = (httpx2.HTTPError, httpx2.InvalidURL, OSError)
        headers = {"content-type": CONTENT_TYPE, "user-agent": USER_AGENT}
        self._client = httpx2.AsyncClient(headers=headers, follow_redirects=False, timeout=config.timeout)

    async def post(self, headers: Mapping[str, str], body: str) -> Answer:
        """The receiver's answer, of which nothing but status and headers is read."""
        try:
            async with asyncio.timeout(self._timeout):
                async with self._client.stream("POST", self._url, headers=headers, content=body.encode()) as response:
                    after = _retry_after(response.headers.get("retry-after"), self._clock.time())
                    return Answer(response.status_code, after)
        except TimeoutError:
            return Answer(problem=f"no answer within {self._timeout:g} s")
        except self._failures as error:
            return Answer(problem=f"{type(error).__name__}: {error}")

    async def aclose(self) -> None:
        await self._client.aclose()


def _retry_after(header: str | None, now: float) -> float | None:
    """Seconds, from a number of them or an HTTP date; RFC 9110, 10.2.3."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now, 0.0)
