"""Each hook's example, as the reference shows it, does what its first line says."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator
from urllib.request import urlopen

import anyio
import pytest
from mcp import Client
from plughost import EventType, Host, HostEvent, create_host
from plughost.hookspecs import hook_names

from docs.examples import EXAMPLES, Served, plughost, served

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def hooks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One host with all the examples on."""
    with served("hooks", tmp_path_factory.mktemp("hooks")) as running:
        yield running


async def test_plughost_middleware(hooks: Served) -> None:
    """The example adds how long a call took to the result's `_meta`."""
    async with Client(hooks.url) as client:
        result = await client.call_tool("roll", {})
    assert result.meta is not None
    assert result.meta["com.example/ms"] > 0


async def test_plughost_providers(hooks: Served) -> None:
    """The example's tool is in the catalog and answers."""
    async with Client(hooks.url) as client:
        result = await client.call_tool("roll", {"sides": 1})
    assert result.structured_content == {"result": 1}


def test_plughost_http_routes(hooks: Served) -> None:
    """The example's page is served beside the MCP endpoint."""
    with urlopen(f"{hooks.origin}/contact") as page:
        assert page.read() == b"help@example.com"


def test_plughost_http_middleware(hooks: Served) -> None:
    """The example's header, with the name of the instance, is on every answer."""
    with urlopen(f"{hooks.origin}/contact") as page:
        assert page.headers["X-Served-By"] == "edge"


async def test_plughost_operations(hooks: Served) -> None:
    """The example's operations change and show its count."""

    def counter(*arguments: str) -> int:
        printed = plughost("ctl", "--json", "--config", str(hooks.config), "counter", *arguments)
        number: int = json.loads(printed)[0]["result"]
        return number

    assert counter("reset", "to=5") == 5
    async with Client(hooks.url) as client:
        await client.call_tool("roll", {})
    assert counter("show") == 6


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with create_host(EXAMPLES / "hooks/plughost.toml") as running:
        yield running


async def test_plughost_layer(host: Host) -> None:
    """The example counts the layers of other instances that a call walks."""
    async with Client(host.front) as client:
        await client.call_tool("roll", {})
    assert getattr(host.instances["census"].plugin, "walked")["stopwatch"] == 1  # noqa: B009 - its class is a file's


async def test_plughost_health_checks(host: Host) -> None:
    """The example's check passes while there is space."""
    [check] = [check for _, check in host.health_checks]
    assert (check.name, check.critical) == ("disk", False)
    await check.check()


async def test_plughost_event(host: Host) -> None:
    """The example writes a line for a provider that went down; it is told from a queue."""
    lines: list[str] = []
    written = anyio.Event()

    class Reader(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())
            written.set()

    reader = Reader()
    logging.getLogger("watch").addHandler(reader)
    try:
        host.publish(HostEvent(EventType.PROVIDER_DOWN, "dice"))
        with anyio.fail_after(5):
            await written.wait()
    finally:
        logging.getLogger("watch").removeHandler(reader)
    assert lines == ["dice: provider.down"]


def test_every_hook_has_a_test() -> None:
    """Each hook specification has a test of its name above."""
    assert [name for name in hook_names() if f"test_{name}" not in globals()] == []
