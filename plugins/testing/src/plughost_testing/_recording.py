"""A plugin that writes down what passes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from plughost import (
    Call,
    CallNext,
    Host,
    HostEvent,
    MCPPlugin,
    Middleware,
    Outcome,
    Phase,
    Principal,
    Result,
    classify,
    hookimpl,
)


@dataclass(eq=False)
class Record:
    """One call as it passed: what was known of it on the way in, and how it came back. Times are the host clock's."""

    method: str
    target: str | None
    provider: str | None
    local_name: str | None
    params: Mapping[str, Any]
    principal: Principal | None
    began: float
    ended: float | None = None
    result: Result | None = None
    error: BaseException | None = None
    outcome: Outcome | None = None


class RecordingMiddleware(MCPPlugin):
    """Records every call that passes its place in the pipeline, and every event of the host. Changes nothing."""

    def __init__(
        self,
        phase: Phase = Phase.OBSERVE,
        *,
        methods: Iterable[str] | None = None,
        before: Iterable[str] = (),
        after: Iterable[str] = (),
        name: str = "recording",
    ) -> None:
        super().__init__(name=name)
        self.records: list[Record] = []
        self.events: list[HostEvent] = []
        self._middleware = Middleware(self.record, phase, methods=methods, before=before, after=after)

    async def register(self, host: Host) -> None:
        self._clock = host.clock

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [self._middleware]

    @hookimpl
    def plughost_event(self, event: HostEvent) -> None:
        self.events.append(event)

    @property
    def outcomes(self) -> list[Outcome | None]:
        """How the calls ended, in the order in which they came in."""
        return [item.outcome for item in self.records]

    async def record(self, call: Call, call_next: CallNext) -> Result:
        """Hand the call on, and write it down."""
        where = (call.method, call.target, call.provider, call.local_name)
        item = Record(*where, call.params, call.principal, self._clock.monotonic())
        self.records.append(item)
        try:
            item.result = await call_next(call)
        except BaseException as error:
            item.error = error
            item.outcome = classify(error=error)
            raise
        else:
            item.outcome = classify(item.result)
            return item.result
        finally:
            item.ended = self._clock.monotonic()
