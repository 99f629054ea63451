"""The plugin: who calls, in the words of the host."""

from __future__ import annotations

import asyncio
import getpass
import logging
from collections.abc import Collection, Iterable, Mapping
from contextvars import Context
from functools import partial
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
    PluginError,
    Refusal,
    Result,
    hookimpl,
)
from pydantic import BaseModel
from starlette.middleware import Middleware as HTTPMiddleware
from starlette.routing import Route

from plughost_auth._authenticator import Authenticator, principal_of
from plughost_auth._config import AuthConfig, IssuerConfig, is_loopback
from plughost_auth._fetch import Fetcher, FetchError
from plughost_auth._gate import LACKING, PRINCIPAL, Gate, metadata_routes, metadata_url
from plughost_auth._issuer import Issuer
from plughost_auth._keys import KeyTimes
from plughost_auth._scopes import METHODS, ScopeRules

if TYPE_CHECKING:
    from plughost import Host

logger = logging.getLogger("plughost.auth")

_IN_PLACE = frozenset({"keys", "tokens", "local", "required_scopes", "scopes", "cache_for", "cache_size", "mode"})
"""Keys that change without a new instance, which would have to fetch all keys of its issuers again."""


class AuthPlugin(MCPPlugin[AuthConfig]):
    """Lets nobody in who does not prove who he is, and tells the rest of the pipeline who that is."""

    provides = (Authenticator,)  # which makes a second instance a fault: it would find no token

    def __init__(self, config: AuthConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        meter = metrics.get_meter("plughost.auth")
        self._refused = meter.create_counter(
            "plughost.auth.refused", unit="{request}", description="Requests refused, by reason."
        )
        self._verified = meter.create_counter(
            "plughost.auth.verifications", unit="{token}", description="Tokens verified that were not known, by issuer."
        )
        self._fetches = meter.create_counter(
            "plughost.auth.key_fetches", unit="{fetch}", description="Fetches of an issuer's keys, by outcome."
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._away: set[str] = set()
        self.metadata_url: str | None = None
        self._bind(self.config)

    # -- life cycle ---------------------------------------------------------------------------------------------------

    async def register(self, host: Host) -> None:
        config = self.config
        self._host = host
        self._publish = host.publish
        self._settings = host.settings
        address, port = host.settings.address
        if config.tokens and (not is_loopback(address) or host.settings.allowed_hosts):
            raise PluginError(
                self.name,
                f"has tokens, which are for development on one machine, and others reach the host: it listens on "
                f"{host.settings.listen}, allowed_hosts are {', '.join(host.settings.allowed_hosts) or 'none'}",
                remedy="Use keys, from `plughost auth new-key`, or listen on 127.0.0.1 without allowed_hosts",
            )
        self.resource = config.resource or f"http://{host.settings.listen}{host.settings.path}"
        if config.issuers and config.resource is None and (not is_loopback(address) or not port):
            raise PluginError(
                self.name,
                f"has issuers and no resource, and listen = {host.settings.listen!r} does not tell it",
                remedy="Set resource to the URL of the MCP endpoint as clients know it",
            )
        self.metadata_url = metadata_url(self.resource) if config.issuers else None
        self._fetcher = Fetcher(timeout=config.timeout)
        issuers = [self._issuer(name, issuer, host) for name, issuer in config.issuers.items()]
        self.authenticator = Authenticator(config, issuers, host.clock.time, self._count_verified)
        host.provide(Authenticator, self.authenticator)
        self._tasks = [
            asyncio.get_running_loop().create_task(self._keep_fresh(issuer, host), context=Context())
            for issuer in issuers
        ]

    async def unregister(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.authenticator.aclose()
        await self._fetcher.aclose()

    async def reconfigure(self, config: AuthConfig) -> bool:
        changed = {name for name, value in config if value != getattr(self.config, name)}
        if not changed <= _IN_PLACE or (config.tokens and not self.config.tokens):
            return False
        self.config = config
        self._bind(config)
        self.authenticator.bind(config)
        self._end_streams()
        return True

    def _end_streams(self) -> None:
        """End the streams that somebody opened who may not any more; clients ask again, and prove who they are."""
        if self._host.running:
            self._host.end_streams()

    def _bind(self, config: AuthConfig) -> None:
        """Keep what each call needs where it is cheap to get at."""
        self.rules = ScopeRules(config.required_scopes, config.scopes)
        self._local = principal_of(_login(), config.local, "local")

    def _issuer(self, name: str, config: IssuerConfig, host: Host) -> Issuer:
        own = self.config
        return Issuer(
            name,
            config,
            self._fetcher,
            host.clock,
            resource=self.resource,
            leeway=own.leeway,
            times=KeyTimes(own.refresh_every, own.refresh_cooldown, own.stale_for),
            on_removed=self._forget,
            on_outcome=partial(self._fetched, name),
        )

    async def _keep_fresh(self, issuer: Issuer, host: Host) -> None:
        while True:
            await issuer.keys.refresh()
            await host.clock.sleep(issuer.keys.wait)

    def _fetched(self, issuer: str, problem: str | None) -> None:
        """Count a fetch of keys, and say once that an issuer is away, and once that it is back."""
        outcome = "failed" if problem else "fetched"
        self._fetches.add(
            1, {"plughost.plugin": self.name, "plughost.auth.issuer": issuer, "plughost.auth.outcome": outcome}
        )
        if problem and issuer not in self._away:
            self._away.add(issuer)
            logger.warning("the keys of issuer %r cannot be fetched: %s", issuer, problem)
            self._publish(HostEvent(EventType.BACKEND_DOWN, self.name, {"issuer": issuer, "reason": problem}))
        elif not problem and issuer in self._away:
            self._away.discard(issuer)
            self._publish(HostEvent(EventType.BACKEND_UP, self.name, {"issuer": issuer}))

    def _forget(self) -> None:
        self.authenticator.cache.clear()

    # -- hooks --------------------------------------------------------------------------------------------------------

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        yield Middleware(self.admit, Phase.ADMIT, after=("shutdown",), before=("tenancy",))
        if self.config.scopes:
            yield Middleware(
                self.check_scopes, Phase.GUARD, methods=METHODS, before=("validation", "rbac", "rate-limit", "pinning")
            )

    @hookimpl
    def plughost_http_middleware(self) -> Iterable[HTTPMiddleware]:
        return [HTTPMiddleware(Gate, plugin=self, path=self._settings.path, max_body=self._settings.max_body)]

    @hookimpl
    def plughost_http_routes(self) -> Iterable[Route]:
        return metadata_routes(self.resource, self.metadata) if self.metadata_url else []

    @hookimpl
    def plughost_health_checks(self) -> Iterable[HealthCheck]:
        return [HealthCheck(f"issuer-{issuer.name}", partial(_is_there, issuer)) for issuer in self._issuers]

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [
            Operation("show", self.show, summary="Issuers and their keys, API keys, how many tokens are known"),
            Operation("refresh-keys", self.refresh_keys, changes=True, summary="Fetch the keys of all issuers now"),
            Operation(
                "flush",
                self.flush,
                changes=True,
                summary="Forget all verified tokens, and end streams",
            ),
        ]

    # -- calls --------------------------------------------------------------------------------------------------------

    async def admit(self, call: Call, call_next: CallNext) -> Result:
        """Say who calls: whom the token proves, or the login of this process where no HTTP is between."""
        if call.request is None:
            call.principal = self._local
        else:
            principal = call.request.scope.get(PRINCIPAL)
            if principal is None:
                self.count_refused("missing")
                raise Refusal(ErrorCode.UNAUTHORIZED, "Authentication is required; send a bearer token")
            call.principal = principal
        return await call_next(call)

    async def check_scopes(self, call: Call, call_next: CallNext) -> Result:
        """Refuse a call whose principal lacks scopes that its target needs."""
        if call.request is not None:
            needed = self.rules.needed(call.method, call.params)
            if call.principal is None or not needed <= call.principal.scopes:
                # A subscription is also what `subscriptions/listen` asks about, for each resource by itself.
                if self.lacks(needed, call.method) and call.method != "resources/subscribe":
                    call.request.scope.get(LACKING, []).append(needed)
                text = f"{call.target or call.method} needs the scopes {', '.join(sorted(needed))}; ask for a token"
                details = {"error": "insufficient_scope", "scopes": sorted(needed)}
                raise Refusal(ErrorCode.UNAUTHORIZED, f"{text} with them", details=details)
        return await call_next(call)

    def lacks(self, needed: Collection[str], method: str) -> bool:
        """Count and tell that somebody lacks scopes; says whether that refuses the request."""
        self.count_refused("insufficient_scope")
        if self.config.mode == "observe":
            return False
        self._publish(HostEvent(EventType.REFUSED, self.name, {"method": method, "scopes": sorted(needed)}))
        return True

    def count_refused(self, reason: str) -> None:
        """Count a request that was refused, or would have been."""
        self._refused.add(1, {"plughost.plugin": self.name, "plughost.auth.reason": reason})

    def _count_verified(self, issuer: str) -> None:
        self._verified.add(1, {"plughost.plugin": self.name, "plughost.auth.issuer": issuer})

    # -- what is told -------------------------------------------------------------------------------------------------

    def metadata(self) -> Mapping[str, Any]:
        """The protected resource metadata (RFC 9728)."""
        scopes = {"scopes_supported": self.rules.all} if self.rules.all else {}
        return {
            "resource": self.resource,
            "resource_name": self._settings.name,
            "authorization_servers": [issuer.issuer for issuer in self.config.issuers.values()],
            "bearer_methods_supported": ["header"],
            **scopes,
        }

    @property
    def _issuers(self) -> Collection[Issuer]:
        return self.authenticator.issuers.values()

    async def show(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """Who may vouch for callers, and with which keys."""
        del parameters
        return {
            "resource": self.resource,
            "issuers": {
                issuer.name: {
                    "issuer": issuer.config.issuer,
                    "keys": list(issuer.keys.ids),
                    "age": None if issuer.keys.age is None else round(issuer.keys.age, 1),
                    "problem": issuer.keys.problem or issuer.silence,
                }
                for issuer in self._issuers
            },
            "keys": {
                name: {"subject": key.subject or name, "expires": key.expires.isoformat() if key.expires else None}
                for name, key in self.config.keys.items()
            },
            "tokens": sorted(self.config.tokens),
            "known": len(self.authenticator.cache),
        }

    async def refresh_keys(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """Fetch all keys."""
        await asyncio.gather(*(issuer.keys.refresh() for issuer in self._issuers))
        return await self.show(parameters)

    async def flush(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """Forget all verified tokens."""
        del parameters
        self._end_streams()
        return {"forgotten": self.authenticator.cache.clear()}


async def _is_there(issuer: Issuer) -> None:
    if issuer.keys.problem is not None:
        state = "its last good keys are used" if issuer.keys.fresh else "there are no keys to use"
        raise FetchError(f"{issuer.keys.problem}; {state}")
    if issuer.silence is not None:
        raise FetchError(issuer.silence)


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "local"
