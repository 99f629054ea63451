"""Serving: sockets, signals, workers, and what they have to do with the life of the host."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import anyio
import uvicorn
from anyio.abc import Process, TaskGroup
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from plughost._config import DEFAULT_LISTEN, HostConfig, load_config
from plughost._control import serve_control
from plughost._errors import ConfigError, Fault, PlughostError
from plughost._host import Host, create_host
from plughost._stdio import Wire
from plughost._writer import LineWriter, StandardError

logger = logging.getLogger("plughost")

WATCH_INTERVAL = 0.5
"""Seconds between looks at the config file."""
RESTART_AFTER = 1.0
"""Seconds before a worker that died is replaced."""
LISTEN_FD = "PLUGHOST_LISTEN_FD"
"""Environment variable that hands a worker its socket."""
WORKERS_FOLDER = "PLUGHOST_WORKERS_FOLDER"
"""Environment variable by which workers know the folder that their plugins share; it goes when the last one ends."""
GRACE = 1.0
"""Seconds after the drain when the server cuts what is left."""
LINGER = 2.0
"""Seconds after the work in which threads, the event loop and the interpreter have to end."""
LINES = 1000
"""Lines of the log that may wait for who reads stderr."""
FLUSH = 1.0
"""Seconds in which they are written at the end."""
_Speak = Callable[["_Serving"], Awaitable[None]]
"""Serves clients until it is to leave."""
LEAVE = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""Signals that ask the host to leave; the second one ends it at once."""


def serve(path: Path, *, stdio: bool = False, watch: bool = False, workers: int = 1, trace: bool = False) -> int:
    """Serve the host of a config file until a signal ends it. The exit code is 0 if all calls finished."""
    wire = Wire() if stdio else None
    config = load_config(path)
    _configure_logging(config, trace=trace)
    if wire is not None:
        return _run(_Serving(config, watch=watch, trace=trace).run, partial(_speak, wire))
    with bind(config) as listener:
        if workers == 1:
            return _run(_Serving(config, watch=watch, trace=trace).run, partial(_listen, listener))
        _check_shareable(config)
        create_host(config).check()
        options = [name for name, given in (("--watch", watch), ("--trace-plugins", trace)) if given]
        command = [sys.executable, "-m", "plughost", "serve", "--config", str(path), *options]
        with TemporaryDirectory(prefix="plughost-") as folder:
            return anyio.run(_supervise, command, listener, workers, {**os.environ, WORKERS_FOLDER: folder})


def run_command(command: list[str], *, plugins: list[str], listen: str | None) -> int:
    """Front one stdio server: with stdin and stdout, so that it drops into a client's configuration, or with HTTP.

    The server gets this process's whole environment: it is the one that the client configured for it.
    """
    wire = Wire() if listen is None else None
    config = load_config(
        {
            "host": {"control": False, "listen": listen or DEFAULT_LISTEN},
            "providers": {"server": {"command": list(map(_literal, command)), "env": _environment()}},
            "plugins": {Path(plugin.partition(":")[0]).stem: {"plugin": plugin} for plugin in plugins},
        }
    )
    _configure_logging(config, trace=False)
    how = partial(_speak, wire) if wire is not None else partial(_listen, bind(config))
    return _run(_Serving(config).run, how)


def _run(work: Callable[[_Speak], Awaitable[int]], speak: _Speak) -> int:
    """Run to the end, and end: Python would wait for threads that nothing can stop, a tool's or an exporter's."""

    async def to_the_end() -> int:
        code = 1
        try:
            code = await work(speak)
        except ConfigError:
            code = 2  # as the command line has it, which shows the error
            raise
        finally:  # here, since the runner and the interpreter both join threads of executors, for as long as it takes
            ended = threading.Event()
            atexit.register(ended.set)  # exit handlers run when all threads have ended, and take their time
            threading.Thread(target=_give_up, args=(ended, code), daemon=True).start()
        return code

    return anyio.run(to_the_end)


def _give_up(ended: threading.Event, code: int) -> None:
    """End the process if its threads have not ended a while after the work."""
    if ended.wait(LINGER):
        return
    main = threading.main_thread()
    left = [thread.name for thread in threading.enumerate() if not thread.daemon and thread is not main]
    text = "threads are left behind that do not end: %s"
    record = logging.LogRecord(logger.name, logging.WARNING, __file__, 0, text, (", ".join(left),), None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler) and logger.getEffectiveLevel() <= record.levelno:
            handler.emit(record)  # past the locks of handlers, which what hangs may hold
            handler.flush()
    os._exit(code)


def _literal(text: str) -> str:
    return text.replace("$", "$$")


def _environment() -> dict[str, str]:
    return {name: _literal(value) for name, value in os.environ.items()}


