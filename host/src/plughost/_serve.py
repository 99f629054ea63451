"""Serving: sockets, signals, workers, and what they have to do with the life of the host."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import uvicorn
from anyio.abc import Process

from plughost._config import HostConfig, load_config
from plughost._control import serve_control
from plughost._errors import ConfigError, Fault, PlughostError
from plughost._host import Host, create_host
from plughost._stdio import Wire

logger = logging.getLogger("plughost")

WATCH_INTERVAL = 0.5
"""Seconds between looks at the config file."""
RESTART_AFTER = 1.0
"""Seconds before a worker that died is replaced."""
LISTEN_FD = "PLUGHOST_LISTEN_FD"
"""Environment variable that hands a worker its socket."""
GRACE = 1.0
"""Seconds after `drain_timeout` when the server cuts what is left."""


def serve(path: Path, *, stdio: bool = False, watch: bool = False, workers: int = 1, trace: bool = False) -> int:
    """Serve the host of a config file until a signal ends it. The exit code is 0 if all calls finished."""
    wire = Wire() if stdio else None
    config = load_config(path)
    if wire is not None:
        return anyio.run(_serve_stdio, config, wire, watch, trace)
    listener = bind(config)
    if workers == 1:
        return anyio.run(_serve_http, config, listener, watch, trace)
    _check_shareable(config)
    _configure_logging(config, trace=trace)
    create_host(config).check()
    options = [name for name, given in (("--watch", watch), ("--trace-plugins", trace)) if given]
    command = [sys.executable, "-m", "plughost", "serve", "--config", str(path), *options]
    return anyio.run(_supervise, command, listener, workers)


def run_command(command: list[str], *, plugins: list[str], http: bool) -> int:
    """Front one stdio server: with stdin and stdout, so that it drops into a client's configuration, or with HTTP.

    The server gets this process's whole environment: it is the one that the client configured for it.
    """
    wire = None if http else Wire()
    config = load_config(
        {
            "host": {"control": False},
            "providers": {"server": {"command": list(map(_literal, command)), "env": _environment()}},
            "plugins": {Path(plugin.partition(":")[0]).stem: {"plugin": plugin} for plugin in plugins},
        }
    )
    if wire is not None:
        return anyio.run(_serve_stdio, config, wire, False, False)
    return anyio.run(_serve_http, config, bind(config), False, False)


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
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        remedy = "stop the program that has it, or change listen in [host]"
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


async def _supervise(command: list[str], listener: socket.socket, workers: int) -> int:
    """Keep `workers` processes on one socket, hand signals on, and end when all have. 0 if all drained."""
    running: set[Process] = set()
    codes: list[int] = []
    leaving = anyio.Event()

    async def keep() -> None:
        while not leaving.is_set():
            fd = listener.fileno()
            environment = {**os.environ, LISTEN_FD: str(fd)}
            async with await anyio.open_process(
                command, stdin=None, stdout=None, stderr=None, pass_fds=[fd], env=environment
            ) as process:
                running.add(process)
                code = await process.wait()
                running.discard(process)
            if leaving.is_set():
                codes.append(code)
            else:
                logger.error("worker %d ended with code %d; starting another", process.pid, code)
                await anyio.sleep(RESTART_AFTER)

    async def hand_on() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                if number != signal.SIGHUP:
                    leaving.set()
                for process in running:
                    process.send_signal(number)

    async with anyio.create_task_group() as outer:
        outer.start_soon(hand_on)
        async with anyio.create_task_group() as keepers:
            for _ in range(workers):
                keepers.start_soon(keep)
        outer.cancel_scope.cancel()
    return max(codes, default=0)


def _configure_logging(config: HostConfig, *, trace: bool) -> None:
    """One handler on stderr, before an SDK server can put a rich one there that blocks the loop for each traceback."""
    logging.basicConfig(
        stream=sys.stderr,
        level=config.host.log_level,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    for name in ("mcp", "uvicorn", "httpx2"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(config.host.log_level)))
    logging.getLogger("plughost.trace").setLevel(logging.INFO if trace else logging.CRITICAL)


class _Server(uvicorn.Server):
    """uvicorn, told how to leave: end the long streams, let calls finish, and go at once on a second signal."""

    def __init__(self, config: uvicorn.Config, leaving: Callable[[], None]) -> None:
        super().__init__(config)
        self._leaving = leaving

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del sig, frame  # uvicorn would raise the signal again, and with it the exit code
        self.force_exit = self.should_exit
        self.should_exit = True
        self._leaving()


async def _serve_http(config: HostConfig, listener: socket.socket, watch: bool, trace: bool) -> int:  # noqa: FBT001
    _configure_logging(config, trace=trace)
    async with _running(config, watch=watch, trace=trace) as host:
        drained = True
        leaving = anyio.Event()
        server = _Server(
            uvicorn.Config(
                host.app,
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=int(config.host.drain_timeout + GRACE),
            ),
            leaving.set,
        )

        async def leave() -> None:
            nonlocal drained
            await leaving.wait()
            host.end_streams()
            drained = await host.drain(host.generation.pipeline.gate)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave)
            logger.info("%s serves %s%s", config.host.name, _url(config, listener), config.host.path)
            await server.serve(sockets=[listener])
            tasks.cancel_scope.cancel()
        return 0 if drained and not server.force_exit else 1


def _url(config: HostConfig, listener: socket.socket) -> str:
    return f"http://{config.host.listen.rpartition(':')[0]}:{listener.getsockname()[1]}"


async def _serve_stdio(config: HostConfig, wire: Wire, watch: bool, trace: bool) -> int:  # noqa: FBT001
    _configure_logging(config, trace=trace)
    async with _running(config, watch=watch, trace=trace) as host, anyio.create_task_group() as tasks:

        async def leave() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for _ in signals:
                    await host.drain(host.generation.pipeline.gate)
                    tasks.cancel_scope.cancel()

        tasks.start_soon(leave)
        async with wire.streams() as (read, write):
            await host.front.run(read, write, host.front.create_initialization_options())
        tasks.cancel_scope.cancel()
    return 0


@asynccontextmanager
async def _running(config: HostConfig, *, watch: bool, trace: bool) -> AsyncIterator[Host]:
    """The host, entered, with its control socket, SIGHUP and the watch on its file."""
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(create_host(config, trace=trace))
        if config.source is not None and config.host.control:
            await stack.enter_async_context(serve_control(host, config.source))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        if config.source is not None:
            tasks.start_soon(_reload_on_signal, host)
            if watch:
                tasks.start_soon(_reload_on_change, host, config.source)
        yield host


async def _reload_on_signal(host: Host) -> None:
    with anyio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            await _reload(host)


async def _reload_on_change(host: Host, path: Path) -> None:
    seen = _version(path)
    while True:
        await anyio.sleep(WATCH_INTERVAL)
        now = _version(path)
        if now != seen:
            seen = now
            await _reload(host)


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
