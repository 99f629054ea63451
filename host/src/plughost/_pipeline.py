"""The pipeline: middleware in their order, folded once into chains of coroutines.

Hooks decide what stands in it; a chain runs it. What does not apply to a method or target is left out when the chain
is compiled, so that it costs nothing per call.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from typing import Any, cast

import anyio
from mcp.shared.exceptions import MCPError

from plughost._call import Call, CallNext, Handler, Result
from plughost._errors import PluginError
from plughost._events import EventType, HostEvent
from plughost._plugin import Match, MCPPlugin, Middleware, Phase

logger = logging.getLogger("plughost.pipeline")
trace_logger = logging.getLogger("plughost.trace")

Publish = Callable[[HostEvent], None]

TELL_EVERY = 60.0
"""Seconds between two lines in the log about a plugin that fails with every call."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One middleware in its place: the instance it belongs to, and which calls that instance is for."""

    middleware: Middleware
    instance: str
    plugin: str
    match: Match | None
    handler: Handler

    @property
    def phase(self) -> Phase:
        return self.middleware.phase

    @property
    def methods(self) -> frozenset[str] | None:
        return cast("frozenset[str] | None", self.middleware.methods)

    def takes(self, method: str) -> bool:
        """Whether the layer handles this method; `None` means every request and no notification."""
        methods = self.methods
        return not method.startswith("notifications/") if methods is None else method in methods

    def concerns(self, call: Call) -> bool:
        """Whether the names in `match` fit the resolved call. Names never fit a call that leads to no provider."""
        match = self.match
        if match is None or not match.names:
            return True
        if call.provider is None or (match.provider is not None and not fnmatchcase(call.provider, match.provider)):
            return False
        if (match.tool, match.prompt, match.resource) == (None, None, None):
            return True
        name = call.local_name
        pattern = getattr(match, _kind_of_target(call), None)
        return pattern is not None and name is not None and fnmatchcase(name, pattern)

    @property
    def per_caller(self) -> bool:
        """Whether who calls decides, so that it can only be decided in the call."""
        return self.match is not None and (self.match.tenant is not None or self.match.principal is not None)

    def describe(self) -> dict[str, Any]:
        """One line of `plughost chain`."""
        return {
            "instance": self.instance,
            "plugin": self.plugin,
            "phase": self.phase.name,
            "methods": sorted(self.methods) if self.methods is not None else None,
            "match": self.match.model_dump(exclude_none=True) if self.match else None,
        }


def layers_of(
    plugin: MCPPlugin[Any], kind: str, match: Match | None, middleware: Iterable[Middleware], publish: Publish
) -> list[Layer]:
    """The layers that one plugin instance contributes.

    Raises:
        PluginError: A hook returned something else than `Middleware`, or a match that its phase cannot decide.
    """
    layers = []
    for item in middleware:
        if not isinstance(item, Middleware):
            raise PluginError(plugin.name, f"plughost_middleware returned {item!r}, which is not a Middleware")
        if match is not None and item.phase < Phase.GUARD:
            raise PluginError(
                plugin.name,
                f"has a match, but its middleware stands in {item.phase.name}, where the target is not resolved yet",
                remedy="Take the match out, or use a plugin that stands in GUARD, REUSE or PROTECT",
            )
        for name in sorted(item.methods or ()):
            if name.startswith("notifications/") and item.phase is not Phase.OBSERVE:
                raise PluginError(plugin.name, f"names {name!r} in {item.phase.name}; only OBSERVE sees it")
            if item.phase is Phase.GUARD and name.endswith("/list") and match is not None and match.names:
                remedy = "Match by tenant or principal, or take the match out"
                problem = f"filters {name!r}, which belongs to no single provider or target that its match could name"
                raise PluginError(plugin.name, problem, remedy=remedy)
        layers.append(Layer(item, plugin.name, kind, match, _guarded(plugin, item, publish)))
    return layers


def _kind_of_target(call: Call) -> str:
    """The key of `match` that speaks of this call's target."""
    if call.method == "completion/complete":
        ref = call.params.get("ref")
        return "prompt" if isinstance(ref, Mapping) and ref.get("type") == "ref/prompt" else "resource"
    return {"tools/call": "tool", "prompts/get": "prompt"}.get(call.method, "resource")


