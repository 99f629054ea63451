"""The fault engine: what goes wrong, with which call, and a provider to which it happens. No pytest.

    faults = Faults([Rule(Latency(0.2), rate=0.1), Rule(Error(), target="delete_*", on=(3,))], seed=1)
    provider = Faulty(ScriptedProvider("notes", tools=["add"]), faults)

What a rule says about chance is decided by its own stream of random numbers, so that the same seed and the same calls
give the same faults, and a rule more or less changes nothing for the others.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from fnmatch import fnmatchcase
from itertools import count
from typing import Any

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR
from plughost import (
    Call,
    ErrorCode,
    Kind,
    Listing,
    Provider,
    ProviderDown,
    ProviderEvent,
    ProviderListener,
    ProviderUp,
    Refusal,
)

__all__ = [
    "Disconnect",
    "Error",
    "Fault",
    "Faults",
    "Faulty",
    "Hang",
    "Latency",
    "Malformed",
    "Rule",
    "SlowStream",
]


@dataclass(frozen=True, slots=True)
class Error:
    """The call is answered with an error, without reaching the provider."""

    message: str = "Injected error"
    code: int = INTERNAL_ERROR
    data: Any = None


@dataclass(frozen=True, slots=True)
class Latency:
    """The call reaches the provider later, by `seconds` and at random up to `jitter` more."""

    seconds: float
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Hang:
    """The call reaches the provider, and its answer never comes."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The call reaches the provider, the connection is lost before the answer, and the provider is down a while."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Malformed:
    """The answer is replaced by one that the specification does not allow."""

    result: Mapping[str, Any] = field(default_factory=lambda: {"content": "not a list", "isError": "maybe"})


@dataclass(frozen=True, slots=True)
class SlowStream:
    """Each notification of the call, and its answer, comes later by `seconds`."""

    seconds: float


_LISTS = frozenset(kind.method for kind in Kind)
Fault = Error | Latency | Hang | Disconnect | Malformed | SlowStream


@dataclass(frozen=True, slots=True)
class Rule:
    """Which calls a fault happens to: all that fit, unless `rate` or `on` narrow it.

    `target` is a glob on the provider's own name of the target, `methods` are the methods it is about (`None`: all but
    lists). Of the calls that fit, `on` names some by their number, from 1, and `rate` gives the share, from 0 to 1.
    """

    fault: Fault
    _: KW_ONLY
    rate: float = 1.0
    on: Collection[int] | None = None
    target: str = "*"
    methods: Collection[str] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate = {self.rate!r} is not a share; give a number from 0 to 1")

    def fits(self, method: str, name: str | None) -> bool:
        """Whether the rule is about such a call."""
        if method not in self.methods if self.methods is not None else method in _LISTS:
            return False
        return fnmatchcase(name or "", self.target)


class Faults:
    """The rules in force, and what they did: `injected` counts by the kind of fault, in lower case."""

    def __init__(self, rules: Iterable[Rule], *, seed: int = 0) -> None:
        self.rules = tuple(rules)
        self.injected: Counter[str] = Counter()
        self.enabled = True
        self._random = [random.Random(f"{seed}/{index}") for index in range(len(self.rules))]  # noqa: S311 - repeatable
        self._fitting = [count(1) for _ in self.rules]

    def choose(self, method: str, name: str | None) -> list[Fault]:
        """The faults that happen to this call, in the order of the rules."""
        if not self.enabled:
            return []
        chosen = []
        for rule, numbers, chance in zip(self.rules, self._fitting, self._random, strict=True):
            if not rule.fits(method, name):
                continue
            number, drawn = next(numbers), chance.random()
            if (rule.on is None or number in rule.on) and drawn < rule.rate:
                chosen.append(self._sized(rule.fault, chance))
                self.injected[type(rule.fault).__name__.lower()] += 1
        return chosen

    @staticmethod
    def _sized(fault: Fault, chance: random.Random) -> Fault:
        if isinstance(fault, Latency) and fault.jitter:
            return Latency(fault.seconds + chance.uniform(0, fault.jitter))
        return fault

    def __repr__(self) -> str:
        return f"<Faults: {len(self.rules)} rules, {self.injected.total()} injected>"


