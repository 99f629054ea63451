"""How an answer is written down in the second level."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plughost import SecretBox

FORMAT = 1
_HEAD = struct.Struct(">BBdd")
_PUBLIC, _COMPRESSED = 1, 2
_PLAIN, _SEALED = b"\x00", b"\x01"
LARGEST = 64 * 2**20
"""Bytes that a record may have when it is unpacked: what is read may have been written by anybody."""


@dataclass(frozen=True, slots=True)
class Record:
    """An answer and what it depends on. Times are wall clock, since replicas share no other."""

    text: bytes
    """The result as JSON."""
    stored: float
    fresh_until: float
    public: bool
    versions: bytes
    """The versions of its tags when it was asked for."""


def encode(
    record: Record, *, compress_above: int, box: SecretBox | None, context: bytes, tenant: str | None = None
) -> bytes:
    """The bytes of a record: compressed above a size, then sealed for the key that it is stored under."""
    text, flags = record.text, _PUBLIC * record.public
    if len(text) > compress_above:
        text, flags = zlib.compress(text, 1), flags | _COMPRESSED
    head = _HEAD.pack(FORMAT, flags, record.stored, record.fresh_until)
    plain = b"%b%c%b%b" % (head, len(record.versions), record.versions, text)
    return _PLAIN + plain if box is None else _SEALED + box.seal(plain, context=context, tenant=tenant)


def decode(data: bytes, *, box: SecretBox | None, context: bytes) -> Record:
    """A record from its bytes. With a box, only what was sealed for this key is believed.

    Raises:
        ValueError: It is not such a record.
    """
    if data[:1] != (_PLAIN if box is None else _SEALED):
        raise ValueError("it is sealed, and there is no key" if box is None else "it is not sealed")
    try:
        plain = data[1:] if box is None else box.unseal(data[1:], context=context)
        version, flags, stored, fresh_until = _HEAD.unpack_from(plain)
        start = _HEAD.size + 1 + plain[_HEAD.size]
        text = plain[start:]
        if flags & _COMPRESSED:
            unpacker = zlib.decompressobj()
            text = unpacker.decompress(text, LARGEST)
            if unpacker.unconsumed_tail:
                raise ValueError(f"it unpacks to more than {LARGEST} bytes")
    except ValueError:
        raise
    except Exception as error:  # whatever a box or zlib raises
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if version != FORMAT:
        raise ValueError(f"it has format {version}, not {FORMAT}")
    return Record(text, stored, fresh_until, bool(flags & _PUBLIC), plain[_HEAD.size + 1 : start])
