"""What a policy is written in: roles, their rules, and who has which role."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from plughost import GuardConfig, PluginConfig, did_you_mean
from pydantic import BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

Permission: TypeAlias = Literal["read:resources", "write:resources", "execute:tools", "admin:access"]
PERMISSIONS: frozenset[str] = frozenset({"read:resources", "write:resources", "execute:tools", "admin:access"})
Kind: TypeAlias = Literal["tool", "prompt", "resource", "method"]
NAMED_BY: dict[Kind, frozenset[str]] = {
    "tool": frozenset({"execute:tools", "write:resources", "admin:access"}),
    "prompt": frozenset({"read:resources", "admin:access"}),
    "resource": frozenset({"read:resources", "admin:access"}),
    "method": frozenset({"admin:access"}),
}
"""What a rule may name → the permissions that cover it."""
ANONYMOUS = "anonymous"
"""The role of calls that nobody authenticated."""
AUTHENTICATED = "authenticated"
"""A role that everybody has who is authenticated."""


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


Text = Annotated[str, Field(min_length=1)]
Permissions = Annotated[tuple[Permission, ...], BeforeValidator(_listed)]
Globs = Annotated[tuple[Text, ...], BeforeValidator(_listed)]
Names = Annotated[tuple[Text, ...], BeforeValidator(_listed)]


class Between(PluginConfig):
    """A range that a number has to be in, bounds included."""

    min: float | None = None
    """The least it may be."""
    max: float | None = None
    """The most it may be."""

    @model_validator(mode="after")
    def _bounded(self) -> Between:
        if self.min is None and self.max is None:
            raise ValueError("a range needs min, max or both")
        return self


Expected = Annotated[
    tuple[StrictBool | StrictInt | StrictFloat | StrictStr | Between, ...],
    BeforeValidator(_listed),
    Field(min_length=1),
]


class Rule(PluginConfig):
    """What a role may or may not do, and where. What is left out is not limited."""

    allow: Permissions = ()
    """Permissions that it gives."""
    deny: Permissions = ()
    """Permissions that it takes away, whatever other rules and roles give; with `admin:access` all that it covers."""
    provider: Globs = ()
    """Providers, by name."""
    tool: Globs = ()
    """Tools, by the names that their providers have for them."""
    prompt: Globs = ()
    """Prompts, by the names that their providers have for them."""
    resource: Globs = ()
    """URIs of resources, and templates as they are written."""
    method: Globs = ()
    """Methods of extensions."""
    arguments: dict[Text, Expected] = Field(default_factory=dict)
    """What arguments have to be: a glob, a value, a range `{min, max}`, or a list of those. A name that begins with a
    slash is a JSON pointer."""

    @model_validator(mode="after")
    def _one_effect(self) -> Rule:
        if bool(self.allow) == bool(self.deny):
            raise ValueError("a rule has either allow or deny")
        given = {*self.allow, *self.deny}
        for kind, covering in NAMED_BY.items():
            if getattr(self, kind) and not given & covering:
                raise ValueError(f"names a {kind}, which none of {sorted(given)} covers; {sorted(covering)} do")
        if self.arguments and not (given & NAMED_BY["tool"] or self.prompt):
            raise ValueError("has arguments, but neither tools nor prompts, which are all that takes some")
        return self


class Role(PluginConfig):
    """What those may do who have it."""

    permissions: Permissions = ()
    """Permissions for everything that they cover."""
    inherits: Names = ()
    """Roles whose permissions and rules it has too."""
    rules: tuple[Rule, ...] = ()
    """Permissions for some of it, or against."""


class PolicyConfig(PluginConfig):
    """A policy: the keys of a policy file, which are also those of the plugin's own table."""

    roles: dict[Text, Role] = Field(default_factory=dict)
    """The roles. `anonymous` is for calls that nobody authenticated, `authenticated` for all others."""
    principals: dict[Text, Names | dict[Text, Names]] = Field(default_factory=dict)
    """Subject → roles; or issuer → subject → roles, where there are several issuers."""
    groups: dict[Text, Names] = Field(default_factory=dict)
    """A role or group as tokens name it → roles here. A name that is a role here needs no entry."""
    writes: Globs = ()
    """Tools that need `write:resources` too, as globs of `PROVIDER/TOOL`."""

    @model_validator(mode="after")
    def _roles_exist(self) -> PolicyConfig:
        for name, role in self.roles.items():
            self._check(f"roles.{name}.inherits", role.inherits)
        for subject, found in self.principals.items():
            for names in found.values() if isinstance(found, dict) else (found,):
                self._check(f"principals.{subject}", names)
        for group, names in self.groups.items():
            self._check(f"groups.{group}", names)
        for name in self.roles:
            if name in self.ancestors(name):
                raise ValueError(f"roles.{name} inherits itself")
        for glob in self.writes:
            if "/" not in glob:
                raise ValueError(f"writes names {glob!r}; write PROVIDER/TOOL, for example '*/{glob}'")
        return self

    def _check(self, where: str, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in self.roles:
                known = did_you_mean(name, self.roles) or f"; roles are: {', '.join(self.roles) or 'none'}"
                raise ValueError(f"{where} names the role {name!r}, which does not exist{known}")

    def ancestors(self, name: str) -> dict[str, None]:
        """All roles that a role inherits, directly or not."""
        found: dict[str, None] = {}
        waiting = list(self.roles[name].inherits)
        while waiting:
            if (role := waiting.pop(0)) not in found:
                found[role] = None
                waiting += self.roles[role].inherits
        return found


class RBACConfig(GuardConfig, PolicyConfig):
    """The `[plugins.rbac]` table. Empty, it refuses everything."""

    policy: str | None = None
    """A TOML file with `roles`, `principals`, `groups` and `writes` instead of here; a reload reads it again."""
    scopes: Literal["ignore", "grant", "limit"] = "ignore"
    """What scopes of a token that are named like permissions do: nothing; give these permissions; or let no role give
    what the token has no scope for."""

    @model_validator(mode="after")
    def _one_place(self) -> RBACConfig:
        both = [name for name in PolicyConfig.model_fields if getattr(self, name)]
        if self.policy is not None and both:
            raise ValueError(f"has both a policy file and {both[0]}; move one into the other")
        return self
