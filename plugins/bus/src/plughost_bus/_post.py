"""Posting over HTTP: to the configured URL and nowhere else (S1)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from anyio import to_thread

from plughost_bus._cloud_event import CONTENT_TYPE
from plughost_bus._webhook import Answer

if TYPE_CHECKING:
    from httpx2 import AsyncClient
    from plughost import Clock

    from plughost_bus._config import WebhookConfig

USER_AGENT = "plughost-bus"


class Poster:
    """Posts to webhooks. A redirect is a failure like another: whoever answers does not choose where events go."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._client: AsyncClient | None = None
        self._opening = asyncio.Lock()

    async def post(self, config: WebhookConfig, headers: Mapping[str, str], body: str) -> Answer:
        """The receiver's answer, of which nothing but status and headers is read."""
        try:
            client, url = await self._opened(), config.url.get_secret_value()
            async with asyncio.timeout(config.timeout):
                async with client.stream("POST", url, headers=headers, content=body.encode()) as response:
                    after = retry_after(response.headers.get("retry-after"), self._clock.time())
                    return Answer(response.status_code, after)
        except TimeoutError:
            return Answer(problem=f"no answer within {config.timeout:g} s")
        except Exception as error:  # noqa: BLE001 - whatever it was, the event was not taken
            return Answer(problem=f"{type(error).__name__}: {error}")

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _opened(self) -> AsyncClient:
        """The client. It takes a while to make, as it reads the certificates of all authorities."""
        async with self._opening:
            if self._client is None:
                self._client = await to_thread.run_sync(_new_client)
            return self._client


def _new_client() -> AsyncClient:
    from httpx2 import AsyncClient  # noqa: PLC0415 - only who has webhooks pays for it

    headers = {"content-type": CONTENT_TYPE, "user-agent": USER_AGENT}
    return AsyncClient(headers=headers, follow_redirects=False, timeout=None)


def retry_after(header: str | None, now: float) -> float | None:
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
