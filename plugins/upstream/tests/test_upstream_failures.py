"""What happens when upstreams crash, hang, restart or were never there."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
import pytest
from mcp import MCPError
from plughost import ErrorCode, Kind, ListChanged, ProviderDown, ProviderError, ProviderUp, Refusal, ResourceChanged
from upstreams.clients import LEGACY, MODERN, Client, text_of
from upstreams.running import LEGACY_STDIO, HTTPServer, Started, Upstreams, until

pytestmark = pytest.mark.anyio


async def pid_of(one: Started) -> int:
    result = await Client(LEGACY).tool(one.provider, "count")
    pid: int = result["structuredContent"]["pid"]
    return pid


async def test_killed_child_is_restarted(upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch) -> None:
    """After kill -9 the next call is served by a new process, and the host is told to list again."""
    monkeypatch.setattr("plughost_upstream._provider.GRACE", 10.0)
    one = await upstreams.one(command=LEGACY_STDIO)
    before = await pid_of(one)
    one.events.seen.clear()
    os.kill(before, signal.SIGKILL)
    await one.events.wait(ListChanged(Kind.TOOLS))
    assert await pid_of(one) != before
    assert ProviderDown not in [type(event) for event in one.events.seen]  # it was back within the grace


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_kill_during_a_call(upstreams: Upstreams, version: str) -> None:
    """A call that is under way when the process is killed ends at once, with an error that says what happened."""
    one = await upstreams.one(command=LEGACY_STDIO)
    pid = await pid_of(one)
    client = Client(version)
    errors: list[MCPError] = []

    async def call() -> None:
        with pytest.raises(MCPError) as caught:
            await client.tool(one.provider, "hang", {"mark": "/dev/null"}, progressToken=1)
        errors.append(caught.value)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await until(lambda: bool(client.line.heard))
        os.kill(pid, signal.SIGKILL)
    assert errors[0].code == ErrorCode.UPSTREAM_UNAVAILABLE
    assert errors[0].data["provider"] == "up"
    assert "SIGKILL" in errors[0].message


async def test_down_for_longer_than_a_moment(upstreams: Upstreams, http_server: Callable[..., HTTPServer]) -> None:
    """An upstream that stays away is announced as down, answers clearly, and comes back with its lists."""
    server = http_server()
    one = await upstreams.one(url=server.url, wait=0.2, ping=0.2)
    server.kill()
    down = await one.events.wait(ProviderDown)
    assert isinstance(down, ProviderDown)
    assert "ConnectError" in down.reason
    assert one.provider.capabilities(MODERN) == {}
    assert (await one.provider.list(Kind.TOOLS, None)).entries == ()
    with pytest.raises(Refusal) as caught:
        await Client(MODERN).tool(one.provider, "revision")
    assert caught.value.code == ErrorCode.UPSTREAM_UNAVAILABLE
    assert caught.value.data["retryAfterMs"] > 0
    server.start()
    await one.events.wait(ProviderUp)
    await one.events.wait(ListChanged(Kind.TOOLS))
    assert text_of(await Client(MODERN).tool(one.provider, "revision")) == MODERN


async def test_forgotten_session_is_opened_again(upstreams: Upstreams, http_server: Callable[..., HTTPServer]) -> None:
    """A legacy HTTP server that restarted knows no session: the call is made again on a new one."""
    server = http_server("--legacy")
    one = await upstreams.one(url=server.url, ping=0)
    client = Client(LEGACY)
    await client.tool(one.provider, "revision")
    server.kill()
    server.start()
    assert text_of(await client.tool(one.provider, "revision")) == LEGACY


async def test_restart_is_noticed_without_a_call(upstreams: Upstreams, http_server: Callable[..., HTTPServer]) -> None:
    """The stream of changes breaks when a legacy HTTP server restarts: its lists are fetched again by themselves."""
    server = http_server("--legacy")
    one = await upstreams.one(url=server.url, ping=0)
    one.events.seen.clear()
    server.kill()
    server.start()
    await one.events.wait(ListChanged(Kind.TOOLS))


async def test_upgraded_upstream_is_negotiated_anew(
    upstreams: Upstreams, http_server: Callable[..., HTTPServer]
) -> None:
    """A server that restarts with another revision is spoken to in that one."""
    server = http_server("--modern")
    one = await upstreams.one(url=server.url, ping=0.2)
    assert text_of(await Client(MODERN).tool(one.provider, "revision")) == MODERN
    server.kill()
    server._options = ("--legacy",)
    server.start()
    await until(lambda: [item["version"] for item in one.provider.describe()["sessions"]] == [LEGACY])
    assert text_of(await Client(MODERN).tool(one.provider, "revision")) == LEGACY


async def test_watches_survive_a_restart(upstreams: Upstreams) -> None:
    """What was watched is watched on the new session, and reported as possibly changed."""
    one = await upstreams.one(command=LEGACY_STDIO)
    await one.provider.subscribe("test://a")
    os.kill(await pid_of(one), signal.SIGKILL)
    await one.events.wait(ResourceChanged("test://a"))
    assert await Client(LEGACY).request(one.provider, "vendor/touch") == {"subscribed": ["test://a"]}


async def test_log_level_survives_a_restart(upstreams: Upstreams) -> None:
    """The log level that a client set is set on the new session too."""
    one = await upstreams.one(command=LEGACY_STDIO)
    client = Client(LEGACY)
    await client.request(one.provider, "logging/setLevel", {"level": "warning"})
    os.kill(await pid_of(one), signal.SIGKILL)
    await one.events.wait(ListChanged(Kind.TOOLS))
    assert await client.request(one.provider, "vendor/level") == {"level": "warning"}


async def test_total_limit_holds_in_spite_of_progress(upstreams: Upstreams, tmp_path: Path) -> None:
    """Progress does not extend the time limit; at its end the call is cancelled upstream (T8)."""
    one = await upstreams.one(command=LEGACY_STDIO, timeout=0.4)
    client = Client(LEGACY)
    mark = tmp_path / "mark"
    with anyio.fail_after(5), pytest.raises(Refusal) as caught:
        await client.tool(one.provider, "hang", {"mark": str(mark)}, progressToken=1)
    assert caught.value.code == ErrorCode.TIMEOUT
    assert len(client.line.steps) > 3
    await until(mark.exists)


async def test_missing_program(upstreams: Upstreams) -> None:
    """A command that does not exist is a fault that names it and the remedy, at once."""
    (provider,) = upstreams.plugin.plughost_providers(upstreams.config(up={"command": ["no-such-program", "-x"]}))
    with pytest.raises(ProviderError, match=r"'up': there is no program 'no-such-program'. Install it"):
        await provider.start(lambda _: None)


async def test_shell_syntax_is_not_a_shell(upstreams: Upstreams) -> None:
    """A command with shell syntax in it is looked up as a program's name, not run by a shell (L1)."""
    (provider,) = upstreams.plugin.plughost_providers(upstreams.config(up={"command": ["echo hi; true"]}))
    with pytest.raises(ProviderError, match="no shell is involved"):
        await provider.start(lambda _: None)


