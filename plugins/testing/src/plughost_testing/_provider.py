"""A provider that does what a script says."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import METHOD_NOT_FOUND
from plughost import (
    Call,
    ErrorCode,
    Kind,
    ListChanged,
    Listing,
    Outcome,
    ProviderDown,
    ProviderListener,
    ProviderUp,
    Refusal,
    ResourceChanged,
    classify,
)


@dataclass(frozen=True, slots=True)
class Pause:
    """A step of a script: wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of a script: tell the client how far it is."""

    progress: float
    total: float | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """A step of a script: send the client a log message."""

    data: Any
    level: str = "info"


@dataclass(frozen=True, slots=True)
class Hang:
    """A step of a script: wait until the call is cancelled."""


Answerer = Callable[[Call, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
Step = Mapping[str, Any] | Exception | Pause | Progress | Log | Hang | Answerer
"""What a reply is made of. A mapping, an exception or a function ends it; the others come before."""
Reply = Step | Sequence[Step]


@dataclass(eq=False)
class Received:
    """A call as it reached the provider. `outcome` is `None` while it runs."""

    call: Call
    method: str
    name: str | None
    """The provider's own name of the target."""
    params: Mapping[str, Any]
    outcome: Outcome | None = None


def text(words: str, **more: Any) -> dict[str, Any]:
    """A tool result that says `words`."""
    return {"content": [{"type": "text", "text": words}], **more}


def tool(name: str, **more: Any) -> dict[str, Any]:
    """A tool as a provider lists it; it takes any arguments."""
    return {"name": name, "inputSchema": {"type": "object"}, **more}


def prompt(name: str, **more: Any) -> dict[str, Any]:
    """A prompt as a provider lists it."""
    return {"name": name, **more}


def resource(uri: str, **more: Any) -> dict[str, Any]:
    """A resource as a provider lists it."""
    return {"uri": uri, "name": uri, **more}


def template(uri: str, **more: Any) -> dict[str, Any]:
    """A resource template as a provider lists it."""
    return {"uriTemplate": uri, "name": uri, **more}


