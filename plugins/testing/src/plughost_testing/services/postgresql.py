"""PostgreSQL."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress
from itertools import count

from plughost_testing.services.service import Service, ServiceError


class PostgreSQL(Service):
    """A PostgreSQL server with a cluster of its own, which trusts whoever comes from this machine."""

    package = "postgresql"
    folders = ("/usr/lib/postgresql/*/bin",)
    user = "postgres"
    stop_signal = signal.SIGINT  # "fast": does not wait for clients to leave

    def __init__(self) -> None:
        super().__init__()
        self._numbers = count(1)

    def prepare(self) -> None:
        self.run("initdb", "--pgdata=data", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync")

    def command(self) -> Sequence[str]:
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "fsync": "off"}
        options = [item for key, value in settings.items() for item in ("-c", f"{key}={value}")]
        return [self.program("postgres"), "-D", "data", *options]

    def ready(self) -> bool:
        with suppress(ServiceError):
            self.run("pg_isready", *self._where, "--quiet", "--timeout=1")
            return True
        return False

    def query(self, sql: str, *, database: str = "postgres") -> str:
        """What a statement gives, as unaligned text.

        Raises:
            ServiceError: It failed.
        """
        return self.run(
            "psql", *self._where, "--username=postgres", "--no-psqlrc", "-qAt", f"--command={sql}", database
        ).strip()

    def new_database(self) -> str:
        """The URL of a database that nobody used."""
        name = f"test_{next(self._numbers)}"
        self.query(f"CREATE DATABASE {name}")
        return self.url.removesuffix("postgres") + name

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def _where(self) -> tuple[str, str]:
        return "--host=127.0.0.1", f"--port={self.port}"