class Faulty:
    """A provider around another one, to whose requests faults happen. Lists and life cycle pass unharmed."""

    def __init__(self, provider: Provider, faults: Faults) -> None:
        self.inner = provider
        self.faults = faults
        self.name = provider.name
        self.prefix = provider.prefix
        self._listener: ProviderListener = lambda _: None
        self._down: asyncio.TimerHandle | None = None

    @property
    def instructions(self) -> str | None:
        return self.inner.instructions

    async def start(self, listener: ProviderListener) -> None:
        self._listener = listener
        await self.inner.start(self._hear)

    async def stop(self) -> None:
        if self._down is not None:
            self._down.cancel()
        await self.inner.stop()

    def capabilities(self, protocol_version: str) -> Mapping[str, Any]:
        return {} if self._down is not None else self.inner.capabilities(protocol_version)

    async def list(self, kind: Kind, call: Call | None) -> Listing:
        if self._down is not None:
            return Listing()
        if call is not None:
            await self._before(self.faults.choose(kind.method, None))
        return await self.inner.list(kind, call)

    async def request(self, call: Call, params: Mapping[str, Any]) -> dict[str, Any]:
        if self._down is not None:
            raise self._lost()
        faults = self.faults.choose(call.method, call.local_name)
        if not faults:
            return await self.inner.request(call, params)
        await self._before(faults)
        return await self._after(faults, await self._slowly(faults, call, params))

    def serves(self, method: str) -> bool:
        return self.inner.serves(method)

    async def notify(self, call: Call) -> None:
        await self.inner.notify(call)

    async def subscribe(self, uri: str) -> None:
        await self.inner.subscribe(uri)

    async def unsubscribe(self, uri: str) -> None:
        await self.inner.unsubscribe(uri)

    # -- the faults ---------------------------------------------------------------------------------------------------

    async def _before(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            if isinstance(fault, Latency):
                await anyio.sleep(fault.seconds)
            elif isinstance(fault, Error):
                raise MCPError(fault.code, fault.message, fault.data)

    async def _slowly(self, faults: Iterable[Fault], call: Call, params: Mapping[str, Any]) -> dict[str, Any]:
        seconds = sum(fault.seconds for fault in faults if isinstance(fault, SlowStream))
        if not seconds:
            return await self.inner.request(call, params)
        line, call.dispatch = call.dispatch, _SlowLine(call.dispatch, seconds)
        try:
            result = await self.inner.request(call, params)
        finally:
            call.dispatch = line
        await anyio.sleep(seconds)
        return result

    async def _after(self, faults: Iterable[Fault], result: dict[str, Any]) -> dict[str, Any]:
        for fault in faults:
            if isinstance(fault, Hang):
                await anyio.sleep_forever()
            elif isinstance(fault, Disconnect):
                self._disconnect(fault.seconds)
                raise self._lost()
            elif isinstance(fault, Malformed):
                result = dict(fault.result)
        return result

    def _disconnect(self, seconds: float) -> None:
        if seconds and self._down is None:
            self._down = asyncio.get_running_loop().call_later(seconds, self._reconnect)
            self._listener(ProviderDown("injected disconnect"))

    def _reconnect(self) -> None:
        self._down = None
        self._listener(ProviderUp())

    def _hear(self, event: ProviderEvent) -> None:
        if self._down is None:
            self._listener(event)

    def _lost(self) -> Refusal:
        return Refusal(ErrorCode.UPSTREAM_UNAVAILABLE, f"{self.name}: connection lost")

    def __repr__(self) -> str:
        return f"<Faulty {self.inner!r}: {self.faults!r}>"


class _SlowLine:
    """A request's line back to its client on which everything takes its time."""

    def __init__(self, line: Any, seconds: float) -> None:
        self._line = line
        self._seconds = seconds

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        await anyio.sleep(self._seconds)
        await self._line.notify(method, params, opts)

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        await anyio.sleep(self._seconds)
        await self._line.progress(progress, total, message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._line, name)