async def test_child_that_fails_at_once(upstreams: Upstreams) -> None:
    """A child that exits at start leaves the provider down, with exit code and last words as the reason (G5)."""
    one = await upstreams.one(command=[*LEGACY_STDIO, "--fail"])
    down = await one.events.wait(ProviderDown)
    assert isinstance(down, ProviderDown)
    assert "the process exited with code 5; its last words: 'no licence found'" in down.reason


async def test_slow_start_does_not_hold_up_the_host(upstreams: Upstreams) -> None:
    """`start()` returns after `start_timeout`; the upstream comes up later (G5)."""
    with anyio.fail_after(1.5):
        one = await upstreams.one(command=[*LEGACY_STDIO, "--slow", "1.5"], start_timeout=0.1)
    await one.events.wait(ProviderDown)
    await one.events.wait(ProviderUp)
    assert len((await one.provider.list(Kind.TOOLS, None)).entries) == 13


async def test_silent_upstream_is_given_up_and_tried_again(upstreams: Upstreams) -> None:
    """A process that never answers is ended after `connect_timeout`."""
    one = await upstreams.one(command=[sys.executable, "-c", "import time; time.sleep(60)"], connect_timeout=0.3)
    down = await one.events.wait(ProviderDown)
    assert isinstance(down, ProviderDown)
    assert "it did not answer within 0.3 s" in down.reason


async def test_one_upstream_down_leaves_the_other(upstreams: Upstreams) -> None:
    """An upstream that nobody listens on takes nothing from another one (G5)."""
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/mcp"
        bad, good = await upstreams.start(bad={"url": url}, good={"command": LEGACY_STDIO})
    assert (await bad.provider.list(Kind.TOOLS, None)).entries == ()
    assert text_of(await Client(MODERN).tool(good.provider, "echo", {"text": "hi"})) == "hi"