def bind(config: HostConfig) -> socket.socket:
    """A socket on the address of the config.

    Raises:
        PlughostError: The address is taken or not this machine's.
    """
    if (inherited := os.environ.pop(LISTEN_FD, None)) is not None:
        return socket.socket(fileno=int(inherited))
    address, port = config.host.address
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it each answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        remedy = "stop the program that has it, or listen on another: listen in [host], --listen of plughost run"
        raise PlughostError(f"cannot listen on {config.host.listen}: {error.strerror}; {remedy}") from error
    return listener


def _check_shareable(config: HostConfig) -> None:
    """Several processes can only share what no single one keeps to itself."""
    faults = []
    if not config.host.stateless_legacy:
        faults.append(Fault("host.stateless_legacy", "must be true: a session lives in one process"))
    if not config.host.request_state_keys:
        faults.append(Fault("host.request_state_keys", "must be set: what one process seals, another must open"))
    if faults:
        raise ConfigError(faults, source="--workers")


async def _supervise(command: list[str], listener: socket.socket, workers: int, environment: Mapping[str, str]) -> int:
    """Keep `workers` processes on one socket, hand signals on, and end when all have. 0 if all drained."""
    running: set[Process] = set()
    codes: list[int] = []
    leaving = anyio.Event()

    async def keep() -> None:
        while not leaving.is_set():
            fd = listener.fileno()
            async with await anyio.open_process(
                # A session of its own: the signal of a terminal reaches a worker once, from here, and not twice.
                command,
                stdin=None,
                stdout=None,
                stderr=None,
                pass_fds=[fd],
                env={**environment, LISTEN_FD: str(fd)},
                start_new_session=True,
            ) as process:
                running.add(process)
                if leaving.is_set():  # the signal came while this one was being made
                    process.terminate()
                code = await process.wait()
                running.discard(process)
            if leaving.is_set():
                codes.append(code)
            else:
                logger.error("worker %d ended with code %d; starting another", process.pid, code)
                await anyio.sleep(RESTART_AFTER)

    async def hand_on() -> None:
        with anyio.open_signal_receiver(*LEAVE, signal.SIGHUP) as signals:
            async for number in signals:
                if number != signal.SIGHUP:
                    leaving.set()
                for process in running:
                    with suppress(ProcessLookupError):
                        process.send_signal(signal.SIGHUP if number == signal.SIGHUP else signal.SIGTERM)

    async with anyio.create_task_group() as outer:
        outer.start_soon(hand_on)
        async with anyio.create_task_group() as keepers:
            for _ in range(workers):
                keepers.start_soon(keep)
        outer.cancel_scope.cancel()
    return int(any(code not in (0, -signal.SIGTERM) for code in codes))  # killed by it, one had not begun to serve


class _Handler(logging.Handler):
    """Hands lines to a thread: a client that starts the host need not read its stderr, and a full pipe blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
        self._writer = LineWriter(StandardError(), _encode, _confess, limit=LINES)
        self._read = True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.put(self.format(record))
        except Exception:  # noqa: BLE001 - what is logged must not break who logs
            self.handleError(record)

    def flush(self) -> None:
        """Write what waits; called at the end, which must not wait for long, or twice, for who does not read."""
        self._read = self._read and self._writer.flush(FLUSH)


def _encode(line: str) -> bytes:
    return line.encode(errors="backslashreplace")


def _confess(count: int) -> bytes:
    return b"%d lines of the log were lost: nobody read them in time" % count


def _configure_logging(config: HostConfig, *, trace: bool) -> None:
    """One handler on stderr, before an SDK server can put a rich one there that blocks the loop for each traceback."""
    if not logging.getLogger().handlers:
        logging.basicConfig(handlers=[_Handler()], level=config.host.log_level)
    for name in ("mcp", "uvicorn", "httpx2"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(config.host.log_level)))
    logging.getLogger("plughost.trace").setLevel(logging.INFO if trace else logging.CRITICAL)


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: the host decides how to leave."""

    def __init__(self, config: uvicorn.Config, end_streams: Callable[[], None]) -> None:
        super().__init__(config)
        self._end_streams = end_streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._end_streams()  # those too that clients opened again while the host still listened
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Serving:
    """A host with its control socket, its signals and the watch on its file, from start to exit code."""

    def __init__(self, config: HostConfig, *, watch: bool = False, trace: bool = False) -> None:
        self._watch = watch
        self.host = create_host(config, trace=trace)
        self.leaving = anyio.Event()
        self.drained = True
        self._started = False

    async def run(self, speak: _Speak) -> int:
        """Enter the host, let `speak` serve clients until `leaving` is set, and say whether every call finished."""
        failure: PlughostError | None = None
        with anyio.open_signal_receiver(*LEAVE, signal.SIGHUP) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._obey, signals, tasks)
                try:
                    await self._serve(speak, tasks)
                except PlughostError as error:  # raised below: the task group would wrap it
                    failure = error
                tasks.cancel_scope.cancel()
        for handler in logging.getLogger().handlers:
            handler.flush()
        if failure is not None:
            raise failure
        return 0 if self.drained else 1

    async def _serve(self, speak: _Speak, tasks: TaskGroup) -> None:
        host, source = self.host, self.host.config.source
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(host)
            self._started = True
            if not host.generation.catalog.providers:
                logger.warning("there is nothing to serve: no provider; add a table [providers.NAME]")
            if source is not None and host.settings.control:
                await stack.enter_async_context(serve_control(host, source))
            if source is not None and self._watch:
                tasks.start_soon(self._reload_on_change, source)
            await speak(self)

    @property
    def patience(self) -> float:
        """Seconds that calls in flight get to finish."""
        policy = self.host.shutdown
        return policy.drain_timeout if policy is not None else self.host.config.host.drain_timeout

    async def leave(self, *, listening: bool = False) -> None:
        """End the long streams, and let calls finish."""
        self.drained = await self.host.leave(listening=listening)

    async def _obey(self, signals: AsyncIterator[int], tasks: TaskGroup) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                if self.host.config.source is not None and self.host.running:
                    tasks.start_soon(_reload, self.host)  # which may drain for long: the next signal must be heard
            elif self.leaving.is_set():
                os._exit(1)  # asked twice: at once, whatever hangs
            else:
                self.leaving.set()
                if not self._started:
                    tasks.cancel_scope.cancel()

    async def _reload_on_change(self, path: Path) -> None:
        seen = _version(path)
        while True:
            await anyio.sleep(WATCH_INTERVAL)
            now = _version(path)
            if now != seen:
                seen = now
                await _reload(self.host)


