"""Upstreams behind a whole host, driven by the SDK's client."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, Literal

import anyio
import pytest
from mcp import Client, MCPError
from mcp_types import ElicitResult, TextContent
from plughost import ErrorCode, ProviderError, create_host, load_config
from upstreams.running import LEGACY_STDIO, SDK_STDIO, HTTPServer, until

pytestmark = pytest.mark.anyio

Mode = Literal["legacy", "auto"]
BOTH_ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])


def text(result: Any) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


async def say_ann(context: Any, params: Any) -> ElicitResult:
    return ElicitResult(action="accept", content={"name": "Ann"})


async def tool_names(client: Client) -> set[str]:
    return {tool.name for tool in (await client.list_tools()).tools}


@BOTH_ERAS
async def test_upstreams_are_one_server(mode: Mode) -> None:
    """Tools of several upstreams are one list, under their prefixes, for clients of both eras."""
    config = {"providers": {"old": {"command": LEGACY_STDIO, "prefix": "old_"}, "new": {"command": SDK_STDIO}}}
    async with create_host(config) as host, Client(host.front, mode=mode, cache=None) as client:
        assert {"old_echo", "echo", "mirror"} <= await tool_names(client)
        assert text(await client.call_tool("old_echo", {"text": "hi"})) == "hi"
        assert text(await client.call_tool("revision")) == ("2025-11-25" if mode == "legacy" else "2026-07-28")


@BOTH_ERAS
@pytest.mark.parametrize(
    ("command", "tool", "expected"),
    [(LEGACY_STDIO, "ask", '"Ann"'), ((*SDK_STDIO, "--modern"), "need", "hello Ann")],
)
async def test_every_client_is_asked_by_every_upstream(
    mode: Mode, command: tuple[str, ...], tool: str, expected: str
) -> None:
    """A question of an upstream of either era reaches a client of either era, and its answer gets back."""
    async with (
        create_host({"providers": {"up": {"command": command}}}) as host,
        Client(host.front, mode=mode, elicitation_callback=say_ann) as client,
    ):
        assert expected in text(await client.call_tool(tool))


@BOTH_ERAS
async def test_progress_through_the_host(mode: Mode) -> None:
    """Progress of an upstream reaches the client's own callback, before the result."""
    steps: list[float] = []

    async def step(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async with (
        create_host({"providers": {"up": {"command": LEGACY_STDIO}}}) as host,
        Client(host.front, mode=mode) as client,
    ):
        await client.call_tool("progress", progress_callback=step)
    assert steps == [1, 2, 3]


@BOTH_ERAS
async def test_what_an_upstream_lists_wrongly_is_left_out(mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    """Clients refuse a list as a whole: a malformed entry costs only itself, and a log line per list (G5)."""
    sloppy = {"command": (*LEGACY_STDIO, "--sloppy"), "prefix": "s_"}
    config = {"providers": {"sloppy": sloppy, "fine": {"command": SDK_STDIO}}}
    async with create_host(config) as host, Client(host.front, mode=mode, cache=None) as client:
        names = await tool_names(client)
        prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}
        uris = {str(resource.uri) for resource in (await client.list_resources()).resources}
        for _ in range(3):
            await client.list_tools()
    assert {"s_echo", "s_untyped", "echo"} <= names
    assert not {"s_wrong", "s_bare", "s_7", "s_None"} & names
    assert "s_greet" in prompts
    assert not {"s_odd", "s_None"} & prompts
    assert "test://a" in uris
    assert "test://nameless" not in uris
    (warning,) = [text for text in caplog.messages if "its tools, which revision 2026-07-28 does not allow" in text]
    assert "'sloppy': left out 4 of its tools" in warning
    assert "'wrong' (inputSchema.type: Input should be 'object'), 'bare' (inputSchema: Field required)" in warning


async def test_killed_upstream_comes_back() -> None:
    """After kill -9 of an upstream its tools work again, and the host never went down (G5)."""
    async with (
        create_host(
            {"providers": {"up": {"command": LEGACY_STDIO}, "other": {"command": SDK_STDIO, "prefix": "o_"}}}
        ) as host,
        Client(host.front, cache=None) as client,
    ):
        first = await client.call_tool("count")
        pid = (first.structured_content or {})["pid"]
        os.kill(pid, signal.SIGKILL)
        assert text(await client.call_tool("o_revision")) == "2026-07-28"
        with anyio.fail_after(20):
            while (now := await serving_process(client)) is None:
                pass
        assert now != pid


async def serving_process(client: Client) -> int | None:
    """The upstream's process id; none while the host has yet to see that the former one is gone."""
    try:
        found = (await client.call_tool("count")).structured_content or {}
    except MCPError as error:
        if error.code != ErrorCode.UPSTREAM_UNAVAILABLE:
            raise
        return None
    return int(found["pid"])


async def test_tools_go_and_come_with_the_upstream(http_server: Callable[..., HTTPServer]) -> None:
    """While an upstream is down its tools are not listed, the others stay; it comes back by itself (G5)."""
    server = http_server()
    providers = {"far": {"url": server.url, "prefix": "far_", "ping": 0.2}, "near": {"command": LEGACY_STDIO}}
    config = {"providers": providers, "plugins": {"upstream": {"retry_min": 0.05, "retry_max": 0.2}}}
    async with create_host(config) as host, Client(host.front, cache=None) as client:
        assert "far_echo" in await tool_names(client)
        server.kill()
        await until(lambda: host.status()["providers"][0]["status"] == "down")
        names = await tool_names(client)
        assert "far_echo" not in names
        assert "echo" in names
        server.start()
        await until(lambda: host.status()["providers"][0]["status"] == "up")
        assert "far_echo" in await tool_names(client)


async def test_reload_leaves_unchanged_upstreams_alone() -> None:
    """A reload that adds an upstream keeps the processes of the others."""
    providers = {"one": {"command": LEGACY_STDIO}}
    async with create_host({"providers": providers}) as host, Client(host.front, cache=None) as client:
        before = (await client.call_tool("count")).structured_content
        await host.reload(load_config({"providers": {**providers, "two": {"command": SDK_STDIO, "prefix": "two_"}}}))
        after = (await client.call_tool("count")).structured_content
        assert before is not None
        assert after == {"calls": 2, "pid": before["pid"]}
        assert text(await client.call_tool("two_revision")) == "2026-07-28"


async def test_missing_program_stops_the_start() -> None:
    """A host whose provider names no program does not start, and says which and why."""
    with pytest.raises(ProviderError, match="'up': there is no program 'no-such-program'"):
        async with create_host({"providers": {"up": {"command": ["no-such-program"]}}}):
            pass


async def test_unknown_key_stops_the_start() -> None:
    """A misspelt key of a provider is an error with the key that was meant (G2)."""
    with pytest.raises(Exception, match=r"timout.*did you mean 'timeout'"):
        async with create_host({"providers": {"up": {"command": ["x"], "timout": 5}}}):
            pass


async def test_time_limit_is_the_clients_error() -> None:
    """A call over the upstream's time limit ends with an error that names both (T8)."""
    config = {"providers": {"up": {"command": LEGACY_STDIO, "timeout": 0.3}}}
    async with create_host(config) as host, Client(host.front) as client:
        with pytest.raises(MCPError, match=r"'up' did not answer tools/call within 0.3 s"):
            await client.call_tool("hang", {"mark": "/dev/null"})
