"""Whose a call is, decided without a host."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plughost import ErrorCode, Principal, Refusal
from plughost_tenancy import TenancyConfig
from plughost_tenancy._tenant import NOTHING, Named, Tenants, Views

PROXY, STRANGER = "10.0.0.7", "203.0.113.9"
CONFIG = {"header": "X-Tenant", "path": "/t", "trusted_proxies": ["10.0.0.0/8", "fd00::/8"], "memberships": "orgs"}


def tenants(**keys: Any) -> Tenants:
    return Tenants(TenancyConfig.model_validate(keys))


def outcome(tenants: Tenants, who: Principal | None, named: Named = NOTHING) -> str:
    """The tenant, or why there is none."""
    try:
        return tenants.of(who, named)
    except Refusal as refused:
        return f"!{refused.data['reason'] if refused.data else ''}"


def member(*orgs: Any, tenant: str | None = None) -> Principal:
    return Principal("ada", tenant=tenant, claims={"orgs": list(orgs)})


ACME = Principal("ada", tenant="acme")
NOBODYS = Principal("ada")


@pytest.mark.parametrize(
    ("who", "named", "expected"),
    [
        (ACME, Named(), "acme"),
        (ACME, Named(("acme",), "acme", STRANGER), "acme"),
        (ACME, Named(("other",), None, STRANGER), "!not_a_member"),
        (ACME, Named(("other",), None, PROXY), "!not_a_member"),
        (ACME, Named((), "other", PROXY), "!not_a_member"),
        (ACME, Named(("ACME",), None, PROXY), "!not_a_member"),
        (NOBODYS, Named(), "!missing"),
        (None, Named(), "!missing"),
        (None, Named(("acme",), None, PROXY), "acme"),
        (None, Named((), "acme", PROXY), "acme"),
        (None, Named(("acme",), None, "::ffff:10.0.0.7"), "acme"),
        (None, Named(("acme",), None, "fd00::1%eth0"), "acme"),
        (None, Named(("acme",), None, STRANGER), "!not_a_member"),
        (None, Named(("acme",), None, None), "!not_a_member"),
        (None, Named(("acme",), None, "unix"), "!not_a_member"),
        (NOBODYS, Named((), "acme", STRANGER), "!not_a_member"),
        (None, Named(("acme", "acme"), None, PROXY), "!ambiguous"),
        (None, Named(("acme",), "other", PROXY), "!ambiguous"),
        (None, Named(("",), None, PROXY), "!invalid"),
        (None, Named(("a b",), None, PROXY), "!invalid"),
        (None, Named(("acme\n",), None, PROXY), "!invalid"),
        (None, Named(("x" * 65,), None, PROXY), "!invalid"),
        (None, Named((), "..", PROXY), "!invalid"),
        (Principal("ada", tenant="a/b"), Named(), "!invalid"),
        (Principal("ada", tenant=""), Named(), "!invalid"),
        (member("acme", "other"), Named(("other",), None, STRANGER), "other"),
        (member("acme", "other"), Named(), "!missing"),
        (member("acme"), Named(), "acme"),
        (member("acme"), Named((), "other", STRANGER), "!not_a_member"),
        (member("other", tenant="acme"), Named((), "other", STRANGER), "other"),
        (member("other", tenant="acme"), Named(), "acme"),
        (member(5, None, ["x"]), Named((), "5", STRANGER), "!not_a_member"),
        (Principal("ada", claims={"orgs": "acme"}), Named((), "a", STRANGER), "!not_a_member"),
    ],
)
def test_a_tenant_is_proved_or_refused(who: Principal | None, named: Named, expected: str) -> None:
    """By the token, by a membership in it, or by a proxy that is trusted."""
    assert outcome(tenants(**CONFIG), who, named) == expected


def test_a_call_without_a_tenant_says_how_to_name_one() -> None:
    """-32018, and only the ways that there are."""
    for keys, words in (
        ({}, "a token that does"),
        (CONFIG, "a token that does or the header x-tenant or the path /t/TENANT"),
    ):
        with pytest.raises(Refusal) as refused:
            tenants(**keys).of(None)
        assert refused.value.code == ErrorCode.TENANT_REQUIRED
        assert str(refused.value) == f"The call names no tenant; name it by {words}"


def test_only_known_tenants_are_served() -> None:
    """Where there is a list; and who is no member is told the same of known and unknown ones."""
    found = tenants(**CONFIG, tenants={"acme": {}, "other": {}})
    assert outcome(found, ACME) == "acme"
    assert outcome(found, Principal("ada", tenant="unknown")) == "!unknown"
    assert outcome(found, ACME, Named(("other",))) == outcome(found, ACME, Named(("unknown",))) == "!not_a_member"


NAMES = st.sampled_from(["a", "b", "c", "", "A", "a b"])


@settings(max_examples=300, deadline=None)
@given(
    claim=st.none() | NAMES,
    orgs=st.lists(NAMES, max_size=2),
    header=st.lists(NAMES, max_size=2),
    path=st.none() | NAMES,
    peer=st.sampled_from([PROXY, STRANGER, None]),
)
def test_nobody_gets_a_tenant_that_nothing_proves(
    claim: str | None, orgs: list[str], header: list[str], path: str | None, peer: str | None
) -> None:
    """Whatever a client writes, its tenant is its token's, or a trusted proxy's where the token names none."""
    found = outcome(tenants(**CONFIG), member(*orgs, tenant=claim), Named(header, path, peer))
    if not found.startswith("!"):
        proved = {claim, *orgs} if claim is not None or peer != PROXY else {*orgs, *header, path}
        assert found in proved - {None, "", "a b"}
        assert {*header, path} <= {found, None}


def test_views_are_globs_of_providers() -> None:
    """A tenant's own list counts instead of everybody's."""
    lists = {"acme": {"providers": ["acme-*", "shared"]}, "none": {"providers": []}, "plain": {}}
    for everybodys, seen_by_others in ((["shared"], ["shared"]), (None, [])):
        views = Views(TenancyConfig.model_validate({"providers": everybodys, "tenants": lists}))
        names = ["shared", "acme-notes", "other-notes"]
        tenants = ("acme", "none", "plain", None)
        seen = {tenant: [name for name in names if views.of(tenant).sees(name)] for tenant in tenants}
        assert seen == {
            "acme": ["shared", "acme-notes"],
            "none": [],
            "plain": seen_by_others,
            None: seen_by_others,
        }
        assert views.limited
    assert not Views(TenancyConfig.model_validate({"tenants": {"plain": {}}})).limited
