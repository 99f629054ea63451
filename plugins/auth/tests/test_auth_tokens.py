"""What is remembered of tokens, and for how long."""

from __future__ import annotations

from plughost import Principal
from plughost_auth._claims import Reason, Verified, identify
from plughost_auth._tokens import BAD_FOR, BAD_KNOWN, TokenCache


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def someone(expires: float | None = None) -> Verified:
    return identify(Principal("alice"), expires, "")


def test_until_expiry_or_the_limit() -> None:
    """A verified token is known until it expires, or for `cache_for` at most."""
    time = Time()
    cache = TokenCache(size=10, keep=60, now=time)
    cache.keep(b"short", someone(1030.0))
    cache.keep(b"long", someone(9000.0))
    time.now = 1030.0
    assert cache.get(b"short") is None
    assert cache.get(b"long") is not None
    time.now = 1060.0
    assert cache.get(b"long") is None
    assert len(cache) == 0


def test_bounded() -> None:
    """No more tokens are known than there may be; the oldest goes first."""
    cache = TokenCache(size=3, keep=60, now=Time())
    for number in range(5):
        cache.keep(bytes([number]), someone())
    assert len(cache) == 3
    assert [cache.get(bytes([number])) is not None for number in range(5)] == [False, False, True, True, True]


def test_bad_tokens_drive_out_no_good_ones() -> None:
    """Bad tokens are remembered apart, a thousand of them, for ten seconds."""
    time = Time()
    cache = TokenCache(size=2, keep=60, now=time)
    cache.keep(b"good", someone())
    for number in range(BAD_KNOWN + 5):
        cache.keep_bad(number.to_bytes(4), Reason.SIGNATURE)
    assert cache.get(b"good") is not None
    assert cache.why_bad((0).to_bytes(4)) is None
    assert cache.why_bad((BAD_KNOWN).to_bytes(4)) is Reason.SIGNATURE
    time.now += BAD_FOR
    assert cache.why_bad((BAD_KNOWN).to_bytes(4)) is None


def test_clear() -> None:
    """Forgetting says how many there were."""
    cache = TokenCache(size=10, keep=60, now=Time())
    cache.keep(b"a", someone())
    cache.keep_bad(b"b", Reason.SIGNATURE)
    assert cache.clear() == 1
    assert cache.get(b"a") is None
    assert cache.why_bad(b"b") is None
