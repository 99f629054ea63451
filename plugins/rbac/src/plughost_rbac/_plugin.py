"""The plugin: what is asked of the policy, and what the client hears."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError
from mcp_types import METHOD_NOT_FOUND
from mcp_types.methods import SPEC_CLIENT_METHODS
from opentelemetry import metrics
from plughost import (
    Call,
    CallNext,
    ConfigError,
    ErrorCode,
    EventType,
    HealthCheck,
    HostEvent,
    MCPPlugin,
    Middleware,
    Operation,
    Phase,
    PlughostError,
    PluginError,
    Principal,
    Refusal,
    Result,
    did_you_mean,
    filter_list,
    hookimpl,
    private,
    unknown_target,
)
from plughost import Kind as ListKind
from pydantic import BaseModel, ConfigDict, Field

from plughost_rbac._config import Kind, PolicyConfig, RBACConfig
from plughost_rbac._file import read_policy
from plughost_rbac._patterns import WILD
from plughost_rbac._policy import Policy

if TYPE_CHECKING:
    from plughost import Host

logger = logging.getLogger("plughost.rbac")

KIND_OF: Mapping[str, Kind] = {
    "tools/call": "tool",
    "prompts/get": "prompt",
    "resources/read": "resource",
    "resources/subscribe": "resource",
    "resources/unsubscribe": "resource",
}
KIND_LISTED: Mapping[ListKind, Kind] = {
    ListKind.TOOLS: "tool",
    ListKind.PROMPTS: "prompt",
    ListKind.RESOURCES: "resource",
    ListKind.TEMPLATES: "resource",
}
_LISTED: Mapping[Kind, ListKind] = {
    "tool": ListKind.TOOLS,
    "prompt": ListKind.PROMPTS,
    "resource": ListKind.RESOURCES,
}
LISTS = frozenset(kind.method for kind in ListKind)
COMPLETION = "completion/complete"
SHOWN = 200
"""Characters of a name that events and logs hold."""

_refused = metrics.get_meter("plughost.rbac").create_counter(
    "plughost.rbac.refused", unit="{call}", description="Calls refused, by reason: hidden, arguments, unauthenticated."
)


class ExplainParameters(BaseModel):
    """What `explain` takes."""

    model_config = ConfigDict(extra="forbid")

    principal: str = ""
    """Subject of the caller; empty for one whom nobody authenticated."""
    target: str
    """Tool, prompt or resource, by its public name."""
    kind: Kind = "tool"
    """What the target is."""
    issuer: str = ""
    """Issuer of the caller."""
    roles: list[str] = Field(default_factory=list)
    """Roles or groups that the caller's token names."""
    scopes: list[str] = Field(default_factory=list)
    """Scopes of the caller's token."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the call."""


