"""Lists and calls, over both transports, between both eras."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import MCPError
from plughost import Kind, ListChanged, ResourceChanged
from upstreams.clients import ALL, LEGACY, MODERN, Client, text_of
from upstreams.running import LEGACY_STDIO, SDK_STDIO, HTTPServer, Upstreams, until

pytestmark = pytest.mark.anyio


async def names(provider: Any, kind: Kind, client: Client | None = None) -> list[str]:
    call = client.call(kind.method) if client else None
    return [str(entry[kind.key]) for entry in (await provider.list(kind, call)).entries]


async def test_pages_are_joined(upstreams: Upstreams) -> None:
    """A list of several pages is one list, in the upstream's order."""
    one = await upstreams.one(command=LEGACY_STDIO)
    found = await names(one.provider, Kind.TOOLS)
    assert found[:2] == ["echo", "count"]
    assert len(found) == 13


async def test_both_transports_list_the_same(upstreams: Upstreams, dual: HTTPServer) -> None:
    """A server lists the same over stdio and over HTTP."""
    stdio, http = await upstreams.start(a={"command": SDK_STDIO}, b={"url": dual.url})
    for kind in Kind:
        assert await names(stdio.provider, kind) == await names(http.provider, kind)


async def test_unknown_fields_pass_within_one_era(upstreams: Upstreams) -> None:
    """Between a legacy client and a legacy upstream unknown fields and `_meta` are untouched, both ways."""
    one = await upstreams.one(command=LEGACY_STDIO)
    result = await Client(LEGACY).tool(one.provider, "echo", {"text": "hi"}, **{"vendor/sent": [1]})
    assert result["vendorField"] == 7
    assert result["_meta"]["vendor/seen"] == {"vendor/sent": [1]}


async def test_entries_are_raw_within_one_era(upstreams: Upstreams) -> None:
    """A legacy client sees a legacy upstream's tools with the fields that only their revision has."""
    one = await upstreams.one(command=LEGACY_STDIO)
    listing = await one.provider.list(Kind.TOOLS, Client(LEGACY).call("tools/list"))
    assert listing.entries[0] == {"name": "echo", "inputSchema": {"type": "object", "$defs": {}}, "execution": {}}


async def test_results_across_eras_are_complete(upstreams: Upstreams) -> None:
    """A modern client gets a legacy upstream's result as its revision writes it, `_meta` kept."""
    one = await upstreams.one(command=LEGACY_STDIO)
    result = await Client(MODERN).tool(one.provider, "echo", {"text": "hi"}, **{"vendor/sent": [1]})
    assert result["resultType"] == "complete"
    assert "vendorField" not in result
    assert result["_meta"]["vendor/seen"] == {"vendor/sent": [1]}


@pytest.mark.parametrize("version", [LEGACY, MODERN])
@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_each_client_is_served_in_its_own_era(
    upstreams: Upstreams, dual: HTTPServer, transport: str, version: str
) -> None:
    """An upstream that knows both eras speaks to each client in the client's own."""
    one = await upstreams.one(**({"command": SDK_STDIO} if transport == "stdio" else {"url": dual.url}))
    assert text_of(await Client(version).tool(one.provider, "revision")) == version


async def test_protocol_keeps_to_one_era(upstreams: Upstreams, dual: HTTPServer) -> None:
    """With `protocol = "legacy"` modern clients are bridged to the one legacy session."""
    one = await upstreams.one(url=dual.url, protocol="legacy")
    assert text_of(await Client(MODERN).tool(one.provider, "revision")) == LEGACY
    assert len(one.provider.describe()["sessions"]) == 1


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_modern_only_upstream_serves_legacy_clients(
    upstreams: Upstreams, http_server: Callable[..., HTTPServer], transport: str
) -> None:
    """An upstream that refuses the handshake serves legacy clients through the bridge."""
    table = {"command": [*SDK_STDIO, "--modern"]} if transport == "stdio" else {"url": http_server("--modern").url}
    one = await upstreams.one(**table)
    client = Client(LEGACY, {"sampling": {}})
    result = await client.tool(one.provider, "revision")
    assert text_of(result) == MODERN
    assert "resultType" not in result
    assert json.loads(text_of(await client.tool(one.provider, "client"))) == {}


async def test_legacy_only_http_upstream(upstreams: Upstreams, http_server: Callable[..., HTTPServer]) -> None:
    """An HTTP server that answers 400 to the newest revision is spoken to in the older one."""
    one = await upstreams.one(url=http_server("--legacy").url)
    assert text_of(await Client(MODERN).tool(one.provider, "revision")) == LEGACY