def _telling_peer(app: ASGIApp) -> ASGIApp:
    """Put who really connected into the scope, before uvicorn replaces it by what `X-Forwarded-For` says.

    A plugin that believes a proxy has to know that it is the proxy that speaks.
    """
    believed = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1")
    forwarded = cast("ASGIApp", ProxyHeadersMiddleware(cast("Any", app), trusted_hosts=believed))

    async def tell(scope: Scope, receive: Receive, send: Send) -> None:
        scope["plughost.peer"] = (scope.get("client") or (None,))[0]
        await forwarded(scope, receive, send)

    return tell


async def _listen(listener: socket.socket, serving: _Serving) -> None:
    """Serve HTTP on a socket."""
    settings = serving.host.settings
    config = uvicorn.Config(
        _telling_peer(serving.host.app),
        proxy_headers=False,  # done by `_telling_peer`
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=int(settings.drain_timeout + GRACE),
    )
    server = _Server(config, serving.host.end_streams)

    async def leave() -> None:
        await serving.leaving.wait()
        listening = serving.host.shutdown is not None  # without it nobody would refuse new calls
        server.should_exit = not listening
        await serving.leave(listening=listening)
        # What has been answered may take its time to reach the client; what hangs has had its time.
        config.timeout_graceful_shutdown = int(GRACE + (serving.patience if serving.drained else 0))
        server.should_exit = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leave)
        listener.listen()  # from here on nobody is refused: who comes early waits
        address = f"{settings.listen.rpartition(':')[0]}:{listener.getsockname()[1]}"
        logger.info("%s serves http://%s%s", settings.name, address, settings.path)
        await server.serve(sockets=[listener])


async def _speak(wire: Wire, serving: _Serving) -> None:
    """Serve one client on stdin and stdout, until it leaves or a signal comes."""
    front = serving.host.front
    async with anyio.create_task_group() as tasks:

        async def leave() -> None:
            await serving.leaving.wait()
            await serving.leave()
            wire.end()  # what has been answered is still being written
            await anyio.sleep(GRACE)
            tasks.cancel_scope.cancel()

        tasks.start_soon(leave)
        async with wire.streams(serving.patience, serving.host.end_streams) as (read, write):
            await front.run(read, write, front.create_initialization_options())
        serving.drained = serving.drained and wire.answered
        tasks.cancel_scope.cancel()


def _version(path: Path) -> Any:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


async def _reload(host: Host) -> None:
    try:
        report = await host.reload()
    except PlughostError as error:
        logger.error("kept what runs: %s", error)  # noqa: TRY400 - the message is the whole story
        return
    for change in report["changed"]:
        logger.info("%(action)s %(name)s, %(drained)d calls drained in %(ms).0f ms", change)
    if report["restart"]:
        logger.warning("only a restart applies the new [host] %s", ", ".join(report["restart"]))