class RBACPlugin(MCPPlugin[RBACConfig]):
    """Lets a call pass if a rule of its caller's roles allows it, and shows in lists what it would let pass.

    It decides on the resolved provider and the name there (A9), never on what a tool says of itself (A10).
    """

    def __init__(self, config: RBACConfig | None = None, *, name: str = "", version: str = "") -> None:
        super().__init__(config, name=name, version=version)
        self._host: Host | None = None
        self._unread: str | None = None
        self._take(self.config, Policy.of(self.config))

    # -- life cycle ---------------------------------------------------------------------------------------------------

    async def register(self, host: Host) -> None:
        self._host = host
        try:
            self._take(self.config, self._read(self.config))
        except ConfigError as error:
            raise PluginError(self.name, str(error), remedy="Mend the policy file") from error

    async def unregister(self) -> None:
        self._host = None

    async def reconfigure(self, config: RBACConfig) -> bool:
        policy = self._read(config)
        self._take(config, policy)
        self._follow()
        return True

    def _take(self, config: RBACConfig, policy: Policy) -> None:
        self._policy = policy
        self._observing = config.mode == "observe"

    def _read(self, config: RBACConfig) -> Policy:
        """The policy of a config, or of the file that it names.

        Raises:
            ConfigError: The file cannot be read, or is no policy.
        """
        if config.policy is None:
            return Policy.of(config)
        folder = self._host.config.folder if self._host is not None else Path()
        return Policy.of(config, read_policy(folder / config.policy))

    def _follow(self) -> None:
        """End streams whose resources were admitted by another policy; their clients ask again."""
        if self._host is not None and self._host.running:
            self._host.end_streams()

    # -- hooks --------------------------------------------------------------------------------------------------------

    @hookimpl
    def plughost_middleware(self) -> Iterable[Middleware]:
        around: dict[str, Any] = {"after": ("tenancy",), "before": ("pinning", "validation")}
        return [
            Middleware(self.show_permitted, Phase.GUARD, methods=LISTS, **around),
            Middleware(self.authorize, Phase.GUARD, **around),
        ]

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [
            Operation("show", self.show, summary="The policy in force"),
            Operation("explain", self.explain, parameters=ExplainParameters, summary="Which rule decides of a call"),
            Operation("reload", self.reload, changes=True, summary="Read the policy file again"),
        ]

    @hookimpl
    def plughost_health_checks(self) -> Iterable[HealthCheck]:
        return [HealthCheck("policy", self._is_read)] if self.config.policy is not None else []

    @hookimpl
    def plughost_event(self, event: HostEvent) -> None:
        reloaded = event.type == EventType.CONFIG_RELOADED
        if reloaded and self.config.policy is not None:
            self._reread()
        if reloaded or (event.type == EventType.PLUGIN_REGISTERED and event.subject == self.name):
            self._warn_of_names()

    def _warn_of_names(self) -> None:
        """Tell of providers that rules name and that do not exist: a refusal with a typo refuses nothing."""
        known = self._host.generation.catalog.providers if self._host is not None else {}
        for role, held in self._policy.config.roles.items():
            for number, rule in enumerate(held.rules):
                for name in rule.provider:
                    if name not in known and not WILD.search(name):
                        where, hint = f"roles.{role}.rules[{number}]", did_you_mean(name, known)
                        logger.warning("%s of plugin %r names %r, which is no provider%s", where, self.name, name, hint)

    # -- calls --------------------------------------------------------------------------------------------------------

    async def authorize(self, call: Call, call_next: CallNext) -> Result:
        """Let a call pass that a rule allows."""
        method = call.method
        kind = KIND_OF.get(method)
        if kind is None:
            return await self._authorize_other(call, call_next)
        grants = self._policy.grants(call.principal)
        if grants is None:
            raise self._unauthenticated(call)
        verdict = self._policy.verdict(grants, kind, call.provider or "", call.local_name or call.target or "")
        if not verdict.visible or call.provider is None:
            raise self._hidden(call, unknown_target(method, call.target))
        if not verdict.free:
            outcome, rules, faults = verdict.of(call.params.get("arguments"))
            if outcome != "allowed":
                raise self._refused_for(call, rules, faults)
        result = await call_next(call)
        return private(result) if kind == "resource" else result

    async def show_permitted(self, call: Call, call_next: CallNext) -> Result:
        """Show of a list what the caller could call with some arguments."""
        policy, host = self._policy, self._host
        grants = policy.grants(call.principal)
        if grants is None or self._observing or host is None:
            return await call_next(call)  # to `authorize`

        def sees(kind: ListKind, provider: str, name: str) -> bool:
            return policy.verdict(grants, KIND_LISTED[kind], provider, name).visible

        return await filter_list(host.generation.catalog, call, call_next, sees)

    async def _authorize_other(self, call: Call, call_next: CallNext) -> Result:
        """Completions, methods of extensions, and what has no target."""
        grants = self._policy.grants(call.principal)
        if grants is None:
            raise self._unauthenticated(call)
        method = call.method
        if method == COMPLETION:
            if call.provider is None or call.local_name is None:
                raise self._hidden(call, unknown_target(method, None))
            kind: Kind = "prompt" if call.params["ref"]["type"] == "ref/prompt" else "resource"
            if not self._policy.verdict(grants, kind, call.provider, call.local_name).visible:
                raise self._hidden(call, unknown_target(method, None))
        elif method not in SPEC_CLIENT_METHODS:
            verdict = self._policy.verdict(grants, "method", call.provider or "", method)
            if not verdict.visible:
                raise self._hidden(call, MCPError(METHOD_NOT_FOUND, "Method not found", method))
        return await call_next(call)

    # -- refusals -----------------------------------------------------------------------------------------------------

    def _unauthenticated(self, call: Call) -> MCPError:
        self._tell(call, "unauthenticated")
        return Refusal(
            ErrorCode.UNAUTHORIZED,
            "Nobody is signed in, and there is nothing here for callers who are not; sign in and try again",
            details={"reason": "unauthenticated"},
        )

    def _hidden(self, call: Call, answer: MCPError) -> MCPError:
        """Note that a target was hidden, and answer as if it did not exist (A8)."""
        self._tell(call, "hidden")
        return answer

    def _refused_for(self, call: Call, rules: tuple[str, ...], faults: tuple[str, ...]) -> MCPError:
        self._tell(call, "arguments", rules)
        words = ", ".join(map(repr, faults))
        return Refusal(
            ErrorCode.UNAUTHORIZED,
            f"You may call {call.target!r}, but not with this {words}; change it, or ask for a role that allows it",
            details={"reason": "arguments", "target": call.target, "arguments": list(faults)},
        )

    def _tell(self, call: Call, reason: str, rules: tuple[str, ...] = ()) -> None:
        """Count a refusal, and tell of it; where nothing is enforced the host does."""
        _refused.add(1, {"plughost.plugin": self.name, "plughost.rbac.reason": reason})
        if self._observing or self._host is None:
            return
        who = call.principal
        details = {
            "method": call.method,
            "target": call.target[:SHOWN] if call.target is not None else None,
            "provider": call.provider,
            "principal": who.subject if who is not None else None,
            "tenant": who.tenant if who is not None else None,
            "reason": reason,
            "rules": [rule.partition(":")[0] for rule in rules],
        }
        self._host.publish(HostEvent(EventType.REFUSED, self.name, details))

    # -- operations ---------------------------------------------------------------------------------------------------

    async def show(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """The policy in force."""
        del parameters
        policy = self._policy.config
        fields = PolicyConfig.model_fields
        return {
            "mode": self.config.mode,
            "policy_file": self.config.policy,
            "unread": self._unread,
            "scopes": self.config.scopes,
            **policy.model_dump(include=set(fields), exclude_defaults=True, mode="json"),
        }

    async def explain(self, parameters: ExplainParameters) -> Mapping[str, Any]:
        """What is decided of a call, and by which rule.

        Raises:
            PlughostError: The target leads to no provider.
        """
        assert self._host is not None
        catalog, target = self._host.generation.catalog, parameters.target
        if parameters.kind == "method":
            provider = catalog.provider_of(target)
            found = None if provider is None else (provider, target)
        else:
            found = catalog.locate(_LISTED[parameters.kind], target)
        if found is None:
            raise PlughostError(f"no provider has the {parameters.kind} {target!r}")
        provider, name = found
        who = Principal(
            parameters.principal,
            parameters.issuer,
            roles=frozenset(parameters.roles),
            scopes=frozenset(parameters.scopes),
        )
        return self._policy.explain(who, parameters.kind, provider, name, parameters.arguments)

    async def reload(self, parameters: BaseModel | None = None) -> Mapping[str, Any]:
        """Read the policy file again; says what is wrong with it, in which case the policy before stays in force."""
        self._reread()
        return await self.show(parameters)

    async def _is_read(self) -> None:
        """What is in the file is what counts.

        Raises:
            PlughostError: It is not: the file is broken.
        """
        if self._unread is not None:
            raise PlughostError(f"the policy before is in force: {self._unread}")

    def _reread(self) -> None:
        try:
            policy = self._read(self.config)
        except ConfigError as error:
            self._unread = str(error)
            logger.warning("plugin %r goes on with the policy before: %s", self.name, error)
            return
        self._unread = None
        if policy.config != self._policy.config:
            self._policy = policy
            self._follow()
