"""What a client sees when the plugin itself fails."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from mcp.shared.exceptions import MCPError
from plughost import EventType, MCPPlugin, Result

from plughost_testing._recording import RecordingMiddleware
from plughost_testing._sabotage import Hostile, hostile_calls
from plughost_testing._subject import Stage, Subject

BACKEND_KEY = "url"
"""The config key that names a backend."""
RECOVERY = 300.0
"""Virtual seconds within which a plugin must notice that its backend is back."""


async def fails_as_declared(subject: Subject) -> None:
    """When its middleware fails the client gets an error; or the answer, where it fails open, and that is counted."""
    tripped = False
    for mode, changes in _modes(subject):
        call, config = Hostile(), Hostile()
        async with Watch.over(subject, subject.make(hostile_calls(subject.plugin_class, call), **changes)) as watch:
            outcome = await watch.outcome()
            if call.tripped:
                await watch.judge(mode, outcome, "what it read of the call raised")
        plugin = subject.make(**changes)
        async with Watch.over(subject, plugin) as watch:
            plugin.config, healthy = config, plugin.config
            outcome = await watch.outcome()
            plugin.config = healthy
            if config.tripped:
                await watch.judge(mode, outcome, "what it read of its config raised")
        tripped |= call.tripped or config.tripped
    reads = "reads the call or its config" if tripped else "reads neither the call nor its config; declare None"
    assert tripped == (subject.fails is not None), f"fails is {subject.fails!r}, and its middleware {reads}"


async def fails_as_declared_with_its_backend(subject: Subject) -> None:
    """When its backend fails the same holds; and when the backend is back, so is the plugin."""
    if not subject.has_backend:
        fields = subject.plugin_class.config_type.model_fields
        assert BACKEND_KEY not in fields, f"the config has {BACKEND_KEY!r}; set has_backend and override broken_backend"
        return
    for mode, changes in _modes(subject):
        plugin = subject.make(**changes)
        async with Watch.over(subject, plugin) as watch:
            with subject.broken_backend(plugin):
                await watch.judge("open" if subject.degrades else mode, await watch.outcome(), "its backend failed")
            after = await watch.recovered()
            assert after, f"calls still fail {RECOVERY:.0f} s after its backend is back"


class Watch:
    """A stage with the plugin on it, and everything that could tell of a failure."""

    def __init__(self, stage: Stage, events: RecordingMiddleware, warnings: list[logging.LogRecord]) -> None:
        self._stage = stage
        self._events = events
        self._warnings = warnings

    @classmethod
    @asynccontextmanager
    async def over(cls, subject: Subject, plugin: MCPPlugin[Any]) -> AsyncIterator[Watch]:
        """Watch the plugin during the block."""
        events = RecordingMiddleware(name="watch")
        async with subject.stage(events, plugin) as stage:
            handler = _Collector(logging.WARNING)
            logging.getLogger().addHandler(handler)
            try:
                yield cls(stage, events, handler.records)
            finally:
                logging.getLogger().removeHandler(handler)

    async def outcome(self) -> Result | MCPError:
        """What the client gets."""
        try:
            return await self._stage.echo(1)
        except MCPError as error:
            return error

    async def recovered(self) -> bool:
        """Whether calls pass again in time."""
        clock = self._stage.host.clock
        deadline = clock.monotonic() + RECOVERY
        while isinstance(await self.outcome(), MCPError):
            if clock.monotonic() > deadline:
                return False
            await clock.sleep(1)
        return True

    async def judge(self, mode: str, outcome: Result | MCPError, cause: str) -> None:
        """Hold what the client got against what was declared."""
        await self._stage.settle()
        refused = isinstance(outcome, MCPError)
        if mode == "closed":
            assert refused, f"{cause}, and it fails closed, but the client got {outcome}"
            return
        assert not refused, f"{cause}, and it fails open, but the client got {outcome!r}"
        counted = any(event.type == EventType.FAIL_OPEN for event in self._events.events)
        assert counted or self._warnings, f"{cause}, and it failed open, but neither an event nor the log tells"


def _modes(subject: Subject) -> list[tuple[str, Mapping[str, Any]]]:
    """How it is to fail, and the keys that say so."""
    if "fail_mode" in subject.plugin_class.config_type.model_fields:
        return [(mode, {"fail_mode": mode}) for mode in ("closed", "open")]
    return [(subject.fails or "closed", {})]


class _Collector(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
