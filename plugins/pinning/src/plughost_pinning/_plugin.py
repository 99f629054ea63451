"""The plugin: hides and refuses what nobody approved, and tells operators of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import ref

from mcp.shared.exceptions import MCPError
from mcp_types.version import LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS
from opentelemetry import metrics
from plughost import (
    Call,
    CallNext,
    ErrorCode,
    EventType,
    HealthCheck,
    HostEvent,
    Kind,
    MCPPlugin,
    Middleware,
    Operation,
    Phase,
    PluginError,
    Refusal,
    Result,
    filter_instructions,
    hookimpl,
    unknown_target,
)
from pydantic import BaseModel

from plughost_pinning._config import PinningConfig
from plughost_pinning._ledger import Entry, Ledger
from plughost_pinning._lockfile import LockFileError
from plughost_pinning._metrics import meter
from plughost_pinning._operations import ApproveParameters, NameParameters, compared, described, listed, named, select
from plughost_pinning._pin import Key
from plughost_pinning._results import suspicious

if TYPE_CHECKING:
    from plughost import Host

logger = logging.getLogger("plughost.pinning")

LISTS = {kind.method: kind for kind in Kind}
GREETINGS = frozenset({"initialize", "server/discover"})
LOOK = 1.0
"""Seconds between looks whether the lock file changed, where calls of what is approved are all that comes."""
MOST_ODD = 1000
"""Definitions shown to clients alone that are followed up."""
INSTRUCTIONS = "instructions"


class PinningPlugin(MCPPlugin[PinningConfig]):
    """Lets clients see and call what was approved, as it was approved."""

    def __init__(self, config: PinningConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self.ledger: Ledger
        meter = metrics.get_meter("plughost.pinning")
        self._refusals = meter.create_counter("plughost.pinning.refused", "{call}", "Calls of what is quarantined.")
        self._findings = meter.create_counter(
            "plughost.pinning.results", "{result}", "Results that give orders to the model."
        )
        self._catalog: Callable[[], Any] = lambda: None
        self._approved: set[Key] = set()
        self._told: dict[Key, tuple[str, str]] = {}
        self._told_missing: set[Key] = set()
        self._odd: set[int] = set()
        self._fault = self._unwritable = ""
        self._look_at = 0.0
        self._bind(self.config)

    def _bind(self, config: PinningConfig) -> None:
        """Keep what each call needs where it is cheap to get at."""
        self._kinds = frozenset(config.kinds)
        self._results = config.results
        self._enforcing = config.mode == "enforce"

    # -- life cycle ---------------------------------------------------------------------------------------------------

    async def register(self, host: Host) -> None:
        self._host = host
        self._now = host.clock.monotonic
        path = host.config.folder / self.config.file
        self.ledger = Ledger(path, trust=self.config.first_use == "trust")
        meter.watch(self)

    async def unregister(self) -> None:
        meter.unwatch(self)

    async def reconfigure(self, config: PinningConfig) -> bool:
        """Look at everything anew; with another file the instance is made anew."""
        if config.file != self.config.file:
            return False
        self.config = config
        self._bind(config)
        self.ledger.trust = config.first_use == "trust"
        self._catalog = lambda: None
        return True

    # -- hooks --------------------------------------------------------------------------------------------------------

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        around: dict[str, Any] = {"after": ("tenancy", "rbac"), "before": ("validation",)}
        return [
            Middleware(self.greet, Phase.OBSERVE, methods=GREETINGS, after=("errors",)),
            Middleware(self.show_approved, Phase.GUARD, methods=LISTS, **around),
            Middleware(self.call_tool, Phase.GUARD, methods={"tools/call"}, **around),
            Middleware(self.get_prompt, Phase.GUARD, methods={"prompts/get"}, **around),
            Middleware(self.use_resource, Phase.GUARD, methods={"resources/read", "resources/subscribe"}, **around),
            Middleware(self.complete, Phase.GUARD, methods={"completion/complete"}, **around),
        ]

    @hookimpl
    def plughost_event(self, event: HostEvent) -> None:
        if event.type in {EventType.CATALOG_CHANGED, EventType.HOST_STARTED, EventType.PLUGIN_REGISTERED}:
            self._follow()

    @hookimpl
    def plughost_health_checks(self) -> Iterable[HealthCheck]:
        return [HealthCheck("pins", self.check)]

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        named = NameParameters
        return [
            Operation("show", self.show, summary="How much is approved, and what is quarantined and why"),
            Operation("list", self.list_all, summary="Every definition with its state and digest"),
            Operation("diff", self.diff, parameters=named, summary="What is quarantined, beside what was approved"),
            Operation(
                "approve", self.approve, parameters=ApproveParameters, changes=True, summary="Pin what is listed"
            ),
        ]

    # -- calls --------------------------------------------------------------------------------------------------------

    async def call_tool(self, call: Call, call_next: CallNext) -> Result:
        """Hand the call of an approved tool on, and look at what it answers."""
        self._keep_up()
        if ("tools", call.provider, call.local_name) not in self._approved:
            self._check(call, "tools", call.local_name)
        return await self._answer(call, call_next)

    async def get_prompt(self, call: Call, call_next: CallNext) -> Result:
        """The same for a prompt."""
        self._keep_up()
        if ("prompts", call.provider, call.local_name) not in self._approved:
            self._check(call, "prompts", call.local_name)
        return await self._answer(call, call_next)

    async def use_resource(self, call: Call, call_next: CallNext) -> Result:
        """The same for a resource: as it is listed, or by the template that it is one of."""
        self._keep_up()
        if ("resources", call.provider, call.local_name) not in self._approved and call.target is not None:
            route = self._host.generation.catalog.locate_resource(call.target)
            if route is not None:
                kind = "resources" if route.local_name == call.target else "resourceTemplates"
                self._check(call, kind, route.local_name)
        return await self._answer(call, call_next) if call.method == "resources/read" else await call_next(call)

    async def complete(self, call: Call, call_next: CallNext) -> Result:
        """Complete nothing for what is quarantined."""
        self._keep_up()
        reference = call.params.get("ref")
        kind = "prompts" if isinstance(reference, Mapping) and "name" in reference else "resourceTemplates"
        if Key(kind, call.provider or "", call.local_name or "") in self.ledger.entries:
            self._check(call, kind, call.local_name)
        return await call_next(call)

    async def show_approved(self, call: Call, call_next: CallNext) -> Result:
        """Leave out of a list what nobody approved, and what is not shown as it was approved."""
        result = await call_next(call)
        self._keep_up(at_once=True)
        kind = LISTS[call.method]
        if not self._enforcing or kind.value not in self._kinds or kind.value not in result:
            return result
        exact = call.protocol_version in MODERN_PROTOCOL_VERSIONS
        entries = result[kind.value]
        shown = [entry for entry in entries if self._shows(kind, entry, exact=exact)]
        return result if len(shown) == len(entries) else {**result, kind.value: shown}

    async def greet(self, call: Call, call_next: CallNext) -> Result:
        """Leave out the instructions of providers where nobody approved them."""
        result = await call_next(call)
        if not self._enforcing or INSTRUCTIONS not in self._kinds or INSTRUCTIONS not in result:
            return result
        self._keep_up(at_once=True)
        return filter_instructions(
            self._host.generation.catalog,
            result,
            lambda provider: (INSTRUCTIONS, provider, INSTRUCTIONS) in self._approved,
        )

    def _check(self, call: Call, kind: str, name: str | None) -> None:
        """Refuse what is quarantined, and what no list has.

        Raises:
            Refusal: It is quarantined, or its provider is down: nobody knows what it would be when it is up.
            MCPError: It is unknown.
        """
        if kind not in self._kinds or call.provider is None or name is None:
            return
        if self.ledger.look():
            self._tell()
        key = Key(kind, call.provider, name)
        if key in self._approved:
            return
        entry = self.ledger.entries.get(key)
        if entry is None:
            if not self.ledger.fault and self._is_down(call.provider):
                raise Refusal(
                    ErrorCode.UPSTREAM_UNAVAILABLE,
                    f"Provider {call.provider!r} is down or lists nothing: nothing of it can be held against pins",
                    details={"provider": call.provider},
                    retry_after_ms=1000,
                )
            raise unknown_target(call.method, call.target)
        self._refusals.add(1, {"plughost.plugin": self.name, "plughost.pinning.state": entry.state})
        if self._enforcing:
            details = {"method": call.method, "provider": key.provider, "name": key.name, "state": entry.state}
            self._host.publish(HostEvent(EventType.REFUSED, self.name, details))
        message = f"{call.target!r} is quarantined: {_sentence(entry)}"
        if not self.ledger.fault:
            message += f"; an operator can review it with: plughost pins diff {key}"
        raise Refusal(ErrorCode.QUARANTINED, message, details={"state": entry.state, "provider": key.provider})

    def _is_down(self, provider: str) -> bool:
        found = self._host.generation.catalog.providers.get(provider)
        return found is not None and not found.capabilities(LATEST_MODERN_VERSION)

    def _shows(self, kind: Kind, entry: Mapping[str, Any], *, exact: bool) -> bool:
        """Whether a client may see an entry of a list: it is the one that was approved.

        Clients of earlier revisions get less of it than the host; what they get must be part of what was approved.
        """
        public = str(entry.get(kind.key))
        route = self._host.generation.catalog.routes[kind].get(public)
        if route is None:
            self._follow_up((kind.value, public))
            return False
        key = Key(kind.value, route.provider, route.local_name)
        local = entry if route.local_name == public else {**entry, kind.key: route.local_name}
        if key in self._approved and (local == route.entry if exact else _is_part(local, route.entry)):
            return True
        if exact and local != route.entry:
            if self.ledger.accepts(key, local):
                return True
            self._follow_up((*key, repr(local)))
        return False

    def _follow_up(self, odd: tuple[str, ...]) -> None:
        """Ask for the lists again, once for each definition that clients are shown and the host was not."""
        mark = hash(odd)
        if mark not in self._odd and len(self._odd) < MOST_ODD:
            self._odd.add(mark)
            logger.warning("plugin %r: clients are shown another %s than the host knows", self.name, odd[:-1])
            self._host.ask_for_refresh()

    async def _answer(self, call: Call, call_next: CallNext) -> Result:
        """What the rest of the chain answers, unless it gives orders to the model; errors do so as well as results."""
        try:
            result = await call_next(call)
        except MCPError as error:
            self._looked_at(call, {"structuredContent": [error.message, error.data]})
            raise
        return self._looked_at(call, result)

    def _looked_at(self, call: Call, result: Result) -> Result:
        """The result, unless it gives orders to the model and those are blocked.

        Raises:
            Refusal: It does, and they are.
        """
        if self._results == "off" or not (found := suspicious(result)):
            return result
        details = {"method": call.method, "provider": call.provider, "name": call.local_name, "found": found}
        logger.warning("plugin %r: the result of %r holds %s", self.name, call, ", ".join(found))
        self._host.publish(HostEvent("pinning.suspicious_result", self.name, details))
        self._findings.add(1, {"plughost.plugin": self.name, "plughost.pinning.action": self._results})
        if self._results == "warn":
            return result
        message = f"The result of {call.target!r} is withheld: it holds {', '.join(found)}"
        raise Refusal(ErrorCode.QUARANTINED, message, details={"found": found})

    # -- what is listed -----------------------------------------------------------------------------------------------

    def _keep_up(self, *, at_once: bool = False) -> None:
        """Follow the catalog, and now and then the file: calls are many, and to ask for its time is dear."""
        if self._host.generation.catalog is not self._catalog():
            self._follow()
        if (now := self._now()) >= self._look_at or at_once:
            self._look_at = now + LOOK
            if self.ledger.look():
                self._tell()
                self._host.ask_for_refresh()

    def _follow(self) -> None:
        """Judge what the catalog in force lists."""
        catalog = self._host.generation.catalog
        if catalog is self._catalog():
            return
        self._catalog = ref(catalog)
        up = [name for name, provider in catalog.providers.items() if provider.capabilities(LATEST_MODERN_VERSION)]
        self.ledger.take(self._listed(catalog), up)
        self._tell()

    def _listed(self, catalog: Any) -> Iterator[tuple[Key, Mapping[str, Any]]]:
        for kind in Kind:
            for route in catalog.routes[kind].values() if kind.value in self._kinds else ():
                yield Key(kind.value, route.provider, route.local_name), route.entry
        for name, provider in catalog.providers.items() if INSTRUCTIONS in self._kinds else ():
            if provider.instructions:
                yield Key(INSTRUCTIONS, name, INSTRUCTIONS), {INSTRUCTIONS: provider.instructions}

    def _tell(self) -> None:
        """Take the verdicts over, and say what changed of them."""
        ledger = self.ledger
        self._approved = ledger.approved
        if ledger.fault != self._fault:
            self._fault = ledger.fault
            if ledger.fault:
                logger.error("plugin %r: %s; everything is blocked", self.name, ledger.fault)
                self._host.publish(HostEvent(EventType.BACKEND_DOWN, self.name, {"reason": ledger.fault}))
            else:
                self._host.publish(HostEvent(EventType.BACKEND_UP, self.name))
        if ledger.fault:
            return
        if ledger.unwritable and ledger.unwritable != self._unwritable:
            logger.error("plugin %r: %s", self.name, ledger.unwritable)
        self._unwritable = ledger.unwritable
        held = {item.key: item for item in ledger.held}
        for key in self._told.keys() - held.keys():
            del self._told[key]
            if key in ledger.approved:
                self._host.publish(HostEvent("pinning.approved", self.name, described(key)))
        for key, item in held.items():
            said = item.state, item.pin.sha256 if item.pin is not None else ""
            if self._told.get(key) != said:
                self._told[key] = said
                logger.warning(
                    "plugin %r: %s %a of provider %r is quarantined: %s", self.name, *_order(key), _sentence(item)
                )
                details = {**described(key), "state": item.state, "why": _sentence(item)}
                self._host.publish(HostEvent("pinning.quarantined", self.name, details))
        for key in ledger.missing - self._told_missing:
            self._host.publish(HostEvent("pinning.missing", self.name, described(key)))
        self._told_missing = set(ledger.missing)

    # -- operators ----------------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Whether the file can be used, and nothing waits for approval."""
        self._refresh()
        if problem := self.ledger.fault or self.ledger.unwritable:
            raise RuntimeError(problem)
        if held := self.ledger.held:
            raise RuntimeError(f"{len(held)} definitions are quarantined; see: plughost pins diff")

    async def show(self, parameters: BaseModel | None = None) -> dict[str, Any]:
        """What the operation of this name answers."""
        del parameters
        self._refresh()
        ledger = self.ledger
        return {
            "file": str(ledger.path),
            "fault": ledger.fault or ledger.unwritable,
            "approved": len(ledger.approved),
            "quarantined": [listed(item) for item in ledger.held],
            "missing": [described(key) for key in sorted(ledger.missing)],
        }

    async def list_all(self, parameters: BaseModel | None = None) -> list[dict[str, Any]]:
        """What the operation of this name answers."""
        del parameters
        self._refresh()
        return [listed(item) for _, item in sorted(self.ledger.entries.items())]

    async def diff(self, parameters: NameParameters) -> list[dict[str, Any]]:
        """What the operation of this name answers."""
        self._refresh()
        chosen = self._named(parameters.names) if parameters.names else {item.key for item in self.ledger.held}
        return [compared(self.ledger.entries[key], self.ledger.pins.pins.get(key)) for key in sorted(chosen)]

    async def approve(self, parameters: ApproveParameters) -> dict[str, Any]:
        """Write what is listed now into the lock file."""
        self._refresh()
        with self._told_why():
            chosen = select(self.ledger, parameters.names)
        if parameters.all:
            chosen |= {item.key: None for item in self.ledger.held if not item.suspicious and item.key not in chosen}
        try:
            approved, forgotten = self.ledger.approve(chosen, prune=parameters.all)
        except LockFileError as error:
            raise PluginError(self.name, str(error)) from error
        self._tell()
        self._host.ask_for_refresh()
        left = sorted(item.key for item in self.ledger.held if item.key in chosen or parameters.all)
        return {
            "approved": [str(key) for key in approved],
            "forgotten": [str(key) for key in forgotten],
            "left": [listed(self.ledger.entries[key]) for key in left],
        }

    def _named(self, names: Iterable[str]) -> set[Key]:
        with self._told_why():
            return {key for name in names for key in named(self.ledger, name)}

    @contextmanager
    def _told_why(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise PluginError(self.name, str(error)) from None

    def _refresh(self) -> None:
        self._follow()
        if self.ledger.look():
            self._tell()


def _is_part(part: Any, whole: Any) -> bool:
    """Whether one value is another with some keys left out."""
    if isinstance(part, Mapping) and isinstance(whole, Mapping):
        return all(key in whole and _is_part(value, whole[key]) for key, value in part.items())
    if isinstance(part, list | tuple) and isinstance(whole, list | tuple):
        return len(part) == len(whole) and all(map(_is_part, part, whole))
    return bool(part == whole)


def _sentence(entry: Entry) -> str:
    """Why it is quarantined, for everybody: what the definition says could be read by a model."""
    return f"{entry.why}{', and it holds what is suspicious' if entry.suspicious else ''}"


def _order(key: Key) -> tuple[str, str, str]:
    return key.kind, key.name, key.provider
