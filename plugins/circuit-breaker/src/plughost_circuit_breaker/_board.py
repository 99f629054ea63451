"""All breakers of a plugin instance, by provider and by tool, and which of them a fault is counted against."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from enum import Enum, auto
from typing import Final

from plughost_circuit_breaker._breaker import UNCOUNTED, Breaker, Listener, Mode, Permit, Policy

Key = tuple[str, str | None]
"""A provider's name, and a tool's as the provider has it; `None` for the provider as a whole."""
PROVIDER: Final = "provider"
TOOL: Final = "tool"


class Fault(Enum):
    """What went wrong, by whom it blames."""

    TRANSPORT = auto()  #: the way to the provider: it cannot be reached, or was lost
    TIMEOUT = auto()  #: no answer in time; whose fault it is, nobody knows
    APPLICATION = auto()  #: the provider answered that what was called failed


class Blocked(Exception):  # noqa: N818 - not an error of this module: the answer "no"
    """Raised when a breaker does not let a call through."""

    def __init__(self, breaker: Breaker) -> None:
        super().__init__(breaker)
        self.breaker = breaker


class Passage:
    """One call on its way: the breakers that let it through, and their permits. End it with `close` or `release`."""

    __slots__ = ("_part", "_part_permit", "_whole", "_whole_permit")

    def __init__(self, whole: Breaker | None, whole_permit: Permit, part: Breaker | None, part_permit: Permit) -> None:
        self._whole = whole
        self._whole_permit = whole_permit
        self._part = part
        self._part_permit = part_permit

    def close(self, now: float, fault: Fault | None, *, slow: bool) -> None:
        """Count how the call ended.

        With both breakers, the provider's learns whether it answered: an application fault and a slow tool are answers.
        The tool's learns how it answered, and nothing from a fault of the way. With one breaker, it learns everything.
        """
        whole, part = self._whole, self._part
        if part is None:
            assert whole is not None, "a passage has at least one breaker"
            whole.record(self._whole_permit, now, failed=fault is not None, slow=slow)
        elif whole is None:
            part.record(self._part_permit, now, failed=fault is not None, slow=slow)
        elif fault is Fault.TRANSPORT:
            part.release(self._part_permit)
            whole.record(self._whole_permit, now, failed=True, slow=False)
        else:
            part.record(self._part_permit, now, failed=fault is not None, slow=slow)
            whole.record(self._whole_permit, now, failed=fault is Fault.TIMEOUT, slow=False)

    def release(self) -> None:
        """End it without a result."""
        if self._part is not None:
            self._part.release(self._part_permit)
        if self._whole is not None:
            self._whole.release(self._whole_permit)


class Board:
    """The breakers, made as calls come. At most `limit` are kept: those that know of no fault go first.

    Those of providers stay, and those that an operator gave an order.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        per: Collection[str],
        limit: int,
        random: Callable[[], float],
        listener: Listener,
    ) -> None:
        self._policy = policy
        self._per = frozenset(per)
        self._limit = limit
        self._random = random
        self._listener = listener
        self._breakers: dict[Key, Breaker] = {}

    def enter(self, provider: str, tool: str | None, now: float) -> Passage | None:
        """Let a call through, or `None` if no breaker is kept for such calls.

        Raises:
            Blocked: A breaker refuses it.
        """
        breakers, per = self._breakers, self._per
        whole = part = None
        whole_permit = part_permit = UNCOUNTED
        if PROVIDER in per:
            whole = breakers.get((provider, None)) or self.make((provider, None), now)
            if (permit := whole.admit(now)) is None:
                raise Blocked(whole)
            whole_permit = permit
        if tool is not None and TOOL in per:
            part = breakers.get((provider, tool)) or self.make((provider, tool), now)
            if (permit := part.admit(now)) is None:
                if whole is not None:
                    whole.release(whole_permit)
                raise Blocked(part)
            part_permit = permit
        elif whole is None:
            return None
        return Passage(whole, whole_permit, part, part_permit)

    def make(self, key: Key, now: float) -> Breaker:
        """A new breaker in the place of this key; one that was there is gone."""
        self._make_room(now, self._limit - 1)
        breaker = self._breakers[key] = Breaker(key, self._policy, random=self._random, listener=self._listener)
        return breaker

    def find(self, key: Key) -> Breaker | None:
        return self._breakers.get(key)

    def keeps(self, key: Key) -> bool:
        """Whether breakers of this kind are kept at all."""
        return (PROVIDER if key[1] is None else TOOL) in self._per

    def of_provider(self, provider: str) -> list[Breaker]:
        """Those of the provider and of its tools."""
        return [breaker for breaker in self if breaker.key[0] == provider]

    def apply(self, policy: Policy, *, per: Collection[str], limit: int, now: float) -> None:
        """Take a new policy and keep what the breakers know."""
        self._policy, self._per, self._limit = policy, frozenset(per), limit
        self._breakers = {key: breaker for key, breaker in self._breakers.items() if self.keeps(key)}
        for breaker in self:
            breaker.apply(policy, now)
        self._make_room(now, limit)

    def __iter__(self) -> Iterator[Breaker]:
        return iter(list(self._breakers.values()))

    def __len__(self) -> int:
        return len(self._breakers)

    def _make_room(self, now: float, most: int) -> None:
        """Drop the oldest tools that know of no fault, or else the oldest; providers, and what was ordered, stay."""
        while len(self._breakers) > most:
            tools = [item for item in self._breakers.values() if item.key[1] is not None and item.mode is Mode.AUTO]
            if not tools:
                return
            del self._breakers[next((item for item in tools if item.at_rest(now)), tools[0]).key]