def order(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """All layers outside in: by phase, then `before`/`after`, then name.

    Raises:
        PluginError: The constraints of a phase form a cycle; the message prints it.
    """
    ordered: list[Layer] = []
    layers = list(layers)
    for phase in Phase:
        nodes = [layer for layer in layers if layer.phase is phase]
        graph: dict[int, set[int]] = {index: set() for index in range(len(nodes))}
        for index, layer in enumerate(nodes):
            for other, neighbour in enumerate(nodes):
                if neighbour.plugin in layer.middleware.after and neighbour.plugin != layer.plugin:
                    graph[index].add(other)
                if neighbour.plugin in layer.middleware.before and neighbour.plugin != layer.plugin:
                    graph[other].add(index)
        sorter = TopologicalSorter(graph)
        try:
            sorter.prepare()
        except CycleError as error:
            names = [nodes[index].instance for index in error.args[1]]
            raise PluginError(
                names[0],
                f"before/after constraints in {phase.name} form a cycle: {' -> '.join(names)}",
                remedy="Disable one of them, or take one constraint out",
            ) from None
        while sorter.is_active():
            ready = sorted(sorter.get_ready(), key=lambda index: (nodes[index].instance, index))
            ordered += [nodes[index] for index in ready]
            sorter.done(*ready)
    return tuple(ordered)


class Gate:
    """Counts who is inside, and lets one wait until nobody is."""

    def __init__(self) -> None:
        self.inside = 0
        self._empty: anyio.Event | None = None

    def leave(self) -> None:
        self.inside -= 1
        if self.inside == 0 and self._empty is not None:
            self._empty.set()
            self._empty = None

    async def drained(self) -> None:
        """Return when nobody is inside."""
        while self.inside:
            self._empty = self._empty or anyio.Event()
            await self._empty.wait()


class Pipeline:
    """The layers in force, the chains compiled from them, and a gate that counts the calls inside."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.layers = order(layers)
        self.gate = Gate()

    def outer(self, method: str, end: CallNext) -> CallNext:
        """OBSERVE, ADMIT and TRANSFORM around `end`, which resolves the target."""
        return self._fold([layer for layer in self.layers if layer.phase < Phase.GUARD and layer.takes(method)], end)

    def inner(self, call: Call, end: CallNext) -> CallNext:
        """GUARD, REUSE and PROTECT around `end`, for the target that `call` has been resolved to."""
        return self._fold([layer for layer in self.layers if self._inside(layer, call)], end)

    def observe(self, method: str, end: CallNext, *, admit: bool = False) -> CallNext:
        """OBSERVE only, and ADMIT for what it may veto, around `end`."""
        last = Phase.ADMIT if admit else Phase.OBSERVE
        return self._fold([layer for layer in self.layers if layer.phase <= last and layer.takes(method)], end)

    @property
    def by_name(self) -> bool:
        """Whether any layer depends on the resolved names, so that inner chains differ by target."""
        return any(layer.match is not None for layer in self.layers)

    def describe(self, call: Call) -> list[dict[str, Any]]:
        """What a call would walk through, outside in."""
        outer = [layer for layer in self.layers if layer.phase < Phase.GUARD and layer.takes(call.method)]
        return [layer.describe() for layer in (*outer, *(layer for layer in self.layers if self._inside(layer, call)))]

    @staticmethod
    def _inside(layer: Layer, call: Call) -> bool:
        return layer.phase >= Phase.GUARD and layer.takes(call.method) and layer.concerns(call)

    @staticmethod
    def _fold(layers: list[Layer], end: CallNext) -> CallNext:
        chain = end
        for layer in reversed(layers):
            step = _bind(layer.handler, chain)
            chain = _for_caller(layer.match, step, chain) if layer.match and layer.per_caller else step
        return chain


def _bind(handler: Handler, call_next: CallNext) -> CallNext:
    def step(call: Call) -> Any:
        return handler(call, call_next)

    return step


def _for_caller(match: Match, step: CallNext, skip: CallNext) -> CallNext:
    def choose(call: Call) -> Any:
        who = call.principal
        tenant, subject = (who.tenant or "", who.subject) if who else ("", "")
        fits = (match.tenant is None or fnmatchcase(tenant, match.tenant)) and (
            match.principal is None or fnmatchcase(subject, match.principal)
        )
        return step(call) if fits else skip(call)

    return choose


def _guarded(plugin: MCPPlugin[Any], item: Middleware, publish: Publish) -> Handler:
    """Apply `fail_mode` and `mode` of a plugin that can refuse. The defaults need no wrapper: what raises, refuses."""
    fail_open = getattr(plugin.config, "fail_mode", "closed") == "open"
    observing = getattr(plugin.config, "mode", "enforce") == "observe"
    if item.phase < Phase.ADMIT or not (fail_open or observing):
        return item.handler
    handler = item.handler
    failing = _Failing(plugin.name, "fail_mode is open" if fail_open else "mode is observe")

    async def guard(call: Call, call_next: CallNext) -> Result:
        inner: list[tuple[Result | None, BaseException | None]] = []

        async def onward(call: Call) -> Result:
            try:
                result = await call_next(call)
            except BaseException as error:
                inner.append((None, error))
                raise
            inner.append((result, None))
            return result

        try:
            result = await handler(call, onward)
        except Exception as error:
            if any(failure is error for _, failure in inner):
                raise  # the call's own failure on its way out
            if inner and not any(map(_is_outcome, inner)):
                raise  # it began the call and cancelled it: there is nothing to hand out, and no second time
            refusal = error if isinstance(error, MCPError) else None
            if not observing and (refusal is not None or not fail_open):
                raise
            kind = EventType.FAIL_OPEN if refusal is None else EventType.WOULD_REFUSE
            publish(HostEvent(kind, plugin.name, {"method": call.method, "code": getattr(refusal, "code", None)}))
            if refusal is not None:
                logger.warning("%s would refuse %r: %s", plugin.name, call, refusal.message)
            else:
                failing.again(call, error)
        else:
            if failing.count:
                failing.no_more()
            return result
        if not inner:
            return await call_next(call)
        answer, failure = max(filter(_is_outcome, reversed(inner)), key=lambda outcome: outcome[1] is None)
        if failure is not None:
            raise failure
        assert answer is not None
        return answer

    return guard


class _Failing:
    """Tells the log that calls pass a plugin that fails: of the first with the traceback, then how many, once a minute.

    A backend that is away fails with every call, and so many tracebacks would bury all else. The events tell of each.
    """

    def __init__(self, name: str, why: str) -> None:
        self._name = name
        self._why = why
        self._quiet_until = 0.0
        self.count = 0
        """Calls that passed since it began to fail."""

    def again(self, call: Call, error: Exception) -> None:
        """A call passes."""
        self.count += 1
        now = anyio.current_time()
        if self.count == 1:
            logger.error("%s failed; %r passes, since %s", self._name, call, self._why, exc_info=error)
        elif now >= self._quiet_until:
            found = (self._name, type(error).__name__, error, self.count, self._why)
            logger.error("%s still fails (%s: %s); %d calls have passed, since %s", *found)
        else:
            return
        self._quiet_until = now + TELL_EVERY

    def no_more(self) -> None:
        """A call was decided; what fails only now and then is told of once in a while, too."""
        if anyio.current_time() >= self._quiet_until:
            logger.warning("%s works again; %d calls had passed", self._name, self.count)
            self.count = 0


def _is_outcome(attempt: tuple[Result | None, BaseException | None]) -> bool:
    """Whether an attempt ended by itself, and was not cancelled from further out."""
    return attempt[1] is None or isinstance(attempt[1], Exception)


def traced(layer: Layer) -> Layer:
    """The layer, with a line in the log for each call: phase, instance, and its own microseconds."""

    async def trace(call: Call, call_next: CallNext) -> Result:
        inside = 0.0

        async def timed(call: Call) -> Result:
            nonlocal inside
            begin = time.perf_counter()
            try:
                return await call_next(call)
            finally:
                inside += time.perf_counter() - begin

        begin = time.perf_counter()
        try:
            return await layer.handler(call, timed)
        finally:
            own = time.perf_counter() - begin - inside
            where = (layer.phase.name, layer.instance, own * 1e6, call.method, call.target or "")
            trace_logger.info("%-9s %-20s %8.1f us  %s %s", *where)

    return replace(layer, handler=trace)
