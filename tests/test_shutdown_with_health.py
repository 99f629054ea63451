"""What a load balancer sees of a host that leaves."""

from __future__ import annotations

import http.client
import json
import re
import signal
import time
from collections.abc import Mapping
from configparser import ConfigParser
from pathlib import Path
from typing import Any

from plughost_health import HealthPlugin
from plughost_shutdown import ShutdownConfig
from plughost_testing.services import HostProcess, Stack

LIMIT = 60
EXAMPLES = Path(__file__).parents[1] / "docs" / "examples" / "config"


def get(served: HostProcess, path: str) -> tuple[int, str, Mapping[str, str]]:
    """Status, word, and headers, asked by the pod's address."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=LIMIT)
    connection.request("GET", path, headers={"host": f"10.1.2.3:{served.port}"})
    response = connection.getresponse()
    word: Any = json.loads(response.read())["status"]
    connection.close()
    return response.status, word, dict(response.getheaders())


def until_status(served: HostProcess, status: int) -> None:
    deadline = time.monotonic() + LIMIT
    while get(served, "/readyz")[0] != status:
        assert time.monotonic() < deadline, f"/readyz never said {status}"


def test_a_host_in_its_grace_says_that_it_is_not_ready(stack: Stack) -> None:
    """It answers all the while, closes each connection, and is alive: nobody shall kill it for leaving."""
    plugins = {"health": {}, "shutdown": {"grace": "1h"}}
    served = stack.start(HostProcess({"plugins": plugins}))
    assert get(served, "/readyz")[:2] == (200, "healthy")
    assert served.process is not None
    served.process.send_signal(signal.SIGTERM)
    until_status(served, 503)
    assert get(served, "/readyz")[:2] == (503, "draining")
    status, word, headers = get(served, "/livez")
    assert (status, word, headers["connection"]) == (200, "alive", "close")
    served.process.send_signal(signal.SIGTERM)  # and again: it has been looked at long enough
    assert served.process.wait(LIMIT) == 1


def test_the_probes_of_the_example_exist() -> None:
    """Every page that the pod asks for is served, and the pod is given as long as its shutdown may take."""
    text = (EXAMPLES.parent / "container/kubernetes.yaml").read_text("utf-8")
    served = {getattr(route, "path", "") for route in HealthPlugin(name="health").plughost_http_routes()}
    assert set(re.findall(r"path: (/\w+), port", text)) == {"/livez", "/readyz"} <= served
    config = ShutdownConfig.model_validate(dict(re.findall(r'(grace|drain_timeout) = "(\w+)"', text)))
    assert config.drain_timeout is not None
    longest = config.grace + config.drain_timeout + config.unregister_timeout + config.flush_timeout
    patience = re.search(r"terminationGracePeriodSeconds: (\d+)", text)
    assert patience is not None
    assert int(patience[1]) > longest


def test_the_unit_of_the_example_waits_for_the_drain() -> None:
    """With the defaults of both plugins; one signal reaches each worker once."""
    unit = ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    unit.read(EXAMPLES / "plughost.service")
    service = unit["Service"]
    config = ShutdownConfig()
    assert int(service["TimeoutStopSec"]) > 30 + config.unregister_timeout + config.flush_timeout
    assert (service["Type"], service["KillMode"]) == ("notify", "mixed")
