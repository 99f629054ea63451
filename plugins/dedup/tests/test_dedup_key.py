"""What makes two calls the same call."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.server.connection import Connection
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    LOG_LEVEL_META_KEY,
    ClientCapabilities,
    ElicitationCapability,
)
from plughost import Call, Principal
from plughost_dedup import IDEMPOTENCY_KEY, call_key
from plughost_testing import make_call
from starlette.requests import Request

ANN = Principal("ann", issuer="https://id.example", tenant="acme", roles=frozenset({"a"}), scopes=frozenset({"s"}))


def asked(arguments: Any = None, *, meta: dict[str, Any] | None = None, who: Principal | None = None) -> Call:
    params = {"name": "add", "arguments": {"a": 1} if arguments is None else arguments}
    call = make_call("tools/call", params | ({"_meta": meta} if meta is not None else {}), principal=who)
    call.provider, call.local_name = "notes", "add"
    return call


def test_equal_calls_have_equal_keys_of_16_bytes() -> None:
    """Two calls of the same caller with the same arguments have one key."""
    assert call_key(asked(who=ANN)) == call_key(asked(who=replace(ANN)))
    assert len(call_key(asked())) == 16


@pytest.mark.parametrize(
    "other",
    [
        None,
        replace(ANN, subject="bob"),
        replace(ANN, issuer="https://other.example"),
        replace(ANN, tenant="evil"),
        replace(ANN, tenant=None),
        replace(ANN, roles=frozenset({"admin"})),
        replace(ANN, scopes=frozenset()),
        replace(ANN, roles=frozenset({"s"}), scopes=frozenset({"a"})),
        replace(ANN, claims={"client_id": "another-app"}),
        replace(ANN, claims={"azp": "another-app"}),
    ],
)
def test_whoever_may_get_another_answer_has_another_key(other: Principal | None) -> None:
    """Tenant, issuer, subject, roles, scopes and client each tell callers apart (K2)."""
    assert call_key(asked(who=ANN)) != call_key(asked(who=other))
    assert call_key(asked(who=ANN), public=True) == call_key(asked(who=other), public=True)


def test_a_renewed_token_keeps_the_key() -> None:
    """What changes from token to token does not tell callers apart."""
    first, second = (replace(ANN, claims={"client_id": "app", "exp": exp, "jti": str(exp)}) for exp in (1, 2))
    assert call_key(asked(who=first)) == call_key(asked(who=second))


@pytest.mark.parametrize("header", [b"authorization", b"cookie", b"x-api-key"])
def test_credentials_that_no_plugin_read_tell_callers_apart(header: bytes) -> None:
    """Without authentication by the host a server in process may still read the request's headers (K2)."""

    def sent(value: bytes) -> bytes:
        call = asked()
        call.request = Request({"type": "http", "headers": [(b"accept", value), (header, value)]})
        return call_key(call)

    assert sent(b"one") == sent(b"one")
    assert sent(b"one") != sent(b"two")


def test_a_tenants_strangers_are_apart() -> None:
    """Who has a tenant and no name is told apart by tenant and credentials (K2)."""

    def sent(tenant: str | None, cookie: bytes) -> bytes:
        call = asked(who=Principal("", tenant=tenant))
        call.request = Request({"type": "http", "headers": [(b"cookie", cookie)]})
        return call_key(call)

    assert len({sent("acme", b"one"), sent("acme", b"two"), sent("globex", b"one"), sent(None, b"one")}) == 4
    assert sent("acme", b"one") == sent("acme", b"one")


def test_the_answering_side_is_in_the_key() -> None:
    """Provider, its own name of the target, method and protocol version each make another key."""
    base = asked()
    elsewhere, renamed, older = asked(), asked(), asked()
    elsewhere.provider, renamed.local_name, older.protocol_version = "other", "plus", "2025-11-25"
    method = make_call("prompts/get", base.params)
    method.provider, method.local_name = "notes", "add"
    assert len({call_key(call, public=True) for call in (base, elsewhere, renamed, older, method)}) == 5


