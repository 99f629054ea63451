"""A time limit that runs out in front of a real upstream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp import MCPError
from plughost import ErrorCode, create_host
from plughost_testing import make_call
from upstreams.running import LEGACY_STDIO, HTTPServer, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def http() -> Iterator[HTTPServer]:
    server = HTTPServer()
    server.start()
    yield server
    server.kill()


async def times_out(provider: dict[str, object], mark: Path) -> None:
    """A call of the tool that hangs is refused at its limit, and the upstream is told."""
    config = {"providers": {"up": provider}, "plugins": {"timeout": {"attempt": "500ms"}}}
    async with create_host(config) as host:
        with pytest.raises(MCPError, match="limit of one attempt") as caught:
            await host.dispatch(make_call("tools/call", {"name": "hang", "arguments": {"mark": str(mark)}}))
        await until(mark.exists)
    assert caught.value.code == ErrorCode.TIMEOUT


async def test_the_call_is_cancelled_at_a_stdio_upstream(tmp_path: Path) -> None:
    """T7, T8: at the end of the limit a stdio upstream is sent the cancellation."""
    await times_out({"command": LEGACY_STDIO}, tmp_path / "mark")


async def test_the_call_is_cancelled_at_an_http_upstream(http: HTTPServer, tmp_path: Path) -> None:
    """T7, T8: at the end of the limit the response stream of an HTTP upstream is closed, which cancels the call."""
    await times_out({"url": http.url}, tmp_path / "mark")
