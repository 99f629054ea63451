"""The call of a flight: that of the caller who started it, but with a line that may go dead."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import anyio
from mcp.shared.dispatcher import DispatchContext
from mcp.shared.exceptions import NoBackChannelError
from plughost import Call


class SharedLine:
    """A flight's line to the client that started it, for as long as that one waits.

    After `detach()` nothing is sent any more, and a question fails as if there had never been a way to ask. `asked`
    tells whether there was one: what a client answered is in the result, so that result is for that client.
    """

    def __init__(self, line: DispatchContext[Any]) -> None:
        self._line = line
        self._attached = True
        self.request_id = line.request_id
        self.asked = False
        self._questions: tuple[anyio.CancelScope, ...] = ()

    def detach(self) -> None:
        """The client is not to be talked to any more."""
        self._attached = False
        for question in self._questions:
            question.cancel()

    @property
    def transport(self) -> Any:
        return self._line.transport

    @property
    def message_metadata(self) -> Any:
        return self._line.message_metadata

    @property
    def can_send_request(self) -> bool:
        return self._attached and self._line.can_send_request

    @cached_property
    def cancel_requested(self) -> anyio.Event:
        """Never set: the flight's task is cancelled when nobody waits for it any more."""
        return anyio.Event()

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        if self._attached:
            await self._line.notify(method, params, opts)

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        if self._attached:
            await self._line.progress(progress, total, message)

    async def send_raw_request(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> dict[str, Any]:
        """Ask the client.

        Raises:
            NoBackChannelError: It cannot be asked, or is gone meanwhile.
        """
        self.asked = True
        with anyio.CancelScope() as question:
            self._questions = (*self._questions, question)
            if not self._attached:
                raise NoBackChannelError(method)
            return await self._line.send_raw_request(method, params, opts)
        raise NoBackChannelError(method)


def flight_call(call: Call, line: SharedLine) -> Call:
    """The call that the flight makes for all who wait.

    It has no deadline: each caller keeps its own, and the flight ends with the last of them.
    """
    own = Call(call.method, call.params, connection=call.connection, dispatch=line, request=call.request)
    own.provider, own.local_name, own.target = call.provider, call.local_name, call.target
    own.principal, own.protocol_version = call.principal, call.protocol_version
    own.__dict__["state"] = call.state
    return own
