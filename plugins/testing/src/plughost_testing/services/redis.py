"""Redis."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress

from plughost_testing.services.service import Service, ServiceError

ANSWER_LIMIT = 5.0


class Redis(Service):
    """A Redis server that writes each change to its file at once, so that a kill loses nothing."""

    package = "redis-server"

    def command(self) -> Sequence[str]:
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        return [self.program("redis-server"), *where, "--save", "", "--appendonly", "yes", "--appendfsync", "always"]

    def ready(self) -> bool:
        with suppress(OSError, ServiceError):
            return self.ask("PING") == "+PONG"
        return False

    def ask(self, command: str, *, limit: float = ANSWER_LIMIT) -> str:
        """The first line of what it answers to a command.

        Raises:
            OSError: It is not there, or does not answer in time.
            ServiceError: It answered with an error.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=limit) as line:
            line.sendall(f"{command}\r\n".encode())
            answer = line.makefile("rb").readline().decode().strip()
        if answer.startswith("-"):
            raise ServiceError(f"{self!r} answered {answer} to {command!r}")
        return answer

    def clear(self) -> None:
        """Forget everything."""
        self.ask("FLUSHALL")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"
