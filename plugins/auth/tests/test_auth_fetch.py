"""What is fetched from where: limits of time and size, and no address that a document lures to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from plughost_auth._fetch import MAX_DOCUMENT, Fetcher, FetchError, is_public

pytestmark = pytest.mark.anyio

TRUSTED = "https://login.example"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.5.4",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
    ],
)
def test_private_addresses(address: str) -> None:
    """Private, link-local, shared, multicast and metadata addresses are not the internet's, however written (S1)."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::808:808"])
def test_public_addresses(address: str) -> None:
    """Addresses of the internet are."""
    assert is_public(address)


def resolving(*addresses: str) -> Callable[[str, int], object]:
    async def resolve(host: str, port: int) -> list[str]:
        return list(addresses)

    return resolve


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("https://keys.example/jwks", ["169.254.169.254"]),
        ("https://keys.example/jwks", ["93.184.215.14", "10.0.0.1"]),
        ("https://keys.example/jwks", []),
        ("https://login.example:8443/jwks", ["127.0.0.1"]),
        ("http://keys.example/jwks", ["93.184.215.14"]),
        ("file:///etc/passwd", ["93.184.215.14"]),
        ("https://user@keys.example/jwks", ["93.184.215.14"]),
        ("https://[::1]/jwks", ["::1"]),
        ("//keys.example", ["93.184.215.14"]),
        ("https://keys.example:x/jwks", ["93.184.215.14"]),
    ],
)
async def test_luring_urls(url: str, addresses: list[str]) -> None:
    """A URL that a document names is https, and every address of its host is the internet's, or it is refused (S1)."""
    fetcher = Fetcher(timeout=5, resolve=resolving(*addresses))  # type: ignore[arg-type]  # a resolver with fixed answers
    with pytest.raises(FetchError, match=r"comes from a document|ValueError"):
        await fetcher.get(url, trusted=TRUSTED)
    await fetcher.aclose()


async def test_address_that_was_checked_is_the_one_dialled() -> None:
    """The address is dialled, not the name again, which might resolve to another one by then (S1)."""
    fetcher = Fetcher(timeout=5, resolve=resolving("93.184.215.14"))  # type: ignore[arg-type]  # see above
    target, headers, extensions = await fetcher._dial("https://keys.example/jwks?v=1", TRUSTED)
    assert target == "https://93.184.215.14:443/jwks?v=1"
    assert headers["host"] == "keys.example"
    assert extensions == {"sni_hostname": "keys.example"}


async def test_what_the_operator_wrote_is_dialled_as_it_is() -> None:
    """At the origin of the issuer, which the operator wrote, private addresses are fine: the name is his."""
    fetcher = Fetcher(timeout=5, resolve=resolving("10.0.0.1"))  # type: ignore[arg-type]  # see above
    assert await fetcher._dial(f"{TRUSTED}/keys", TRUSTED) == (
        f"{TRUSTED}/keys",
        {"accept": "application/json", "accept-encoding": "identity"},
        {},
    )


@asynccontextmanager
async def answering(*answer: bytes) -> AsyncIterator[str]:
    """A server that says this to whoever connects, byte for byte, and then nothing more."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in answer:
            writer.write(part)
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",), "answered 302"),
        ((b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",), "answered 500"),
        ((OK + b"content-length: 999999\r\n\r\n", b"x" * (MAX_DOCUMENT + 1)), "larger than"),
        ((OK + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n", b"xx"), "encoding"),
        ((OK + b"content-length: 10\r\n\r\n",), "no answer within 0.2 s"),
        ((b"SSH-2.0-x\r\n\r\n",), "RemoteProtocolError"),
    ],
    ids=["redirect", "status", "size", "encoding", "time", "protocol"],
)
async def test_limits(answer: tuple[bytes, ...], problem: str) -> None:
    """No redirect is followed, no error taken for a document, nothing read or waited for beyond a limit (S1)."""
    fetcher = Fetcher(timeout=0.2)
    try:
        async with answering(*answer) as url:
            with pytest.raises(FetchError, match=problem):
                await fetcher.get(url, trusted=url)
    finally:
        await fetcher.aclose()


async def test_document() -> None:
    """What is at the URL is given as it is."""
    fetcher = Fetcher(timeout=5)
    async with answering(OK + b"content-length: 2\r\n\r\n{}") as url:
        assert await fetcher.get(url, trusted=url) == b"{}"
        await fetcher.aclose()


@pytest.mark.parametrize("spelling", ["127.1", "0x7f000001", "2130706433", "localhost"])
async def test_addresses_in_disguise(spelling: str) -> None:
    """Addresses that only a resolver understands are looked at as what they resolve to (S1)."""
    fetcher = Fetcher(timeout=5)
    with pytest.raises(FetchError, match=r"leads to (127\.0\.0\.1|::1)"):
        await fetcher.get(f"https://{spelling}/keys", trusted=TRUSTED)
