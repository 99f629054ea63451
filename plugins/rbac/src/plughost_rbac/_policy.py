"""The one decision function: who may do what. Lists and calls both ask it (A8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from plughost_rbac._config import (
    ANONYMOUS,
    AUTHENTICATED,
    PERMISSIONS,
    Kind,
    PolicyConfig,
    RBACConfig,
    Role,
    Rule,
)
from plughost_rbac._patterns import Condition, Glob

if TYPE_CHECKING:
    from plughost import Principal

ADMIN = "admin:access"
REMEMBERED = 16_384
"""Decisions, and callers, that are remembered."""
LONG = 256
"""Characters of a name beyond which its decision is not remembered: names are the callers' to invent."""
NEEDED: Mapping[Kind, tuple[str, ...]] = {
    "tool": ("execute:tools",),
    "prompt": ("read:resources",),
    "resource": ("read:resources",),
    "method": (ADMIN,),
}


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """A rule, compiled."""

    where: str
    """Its place in the policy: `roles.editor.rules[0]`."""
    text: str
    """What it says, for people."""
    deny: bool
    permissions: frozenset[str]
    provider: Glob | None
    names: Mapping[Kind, Glob]
    conditions: tuple[Condition, ...]

    @classmethod
    def of(cls, where: str, rule: Rule) -> Statement:
        deny = bool(rule.deny)
        kinds: tuple[Kind, ...] = ("tool", "prompt", "resource", "method")
        names = {kind: Glob(globs, ignore_case=deny) for kind in kinds if (globs := getattr(rule, kind))}
        conditions = tuple(Condition(name, expected, deny=deny) for name, expected in rule.arguments.items())
        given = frozenset(rule.deny or rule.allow)
        written = rule.model_dump(exclude_defaults=True, mode="json")
        text = f"{where}: " + ", ".join(f"{key} {_shown(value)}" for key, value in written.items())
        return cls(where, text, deny, given, Glob(rule.provider) if rule.provider else None, names, conditions)

    def concerns(self, kind: Kind, provider: str, name: str) -> bool:
        """Whether it speaks of this target, some arguments given."""
        if self.provider is not None and not self.provider.fits(provider):
            return False
        if self.conditions and kind not in ("tool", "prompt"):
            return False
        if not self.names:
            return True
        glob = self.names.get(kind)
        if glob is None:
            return False
        if kind != "resource":
            return glob.fits(name)
        return glob.possibly(name) if self.deny else glob.surely(name)

    def __str__(self) -> str:
        return self.text


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_shown(item)}" for name, item in value.items())
    return "|".join(map(_shown, value)) if isinstance(value, list | tuple) else str(value)


@dataclass(frozen=True, slots=True, eq=False)
class Grants:
    """What a caller has: roles, their statements, and what scopes give or leave."""

    roles: tuple[str, ...]
    statements: tuple[Statement, ...]
    scopes: frozenset[str] = frozenset()
    """Permissions by scope, in `scopes = "grant"` or `"limit"`."""


Outcome = Literal["allowed", "hidden", "refused"]


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What is decided of a target for a caller: it is hidden, free, or depends on the arguments."""

    visible: bool
    because: tuple[str, ...]
    """The rules that decided, or what is missing: for people."""
    allows: tuple[tuple[Statement, ...], ...] = ()
    """One of each group has to hold."""
    denies: tuple[Statement, ...] = ()
    """None of these may hold."""
    free: bool = field(init=False)
    """Whether it is allowed whatever the arguments."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "free", self.visible and not self.allows and not self.denies)

    def of(self, arguments: Any) -> tuple[Outcome, tuple[str, ...], tuple[str, ...]]:
        """What it comes to with these arguments; the rules that decided; the arguments that are at fault."""
        if not self.visible:
            return "hidden", self.because, ()
        given = arguments if isinstance(arguments, Mapping) else {}
        for statement in self.denies:
            if all(condition.may_hold(given) for condition in statement.conditions):
                return "refused", (statement.text,), tuple(condition.name for condition in statement.conditions)
        held: tuple[str, ...] = self.because
        for group in self.allows:
            faults: dict[str, None] = {}
            for statement in group:
                wrong = [condition.name for condition in statement.conditions if not condition.holds(given)]
                if not wrong:
                    held = (*held, statement.text)
                    break
                faults.update(dict.fromkeys(wrong))
            else:
                return "refused", tuple(map(str, group)), tuple(faults)
        return "allowed", held, ()


