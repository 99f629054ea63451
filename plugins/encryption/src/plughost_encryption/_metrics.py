"""What boxes count, as metrics."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from plughost import InstanceMeter, Readings, SealError

if TYPE_CHECKING:
    from plughost_encryption._plugin import EncryptionPlugin

meter: InstanceMeter[EncryptionPlugin] = InstanceMeter("plughost.encryption")


@meter.counter("plughost.encryption.messages", "{message}", "What was sealed and unsealed, or not.")
def messages(plugin: EncryptionPlugin) -> Readings:
    box = plugin.box
    for result in ("sealed", "unsealed", "refused", "gone"):
        yield getattr(box, result), {"plughost.encryption.result": result}


@meter.up_down_counter("plughost.encryption.keys", "{key}", "Keys of the ring, and data keys of tenants.")
def keys(plugin: EncryptionPlugin) -> Readings:
    box = plugin.box
    yield len(box.masters), {"plughost.encryption.kind": "ring"}
    with suppress(SealError):  # the health check tells
        if (count := box.data_key_count()) is not None:
            yield count, {"plughost.encryption.kind": "data"}