async def test_hanging_http_server(upstreams: Upstreams) -> None:
    """An HTTP server that accepts and never answers leaves the provider down, not the host waiting (G5)."""
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/mcp"
        with anyio.fail_after(5):
            one = await upstreams.one(url=url, connect_timeout=0.3)
        down = await one.events.wait(ProviderDown)
    assert isinstance(down, ProviderDown)
    assert "did not answer" in down.reason


async def test_one_broken_answer_breaks_one_call(upstreams: Upstreams, http_server: Callable[..., HTTPServer]) -> None:
    """A request that fails on the network does not end the others on the same session."""
    server = http_server()
    one = await upstreams.one(url=server.url)
    session = one.provider._first.first.live
    assert session is not None
    results: list[str] = []

    async def healthy() -> None:
        results.append(text_of(await Client(MODERN).tool(one.provider, "slow")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(healthy)
        with pytest.raises(MCPError, match="broke during the call"):
            await Client(MODERN).tool(one.provider, "abort")
    assert results == ["slow"]
    assert one.provider._first.first.live is session


async def test_credentials_come_from_the_configuration_only(
    upstreams: Upstreams, http_server: Callable[..., HTTPServer]
) -> None:
    """The upstream gets the configured token with every request, and nothing of the client's (A4)."""
    server = http_server("--token", "of-the-host")
    one = await upstreams.one(url=server.url, headers={"Authorization": "Bearer of-the-host"})
    for version in (LEGACY, MODERN):
        await Client(version).tool(one.provider, "revision")
    requests = server.seen()
    assert {request["authorization"] for request in requests} == {"Bearer of-the-host"}
    assert {request["method"] for request in requests} >= {"POST", "GET"}


async def test_missing_credentials_are_named(upstreams: Upstreams, http_server: Callable[..., HTTPServer]) -> None:
    """A server that demands a token leaves the provider down, with the HTTP status as the reason."""
    one = await upstreams.one(url=http_server("--token", "secret-token").url)
    down = await one.events.wait(ProviderDown)
    assert isinstance(down, ProviderDown)
    assert "HTTP 401" in down.reason


async def test_redirect_to_another_host_is_not_followed(upstreams: Upstreams, dual: HTTPServer) -> None:
    """A redirect off the configured origin is refused, and the credentials stay (A4, S1)."""
    other = dual.url.replace("127.0.0.1", "localhost")
    one = await upstreams.one(url=dual.url.replace("/mcp", f"/redirect?to={other}"), headers={"X-Secret": "s3cret"})
    down = await one.events.wait(ProviderDown)
    assert isinstance(down, ProviderDown)
    assert "not followed" in down.reason
    assert not [item for item in dual.seen() if item["host"].startswith("localhost")]


async def test_environment_is_an_allow_list(upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child sees a few harmless variables, those named to inherit, and those configured (L1)."""
    monkeypatch.setenv("HOST_SECRET", "x")
    monkeypatch.setenv("WANTED", "y")
    one = await upstreams.one(command=LEGACY_STDIO, inherit_env=["WANTED"], env={"TOKEN": "z"})
    seen = json.loads(text_of(await Client(LEGACY).tool(one.provider, "env")))
    assert (seen.get("WANTED"), seen.get("TOKEN"), seen.get("HOST_SECRET")) == ("y", "z", None)
    assert seen["PATH"] == os.environ["PATH"]


async def test_oversized_message_ends_the_connection(upstreams: Upstreams) -> None:
    """A message over `max_message` is not taken into memory: the connection ends and is made anew."""
    one = await upstreams.one(command=LEGACY_STDIO, max_message=20_000)
    with pytest.raises(MCPError, match="message of more than 20000 bytes"):
        await Client(LEGACY).tool(one.provider, "echo", {"text": "x" * 200_000})
    assert text_of(await Client(LEGACY).tool(one.provider, "echo", {"text": "hi"})) == "hi"


async def test_calls_share_one_session(upstreams: Upstreams, http_server: Callable[..., HTTPServer]) -> None:
    """Many calls at once use the session that is there: none is opened per call."""
    server = http_server("--legacy")
    one = await upstreams.one(url=server.url)
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(partial(Client(LEGACY).tool, one.provider, "echo", {"text": str(number)}))
    sessions = {request["mcp-session-id"] for request in server.seen() if "mcp-session-id" in request}
    assert len(sessions) == 1
