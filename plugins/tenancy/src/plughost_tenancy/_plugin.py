"""The plugin: every call gets its tenant, and sees only what this tenant sees."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST, METHOD_NOT_FOUND
from mcp_types.methods import SPEC_CLIENT_METHODS
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from opentelemetry import metrics
from plughost import (
    TARGETS,
    Call,
    CallNext,
    EventType,
    HostEvent,
    Kind,
    MCPPlugin,
    Middleware,
    Operation,
    Phase,
    Principal,
    Refusal,
    Result,
    filter_instructions,
    filter_list,
    hookimpl,
    private,
    unknown_target,
)
from pydantic import BaseModel
from starlette.middleware import Middleware as HTTPMiddleware
from starlette.requests import Request

from plughost_tenancy._config import TenancyConfig
from plughost_tenancy._http import PATH, PathTenant, SessionTenant, peer_of
from plughost_tenancy._sessions import Sessions
from plughost_tenancy._tenant import NOTHING, Named, Tenants, Views

if TYPE_CHECKING:
    from plughost import Host

logger = logging.getLogger("plughost.tenancy")

AUTHENTICATED = "plughost.auth.principal"
"""Where the ASGI scope has the caller, if the auth plugin has authenticated one."""
LISTS = frozenset(kind.method for kind in Kind)
GREETINGS = frozenset({"initialize", "server/discover"})
NAMED = frozenset({*TARGETS, "completion/complete"})
INNER = ("retry", "circuit-breaker", "timeout", "bulkhead")
"""Those that stand around what asks a provider."""

_refused = metrics.get_meter("plughost.tenancy").create_counter(
    "plughost.tenancy.refused", unit="{call}", description="Calls refused for want of a tenant, by reason."
)


class TenancyPlugin(MCPPlugin[TenancyConfig]):
    """Gives each call its tenant, or refuses it; and hides from a tenant the providers that are not for it."""

    def __init__(self, config: TenancyConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self.sessions = Sessions()
        self._host: Host | None = None
        self._bind(self.config)

    # -- life cycle ---------------------------------------------------------------------------------------------------

    async def register(self, host: Host) -> None:
        self._host = host

    async def unregister(self) -> None:
        self._host = None

    async def reconfigure(self, config: TenancyConfig) -> bool:
        self._bind(config)
        if self._host is not None and self._host.running:
            self._host.end_streams()  # what they watch was admitted by another config; their clients ask again
        return True

    def _bind(self, config: TenancyConfig) -> None:
        """Keep what each call needs where it is cheap to get at."""
        self._tenants = Tenants(config)
        self._views = Views(config)
        self._header = config.header
        self._asks = config.header is not None or config.path is not None
        self._observing = config.mode == "observe"

    # -- hooks --------------------------------------------------------------------------------------------------------

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        first: dict[str, Any] = {"before": ("rbac", "pinning", "validation", "rate-limit")}
        return [
            Middleware(self.admit, Phase.ADMIT, after=("shutdown", "auth")),
            Middleware(self.hide_instructions, Phase.OBSERVE, methods=GREETINGS, after=("errors",)),
            Middleware(self.list_visible, Phase.GUARD, methods=LISTS, **first),
            Middleware(self.hide, Phase.GUARD, **first),
            Middleware(self.set_level, Phase.PROTECT, methods={"logging/setLevel"}, after=INNER),
        ]

    @hookimpl
    def plughost_http_middleware(self) -> Iterable[HTTPMiddleware]:
        found = [HTTPMiddleware(SessionTenant, foreign=self._foreign)]
        if self.config.path is not None and self._host is not None:
            endpoint = self._host.settings.path
            found.append(HTTPMiddleware(PathTenant, prefix=self.config.path, endpoint=endpoint))
        return found

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [Operation("show", self.show, summary="Tenants, and the providers that each sees")]

    # -- whose a call is ----------------------------------------------------------------------------------------------

    async def admit(self, call: Call, call_next: CallNext) -> Result:
        """Give a call its tenant."""
        who = call.principal
        try:
            tenant = self._tenants.of(who, self._named(call.request) if self._asks else NOTHING)
            if call.protocol_version not in MODERN_PROTOCOL_VERSIONS and not self.sessions.bind(
                call.connection, tenant
            ):
                raise MCPError(INVALID_REQUEST, "Session not found")
        except MCPError as error:
            self._tell(call, error)
            raise
        if who is None:
            call.principal = Principal("", tenant=tenant)
        elif who.tenant != tenant:
            call.principal = replace(who, tenant=tenant)
        return await call_next(call)

    def _named(self, request: Request | None) -> Named:
        if request is None:
            return NOTHING
        header = request.headers.getlist(self._header) if self._header is not None else ()
        return Named(header, request.scope.get(PATH), peer_of(request))

    def tenant_of(self, request: Request) -> str:
        """The tenant of a request that passes no pipeline, or not all of it.

        Raises:
            Refusal: It has none.
        """
        return self._tenants.of(request.scope.get(AUTHENTICATED), self._named(request))

    def _foreign(self, request: Request, session: str) -> bool:
        """Whether a session is not of the tenant that asks for it."""
        if self._observing:
            return False
        try:
            return self.sessions.owner(session) != self.tenant_of(request)
        except Refusal:
            return True

    def _tell(self, call: Call, error: MCPError) -> None:
        """Count a refusal, and tell of it; where nothing is enforced the host does."""
        data = error.data if isinstance(error, Refusal) and isinstance(error.data, dict) else {}
        reason = data.get("reason", "session")
        _refused.add(1, {"plughost.plugin": self.name, "plughost.tenancy.reason": reason})
        if self._host is not None and not self._observing:
            subject = call.principal.subject if call.principal is not None else None
            details = {"method": call.method, "principal": subject, "reason": reason}
            self._host.publish(HostEvent(EventType.REFUSED, self.name, details))

    # -- what it sees -------------------------------------------------------------------------------------------------

    async def hide(self, call: Call, call_next: CallNext) -> Result:
        """Answer for a provider that the tenant does not see as if there were none.

        What there is none for is answered here, too: further in, a limit that only counts what is missing would tell
        it from what is hidden.
        """
        if not self._views.limited or self._observing:
            return await self._pass(call, call_next)
        method = call.method
        if call.provider is None:
            found = method in SPEC_CLIENT_METHODS and method not in NAMED  # for all providers, or none
        else:
            found = self._sees(call)(call.provider)
        if found:
            return await self._pass(call, call_next)
        if method in NAMED:
            raise unknown_target(method, call.target)
        raise MCPError(METHOD_NOT_FOUND, "Method not found", method)

    def _sees(self, call: Call) -> Callable[[str], bool]:
        return self._views.of(call.principal.tenant if call.principal is not None else None).sees

    async def _pass(self, call: Call, call_next: CallNext) -> Result:
        """Hand a call on; what it answers is for this tenant alone to keep (K3)."""
        result = await call_next(call)
        return private(result) if call.method == "resources/read" else result

    async def list_visible(self, call: Call, call_next: CallNext) -> Result:
        """Leave out of a list what is of providers that the tenant does not see."""
        if not self._views.limited or self._observing or self._host is None:
            return private(await call_next(call))
        sees = self._sees(call)
        catalog = self._host.generation.catalog
        return await filter_list(catalog, call, call_next, lambda kind, provider, name: sees(provider))  # noqa: ARG005 - all of a provider, or nothing

    async def hide_instructions(self, call: Call, call_next: CallNext) -> Result:
        """Leave out of a greeting what is of providers that the tenant does not see."""
        result = await call_next(call)
        if not self._views.limited or self._observing or self._host is None:
            return result
        who = call.principal
        try:
            tenant = who.tenant if who is not None else None
            if who is None and call.request is not None:  # `server/discover` passes OBSERVE only
                tenant = self.tenant_of(call.request)
            sees = self._views.of(tenant).sees if tenant is not None else _nothing
        except Refusal:
            sees = _nothing
        return private(filter_instructions(self._host.generation.catalog, result, sees))

    async def set_level(self, call: Call, call_next: CallNext) -> Result:
        """Tell the providers that the tenant sees, and none of another's; one that fails keeps its level."""
        if not self._views.limited or self._observing or self._host is None:
            return await call_next(call)
        sees = self._sees(call)
        for provider in self._host.generation.catalog.providers.values():
            if sees(provider.name) and "logging" in provider.capabilities(call.protocol_version):
                try:
                    await provider.request(call, call.params)
                except MCPError as error:
                    logger.warning("provider %r did not take the log level: %s", provider.name, error.message)
        return {}

    # -- operations ---------------------------------------------------------------------------------------------------

    async def show(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """The tenants, and what each sees."""
        del parameters
        names = list(self._host.generation.catalog.providers) if self._host is not None else []

        def seen(tenant: str | None) -> list[str]:
            return [name for name in names if self._views.of(tenant).sees(name)]

        return {
            "mode": self.config.mode,
            "sessions": len(self.sessions),
            "tenants": {name: {"providers": seen(name)} for name in self.config.tenants},
            "others": None if self.config.tenants else {"providers": seen(None)},
        }


def _nothing(_: str) -> bool:
    return False
