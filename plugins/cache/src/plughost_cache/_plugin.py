"""The plugin: which call may be answered from the cache, and what happens when it can't be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from contextvars import Context
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from mcp.shared.subscriptions import PromptsListChanged, ResourcesListChanged, ResourceUpdated, ToolsListChanged
from plughost import (
    Call,
    CallNext,
    ErrorCode,
    HealthCheck,
    MCPPlugin,
    Middleware,
    Operation,
    Outcome,
    Phase,
    Result,
    classify,
    hookimpl,
)
from plughost_dedup import ForOne, SingleFlight, call_key, flight_call
from plughost_redis import RedisBackend
from pydantic import BaseModel, ConfigDict

from plughost_cache._body import handed_out
from plughost_cache._config import CacheConfig
from plughost_cache._levels import Levels
from plughost_cache._memory import Entry, Memory
from plughost_cache._metrics import meter
from plughost_cache._policy import CONVERSING, METHODS, Rule, seconds_to_keep
from plughost_cache._question import Entrance, Question
from plughost_cache._rules import LIST_TAGS, Rules
from plughost_cache._shared import SharedLevel
from plughost_cache._stats import Stats
from plughost_cache._store import RedisStore
from plughost_cache._tags import ALL, Tag

if TYPE_CHECKING:
    from mcp.shared.subscriptions import ServerEvent
    from plughost import Host

    from plughost_cache._shared import Ticket
    from plughost_cache._store import Store

logger = logging.getLogger("plughost.cache")

AWAY = frozenset({ErrorCode.CIRCUIT_OPEN, ErrorCode.BULKHEAD_FULL})
"""Refusals that say as little of the answer as a failure of the provider does."""
CHANGED: Mapping[type, tuple[str, ...]] = {
    ToolsListChanged: ("list:tools/list",),
    PromptsListChanged: ("list:prompts/list",),
    ResourcesListChanged: ("list:resources/list", "list:resources/templates/list"),
}


class ClearParameters(BaseModel):
    """What `clear` takes; nothing of it clears everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: str | None = None
    """All of one provider, and the lists."""
    tool: str | None = None
    """A tool, by its provider's name for it; of `provider`, or of all that have it."""
    resource: str | None = None
    """A resource, by its URI."""
    tag: str | None = None
    """A tag: `all`, `lists`, `list:tools/list`, `provider:NAME`, `tool:PROVIDER/NAME`, `resource:URI`."""


