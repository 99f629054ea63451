"""The keys that operators keep."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidTag
from plughost_encryption import Master, new_key
from plughost_encryption._keys import derive, ring


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ([], "there is no key"),
        (["hunter2hunter2"], "key 1 is shorter than 32 bytes"),
        (["k" * 64], "key 1 is not random"),
        (["changemechangemechangemechangeme0123"], "key 1 is a placeholder"),
        (["Replace-this-with-thirty-two-random-bytes"], "key 1 is a placeholder"),
        ([new_key(), "password" * 8], "key 2"),
    ],
)
def test_weak_keys_are_refused(texts: list[str], why: str) -> None:
    """Short ones, repetitions and placeholders are no secrets; the message names the place and the remedy (G3)."""
    with pytest.raises(ValueError, match=why) as caught:
        ring(texts)
    assert "plughost encryption new-key" in str(caught.value)
    assert not any(text in str(caught.value) for text in texts)


def test_a_key_twice_is_a_mistake() -> None:
    """Whoever rotates meant two."""
    key = new_key()
    with pytest.raises(ValueError, match="twice"):
        ring([key, key])


def test_new_keys_pass() -> None:
    """What the command makes is accepted, and never the same."""
    assert len(ring([new_key() for _ in range(50)])) == 50


def test_what_is_derived_depends_on_the_purpose() -> None:
    """An id that is shown says nothing of what encrypts."""
    secret = b"s" * 32
    made = {derive(secret, purpose, salt=salt) for purpose in (b"id", b"data") for salt in (None, b"1", b"2")}
    assert len(made) == 6


def test_a_wrapped_key_opens_only_where_it_was_wrapped() -> None:
    """Another key of the ring, another context and an altered text are refused."""
    one, other = Master(new_key()), Master(new_key())
    wrapped = one.wrap(b"key", b"acme")
    assert one.unwrap(wrapped, b"acme") == b"key"
    for master, text, context in (
        (other, wrapped, b"acme"),
        (one, wrapped, b"evil"),
        (one, wrapped[:-1] + b"?", b"acme"),
    ):
        with pytest.raises(InvalidTag):
            master.unwrap(text, context)


def test_keys_do_not_show_themselves() -> None:
    """A key in a traceback is its id."""
    text = new_key()
    assert repr(Master(text)) == f"<Master {Master(text).id.hex()}>"