class ScriptedProvider:
    """A `plughost.Provider` that lists what it is told to, answers by script, and remembers every call.

    Tools, prompts, resources and templates are given by name, or as the mapping that a list holds. A call that no
    script mentions is answered with its own name and arguments.
    """

    def __init__(
        self,
        name: str = "scripted",
        *,
        tools: Iterable[str | Mapping[str, Any]] = (),
        prompts: Iterable[str | Mapping[str, Any]] = (),
        resources: Iterable[str | Mapping[str, Any]] = (),
        templates: Iterable[str | Mapping[str, Any]] = (),
        prefix: str = "",
        instructions: str | None = None,
        capabilities: Mapping[str, Any] | None = None,
        fails_to_start: Exception | None = None,
    ) -> None:
        self.name = name
        self.prefix = prefix
        self.instructions = instructions
        self.calls: list[Received] = []
        self.notifications: list[Call] = []
        self.watched: set[str] = set()
        """URIs that the host asked to be told about."""
        self.started = False
        self.reason_down: str | None = None
        self._extra = {"logging": {}, "completions": {}} if capabilities is None else dict(capabilities)
        self._fails_to_start = fails_to_start
        self._listener: ProviderListener = lambda _: None
        self._scripts: dict[str, list[Reply]] = {}
        self._arrived = anyio.Event()
        self._entries: dict[Kind, tuple[Mapping[str, Any], ...]] = {}
        for kind, entries in zip(Kind, (tools, prompts, resources, templates), strict=True):
            self._set(kind, entries)

    # -- what a test says ---------------------------------------------------------------------------------------------

    def script(self, target: str, *replies: Reply) -> None:
        """Say how calls of a tool, prompt or resource (or of any method, by its name) are answered.

        Each call takes the next reply; the last one stays. A reply is a step, or several of them.
        """
        self._scripts[target] = list(replies)

    def change(self, kind: Kind, entries: Iterable[str | Mapping[str, Any]]) -> None:
        """Replace what the provider lists of a kind, and tell the host."""
        self._set(kind, entries)
        self._listener(ListChanged(kind))

    def touch(self, uri: str) -> None:
        """Tell the host that a resource changed, if it asked to be told."""
        if uri in self.watched:
            self._listener(ResourceChanged(uri))

    def down(self, reason: str = "scripted") -> None:
        """Stop to serve, and tell the host."""
        self.reason_down = reason
        self._listener(ProviderDown(reason))

    def up(self) -> None:
        """Serve again, and tell the host."""
        self.reason_down = None
        self._listener(ProviderUp())

    async def received(self, calls: int = 1) -> Sequence[Received]:
        """Wait until so many calls have arrived since the start; returns all."""
        while len(self.calls) < calls:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        return self.calls

    @property
    def running(self) -> list[Received]:
        """The calls that are under way."""
        return [item for item in self.calls if item.outcome is None]

    # -- what the host asks -------------------------------------------------------------------------------------------

    async def start(self, listener: ProviderListener) -> None:
        if self._fails_to_start is not None:
            raise self._fails_to_start
        self._listener = listener
        self.started = True

    async def stop(self) -> None:
        self.started = False

    def capabilities(self, protocol_version: str) -> Mapping[str, Any]:
        del protocol_version
        if self.reason_down is not None:
            return {}
        return {**{kind.capability: {"listChanged": True} for kind in self._entries}, **self._extra}

    async def list(self, kind: Kind, call: Call | None) -> Listing:
        del call
        return Listing(self._entries.get(kind, ()) if self.reason_down is None else ())

    async def request(self, call: Call, params: Mapping[str, Any]) -> dict[str, Any]:
        item = Received(call, call.method, call.local_name, params)
        self.calls.append(item)
        self._arrived.set()
        try:
            result = dict(await self._answer(call, params))
        except BaseException as error:
            item.outcome = classify(error=error)
            raise
        item.outcome = classify(result)
        return result

    def serves(self, method: str) -> bool:
        return method in self._scripts

    async def notify(self, call: Call) -> None:
        self.notifications.append(call)

    async def subscribe(self, uri: str) -> None:
        self.watched.add(uri)

    async def unsubscribe(self, uri: str) -> None:
        self.watched.discard(uri)

    # -- how it answers -----------------------------------------------------------------------------------------------

    async def _answer(self, call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.reason_down is not None:
            raise Refusal(ErrorCode.UPSTREAM_UNAVAILABLE, f"{self.name} is down: {self.reason_down}")
        for step in self._next_reply(call):
            match step:
                case Exception():
                    raise step
                case Mapping():
                    return step
                case Pause(seconds):
                    await anyio.sleep(seconds)
                case Progress():
                    await call.dispatch.progress(step.progress, step.total, step.message)
                case Log():
                    message = {"level": step.level, "logger": self.name, "data": step.data}
                    await call.dispatch.notify("notifications/message", message)
                case Hang():
                    await anyio.sleep_forever()
                case _:
                    return await step(call, params)
        return _echo(call, params)

    def _next_reply(self, call: Call) -> Sequence[Step]:
        for key in (call.local_name, call.method):
            replies = self._scripts.get(key) if key is not None else None
            if replies:
                reply = replies.pop(0) if len(replies) > 1 else replies[0]
                return reply if isinstance(reply, list | tuple) else (reply,)
        return ()

    def _set(self, kind: Kind, entries: Iterable[str | Mapping[str, Any]]) -> None:
        make = _MAKE[kind]
        found = tuple(make(entry) if isinstance(entry, str) else entry for entry in entries)
        if found or kind in self._entries:
            self._entries[kind] = found

    def __repr__(self) -> str:
        return f"<ScriptedProvider {self.name!r}: {len(self.calls)} calls>"


_MAKE: Mapping[Kind, Callable[[str], dict[str, Any]]] = {
    Kind.TOOLS: tool,
    Kind.PROMPTS: prompt,
    Kind.RESOURCES: resource,
    Kind.TEMPLATES: template,
}


def _echo(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """An answer that says what was asked."""
    said = f"{call.local_name}({json.dumps(params.get('arguments') or {}, sort_keys=True)})"
    match call.method:
        case "tools/call":
            return text(said)
        case "prompts/get":
            return {"messages": [{"role": "user", "content": {"type": "text", "text": said}}]}
        case "resources/read":
            return {"contents": [{"uri": params.get("uri"), "text": said}]}
        case "completion/complete":
            return {"completion": {"values": [], "total": 0, "hasMore": False}}
        case "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe":
            return {}
        case _:
            raise MCPError(METHOD_NOT_FOUND, "Method not found", call.method)
