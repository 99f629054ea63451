"""What claims have to say, and the principal they make."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plughost_auth._claims import ClaimNames, Expected, Reason, RejectedToken, claim, verify_claims

NOW = 1_000_000.0
EXPECTED = Expected("https://login.example", {"https://mcp.example/mcp"}, ClaimNames(), leeway=10)
RIGHT = {"iss": "https://login.example", "aud": "https://mcp.example/mcp", "sub": "alice", "exp": NOW + 300}


def refused(**changes: Any) -> Reason | None:
    claims = {name: value for name, value in {**RIGHT, **changes}.items() if value is not None}
    try:
        verify_claims(claims, EXPECTED, NOW)
    except RejectedToken as error:
        return error.reason
    return None


def test_right_claims_make_a_principal() -> None:
    """Subject, issuer, tenant, roles and scopes come from the claims that the config names; dots lead into objects."""
    names = ClaimNames(tenant="org.id", roles="realm.roles", scopes="scp")
    expected = Expected(EXPECTED.issuer, EXPECTED.audience, names)
    more = {"org": {"id": "acme"}, "realm": {"roles": ["admin", "dev"]}, "scp": ["a", "b"], "azp": "editor"}
    found = verify_claims({**RIGHT, **more}, expected, NOW)
    who = found.principal
    assert (who.subject, who.issuer, who.tenant) == ("alice", "https://login.example", "acme")
    assert who.roles == {"admin", "dev"}
    assert who.scopes == {"a", "b"}
    assert found.user.access_token.client_id == "editor"
    assert found.user.access_token.token == ""


def test_claim_name_with_dots_of_its_own() -> None:
    """A claim that is called so goes before what its dots would lead to."""
    assert claim({"https://a.example/roles": ["x"]}, "https://a.example/roles") == ["x"]
    assert claim({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert claim({"a": "text"}, "a.b") is None


@pytest.mark.parametrize(
    "issuer", ["https://login.example/", "HTTPS://login.example", "", None, ["https://login.example"]]
)
def test_issuer_is_exact(issuer: object) -> None:
    """Another spelling of the issuer is another issuer (A6)."""
    assert refused(iss=issuer) is Reason.ISSUER


@pytest.mark.parametrize(
    "audience", ["https://mcp.example/", "https://other.example/mcp", [], [["https://mcp.example/mcp"]], {"a": 1}, None]
)
def test_audience(audience: object) -> None:
    """A token for another resource, or for none, is refused (A3)."""
    assert refused(aud=audience) is Reason.AUDIENCE
    assert refused(aud=["https://other.example", "https://mcp.example/mcp"]) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": NOW - 10}, Reason.EXPIRED),
        ({"exp": NOW - 9}, None),
        ({"nbf": NOW + 11}, Reason.NOT_YET_VALID),
        ({"nbf": NOW + 10}, None),
        ({"exp": None}, Reason.MALFORMED),
        ({"exp": "soon"}, Reason.MALFORMED),
        ({"exp": True}, Reason.MALFORMED),
        ({"exp": float("nan")}, Reason.MALFORMED),
        ({"exp": 10**400}, Reason.MALFORMED),
        ({"exp": (NOW + 300) * 1e9}, Reason.MALFORMED),
        ({"nbf": -(10**400)}, Reason.MALFORMED),
        ({"nbf": [0]}, Reason.MALFORMED),
        ({"sub": None}, Reason.SUBJECT),
        ({"sub": 7}, Reason.SUBJECT),
        ({"sub": "alice\n2026-01-01 INFO bob"}, Reason.SUBJECT),
        ({"sub": "alice\x00"}, Reason.SUBJECT),
        ({"sub": "\ud800"}, Reason.SUBJECT),
        ({"sub": "auth0|Åsa Öberg"}, None),
        ({"cnf": {"jkt": "x"}}, Reason.BOUND),
    ],
)
def test_times_and_subject(changes: dict[str, Any], reason: Reason | None) -> None:
    """Expired, not yet valid, without expiry, without subject, bound to a key of the client: each is refused (A7)."""
    assert refused(**changes) is reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"typ": "ID"}, Reason.TYPE),
        ({"typ": "Refresh"}, Reason.TYPE),
        ({"typ": "Offline"}, Reason.TYPE),
        ({"token_use": "id"}, Reason.TYPE),
        ({"token_type": "refresh_token"}, Reason.TYPE),
        ({"typ": "Bearer", "token_type": "Bearer", "token_use": "access"}, None),
        ({"typ": ["ID"]}, None),
    ],
)
def test_a_token_that_says_it_is_another_kind(changes: dict[str, Any], reason: Reason | None) -> None:
    """Where `typ` in the header has to be `JWT`, and of opaque tokens, claims tell ID and refresh tokens apart (A7)."""
    assert refused(**changes) is reason


SCALAR = st.sampled_from([None, True, 0, 1, NOW + 60, 1e400, 10**400, float("nan"), "", "x", "https://mcp.example/mcp"])
ANYTHING = SCALAR | st.lists(SCALAR, max_size=3) | st.dictionaries(st.sampled_from(["a", "sub"]), SCALAR, max_size=2)


@given(st.dictionaries(st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "scope", "cnf", "client_id"]), ANYTHING))
def test_no_claims_do_harm(changes: dict[str, Any]) -> None:
    """Whatever the claims are, there is a principal of this issuer, for this resource, in time, or a refusal (A7)."""
    claims = {**RIGHT, **changes}
    try:
        found = verify_claims(claims, EXPECTED, NOW)
    except RejectedToken:
        return
    assert claims["iss"] == EXPECTED.issuer
    assert "https://mcp.example/mcp" in claims["aud"]
    assert found.expires > NOW
    assert isinstance(found.principal.subject, str)