class CachePlugin(MCPPlugin[CacheConfig]):
    """Answers lists, resources and named tools from memory or a second level, and never mixes callers."""

    def __init__(self, config: CacheConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self.memory = Memory(max_entries=self.config.max_entries, max_bytes=self.config.max_bytes)
        self.stats = Stats()
        self.shared: SharedLevel | None = None
        self._flights: SingleFlight[Entry | Result] = SingleFlight()
        self._settler: asyncio.Task[None] | None = None
        self._entrances = 0
        self._bind()

    def _bind(self) -> None:
        """Take out of the config what each call needs."""
        config = self.config
        self._max_ttl, self._advertise = config.max_ttl, config.advertise
        self._while_revalidate, self._if_error = config.stale_while_revalidate, config.stale_if_error

    # -- life cycle ---------------------------------------------------------------------------------------------------

    async def register(self, host: Host) -> None:
        self._now = host.clock.monotonic
        self.levels = Levels(self.memory, clock=host.clock, trust=self.config.l1_ttl)
        self.rules = Rules(host, self.config, self.levels)
        store = await self._open(host)
        if store is not None:
            self.shared = SharedLevel(store, clock=host.clock, compress_above=self.config.compress_above)
            self.levels.shared = self.shared
            settle = self.levels.settle_forever()
            self._settler = asyncio.get_running_loop().create_task(settle, context=Context())
        self._deaf = host.subscriptions.bus.subscribe(self._changed)
        meter.watch(self)

    async def _open(self, host: Host) -> Store | None:
        url = self.config.url
        if url.scheme == "sqlite":
            from plughost_cache._sqlite import SQLiteStore  # noqa: PLC0415 - imports `sqlite3`, which memory does without

            file = SQLiteStore(url.file(host.config.folder), clock=host.clock, max_bytes=self.config.max_file)
            await file.start()
            return file
        if url.is_memory:
            return None
        redis = RedisStore(RedisBackend(url, name=self.name, host=host, prefix="plughost:cache"))
        await redis.start(self.levels.heard, self.levels.forget)
        return redis

    async def unregister(self) -> None:
        meter.unwatch(self)
        self._deaf()
        await self._flights.aclose()
        if self._settler is not None:
            self._settler.cancel()
            with suppress(asyncio.CancelledError):
                await self._settler
            await self.levels.settle()
        if self.shared is not None:
            await self.shared.store.aclose()
        self.memory.clear()

    async def reconfigure(self, config: CacheConfig) -> bool:
        """Keep what fits the new bounds; another place for the second level, and the instance is made anew."""
        if (config.url, config.max_file) != (self.config.url, self.config.max_file):
            return False
        self.config = config
        self._bind()
        self.rules.take(config)
        self.levels.trust = config.l1_ttl
        self.memory.resize(max_entries=config.max_entries, max_bytes=config.max_bytes)
        if self.shared is not None:
            self.shared.compress_above = config.compress_above
        return True

    # -- hooks --------------------------------------------------------------------------------------------------------

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        self._entrances += 1
        entrance = Entrance(self.answer, self._entrances)
        return [Middleware(entrance.answer, Phase.REUSE, methods=METHODS)]

    @hookimpl
    def plughost_health_checks(self) -> Iterable[HealthCheck]:
        return [] if self.shared is None else [HealthCheck("store", self.shared.store.check)]

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [
            Operation("show", self.show, summary="Hits, misses and what is kept"),
            Operation(
                "clear", self.clear, parameters=ClearParameters, changes=True, summary="Give up all answers, or some"
            ),
        ]

    async def show(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """What the operation of this name answers."""
        del parameters
        memory, stats = self.memory, self.stats.as_dict()
        asked = sum(stats[name] for name in ("hits_l1", "hits_l2", "stale", "joined", "misses"))
        shown: dict[str, Any] = {
            **stats,
            "hit_ratio": round(1 - stats["misses"] / asked, 4) if asked else None,
            "invalidations": self.levels.invalidations,
            "evictions": memory.evictions,
            "entries": len(memory),
            "bytes": memory.bytes,
            "max_entries": memory.max_entries,
            "max_bytes": memory.max_bytes,
            "url": str(self.config.url),
        }
        if (shared := self.shared) is not None:
            shown["second_level"] = {
                "up": shared.store.up,
                "owed": len(shared.owed),
                "failures": shared.failures,
                "unreadable": shared.unreadable,
                "sealed": shared.box is not None,
            }
        return shown

    async def clear(self, parameters: ClearParameters) -> Mapping[str, Any]:
        """Give up what the parameters name, everywhere; says what, and whether other replicas were told already."""
        names = [parameters.tag] if parameters.tag is not None else []
        if parameters.tool is not None:
            providers = [parameters.provider] if parameters.provider is not None else self.rules.provider_names
            names += [f"tool:{provider}/{parameters.tool}" for provider in providers]
        elif parameters.provider is not None:
            names += [f"provider:{parameters.provider}", LIST_TAGS]
        if parameters.resource is not None:
            names.append(f"resource:{parameters.resource}")
        names = names or [ALL]
        self.levels.give_up(names)
        return {"cleared": names, "everywhere": await self.levels.settle()}

    def _changed(self, event: ServerEvent) -> None:
        """Hear what clients are about to be told, before they are."""
        self.rules.follow()
        if isinstance(event, ResourceUpdated):
            self.levels.give_up([f"resource:{event.uri}"])
        elif not self.rules.first:
            self.levels.give_up(CHANGED.get(type(event), ()))

    # -- calls --------------------------------------------------------------------------------------------------------

    async def answer(self, entrance: Entrance, call: Call, call_next: CallNext) -> Result:
        """Answer from memory, or ask on. Should looking itself fail, the call goes on without the cache."""
        try:
            found = self._look(entrance, call)
        except Exception:
            logger.warning("plugin %r cannot look a call up; it passes", self.name, exc_info=True)
            found = None
        if found is None:
            return await call_next(call)
        if isinstance(found, dict):
            return found
        try:
            return await self._ask(found, call_next)
        finally:
            found.line.detach()

    def _look(self, entrance: Entrance, call: Call) -> dict[str, Any] | Question | None:
        """The answer that memory has; what to ask if it has none; `None` for what is not cached at all."""
        rule = self.rules.of(call, entrance)
        if rule is None:
            return None
        params = call.params
        for name in CONVERSING:
            if name in params:
                return None
        entry = None
        if rule.group.public:
            entry = self.memory.get(_key(call, public=True))
        if entry is None and rule.group.private:
            entry = self.memory.get(_key(call, public=False))
        now = self._now()
        if entry is not None and now < entry.fresh_until:
            self.stats.hits_l1 += 1
            return handed_out(entry.body, now - entry.stored, advertise=self._advertise)
        return Question(call, rule, entry, now)

    async def _ask(self, question: Question, call_next: CallNext) -> Result:
        """Fetch an answer together with whoever asks the same."""
        group, stale = question.rule.group, question.entry
        tags = self.levels.tags.take(question.rule.tags)
        found: object
        if group.passes and question.rule.named is None:
            self.stats.passed += 1
            found = await self._load(question, call_next, tags, together=False)
        else:
            for_all = group.public and not group.private
            flight = (_key(question.call, public=for_all), *tags)  # who asks after a change does not join from before
            bearable = stale is not None and question.now < stale.fresh_until + self._while_revalidate
            if stale is not None and bearable and flight in self._flights:
                self.stats.stale += 1
                return self._handed_out(stale)
            load = partial(self._load, question, call_next, tags, for_all=for_all)
            found = await self._flights.run(flight, load, home=call_next)
        if question.result is not None:
            return question.result  # as the provider gave it; what is kept is a copy
        assert isinstance(found, Entry)
        self.stats.joined += not question.loaded
        return self._handed_out(found)

    async def _load(
        self,
        question: Question,
        call_next: CallNext,
        tags: tuple[Tag, ...],
        *,
        together: bool = True,
        for_all: bool = False,
    ) -> Entry | ForOne[Entry | Result]:
        """Ask the second level, then the provider. An entry is for all who wait, anything else for the caller alone.

        What is for the caller alone: what its client was asked for; and on a flight `for_all` a private answer, or an
        error that may be about the caller.
        """
        call, rule, began, ticket = question.call, question.rule, self._now(), None
        if together:
            question.loaded = True
            if self.shared is not None and self.shared.usable:
                keys = {_shared_key(rule, key): key for key in (_key(call, public=True), _key(call, public=False))}
                entry, ticket = await self.levels.fetch(tags, keys)
                if entry is not None:
                    self.stats.hits_l2 += 1
                    rule.group.saw(public=entry.public)
                    return entry if entry.public or not for_all else ForOne(entry)
            self.stats.misses += 1
        try:
            asked = flight_call(call, question.line)
            asked.deadline = call.deadline
            result = question.result = await call_next(asked)
        except Exception as error:
            failed, stale = _is_failure(error), question.entry
            if failed and stale is not None and self._now() < stale.fresh_until + self._if_error:
                self.stats.stale += 1
                logger.info("plugin %r answers %r with what it had: %s", self.name, call, error)
                return stale
            if question.line.asked or (for_all and not failed):
                return ForOne(error)
            raise
        entry = await self._keep(question, tags, began, ticket)
        return entry if entry is not None and (entry.public or not for_all) else ForOne(result)

    async def _keep(
        self, question: Question, tags: tuple[Tag, ...], began: float, ticket: Ticket | None
    ) -> Entry | None:
        """Keep the result that came for a question, if it may be kept."""
        call, rule, result, entry = question.call, question.rule, question.result, None
        assert result is not None
        seconds = 0.0 if question.line.asked else seconds_to_keep(result, rule, self._max_ttl)
        if seconds > 0:
            public = result.get("cacheScope") == "public"
            key = _key(call, public=public)
            entry = await self.levels.keep(
                result,
                seconds,
                key=key,
                began=began,
                tags=tags,
                public=public,
                ticket=ticket,
                shared_key=_shared_key(rule, key),
                tenant=None if call.principal is None else call.principal.tenant,
            )
        rule.group.passes = entry is None
        if entry is not None:
            self.stats.stored += 1
            rule.group.saw(public=entry.public)
        return entry

    def _handed_out(self, entry: Entry) -> dict[str, Any]:
        return handed_out(entry.body, self._now() - entry.stored, advertise=self._advertise)


def _key(call: Call, *, public: bool) -> bytes:
    """The key of a call. What is for everybody is so within a tenant: tenants share nothing (K2)."""
    key = call_key(call, public=public)
    principal = call.principal
    return key + principal.tenant.encode() if public and principal is not None and principal.tenant else key


def _shared_key(rule: Rule, key: bytes) -> str:
    return f"e:{blake2b(rule.identity + key, digest_size=16).hexdigest()}"


def _is_failure(error: Exception) -> bool:
    """Whether the error says nothing about what the answer would have been."""
    return classify(error=error) is Outcome.FAILURE or getattr(error, "code", None) in AWAY
