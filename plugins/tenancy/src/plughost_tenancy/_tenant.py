"""Which tenant a call belongs to. What a client can choose decides nothing that its token does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any

from plughost import ErrorCode, Principal, Refusal

from plughost_tenancy._config import RULE, TENANT, TenancyConfig


@dataclass(frozen=True, slots=True)
class Named:
    """What a request says of its tenant besides its token."""

    header: Sequence[str] = ()
    path: str | None = None
    peer: str | None = None
    """The address at the other end of the connection."""


NOTHING = Named()


class Tenants:
    """Decides whose a call is, for one config."""

    def __init__(self, config: TenancyConfig) -> None:
        self._config = config
        self._known = frozenset(config.tenants)
        self._trusts = lru_cache(1024)(self._is_trusted)

    def of(self, who: Principal | None, named: Named = NOTHING) -> str:
        """The tenant of a call.

        Raises:
            Refusal: There is none, or it is not the caller's, or not one of this host.
        """
        claimed = who.tenant if who is not None else None
        if claimed is not None:
            valid(claimed)
        chosen = self._chosen(named)
        if chosen is None or chosen == claimed:
            tenant = claimed if claimed is not None else self._only(who)
        elif chosen in self._memberships(who) or (claimed is None and self._trusts(named.peer)):
            tenant = chosen
        else:
            raise refusal(f"You are not of the tenant {chosen!r}; name your own, or none", "not_a_member")
        if self._known and tenant not in self._known:
            raise refusal(f"The tenant {tenant!r} is not served here; ask the operator to add it", "unknown")
        return tenant

    def _chosen(self, named: Named) -> str | None:
        """The tenant that header and path name.

        Raises:
            Refusal: They name several, or something that is no name.
        """
        found = {valid(name) for name in (*named.header, *((named.path,) if named.path is not None else ()))}
        if len(found) > 1 or len(named.header) > 1:
            raise refusal("The request names its tenant more than once; name it once", "ambiguous")
        return next(iter(found), None)

    def _memberships(self, who: Principal | None) -> frozenset[str]:
        claim = self._config.memberships
        given: Any = who.claims.get(claim, ()) if who is not None and claim is not None else ()
        return frozenset(item for item in (given if isinstance(given, list | tuple) else ()) if isinstance(item, str))

    def _only(self, who: Principal | None) -> str:
        """The tenant of a caller who names none, and need not.

        Raises:
            Refusal: It takes a name.
        """
        mine = self._memberships(who)
        if len(mine) == 1:
            return valid(next(iter(mine)))
        ways = ["a token that does"]
        if self._config.header is not None:
            ways.append(f"the header {self._config.header}")
        if self._config.path is not None:
            ways.append(f"the path {self._config.path}/TENANT")
        text = f"The call names no tenant; name it by {' or '.join(ways)}"
        raise Refusal(ErrorCode.TENANT_REQUIRED, text, details={"reason": "missing"})

    def _is_trusted(self, peer: str | None) -> bool:
        try:
            address = ip_address((peer or "").partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._config.trusted_proxies)


def valid(name: str) -> str:
    """The name of a tenant.

    Raises:
        Refusal: It is none.
    """
    if not TENANT.match(name):
        raise refusal(f"The call names a tenant badly; {RULE}", "invalid")
    return name


def refusal(text: str, reason: str) -> Refusal:
    return Refusal(ErrorCode.UNAUTHORIZED, text, details={"reason": reason})


class View:
    """Which providers some tenants see."""

    def __init__(self, globs: Sequence[str]) -> None:
        self._globs = tuple(globs)
        self._known: dict[str, bool] = {}

    def sees(self, provider: str) -> bool:
        """Whether they see it; remembered, since there are only so many."""
        found = self._known.get(provider)
        if found is None:
            found = self._known[provider] = any(fnmatchcase(provider, glob) for glob in self._globs)
        return found

    @property
    def everything(self) -> bool:
        return "*" in self._globs


class Views:
    """What each tenant sees."""

    def __init__(self, config: TenancyConfig) -> None:
        self._own = {name: View(it.providers) for name, it in config.tenants.items() if it.providers is not None}
        self._default = View(config.providers if config.providers is not None else () if self._own else ("*",))
        self.limited = not all(view.everything for view in (self._default, *self._own.values()))
        """Whether there is anything that somebody does not see."""

    def of(self, tenant: str | None) -> View:
        """What a tenant sees, or somebody who has none where nothing is enforced."""
        return self._own.get(tenant, self._default) if tenant is not None else self._default
