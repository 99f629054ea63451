"""Providers, servers and plugins for tests of the host: real objects, small enough to see through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import anyio
from mcp.server.mcpserver import MCPServer
from plughost import (
    Call,
    CallNext,
    Host,
    HostConfig,
    HostEvent,
    Kind,
    Listing,
    MCPPlugin,
    Middleware,
    Phase,
    PluginConfig,
    Provider,
    ProviderListener,
    Result,
    create_host,
    hookimpl,
)

Handler = Callable[[Call, CallNext], Awaitable[Result]]
OBJECT = {"type": "object"}


def tool(name: str, **more: Any) -> dict[str, Any]:
    """A tool as a provider lists it."""
    return {"name": name, "inputSchema": OBJECT, **more}


def text(words: str) -> dict[str, Any]:
    """A tool result that says `words`."""
    return {"content": [{"type": "text", "text": words}]}


@dataclass(eq=False)
class StubProvider:
    """Lists what it is told to, and answers every call with its own name and the local name it was asked for."""

    name: str
    tools: Sequence[str] = ()
    _: KW_ONLY
    prefix: str = ""
    entries: dict[Kind, list[dict[str, Any]]] = field(default_factory=dict)
    instructions: str | None = None
    able: dict[str, Any] = field(default_factory=dict)
    methods: Sequence[str] = ()
    log: list[str] = field(default_factory=list)
    down: bool = False
    fails_to_start: Exception | None = None
    fails_to_list: Exception | None = None
    answer: Callable[[Call, Mapping[str, Any]], Awaitable[dict[str, Any]]] | None = None

    def __post_init__(self) -> None:
        self.listener: ProviderListener = lambda _: None
        if self.tools:
            self.entries[Kind.TOOLS] = [tool(name) for name in self.tools]

    async def start(self, listener: ProviderListener) -> None:
        self.log.append("start")
        self.listener = listener
        if self.fails_to_start is not None:
            raise self.fails_to_start

    async def stop(self) -> None:
        self.log.append("stop")

    def capabilities(self, protocol_version: str) -> Mapping[str, Any]:
        return {} if self.down else {**{kind.capability: {} for kind in self.entries}, **self.able}

    def serves(self, method: str) -> bool:
        return method in self.methods

    async def list(self, kind: Kind, call: Call | None) -> Listing:
        if self.fails_to_list is not None:
            raise self.fails_to_list
        return Listing(tuple(self.entries.get(kind, ())))

    async def request(self, call: Call, params: Mapping[str, Any]) -> dict[str, Any]:
        if self.answer is not None:
            return await self.answer(call, params)
        return text(f"{self.name}:{call.local_name}")

    async def notify(self, call: Call) -> None:
        self.log.append(call.method)

    async def subscribe(self, uri: str) -> None:
        self.log.append(f"subscribe {uri}")

    async def unsubscribe(self, uri: str) -> None:
        self.log.append(f"unsubscribe {uri}")


class Bringing(MCPPlugin):
    """A plugin that contributes providers."""

    def __init__(self, name: str, *providers: Provider) -> None:
        super().__init__(name=name)
        self.providers = list(providers)

    @hookimpl
    def plughost_providers(self) -> list[Provider]:
        return self.providers


class Around(MCPPlugin):
    """A plugin with one middleware, which notes in `trace` that a call came in and went out."""

    def __init__(
        self,
        name: str,
        phase: Phase = Phase.GUARD,
        *,
        handler: Handler | None = None,
        methods: Iterable[str] | None = ("tools/call",),
        before: Iterable[str] = (),
        after: Iterable[str] = (),
        trace: list[str] | None = None,
        config: PluginConfig | None = None,
    ) -> None:
        super().__init__(config, name=name)
        self.trace = trace if trace is not None else []
        self.events: list[HostEvent] = []
        self.middleware = Middleware(handler or self.note, phase, methods=methods, before=before, after=after)

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [self.middleware]

    @hookimpl
    def plughost_event(self, event: HostEvent) -> None:
        self.events.append(event)

    async def note(self, call: Call, call_next: CallNext) -> Result:
        self.trace.append(f"+{self.name}")
        try:
            return await call_next(call)
        finally:
            self.trace.append(f"-{self.name}")


class Held:
    """A server whose tool `hold` says that it was entered, and answers when it is let go."""

    def __init__(self) -> None:
        self.server = MCPServer("held")
        self.entered = anyio.Event()
        self.release = anyio.Event()
        self.cancelled = anyio.Event()
        self.server.tool()(self.hold)
        self.server.tool()(self.add)

    async def hold(self) -> str:
        self.entered.set()
        try:
            await self.release.wait()
        except BaseException:
            self.cancelled.set()
            raise
        return "done"

    async def add(self, a: int, b: int) -> int:
        return a + b


def host_of(
    *providers: Provider, plugins: Sequence[MCPPlugin[Any]] = (), config: HostConfig | Mapping[str, Any] | None = None
) -> Host:
    """A host over these providers, with these plugins around them."""
    return create_host(config, plugins=[Bringing("providers", *providers), *plugins])