@pytest.mark.parametrize(
    "meta",
    [
        {"progressToken": 7},
        {"traceparent": "00-1-2-01", "tracestate": "a=b", "baggage": "c=d"},
        {CLIENT_INFO_META_KEY: {"name": "x", "version": "1"}},
        {LOG_LEVEL_META_KEY: "debug"},
        {IDEMPOTENCY_KEY: "order-1"},
    ],
)
def test_how_the_caller_is_told_is_not_in_the_key(meta: dict[str, Any]) -> None:
    """Progress token, trace context, client info, log level and idempotency key do not make another question."""
    assert call_key(asked(meta=meta)) == call_key(asked())


@pytest.mark.parametrize("meta", [{CLIENT_CAPABILITIES_META_KEY: {"elicitation": {}}}, {"example.com/locale": "de"}])
def test_what_may_change_the_answer_is_in_the_key(meta: dict[str, Any]) -> None:
    """Client capabilities and the keys of extensions make another question."""
    assert call_key(asked(meta=meta)) != call_key(asked())


def test_a_legacy_client_declares_its_capabilities_once() -> None:
    """Before 2026-07-28 they are the connection's, and in the key like those of each newer request."""

    def of(capabilities: ClientCapabilities | None) -> bytes:
        connection = Connection.from_envelope("2025-11-25", None, capabilities)
        call = Call("tools/call", {"name": "add"}, connection=connection, dispatch=make_call("ping").dispatch)
        return call_key(call)

    able = ClientCapabilities(elicitation=ElicitationCapability())
    assert of(able) == of(able.model_copy())
    assert len({of(able), of(ClientCapabilities())}) == 2


def test_values_that_json_tells_apart_are_told_apart() -> None:
    """1, 1.0, true and "1" differ, as do null, NaN and a missing key."""
    values = [1, 1.0, True, "1", None, math.nan, [], {}, [1], 2**70, "\ud800", -0.0, 0.0]
    keys = {call_key(asked({"a": value})) for value in values} | {call_key(asked({}))}
    assert len(keys) == len(values) + 1


def test_the_order_of_keys_does_not_matter() -> None:
    """Nor where the slower encoder has to take over."""
    assert call_key(asked({"a": 1, "b": {"c": 2, "d": 3}})) == call_key(asked({"b": {"d": 3, "c": 2}, "a": 1}))
    assert call_key(asked({"a": 2**70, "b": None})) == call_key(asked({"b": None, "a": 2**70}))


texts = st.text(st.sampled_from('ab,"[]\\:'), max_size=4)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.just(2**65), st.floats(width=16), texts)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2))
callers = st.builds(
    Principal,
    texts,
    issuer=texts,
    tenant=st.none() | texts,
    roles=st.frozensets(texts, max_size=2),
    scopes=st.frozensets(texts, max_size=2),
)
questions = st.tuples(st.none() | callers, texts, texts, st.dictionaries(texts, values, max_size=2))


def keyed(question: tuple[Principal | None, str, str, dict[str, Any]]) -> bytes:
    call = asked(question[3], who=question[0])
    call.provider, call.local_name = question[1], question[2]
    return call_key(call)


def exact(question: tuple[Principal | None, str, str, dict[str, Any]]) -> tuple[Any, ...]:
    """The question as a value of which equality is exactly what a key has to say."""
    return question[0], question[1], question[2], json.dumps(question[3], sort_keys=True)


@settings(max_examples=60, deadline=None)
@given(questions, questions)
def test_keys_are_equal_exactly_if_the_questions_are(one: Any, other: Any) -> None:
    """No two values run into each other, whatever quotes, commas and brackets they hold (K2)."""
    assert (keyed(one) == keyed(other)) == (exact(one) == exact(other))
