"""A plugin that keeps the contract, and one that breaks it in each way that the contract knows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import anyio
from plughost import (
    Call,
    CallNext,
    ErrorCode,
    GuardConfig,
    Host,
    MCPPlugin,
    Middleware,
    Phase,
    PluginConfig,
    Refusal,
    Result,
    hookimpl,
)
from pydantic import ConfigDict, Field, model_validator


class LimitConfig(GuardConfig):
    limit: int = Field(default=1000, gt=0)


class Good(MCPPlugin[LimitConfig]):
    """Counts calls in GUARD, and lets a few at a time pass."""

    phase: ClassVar[Phase] = Phase.GUARD
    methods: ClassVar[set[str] | None] = {"tools/call"}

    def __init__(self, config: LimitConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self.counted = 0
        self.permits = anyio.Semaphore(3)

    async def register(self, host: Host) -> None:
        self.host = host

    async def reconfigure(self, config: LimitConfig) -> bool:
        return True

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.handle, self.phase, methods=self.methods)]

    async def handle(self, call: Call, call_next: CallNext) -> Result:
        if self.counted >= self.config.limit:
            raise Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, f"{call.target} was called too often")
        self.counted += 1
        async with self.permits:
            return await call_next(call)


# -- config -----------------------------------------------------------------------------------------------------------


class LooseConfig(PluginConfig):
    model_config = ConfigDict(extra="ignore", frozen=True)
    limit: int = 1000


class TakesUnknownKeys(MCPPlugin[LooseConfig]):
    pass


class AnyConfig(PluginConfig):
    limit: Any = 1000


class TakesAnything(MCPPlugin[AnyConfig]):
    pass


class MumblingConfig(PluginConfig):
    limit: int = 1000

    @model_validator(mode="after")
    def _check(self) -> MumblingConfig:
        if self.limit < 0:
            raise ValueError("bad value")
        return self


class Mumbles(MCPPlugin[MumblingConfig]):
    pass


class WideConfig(PluginConfig):
    limit: int = 1000


class TakesTooMuch(MCPPlugin[WideConfig]):
    pass


# -- place ------------------------------------------------------------------------------------------------------------


class ChangesEveryResult(Good):
    methods = None

    async def handle(self, call: Call, call_next: CallNext) -> Result:
        return {**await call_next(call), "_meta": {"seen": True}}


class ChangesEveryRequest(Good):
    phase = Phase.TRANSFORM
    methods = None

    async def handle(self, call: Call, call_next: CallNext) -> Result:
        call.replace_params({**call.params, "seen": True})
        return await call_next(call)


class Wanders(Good):
    turns = count()

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.handle, (Phase.GUARD, Phase.REUSE)[next(self.turns) % 2])]


# -- coming and going -------------------------------------------------------------------------------------------------


class LeavesATask(Good):
    async def register(self, host: Host) -> None:
        asyncio.create_task(anyio.sleep_forever(), name="left-behind")  # noqa: RUF006 - that nobody keeps it is the point


class LeavesAHandler(Good):
    async def register(self, host: Host) -> None:
        logging.getLogger("left.behind").addHandler(logging.NullHandler())


class LeavesAFile(Good):
    files: ClassVar[list[Any]] = []

    async def register(self, host: Host) -> None:
        self.files.append(Path(__file__).open())  # noqa: ASYNC230, SIM115 - quick, and the leak is the point


class LeavesATimer(Good):
    async def handle(self, call: Call, call_next: CallNext) -> Result:
        asyncio.get_running_loop().call_later(7200, print)
        return await call_next(call)


class LeavesAReference(Good):
    everyone: ClassVar[list[Good]] = []

    async def register(self, host: Host) -> None:
        self.everyone.append(self)


class Forgets(Good):
    async def reconfigure(self, config: LimitConfig) -> bool:
        self.counted = 0
        return True


class RefusesToChange(Good):
    async def reconfigure(self, config: LimitConfig) -> bool:
        return False


class ChangesHalfway(Good):
    async def reconfigure(self, config: LimitConfig) -> bool:
        self.config = config
        return False


# -- failure ----------------------------------------------------------------------------------------------------------


class PlainConfig(PluginConfig):
    url: str = "memory://"


class Plain(MCPPlugin[PlainConfig]):
    """A guard without `fail_mode`, and with a backend."""

    def __init__(self, config: PlainConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self.broken = False

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.handle, Phase.GUARD, methods={"tools/call"})]

    async def handle(self, call: Call, call_next: CallNext) -> Result:
        self.check(call)
        return await call_next(call)

    def check(self, call: Call) -> None:
        if self.broken:
            raise ConnectionError(f"no store for {call.target} at {self.config.url}")
        assert call.target

    @contextmanager
    def breaking(self) -> Iterator[None]:
        self.broken = True
        yield
        self.broken = False


class FailsOpenUnasked(Plain):
    async def handle(self, call: Call, call_next: CallNext) -> Result:
        try:
            self.check(call)
        except Exception:
            logging.getLogger("plain").exception("passes")
        return await call_next(call)


class FailsOpenSilently(Plain):
    async def handle(self, call: Call, call_next: CallNext) -> Result:
        with suppress(Exception):
            self.check(call)
        return await call_next(call)


class FailsClosedWithOpenMode(Good):
    async def handle(self, call: Call, call_next: CallNext) -> Result:
        try:
            assert call.target
            assert self.config.limit
        except RuntimeError:
            raise Refusal(ErrorCode.UNAUTHORIZED, "something is wrong") from None
        return await super().handle(call, call_next)


class LooksAtNothing(Plain):
    async def handle(self, call: Call, call_next: CallNext) -> Result:
        return await call_next(call)


class NeverRecovers(Plain):
    @contextmanager
    def breaking(self) -> Iterator[None]:
        self.broken = True
        yield


# -- load -------------------------------------------------------------------------------------------------------------


class MixesCalls(Good):
    async def handle(self, call: Call, call_next: CallNext) -> Result:
        self.result = await call_next(call)
        await anyio.sleep(0.5)
        return self.result


class CallsTwice(Good):
    async def handle(self, call: Call, call_next: CallNext) -> Result:
        await call_next(call)
        return await call_next(call)


class AnswersAlone(Good):
    async def handle(self, call: Call, call_next: CallNext) -> Result:
        if self.counted:
            return {"content": [{"type": "text", "text": f"number {call.params['arguments']['number']}"}]}
        return await super().handle(call, call_next)


class SwallowsCancellation(Good):
    async def handle(self, call: Call, call_next: CallNext) -> Result:
        try:
            return await call_next(call)
        except asyncio.CancelledError:
            return {"content": []}


class KeepsThePermit(Good):
    async def handle(self, call: Call, call_next: CallNext) -> Result:
        await self.permits.acquire()
        result = await call_next(call)
        self.permits.release()
        return result


class LeavesWorkBehind(Good):
    async def handle(self, call: Call, call_next: CallNext) -> Result:
        return await asyncio.shield(asyncio.ensure_future(call_next(call)))


class ForgetsToCountDown(Good):
    async def handle(self, call: Call, call_next: CallNext) -> Result:
        self.counted += 1
        result = await call_next(call)
        self.counted -= 1
        return {**result, "structuredContent": {"inside": self.counted}}
