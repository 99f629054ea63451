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
        (["0123456789abcdef0123456789abcdef"], "key 1 is not random"),
        (["00112233445566778899aabbccddeeff"], "key 1 is not random"),
        (["abcdefghijklmnopqrstuvwxyz012345"], "key 1 is not random"),
        (["q7Zk0pXv9LrTq7Zk0pXv9LrTq7Zk0pXv9LrT"], "key 1 is not random"),
        (["your-32-byte-key-goes-here-please!"], "key 1 is a placeholder"),
        (["dev-key-do-not-use-in-production-123"], "key 1 is a placeholder"),
        (["deadbeefcafe1b2f9e0714d3c58a6172"], "key 1 is a placeholder"),
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


def test_white_space_around_a_key_is_no_part_of_it() -> None:
    """A file that ends in a line end holds the same key as a variable that does not, so that hosts agree."""
    key = new_key()
    (one,), (other,) = ring([key]), ring([f"{key}\r\n"])
    assert one.id == other.id


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
