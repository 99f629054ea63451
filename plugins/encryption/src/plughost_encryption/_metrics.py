"""What boxes count, as metrics. Read when somebody collects; a call pays nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING
from weakref import WeakSet

from opentelemetry import metrics
from plughost import SealError

if TYPE_CHECKING:
    from plughost_encryption._plugin import EncryptionPlugin

_LIVE: WeakSet[EncryptionPlugin] = WeakSet()


def watch(plugin: EncryptionPlugin) -> None:
    """Let the metrics tell of a plugin, until it is unwatched.

    The instruments are those of all instances, since the OpenTelemetry API never lets an observable one go.
    """
    _instruments()
    _LIVE.add(plugin)


def unwatch(plugin: EncryptionPlugin) -> None:
    _LIVE.discard(plugin)


Reading = Iterable[tuple[int, dict[str, str]]]


@cache
def _instruments() -> tuple[object, ...]:
    meter = metrics.get_meter("plughost.encryption")
    return (
        meter.create_observable_counter(
            "plughost.encryption.messages", [_each(_messages)], "{message}", "What was sealed and unsealed, or not."
        ),
        meter.create_observable_up_down_counter(
            "plughost.encryption.keys", [_each(_keys)], "{key}", "Keys of the ring, and data keys of tenants."
        ),
    )


def _each(
    read: Callable[[EncryptionPlugin], Reading],
) -> Callable[[metrics.CallbackOptions], Iterable[metrics.Observation]]:
    def observe(options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        del options
        for plugin in list(_LIVE):
            for value, attributes in read(plugin):
                yield metrics.Observation(value, {"plughost.plugin": plugin.name, **attributes})

    return observe


def _messages(plugin: EncryptionPlugin) -> Reading:
    box = plugin.box
    for result in ("sealed", "unsealed", "refused", "gone"):
        yield getattr(box, result), {"plughost.encryption.result": result}


def _keys(plugin: EncryptionPlugin) -> Reading:
    box = plugin.box
    yield len(box.masters), {"plughost.encryption.kind": "ring"}
    with suppress(SealError):  # the health check tells
        if (count := box.data_key_count()) is not None:
            yield count, {"plughost.encryption.kind": "data"}
