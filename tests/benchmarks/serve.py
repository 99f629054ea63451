"""The servers that benchmarks start as processes of their own: `python serve.py ROLE [UPSTREAM]`.

A HTTP role listens on a free port and prints it as its first line.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from pathlib import Path
from typing import Any

# `MCPServer` uses rich where it is installed, which a server need not have and which doubles its start.
sys.modules["rich"] = None  # type: ignore[assignment]


def main(role: str, upstream: str = "") -> None:
    logging.basicConfig(level=logging.WARNING)
    if role == "bare-stdio":
        from bench.echo import echo_server

        echo_server().run("stdio")
    elif role == "bare-http":
        from bench.echo import echo_server

        _listen(echo_server().streamable_http_app())
    elif role == "gateway-stdio":
        asyncio.run(_gateway({"command": [sys.executable, str(Path(__file__)), "bare-stdio"]}).run_stdio())
    elif role == "gateway-http":
        _listen(_gateway({"url": upstream}).app)
    else:
        raise SystemExit(f"unknown role {role!r}; choose bare-stdio, bare-http, gateway-stdio or gateway-http")


def _gateway(provider: dict[str, Any]) -> Any:
    from plughost import create_host

    return create_host({"host": {"control": False}, "providers": {"echo": provider}})


def _listen(app: Any) -> None:
    import uvicorn

    # asyncio turns Nagle off for sockets that say they are TCP; else each answer waits 40 ms for an acknowledgement.
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # from here on a client waits for the start instead of being refused
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        # Connections wait for their contestant's turn; by default they are closed after 5 s of silence.
        config = uvicorn.Config(app, log_level="warning", timeout_keep_alive=600)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
