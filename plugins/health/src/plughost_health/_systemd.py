"""What systemd wants to hear: the protocol of sd_notify(3), a datagram of `KEY=value` lines to a Unix socket."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

logger = logging.getLogger("plughost.health")


class Systemd:
    """The service manager, as the environment names it. Without one nothing is sent."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog = _watchdog(environment) if address else None
        """Seconds between two signs of life; `None` if systemd does not watch this process."""

    def send(self, **words: str) -> None:
        """Tell it, for example `send(READY="1", STATUS="healthy")`. Never waits, and never fails the caller."""
        if not self._address:
            return
        message = "".join(f"{key}={value}\n" for key, value in words.items()).encode()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.setblocking(False)
                manager.sendto(message, self._address)
        except OSError as error:
            logger.warning("systemd was not told %s: %s", ", ".join(words), error)


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """Half of what systemd allows between two signs of life, if it means this process."""
    allowed, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not allowed.isdecimal() or int(allowed) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(allowed) / 2_000_000