class Policy:
    """A policy, compiled. What it decides is remembered; arguments are looked at in each call."""

    def __init__(self, config: PolicyConfig, scopes: Literal["ignore", "grant", "limit"] = "ignore") -> None:
        self.config = config
        self.scopes = scopes
        self._writes = Glob(config.writes, ignore_case=True)
        self._own = {name: _statements(name, role) for name, role in config.roles.items()}
        self._all = {
            name: tuple(item for role in (name, *config.ancestors(name)) for item in self._own[role])
            for name in config.roles
        }
        self._known = lru_cache(REMEMBERED)(self._grants_of)
        self._grants = lru_cache(REMEMBERED)(self._compiled)
        self._verdicts = lru_cache(REMEMBERED)(self._judge)

    @classmethod
    def of(cls, config: RBACConfig, policy: PolicyConfig | None = None) -> Policy:
        """The policy of a plugin's table, or of the file that it names."""
        return cls(policy or config, config.scopes)

    # -- who --------------------------------------------------------------------------------------------------------

    def grants(self, who: Principal | None) -> Grants | None:
        """What a caller has; `None` if nobody is authenticated and there is no role for that."""
        if who is None or not who.subject:
            return self._grants(frozenset({ANONYMOUS}), frozenset()) if ANONYMOUS in self._all else None
        return self._known(who.subject, who.issuer, who.roles, who.scopes)

    def _grants_of(self, subject: str, issuer: str, claimed: frozenset[str], scopes: frozenset[str]) -> Grants:
        config = self.config
        roles = {AUTHENTICATED, *claimed, *(role for name in claimed for role in config.groups.get(name, ()))}
        named = config.principals.get(subject, ())
        roles.update(named if not isinstance(named, dict) else ())
        of_issuer = config.principals.get(issuer, ())
        roles.update(of_issuer.get(subject, ()) if isinstance(of_issuer, dict) else ())
        found = frozenset(roles & self._all.keys())
        return self._grants(found, frozenset() if self.scopes == "ignore" else scopes & PERMISSIONS)

    def _compiled(self, roles: frozenset[str], scopes: frozenset[str]) -> Grants:
        names = sorted(roles)
        statements = dict.fromkeys(item for name in names for item in self._all[name])
        return Grants(tuple(names), tuple(statements), scopes)

    # -- what -------------------------------------------------------------------------------------------------------

    def verdict(self, grants: Grants, kind: Kind, provider: str, name: str) -> Verdict:
        """What is decided of a target: its provider, and its name there."""
        if len(name) > LONG:
            return self._judge(grants, kind, provider, name)
        return self._verdicts(grants, kind, provider, name)

    def explain(
        self, who: Principal | None, kind: Kind, provider: str, name: str, arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """The decision of a call, with what decided it, as JSON."""
        grants = self.grants(who)
        if grants is None:
            return {"outcome": "refused", "because": [f"nobody is authenticated, and there is no role {ANONYMOUS!r}"]}
        outcome, because, faults = self.verdict(grants, kind, provider, name).of(arguments)
        return {
            "outcome": outcome,
            "because": list(because),
            "arguments": list(faults),
            "roles": list(grants.roles),
            "needed": list(self.needed(kind, provider, name)),
            "provider": provider,
            "name": name,
        }

    def needed(self, kind: Kind, provider: str, name: str) -> tuple[str, ...]:
        """The permissions that a target takes."""
        if kind == "tool" and self._writes.patterns and self._writes.fits(f"{provider}/{name}"):
            return (*NEEDED[kind], "write:resources")
        return NEEDED[kind]

    def _judge(self, grants: Grants, kind: Kind, provider: str, name: str) -> Verdict:
        needed = self.needed(kind, provider, name)
        speaking = [item for item in grants.statements if item.concerns(kind, provider, name)]
        denies = [item for item in speaking if item.deny and not item.permissions.isdisjoint((*needed, ADMIN))]
        if final := next((item for item in denies if not item.conditions), None):
            return Verdict(False, (str(final),))
        because: list[str] = []
        groups: list[tuple[Statement, ...]] = []
        for permission in needed:
            enough = {permission, ADMIN}
            if self.scopes == "limit" and enough.isdisjoint(grants.scopes):
                return Verdict(False, (f"the token has no scope {permission}",))
            if self.scopes == "grant" and (given := sorted(enough & grants.scopes)):
                because.append(f"the token has the scope {given[0]}")
                continue
            allows = [item for item in speaking if not item.deny and not enough.isdisjoint(item.permissions)]
            if not allows:
                return Verdict(False, (f"no rule of these roles allows {permission} here",))
            if final := next((item for item in allows if not item.conditions), None):
                because.append(str(final))
            else:
                groups.append(tuple(allows))
        return Verdict(True, tuple(because), tuple(groups), tuple(denies))


def _statements(name: str, role: Role) -> tuple[Statement, ...]:
    rules: Iterable[tuple[str, Rule]] = (
        (f"roles.{name}.rules[{number}]", rule) for number, rule in enumerate(role.rules)
    )
    own = [(f"roles.{name}.permissions", Rule(allow=role.permissions))] if role.permissions else []
    return tuple(Statement.of(where, rule) for where, rule in (*own, *rules))
