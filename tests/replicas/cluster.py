"""Three hosts behind a real nginx."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

from plughost_testing.services import HostProcess, Nginx, Stack

SITE = (Path(__file__).parents[2] / "docs/examples/nginx/plughost.conf").read_text("utf-8")
"""The configuration that the documentation shows."""
SERVER = dedent('''
    """A server whose tools say in which process they ran."""

    import asyncio
    import os

    from mcp.server.mcpserver import Context, MCPServer
    from mcp_types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult

    mcp = MCPServer("notes")


    def ask(word: str) -> ElicitRequest:
        schema = {"type": "object", "properties": {word: {"type": "string"}}}
        return ElicitRequest(params=ElicitRequestFormParams(message=word, requested_schema=schema))


    @mcp.resource("note://1")
    def note() -> str:
        return "a note"


    @mcp.tool()
    def where() -> int:
        return os.getpid()


    @mcp.tool()
    async def slow(seconds: float) -> int:
        await asyncio.sleep(seconds)
        return os.getpid()


    @mcp.tool()
    async def count(ctx: Context, steps: int, pause: float) -> int:
        for step in range(steps):
            await ctx.report_progress(step, steps)
            await asyncio.sleep(pause)
        return os.getpid()


    @mcp.tool()
    async def change(ctx: Context) -> int:
        await ctx.notify_resource_updated("note://1")
        await ctx.notify_tools_changed()
        return os.getpid()


    @mcp.tool()
    async def book(ctx: Context) -> str | InputRequiredResult:
        """Asks twice; what it knows so far is in the sealed request state."""
        state = (ctx.request_state or "").split()
        answers = ctx.input_responses or {}
        for name in ("first", "second"):
            if name in answers:
                state += [answers[name].content[name], str(os.getpid())]
        if len(state) < 2:
            return InputRequiredResult(input_requests={"first": ask("first")}, request_state=" ".join(state))
        if len(state) < 4:
            return InputRequiredResult(input_requests={"second": ask("second")}, request_state=" ".join(state))
        return " ".join(state)
''')


@dataclass
class Cluster:
    """Hosts, and the nginx in front of them."""

    hosts: list[HostProcess]
    nginx: Nginx

    @property
    def url(self) -> str:
        return f"{self.nginx.url}/mcp"

    @property
    def pids(self) -> set[int]:
        """The processes that serve."""
        return {host.process.pid for host in self.hosts if host.process is not None}

    def mend(self) -> None:
        """Start what does not run, and let nginx forget that it did not."""
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(lambda host: host.running or host.start(), self.hosts))
        self.nginx.restart()

    def host_of(self, pid: int) -> HostProcess:
        return next(host for host in self.hosts if host.process is not None and host.process.pid == pid)


def start_cluster(stack: Stack, config: Mapping[str, Any]) -> Cluster:
    host = {"name": "notes", "request_state_keys": ["k" * 40], **config.get("host", {})}
    full = {"providers": {"notes": {"python": "notes_server:mcp"}}, **config, "host": host}
    made = [HostProcess(full, files={"notes_server.py": SERVER}) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        hosts = list(threads.map(stack.start, made))
    site = SITE.replace("listen 80;", "listen 127.0.0.1:{port};")
    for number, process in enumerate(hosts, 1):
        site = re.sub(rf"127(\\?)\.0(\\?)\.0(\\?)\.1:800{number}", rf"127\1.0\2.0\3.1:{process.port}", site)
    return Cluster(hosts, stack.start(Nginx(site)))


Start = Callable[..., Cluster]
"""Starts replicas with a configuration."""
