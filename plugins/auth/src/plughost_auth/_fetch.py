"""Requests to authorization servers: bounded in time and size, without redirects, and not to where a document lures."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import anyio

if TYPE_CHECKING:
    import httpx2

MAX_DOCUMENT = 256 * 1024
"""Bytes of a JWK set, of metadata, or of an answer to a question."""
_NAT64 = IPv6Network("64:ff9b::/96")

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Addresses of a name."""


class FetchError(Exception):
    """Raised when a document cannot be had: no answer in time, not 200, too large, or at an address that is refused."""


def is_public(address: str) -> bool:
    """Whether an address is one of the internet's: not private, link-local or a metadata service's, however written."""
    found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            found = inner
    return found.is_global and not found.is_multicast


async def system_resolver(host: str, port: int) -> list[str]:
    """What the system's resolver says; an address is its own."""
    with suppress(ValueError):
        return [str(ip_address(host))]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Fetcher:
    """Asks authorization servers. `trusted` is a URL that the operator wrote: only other origins are checked (S1)."""

    def __init__(self, *, timeout: float, resolve: Resolve = system_resolver) -> None:
        self._timeout = timeout
        self._resolve = resolve
        self._client: httpx2.AsyncClient | None = None

    async def get(self, url: str, *, trusted: str) -> bytes:
        """The document at `url`.

        Raises:
            FetchError: It cannot be had.
        """
        return await self._ask("GET", url, trusted)

    async def post(self, url: str, form: Mapping[str, str], credentials: tuple[str, str], *, trusted: str) -> bytes:
        """What `url` answers to a form.

        Raises:
            FetchError: There is no answer.
        """
        return await self._ask("POST", url, trusted, data=form, auth=credentials)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _ask(self, method: str, url: str, trusted: str, **content: Any) -> bytes:
        import httpx2  # noqa: PLC0415 - for keys and introspection only

        if self._client is None:  # no proxy of the environment: the addresses that are checked are those dialled
            self._client = httpx2.AsyncClient(
                verify=_trusted_roots(), timeout=self._timeout, follow_redirects=False, trust_env=False
            )
        where = f"{method} {url}"
        try:
            with anyio.fail_after(self._timeout):
                target, headers, extensions = await self._dial(url, trusted)
                request = self._client.build_request(method, target, data=content.get("data"), headers=headers)
                request.extensions.update(extensions)
                answer = await self._client.send(request, stream=True, auth=content.get("auth"))
                try:
                    return await _read(answer, where)
                finally:
                    await answer.aclose()
        except TimeoutError:
            raise FetchError(f"{where}: no answer within {self._timeout:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            raise FetchError(f"{where}: {type(error).__name__}: {error}") from error

    async def _dial(self, url: str, trusted: str) -> tuple[str, dict[str, str], dict[str, str]]:
        """What to connect to: the URL itself at an origin the operator wrote, or else an address that was checked."""
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        parts = urlsplit(url)
        with suppress(ValueError):
            if _origin(url) == _origin(trusted):
                return url, headers, {}
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.password:
            raise FetchError(f"{url!r} comes from a document and is no https URL")
        port = parts.port or 443
        addresses = await self._resolve(parts.hostname, port)
        refused = [address for address in addresses if not is_public(address)]
        if refused or not addresses:
            raise FetchError(f"{url!r} comes from a document and leads to {', '.join(refused) or 'no address'}")
        address = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
        target = urlunsplit(("https", f"{address}:{port}", parts.path, parts.query, ""))
        return target, {**headers, "host": parts.netloc}, {"sni_hostname": parts.hostname}


@cache
def _trusted_roots() -> ssl.SSLContext:
    """Read once: it takes longer than all the rest."""
    import httpx2  # noqa: PLC0415 - see above

    return httpx2.create_ssl_context()


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


async def _read(answer: httpx2.Response, where: str) -> bytes:
    if answer.status_code != 200:
        raise FetchError(f"{where}: answered {answer.status_code}")
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise FetchError(f"{where}: answered with an encoding that nobody asked for")
    body = bytearray()
    async for part in answer.aiter_raw():
        body += part
        if len(body) > MAX_DOCUMENT:
            raise FetchError(f"{where}: the answer is larger than {MAX_DOCUMENT} bytes")
    return bytes(body)
