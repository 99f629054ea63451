"""`plughost health` against a host that runs as operators run it, and what systemd hears of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from plughost_health.cli import health
from plughost_testing.services import HostProcess, Stack

PLUGIN = """
from pathlib import Path

from plughost import HealthCheck, MCPPlugin, hookimpl

folder = Path(__file__).parent


class Store(MCPPlugin):
    @hookimpl
    def plughost_health_checks(self):
        return [HealthCheck("disk", self.check, critical=folder.joinpath("critical").exists())]

    async def check(self):
        if folder.joinpath("broken").exists():
            raise OSError("disk full")
"""


class Watched(HostProcess):
    """A host under the eyes of a service manager."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(self.folder / "notify"))
        self.manager.settimeout(60)

    def environment(self) -> Mapping[str, str]:
        return {"NOTIFY_SOCKET": str(self.folder / "notify"), "XDG_RUNTIME_DIR": str(self.folder)}

    def told(self, word: str) -> None:
        """Return when the manager has heard a word."""
        while word not in self.manager.recv(4096).decode().splitlines():
            pass


@pytest.fixture
def served(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    config = {
        "host": {"control": True},
        "plugins": {"health": {"cache": 0}, "store": {"plugin": "./store.py:Store"}},
    }
    served = Watched(config, files={"store.py": PLUGIN})
    served.folder.chmod(0o700)
    stack.start(served)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(served.folder))
    yield served
    served.manager.close()


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(health, arguments)


def test_a_served_host(served: Watched) -> None:
    """The exit code follows the state, over the control socket and over HTTP; systemd hears of start and end."""
    served.told("READY=1")
    config = ["--config", str(served.config)]
    url = ["--url", served.url.replace("/mcp", "/readyz")]
    for how in (config, url):
        assert (ask(*how).exit_code, ask(*how, "--strict").exit_code) == (0, 0)
    (served.folder / "broken").touch()
    degraded = ask(*config)
    assert degraded.exit_code == 0
    assert degraded.output.startswith("degraded\n  check/store/disk: OSError: disk full\n")
    for how in (config, url):
        assert (ask(*how).exit_code, ask(*how, "--strict").exit_code) == (0, 1)
    (served.folder / "critical").touch()
    for how in (config, [*config, "--ready"], url):
        assert ask(*how).exit_code == 1
    (worker,) = json.loads(ask(*config, "--json").output)
    assert (worker["status"], worker["ready"]) == ("unhealthy", False)
    assert served.process is not None
    served.process.send_signal(signal.SIGTERM)
    served.told("STOPPING=1")
    assert served.process.wait(60) == 0
    for how in (config, url):
        assert ask(*how).exit_code == 1


def test_without_a_control_socket_it_asks_the_address_in_the_config(tmp_path: Path) -> None:
    """Of whoever answers there; somebody else is told from a host."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = tmp_path / "plughost.toml"
        config.write_text(f'[host]\nlisten = "0.0.0.0:{port}"\ncontrol = false\n[plugins.health]\n', "utf-8")
        refused = ask("--config", str(config), "--timeout", "0.1")
    assert refused.exit_code == 1
    assert f"http://127.0.0.1:{port}/healthz does not answer" in str(refused.exception)


def test_a_config_without_the_plugin_is_named(tmp_path: Path) -> None:
    """With the remedy."""
    config = tmp_path / "plughost.toml"
    config.write_text("[plugins.health]\nenabled = false\n", "utf-8")
    refused = ask("--config", str(config))
    assert "add [plugins.health]" in str(refused.exception)


def test_the_command_is_quick() -> None:
    """It runs every few seconds in a container: it imports neither the SDK nor pydantic."""
    script = "import sys, plughost_health.cli; print(sorted({'mcp', 'pydantic', 'starlette'} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout == "[]\n"
