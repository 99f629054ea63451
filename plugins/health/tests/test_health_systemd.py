"""What systemd hears, on a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plughost import EventType, HealthCheck, HostEvent, MCPPlugin, hookimpl
from plughost_health import HealthConfig, HealthPlugin
from plughost_health._systemd import Systemd
from plughost_testing import HostFactory, VirtualClock, make_host

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


class Manager:
    """The side of systemd."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """Everything told since the last time, line by line."""
        lines: list[str] = []
        while True:
            try:
                lines += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return lines

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@plughost-{os.getpid()}-{tmp_path.name}"
    manager = Manager(address)
    yield manager
    manager.close()


def test_words_are_lines_of_one_datagram(manager: Manager) -> None:
    """On a socket with a path, and on one in the abstract namespace."""
    Systemd({"NOTIFY_SOCKET": manager.address}).send(READY="1", STATUS="healthy")
    assert manager.heard() == ["READY=1", "STATUS=healthy"]


def test_without_a_service_manager_nothing_happens() -> None:
    assert Systemd({}).watchdog is None
    Systemd({}).send(READY="1")


def test_a_manager_that_is_gone_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, with what it was not told."""
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")}).send(READY="1")
    assert "systemd was not told READY" in caplog.text


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "10000000"}, 5),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 5),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_a_sign_of_life_twice_as_often_as_demanded(environment: dict[str, str], seconds: float | None) -> None:
    """If it is demanded of this process."""
    assert Systemd({"NOTIFY_SOCKET": "/run/notify", **environment}).watchdog == seconds


class Away(MCPPlugin):
    @hookimpl
    def plughost_health_checks(self) -> list[HealthCheck]:
        return [HealthCheck("redis", self.check)]

    async def check(self) -> None:
        raise ConnectionError("refused")


async def test_the_life_of_a_host(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, virtual_clock: VirtualClock
) -> None:
    """Ready when it serves, its state in words, signs of life, and stopping before it drains."""
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    async with make_host(HealthPlugin(name="health"), Away(name="store"), clock=virtual_clock) as host:
        await virtual_clock.sleep(0.1)
        assert manager.heard() == ["WATCHDOG=1", "READY=1", "STATUS=healthy", "STATUS=degraded: check/store/redis"]
        await virtual_clock.sleep(15)
        assert manager.heard() == ["WATCHDOG=1"] * 3
        await host.leave()
        await virtual_clock.sleep(0.1)
        assert manager.heard() == ["STOPPING=1", "STATUS=draining"]


async def test_maintenance_is_no_end(
    host: HostFactory, manager: Manager, monkeypatch: pytest.MonkeyPatch, virtual_clock: VirtualClock
) -> None:
    """systemd would never take a STOPPING back."""
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    running = await host(HealthPlugin(HealthConfig(), name="health"))
    await virtual_clock.sleep(0.1)
    manager.heard()
    running.publish(HostEvent(EventType.HOST_DRAINING, "shutdown", {"leaving": False}))
    running.publish(HostEvent(EventType.HOST_READY, "shutdown", {"leaving": False}))
    await virtual_clock.sleep(0.1)
    assert manager.heard() == ["STATUS=draining for maintenance", "STATUS=healthy"]
