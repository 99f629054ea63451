"""Calls of modern clients at legacy upstreams that ask something: parked until the client brings the answer."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from mcp_types import methods as spec
from mcp_types.version import LATEST_HANDSHAKE_VERSION
from plughost import Call, ErrorCode, Refusal
from pydantic import ValidationError

from plughost_upstream._exchange import Exchange
from plughost_upstream._questions import check_askable
from plughost_upstream._seal import Seal, invalid_state

if TYPE_CHECKING:
    from mcp.shared.dispatcher import DispatchContext

_UNKNOWN_TO_MODERN = ("_meta", "task", "elicitationId")


class Question:
    """One question of the upstream, waiting for its answer."""

    def __init__(self, method: str, params: Mapping[str, Any]) -> None:
        self.method = method
        self.params = params
        self.answer: dict[str, Any] = {}
        self.answered = anyio.Event()

    def wire(self) -> dict[str, Any]:
        """The question as an entry of `inputRequests`."""
        if self.method == "roots/list":
            return {"method": self.method}
        kept = {key: value for key, value in self.params.items() if key not in _UNKNOWN_TO_MODERN}
        return {"method": self.method, "params": kept}


class Parked:
    """A call that runs in a task of its own, so that it can outlive the request that began it."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.questions: dict[str, Question] = {}
        self.scope = anyio.CancelScope()
        self.result: dict[str, Any] | None = None
        self.error: Exception | None = None
        self.done = False
        self._changed = anyio.Event()
        self._names = count(1)

    async def run(self, perform: Callable[[Exchange], Awaitable[dict[str, Any]]]) -> None:
        """Perform the call, and keep its outcome."""
        try:
            with self.scope:
                self.result = await perform(self.exchange)
        except Exception as error:  # noqa: BLE001 - kept for whoever waits
            self.error = error
        finally:
            self.done = True
            self._changed.set()

    async def ask(self, method: str, params: Mapping[str, Any], asked: DispatchContext[Any]) -> dict[str, Any]:
        """Take a question of the upstream, and wait for the client to bring the answer."""
        del asked  # progress of an answer cannot be told: it comes with the next request
        assert self.exchange.call is not None
        check_askable(self.exchange.call, method, params)
        name, question = f"question-{next(self._names)}", Question(method, params)
        self.questions[name] = question
        self._changed.set()
        try:
            with self.exchange.limit.paused():
                await question.answered.wait()
        finally:
            self.questions.pop(name, None)
        return question.answer

    async def stirred(self) -> None:
        """Return when the call is done or the upstream asks something."""
        while not self.done and not self.open_questions:
            await self._changed.wait()
            self._changed = anyio.Event()

    @property
    def open_questions(self) -> dict[str, Question]:
        return {name: item for name, item in self.questions.items() if not item.answered.is_set()}


class ParkingLot:
    """The parked calls of one upstream: bounded in number and in time."""

    def __init__(self, seal: Seal, *, name: str, size: int, lifetime: float) -> None:
        self._seal = seal
        self._name = name
        self._size = size
        self._lifetime = lifetime
        self._parked: dict[str, Parked] = {}

    def __len__(self) -> int:
        return len(self._parked)

    async def begin(
        self, tasks: TaskGroup, exchange: Exchange, perform: Callable[[Exchange], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """Perform a call that may have to be parked: its result, or an `input_required` one."""
        parked = Parked(exchange)
        exchange.ask = parked.ask
        tasks.start_soon(parked.run, perform)
        return await self._attend(parked)

    async def resume(self, call: Call, params: Mapping[str, Any], spawn: Callable[..., object]) -> dict[str, Any]:
        """Give a parked call the answers that the client brings, and wait on.

        Raises:
            MCPError: The state is not valid (any more), or an answer is malformed.
        """
        ticket = self._seal.open(call, params)
        parked = self._parked.get(ticket)
        if parked is None or parked.done:
            raise invalid_state()
        answers = _answers(parked, params.get("inputResponses"))
        del self._parked[ticket]  # whoever brings it again is late
        parked.scope.deadline = math.inf
        parked.exchange.attach(call)
        parked.exchange.flush(spawn)
        for question, answer in answers:
            question.answer = answer
            question.answered.set()
        return await self._attend(parked)

    async def _attend(self, parked: Parked) -> dict[str, Any]:
        """Wait with the client's request for the call; cancelling the request cancels the call upstream."""
        try:
            await parked.stirred()
        except BaseException:
            parked.scope.cancel()
            raise
        if not parked.done:
            return self._park(parked)
        if parked.error is not None:
            raise parked.error
        if parked.result is None:
            raise invalid_state()  # it was cancelled
        return parked.result

    def _park(self, parked: Parked) -> dict[str, Any]:
        self._parked = {ticket: item for ticket, item in self._parked.items() if not item.done}
        if len(self._parked) >= self._size:
            parked.scope.cancel()
            problem = f"{self._size} calls of upstream {self._name!r} wait for answers of their clients already"
            raise Refusal(ErrorCode.BULKHEAD_FULL, problem, details={"provider": self._name}, retry_after_ms=1000)
        exchange = parked.exchange
        assert exchange.call is not None
        exchange.detach()
        parked.scope.deadline = anyio.current_time() + self._lifetime
        ticket = token_urlsafe(16)
        self._parked[ticket] = parked
        return {
            "resultType": "input_required",
            "inputRequests": {name: question.wire() for name, question in parked.open_questions.items()},
            "requestState": self._seal.seal(exchange.call, exchange.params, ticket),
        }


def _answers(parked: Parked, responses: Any) -> list[tuple[Question, dict[str, Any]]]:
    """The answers for the open questions; one that is missing stays open.

    Raises:
        MCPError: An answer is not one to its question.
    """
    found = []
    for name, question in parked.open_questions.items():
        answer = responses.get(name) if isinstance(responses, Mapping) else None
        if answer is None:
            continue
        try:
            spec.validate_client_result(question.method, LATEST_HANDSHAKE_VERSION, answer)
        except ValidationError:
            raise MCPError(INVALID_PARAMS, f"inputResponses.{name} does not answer {question.method}") from None
        found.append((question, dict(answer)))
    return found
