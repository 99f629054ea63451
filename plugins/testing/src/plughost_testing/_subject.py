"""What a plugin says of itself, so that the clauses of the contract know what to hold it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import anyio
from plughost import Call, Host, MCPPlugin, Result

from plughost_testing._call import make_call
from plughost_testing._clock import clock_of_loop
from plughost_testing._hosting import make_host
from plughost_testing._provider import ScriptedProvider, text

LIMIT = 3600.0
"""Virtual seconds after which something that should have ended hangs."""


class Subject:
    """A plugin and what it claims: set class attributes, override methods. Each default is the strictest claim."""

    plugin_class: ClassVar[type[MCPPlugin[Any]]]
    """The plugin."""
    config: ClassVar[Mapping[str, Any]] = {}
    """A valid config, under which the plugin lets a few hundred calls of `echo` pass; each takes up to a second."""

    # Config
    invalid: ClassVar[Mapping[str, Sequence[Any]]] = {}
    """Field → values that it must refuse, besides those that the kit tries (wrong types, a negative number)."""
    free: ClassVar[Collection[str]] = ()
    """Fields that take any value."""

    # Calls
    has_middleware: ClassVar[bool] = True
    """Whether it stands in the pipeline at all."""
    handles: ClassVar[Collection[str]] = ("tools/call",)
    """Methods whose parameters or results it may change; all others must pass untouched."""
    reuses: ClassVar[bool] = False
    """Whether it may answer without the provider, so that not every call arrives there."""
    repeats: ClassVar[bool] = False
    """Whether it may ask the provider more than once for one call that succeeds, as hedging does."""

    # Failure
    fails: ClassVar[Literal["closed", "open"] | None] = "closed"
    """What the client sees when the middleware fails: an error, or the provider's answer (then with an event
    `guard.fail_open` or a warning in the log). With a `fail_mode` in the config both are tried. `None`: on the way of a
    healthy call it reads neither the call nor its config, so that there is nothing to fail."""
    has_backend: ClassVar[bool] = False
    """Whether it keeps something outside the process; then override `broken_backend`."""
    degrades: ClassVar[bool] = False
    """Whether it goes on without its backend, by what it knows itself, whatever its other failures mean."""

    # Reconfiguration
    other_config: ClassVar[Mapping[str, Any] | None] = None
    """Another valid config to change to. `None` only if it has no keys of its own."""
    keeps_state: ClassVar[bool] = False
    """Whether `reconfigure` takes a new config in place; then override `state_of`."""

    def needs(self) -> Sequence[MCPPlugin[Any]]:
        """Other plugins that it requires."""
        return ()

    def broken_backend(self, plugin: MCPPlugin[Any]) -> AbstractContextManager[object]:
        """A block during which the backend of the registered plugin fails."""
        raise NotImplementedError(f"has_backend is set, so {type(self).__name__} must override broken_backend")

    def state_of(self, plugin: MCPPlugin[Any]) -> object:
        """What must survive a reconfiguration, as a value that can be compared."""
        raise NotImplementedError(f"keeps_state is set, so {type(self).__name__} must override state_of")

    def essence(self, result: Result) -> object:
        """What of a tool's result must be the same however the calls overlap; all but `_meta`, unless overridden."""
        return {key: value for key, value in result.items() if key != "_meta"}

    # -- what clauses use ---------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the instance under test."""
        return "under-test"

    def make(self, plugin_class: type[MCPPlugin[Any]] | None = None, **changes: Any) -> MCPPlugin[Any]:
        """An instance with the valid config, or with some keys changed."""
        kind = plugin_class or self.plugin_class
        return kind(kind.config_type.model_validate({**self.config, **changes}), name=self.name)

    @asynccontextmanager
    async def stage(self, *plugins: MCPPlugin[Any]) -> AsyncIterator[Stage]:
        """A running host with these plugins, what they need, and a provider that offers one of everything."""
        provider = ScriptedProvider(
            "stage", tools=["echo"], prompts=["ask"], resources=["test://one"], templates=["test://{name}"]
        )
        provider.script("echo", _answer)
        provider.script("test/custom", {"custom": True})
        async with make_host(*self.needs(), *plugins, providers=[provider], clock=clock_of_loop()) as host:
            yield Stage(host, provider)


@dataclass(frozen=True)
class Stage:
    """A host and its provider, and calls to them."""

    host: Host
    provider: ScriptedProvider

    async def echo(self, number: int = 0) -> Result:
        """Call the tool with a number; it answers with the number, later."""
        with anyio.fail_after(LIMIT):
            return await self.host.dispatch(echo_call(number))

    async def settle(self) -> None:
        """Let events be delivered."""
        for _ in range(20):
            await asyncio.sleep(0)


def echo_call(number: int = 0) -> Call:
    """A call of the stage's tool."""
    return make_call("tools/call", {"name": "echo", "arguments": {"number": number}})


async def _answer(call: Call, params: Mapping[str, Any]) -> Result:
    """Say which call it is, after a while that depends on it, so that calls overtake each other."""
    del call
    number = int((params.get("arguments") or {}).get("number", 0))
    await anyio.sleep(0.1 + number * 7 % 10 / 10)
    return text(f"number {number}")