@pytest.mark.parametrize("option", ["--shy", "--mute"])
async def test_servers_that_do_not_know_the_probe(
    upstreams: Upstreams, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A legacy server that exits at `server/discover`, or never answers it, is reached all the same."""
    monkeypatch.setattr("plughost_upstream._negotiate.PROBE_LIMIT", 0.3)
    one = await upstreams.one(command=[*LEGACY_STDIO, option])
    await until(lambda: bool(one.provider.capabilities(LEGACY)))
    assert text_of(await Client(LEGACY).tool(one.provider, "echo", {"text": "hi"})) == "hi"


async def test_modern_upstream_sees_the_real_client(upstreams: Upstreams, dual: HTTPServer) -> None:
    """A modern upstream gets the capabilities that the calling client declared."""
    one = await upstreams.one(url=dual.url)
    seen = json.loads(text_of(await Client(MODERN, {"elicitation": {"form": {}}}).tool(one.provider, "client")))
    assert seen == {"elicitation": {"form": {}}}


async def test_headers_mirror_the_body(upstreams: Upstreams, http_server: Callable[..., HTTPServer]) -> None:
    """A modern HTTP upstream gets method, name and mirrored arguments as headers."""
    server = http_server()
    one = await upstreams.one(url=server.url)
    await Client(MODERN).tool(one.provider, "mirror", {"region": "Zürich"})
    last = server.seen()[-1]
    assert (last["mcp-method"], last["mcp-name"]) == ("tools/call", "mirror")
    assert last["mcp-param-region"].startswith("=?base64?")


async def test_custom_methods_pass_raw(upstreams: Upstreams) -> None:
    """A method that no revision knows passes, and its result gets back as it is."""
    one = await upstreams.one(command=LEGACY_STDIO)
    assert await Client(LEGACY).request(one.provider, "vendor/double", {"value": 21}) == {"value": 42}


async def test_errors_pass_untouched(upstreams: Upstreams) -> None:
    """The upstream's error is the client's: code, message and data."""
    one = await upstreams.one(command=LEGACY_STDIO)
    with pytest.raises(MCPError) as caught:
        await Client(LEGACY).request(one.provider, "resources/read", {"uri": "test://none"})
    assert (caught.value.code, caught.value.data) == (-32002, {"uri": "test://none"})


async def test_missing_resource_across_eras(upstreams: Upstreams) -> None:
    """A modern client gets the code that its revision has for a missing resource."""
    one = await upstreams.one(command=LEGACY_STDIO)
    with pytest.raises(MCPError) as caught:
        await Client(MODERN).request(one.provider, "resources/read", {"uri": "test://none"})
    assert (caught.value.code, caught.value.data) == (-32602, {"uri": "test://none"})


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_progress_reaches_its_client(upstreams: Upstreams, version: str) -> None:
    """Progress goes to the client that asked for it, under its own token, before the result."""
    one = await upstreams.one(command=LEGACY_STDIO)
    clients = [Client(version) for _ in range(3)]

    async with anyio.create_task_group() as tasks:
        for client in clients:
            tasks.start_soon(partial(client.tool, one.provider, "progress", progressToken="mine"))
    assert [client.line.steps for client in clients] == [[1, 2, 3]] * 3
    assert {params["progressToken"] for client in clients for _, params in client.line.heard} == {"mine"}


async def test_result_does_not_overtake_progress(upstreams: Upstreams) -> None:
    """A client that reads slowly gets all progress before the result."""
    one = await upstreams.one(command=LEGACY_STDIO)
    client = Client(LEGACY)
    client.delay = 0.1
    await client.tool(one.provider, "progress", progressToken=1)
    assert client.line.steps == [1, 2, 3]


@pytest.mark.parametrize(("level", "expected"), [("error", ["error!"]), ("info", ["info!", "error!"]), (None, [])])
async def test_modern_client_opts_into_logs(upstreams: Upstreams, level: str | None, expected: list[str]) -> None:
    """A modern client gets a legacy upstream's log messages from the level on that it asked for, or none."""
    one = await upstreams.one(command=LEGACY_STDIO)
    client = Client(MODERN)
    meta: dict[str, Any] = {"io.modelcontextprotocol/logLevel": level} if level else {}
    await client.tool(one.provider, "log", **meta)
    assert client.line.logged == expected


async def test_levels_are_kept_per_client(upstreams: Upstreams) -> None:
    """One client's log level raises the upstream's, and leaves the other clients' as they are."""
    one = await upstreams.one(command=LEGACY_STDIO)
    quiet, chatty = Client(LEGACY), Client(LEGACY)
    await quiet.request(one.provider, "logging/setLevel", {"level": "error"})
    await chatty.request(one.provider, "logging/setLevel", {"level": "debug"})
    assert await chatty.request(one.provider, "vendor/level") == {"level": "debug"}
    await quiet.tool(one.provider, "log")
    await chatty.tool(one.provider, "log")
    assert quiet.line.logged == ["error!"]
    assert chatty.line.logged == ["debug!", "info!", "error!"]


async def test_legacy_level_becomes_the_modern_opt_in(
    upstreams: Upstreams, http_server: Callable[..., HTTPServer]
) -> None:
    """A legacy client hears the logs and progress of a modern upstream, from its level on."""
    one = await upstreams.one(url=http_server("--modern").url)
    client = Client(LEGACY)
    await client.tool(one.provider, "log", progressToken=7)
    assert (client.line.logged, client.line.steps) == (["info!"], [1])
    await client.request(one.provider, "logging/setLevel", {"level": "error"})
    await client.tool(one.provider, "log")
    assert client.line.logged == []


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_cancellation_reaches_a_stdio_upstream(upstreams: Upstreams, tmp_path: Path, version: str) -> None:
    """A cancelled request is cancelled upstream (T7)."""
    one = await upstreams.one(command=LEGACY_STDIO)
    mark = tmp_path / "mark"
    client = Client(version, ALL)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(client.tool, one.provider, "hang", {"mark": str(mark)}, progressToken=1))
        await until(lambda: bool(client.line.heard))
        tasks.cancel_scope.cancel()
    await until(mark.exists)


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_cancellation_reaches_an_http_upstream(
    upstreams: Upstreams, dual: HTTPServer, tmp_path: Path, version: str
) -> None:
    """A cancelled request is cancelled upstream, over HTTP in both eras (T7)."""
    one = await upstreams.one(url=dual.url)
    mark = tmp_path / "mark"
    client = Client(version)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.tool, one.provider, "hang", {"mark": str(mark)})
        await until(lambda: any(item["calls"] for item in one.provider.describe()["sessions"]))
        await anyio.sleep(0.3)  # on its way; a request that the server has not seen yet is cancelled there by nobody
        tasks.cancel_scope.cancel()
    await until(mark.exists)


