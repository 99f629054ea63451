"""One process of a stack: how it starts, is mistreated, and ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Self

import psutil

START_LIMIT = 60.0
"""Real seconds in which a process must be ready."""
STOP_LIMIT = 15.0
"""Real seconds in which a process must end when it is asked to."""


class ServiceError(RuntimeError):
    """Raised when a process is not installed, does not start, or does not stop. The message holds what it printed."""


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], limit: float) -> bool:
    """Whether a condition came true within so many real seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Service:
    """A process with a port and a folder of its own, which it keeps when it is killed and started again.

    A subclass says in `command()` how it is started, and in `ready()` when it serves.
    """

    package: ClassVar[str] = ""
    """The Debian package that brings the program."""
    folders: ClassVar[Sequence[str]] = ()
    """Where the program may be besides `PATH`; globs are allowed, the last match wins."""
    user: ClassVar[str | None] = None
    """The user to run as when the tests run as root."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    looked_after: ClassVar[set[int]] = set()
    """The process ids of all services that run: somebody stops them, so they are no leaks."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{type(self).__name__.lower()}-"))
        self.process: subprocess.Popen[bytes] | None = None
        if self._other_user is not None:
            shutil.chown(self.folder, self._other_user, self._other_user)

    # -- what a subclass says -----------------------------------------------------------------------------------------

    def command(self) -> Sequence[str]:
        """Program and arguments."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Whatever must be done once, before the first start."""

    def environment(self) -> Mapping[str, str]:
        """Variables besides those of the tests."""
        return {}

    def ready(self) -> bool:
        """Whether it serves; by default, whether it accepts connections."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    # -- what a test does ---------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start it, and wait until it is ready.

        Raises:
            ServiceError: It is not installed, ended, or is not ready in time.
        """
        if not (self.folder / "log").exists():
            self.prepare()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - the test names the program
                list(self.command()),
                cwd=self.folder,
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._other_user,
                group=self._other_user,
                extra_groups=self._other_groups,
            )
        process = self.process
        self.looked_after.add(process.pid)
        if not wait_until(lambda: process.poll() is not None or self.ready(), START_LIMIT):
            self.kill()
            raise ServiceError(f"{self!r} is not ready after {START_LIMIT:.0f} s: {self.output()}")
        if process.poll() is not None:
            raise ServiceError(f"{self!r} ended with {process.returncode} before it was ready: {self.output()}")
        return self

    def stop(self) -> None:
        """Ask it to end, and wait until it has.

        Raises:
            ServiceError: It has not in time; it is killed.
        """
        if self.process is None:
            return
        self.thaw()
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServiceError(f"{self!r} did not stop in {STOP_LIMIT:.0f} s: {self.output()}") from None
        self._forget()

    def kill(self) -> None:
        """End it and its children at once, as a crash does."""
        for each in self._family():
            with suppress(psutil.NoSuchProcess):
                each.kill()
        if self.process is not None:
            self.process.wait()
            self._forget()

    def freeze(self) -> None:
        """Let it hang: it keeps its connections and accepts new ones, and answers nothing."""
        for each in self._family():
            each.suspend()

    def thaw(self) -> None:
        """Let it go on."""
        for each in reversed(self._family()):
            with suppress(psutil.NoSuchProcess):
                each.resume()

    def restart(self) -> None:
        """Stop it, if it runs, and start it again, on the same port and with the same data."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Stop it, and throw its folder away."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def output(self) -> str:
        """The end of what it printed."""
        log = self.folder / "log"
        return log.read_text("utf-8", "replace")[-4000:] if log.exists() else ""

    def program(self, name: str) -> str:
        """The path of a program.

        Raises:
            ServiceError: It is not installed; names the package.
        """
        places = [str(place) for pattern in self.folders for place in sorted(Path("/").glob(pattern.lstrip("/")))]
        found = shutil.which(name, path=os.pathsep.join([*reversed(places), os.environ.get("PATH", "")]))
        if found is None:
            raise ServiceError(f"{name!r} is not installed; on Debian: apt-get install {self.package}")
        return found

    def run(self, name: str, *arguments: str) -> str:
        """Run a program of the same package to its end; gives what it printed.

        Raises:
            ServiceError: It failed.
        """
        command = [self.program(name), *arguments]
        done = subprocess.run(  # noqa: S603 - the service names the program
            command,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            user=self._other_user,
            group=self._other_user,
            extra_groups=self._other_groups,
        )
        if done.returncode:
            raise ServiceError(f"{name!r} failed with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    # -- inside -------------------------------------------------------------------------------------------------------

    @property
    def _other_user(self) -> str | None:
        return self.user if os.geteuid() == 0 else None

    @property
    def _other_groups(self) -> list[str] | None:
        return None if self._other_user is None else []

    def _forget(self) -> None:
        if self.process is not None:
            self.looked_after.discard(self.process.pid)
            self.process = None

    def _family(self) -> list[psutil.Process]:
        """The process and its children, parents first."""
        if self.process is None:
            return []
        try:
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on port {self.port}>"


class Program(Service):
    """Any program that listens on a port, such as an upstream server; `{port}` in its command is its own."""

    def __init__(self, *command: str, path: str = "/mcp") -> None:
        super().__init__()
        self._command = command
        self._path = path

    def command(self) -> Sequence[str]:
        return [part.replace("{port}", str(self.port)) for part in self._command]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self._path}"
