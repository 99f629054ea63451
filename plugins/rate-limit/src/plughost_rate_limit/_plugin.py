"""The plugin: whose bucket, how much, and what the client reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from plughost import (
    Call,
    CallNext,
    ErrorCode,
    EventType,
    HealthCheck,
    HostEvent,
    MCPPlugin,
    Middleware,
    Operation,
    Phase,
    Refusal,
    Result,
    hookimpl,
)
from plughost_redis import BackendUnavailable, RedisBackend
from pydantic import BaseModel, ConfigDict, Field

from plughost_rate_limit._config import RateLimitConfig
from plughost_rate_limit._identity import describe, digest, labels, parse
from plughost_rate_limit._memory import MemoryStore, Verdict
from plughost_rate_limit._offenders import Offenders
from plughost_rate_limit._shared import SharedStore

if TYPE_CHECKING:
    from plughost import Host

META = "plughost/rateLimit"
"""The key in a result's `_meta`."""
SHOWN = 20
RETRY_UNDECIDED_MS = 1000


class IdentityParameters(BaseModel):
    """What operations on one identity take."""

    model_config = ConfigDict(extra="forbid")

    identity: str = Field(min_length=1)
    """As `show` writes it: `principal:SUBJECT:ISSUER` (and `:TENANT`), `address:IP`, `everybody`."""


class RateLimitPlugin(MCPPlugin[RateLimitConfig]):
    """Refuses calls beyond a rate, for each caller by himself.

    Behind rbac and validation, so that a call that would be refused anyway costs nobody anything.
    """

    backends = ("memory", "redis")

    def __init__(self, config: RateLimitConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self.refused: Offenders[str] = Offenders()
        self._backend: RedisBackend | None = None
        self._count = metrics.get_meter("plughost.rate_limit").create_counter(
            "plughost.rate_limit.refused", unit="{call}", description="Calls refused, by limit."
        )
        self._bind(self.config)

    # -- life cycle ---------------------------------------------------------------------------------------------------

    async def register(self, host: Host) -> None:
        self._publish = host.publish
        self._store: MemoryStore | SharedStore
        if self.config.url.is_memory:
            self._store = MemoryStore(self.config.algorithms, host.clock)
        else:
            self._backend = RedisBackend(self.config.url, name=self.name, host=host, prefix="plughost:rate-limit")
            self._store = SharedStore(self.config.algorithms, self._backend)
            await self._backend.start()

    async def unregister(self) -> None:
        if self._backend is not None:
            await self._backend.aclose()

    async def reconfigure(self, config: RateLimitConfig) -> bool:
        if config.url != self.config.url:
            return False
        self.config = config
        self._bind(config)
        self._store.change(config.algorithms)
        return True

    def _bind(self, config: RateLimitConfig) -> None:
        """Keep what each call needs where it is cheap to get at."""
        self._per = config.per
        self._advertise = config.advertise
        self._costs = _costs(config.cost) if config.cost else None

    # -- hooks --------------------------------------------------------------------------------------------------------

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        return [Middleware(self.limit, Phase.GUARD, methods=self.config.methods, after=("validation", "rbac"))]

    @hookimpl
    def plughost_health_checks(self) -> Iterable[HealthCheck]:
        return [self._backend.health_check()] if self._backend is not None else []

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        one = IdentityParameters
        return [
            Operation("show", self.show, summary="Limits, how many identities are counted, who is refused most"),
            Operation("remaining", self.remaining, parameters=one, summary="What is left for one identity"),
            Operation("reset", self.reset, parameters=one, changes=True, summary="Give one identity its quota back"),
            Operation("reset-all", self.reset_all, changes=True, summary="Give everybody the quota back"),
        ]

    # -- calls --------------------------------------------------------------------------------------------------------

    async def limit(self, call: Call, call_next: CallNext) -> Result:
        """Hand the call on if every limit has room for it."""
        cost = 1
        if self._costs is not None and call.method == "tools/call":
            cost = self._costs(call.local_name or "")
            if not cost:
                return await call_next(call)
        whose = labels(call, self._per)
        try:
            verdict = await self._store.take(digest(whose), cost)
        except BackendUnavailable as error:
            raise self._undecided(error) from error
        if verdict.wait:
            raise self._refusal(call, describe(whose), cost, verdict)
        result = await call_next(call)
        return _advertised(result, verdict) if self._advertise else result

    def _refusal(self, call: Call, whose: str, cost: int, verdict: Verdict) -> Refusal:
        self.refused.add(whose)
        if self.config.mode == "enforce":
            self._count.add(1, {"plughost.plugin": self.name, "plughost.rate_limit.limit": verdict.limit})
            details = {"method": call.method, "limit": verdict.limit, "identity": whose}
            self._publish(HostEvent(EventType.REFUSED, self.name, details))
        wait = -(-verdict.wait // 1000)
        takes = f", and this call takes {cost} of it" if cost > 1 else ""
        return Refusal(
            ErrorCode.RATE_LIMIT_EXCEEDED,
            f"The rate limit of {verdict.limit} is used up{takes}; try again in {wait / 1000:g} s",
            details={"limit": verdict.limit, "remaining": verdict.remaining},
            retry_after_ms=wait,
        )

    def _undecided(self, error: BackendUnavailable) -> Exception:
        """What to raise when nobody knows the counts: an error of the plugin where it fails open, or else a refusal."""
        if self.config.fail_mode == "open":
            return error
        return Refusal(
            ErrorCode.UPSTREAM_UNAVAILABLE,
            f"The rate limits of {self.name!r} cannot be checked at the moment, so the call is refused; try again",
            retry_after_ms=RETRY_UNDECIDED_MS,
        )

    # -- operations ---------------------------------------------------------------------------------------------------

    async def show(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """The limits in force, and who runs into them."""
        del parameters
        config = self.config
        return {
            "limit": [str(rate) for rate in config.limit],
            "algorithm": config.algorithm,
            "per": list(config.per),
            "store": str(config.url),
            "available": self._backend is None or self._backend.up,
            "identities": self._store.identities,
            "refused_most": [{"identity": name, "refused": count} for name, count in self.refused.top(SHOWN)],
        }

    async def remaining(self, parameters: IdentityParameters) -> Mapping[str, Any]:
        """What is left for one identity, under the limit that has the least left."""
        verdict = await self._store.take(digest(parse(parameters.identity)), 0)
        return {"identity": parameters.identity, "limit": verdict.limit, "remaining": verdict.remaining}

    async def reset(self, parameters: IdentityParameters) -> Mapping[str, Any]:
        """Forget one identity."""
        await self._store.reset(digest(parse(parameters.identity)))
        self.refused.forget(parameters.identity)
        return await self.remaining(parameters)

    async def reset_all(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """Forget everybody."""
        await self._store.reset()
        self.refused.forget()
        return await self.show(parameters)


def _costs(table: Mapping[str, int]) -> Any:
    """What a call of a tool costs, looked up once for each name."""

    @lru_cache(maxsize=4096)
    def cost_of(tool: str) -> int:
        return next((cost for glob, cost in table.items() if fnmatchcase(tool, glob)), 1)

    return cost_of


def _advertised(result: Result, verdict: Verdict) -> Result:
    quota = {"limit": verdict.limit, "remaining": verdict.remaining}
    return {**result, "_meta": {**(result.get("_meta") or {}), META: quota}}
