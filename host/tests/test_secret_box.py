"""What plugins seal with what another plugin shares."""

from __future__ import annotations

from plughost import KeyGoneError, PlughostError, SealError, SecretBox


class Box:
    def seal(self, plaintext: bytes, *, context: bytes, tenant: str | None = None) -> bytes:
        return plaintext

    def unseal(self, sealed: bytes, *, context: bytes) -> bytes:
        return sealed


def test_a_box_needs_no_base_class() -> None:
    """Whatever seals and unseals is one."""
    assert isinstance(Box(), SecretBox)
    assert not isinstance(object(), SecretBox)


def test_who_does_not_care_why_catches_one_error() -> None:
    """A key that is gone is one reason why something cannot be unsealed."""
    assert issubclass(KeyGoneError, SealError)
    assert issubclass(SealError, PlughostError)
