"""Secrets in text are blanked."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plughost_logs._redaction import BLANK, LONGEST, Redactor

SECRETS = [
    "Authorization: Bearer abc.DEF-123_456",
    "Proxy-Authorization: Basic dXNlcjpwYXNzd29yZA==",
    "token=abc.DEF-123_456",
    '{"api_key": "abc.DEF-123_456", "n": 1}',
    "{'client_secret': 'abc.DEF-123_456'}",
    "https://user:abc.DEF-123_456@db.example/x",
    "postgresql://user:abc.DEF-123_456@db.example/x",
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.abc_DEF-123",
    "-----BEGIN RSA PRIVATE KEY-----\nabc.DEF\n-----END RSA PRIVATE KEY-----",
    "X-Api-Key=abc.DEF-123_456&page=2",
    "Set-Cookie: abc.DEF-123_456",
    "Cookie: theme=abc; sid=abc.DEF-123_456",
    "Authorization: ApiKey abc.DEF-123_456",
    "[(b'authorization', b'ApiKey abc.DEF-123_456')]",
    '{\\"password\\": \\"abc.DEF-123_456\\"}',
    '{"password": "abc\\"abc.DEF-123_456"}',
    "refresh_token: ['abc.DEF-123_456']",
    "https://store.example/x?sig=abc.DEF-123_456&n=1",
    "https://store.example/x?X-Amz-Signature=abc.DEF-123_456",
    "https://app.example/callback?code=abc.DEF-123_456",
    "next=%2Fx%3Faccess_token%3Dabc.DEF-123_456",
    "https://abc.DEF-123_456@git.example/x",
    "postgresql://user:p@abc.DEF-123_456@db.example/x",
    "server --password abc.DEF-123_456 --port 80",
    "ghp_abcdefghijklmnopqrstuvwxyz",
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nabc.DEF\n-----END RSA PRIVATE KEY-----",
    "'token': 'abc.DEF-123_456, and then it was cut",
    "pa\u017f\u017fword=abc.DEF-123_456",
    "PRIVATE-\u212aEY: abc.DEF-123_456",
]


@pytest.mark.parametrize("text", SECRETS)
def test_what_looks_like_a_secret_is_blanked(text: str) -> None:
    """Tokens, keys, passwords, and credentials in URLs, as they stand in messages (G6)."""
    found = Redactor().text(f"before {text} after")
    assert BLANK in found
    assert "abc" not in found
    assert "dXNlcjp" not in found
    assert found.startswith("before ")
    assert found.endswith(" after") or "cut" in text


@pytest.mark.parametrize(
    "text", ["12 tokens left", "the password is asked for", "http://db.example:80/x", "key: 1", "mail to a@b.example"]
)
def test_what_is_none_stays(text: str) -> None:
    """Words about secrets are not secrets."""
    assert Redactor().text(text) == text


def test_the_operators_patterns_count_too() -> None:
    """What they match is blanked."""
    assert Redactor([r"\b\d{16}\b"]).text("card 1234567812345678 ok") == f"card {BLANK} ok"


def test_a_value_is_blanked_by_its_name() -> None:
    """Whatever it is."""
    assert Redactor().value("db_password", 42) == BLANK
    assert Redactor().value("city", "Rome") == "Rome"


def test_a_long_text_is_cut() -> None:
    """And says how much is missing."""
    found = Redactor().text("x" * (LONGEST + 7))
    assert found == "x" * LONGEST + " … (7 more characters)"


@given(st.text(max_size=300))
def test_any_text_is_survived(text: str) -> None:
    """What is blanked once is not blanked into something else."""
    once = Redactor().text(text)
    assert Redactor().text(once) == once


@pytest.mark.parametrize(
    "evil", ["token" * 6000, "a-" * 15_000, "://" * 10_000, "eyJ" * 10_000, "secret= " * 4000, "--" * 15_000]
)
def test_hostile_text_costs_no_more_than_its_length(evil: str) -> None:
    """No pattern runs away: 32 KiB take a fraction of a second of CPU."""
    begin = time.process_time()
    Redactor().text(evil)
    assert time.process_time() - begin < 1.0
