"""What the end of a host owes a collector that hangs: not more than the host's own limit."""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path

import httpx2
import pytest
from asgi_wire import headers_for, request
from serving import free_port, serving

PATIENCE = 5.0
"""Seconds that the end may take; each of the two would wait for 10 s by itself."""


@pytest.mark.services
def test_a_hung_collector_does_not_hold_up_the_exit(tmp_path: Path) -> None:
    """What traces and metrics cannot hand over within the drain's limit is lost, and the log says so."""
    port, config, log = free_port(), tmp_path / "plughost.toml", tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as collector:  # accepts, and never answers
        url = f"http://127.0.0.1:{collector.getsockname()[1]}"
        tmp_path.joinpath("quick.py").write_text(
            "from mcp.server.mcpserver import MCPServer\n\nmcp = MCPServer('quick')\n"
        )
        config.write_text(
            f'[host]\nlisten = "127.0.0.1:{port}"\ndrain_timeout = "500ms"\n[providers.quick]\npython = "quick:mcp"\n'
            f'[plugins.tracing]\nendpoint = "{url}"\nsample = 1\n[plugins.metrics.otlp]\nendpoint = "{url}"\n'
        )
        command = [sys.executable, "-m", "plughost", "serve", "--config", str(config)]
        with serving(command, port, log=log) as endpoint:
            body = request("tools/list")
            answer = httpx2.post(endpoint, headers=headers_for(body), content=json.dumps(body))
            assert answer.status_code == 200
            began = time.monotonic()
        took = time.monotonic() - began
    assert took < PATIENCE, log.read_text()
    assert "did not take in time are lost" in log.read_text()
