"""A client for code that uses one."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from mcp import Client
from mcp.client.client import ConnectMode

from plughost_testing._hosting import make_host
from plughost_testing._provider import Received, Reply, ScriptedProvider


class MockClient(Client):
    """The SDK's own `Client`, connected to a `ScriptedProvider` in memory: for code that *uses* a client.

    All of its methods are the real ones; what they answer is scripted, and what reached the other side is in `calls`.

        async with MockClient(tools=["add"]) as client:
            client.script("add", text("3"), MCPError(-32000, "busy"))
    """

    def __init__(self, *, provider: ScriptedProvider | None = None, mode: ConnectMode = "auto", **given: Any) -> None:
        """`given` is what `ScriptedProvider` takes: tools, prompts, resources, templates."""
        self.provider = provider or ScriptedProvider("mock", **given)
        self._host = make_host(providers=[self.provider])
        super().__init__(self._host.front, mode=mode, cache=None)

    def script(self, target: str, *replies: Reply) -> None:
        """Say how calls of a target are answered, as in `ScriptedProvider.script`."""
        self.provider.script(target, *replies)

    @property
    def calls(self) -> Sequence[Received]:
        """Every call that reached the other side."""
        return self.provider.calls

    async def __aenter__(self) -> Self:
        await self._host.__aenter__()
        try:
            await super().__aenter__()
        except BaseException as error:
            await self._host.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            await self._host.__aexit__(kind, error, trace)