async def test_legacy_upstream_tells_of_a_new_tool(upstreams: Upstreams) -> None:
    """After list_changed the new list is there when the host hears of it."""
    one = await upstreams.one(command=LEGACY_STDIO)
    await Client(LEGACY).request(one.provider, "vendor/add_tool", {"name": "late"})
    await one.events.wait(ListChanged(Kind.TOOLS))
    assert "late" in await names(one.provider, Kind.TOOLS)


async def test_modern_upstream_tells_of_changes(upstreams: Upstreams, http_server: Callable[..., HTTPServer]) -> None:
    """A modern upstream's changes come through `subscriptions/listen`: lists always, resources when watched."""
    one = await upstreams.one(url=http_server().url)
    await one.provider.subscribe("test://b")
    await Client(MODERN).tool(one.provider, "touch")
    await one.events.wait(ResourceChanged("test://b"))
    await one.events.wait(ListChanged(Kind.TOOLS))
    assert "late" in await names(one.provider, Kind.TOOLS)


async def test_legacy_resource_subscription(upstreams: Upstreams) -> None:
    """A watched resource of a legacy upstream is subscribed to once, and no longer when nobody watches."""
    one = await upstreams.one(command=LEGACY_STDIO)
    client = Client(LEGACY)
    await client.request(one.provider, "resources/subscribe", {"uri": "test://a"})
    await one.provider.subscribe("test://a")
    await client.request(one.provider, "vendor/touch")
    await one.events.wait(ResourceChanged("test://a"))
    await one.provider.unsubscribe("test://a")
    assert await client.request(one.provider, "vendor/touch") == {"subscribed": []}


async def test_client_notifications_are_handed_on(upstreams: Upstreams, caplog: pytest.LogCaptureFixture) -> None:
    """A change of a client's roots reaches a legacy upstream."""
    caplog.set_level("INFO", "plughost.upstream.up")
    one = await upstreams.one(command=LEGACY_STDIO)
    await one.provider.notify(Client(LEGACY).call("notifications/roots/list_changed"))
    await until(lambda: "roots changed" in caplog.text)
