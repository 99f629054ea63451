"""The host, as operators run it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import tomlkit

from plughost_testing.services.service import Service


class HostProcess(Service):
    """`plughost serve` with a configuration, which is written into its folder; relative paths start from there.

    It listens on its own port and has no control socket, unless the configuration says otherwise. `files` are written
    beside the configuration.
    """

    def __init__(
        self, config: Mapping[str, Any] | None = None, *options: str, files: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.config = self.folder / "plughost.toml"
        self._options = options
        for name, content in (files or {}).items():
            (self.folder / name).write_text(content, "utf-8")
        self.configure(config or {})

    def configure(self, config: Mapping[str, Any]) -> None:
        """Write another configuration. A running host takes it when it reloads or restarts."""
        host = {"listen": f"127.0.0.1:{self.port}", "control": False, **config.get("host", {})}
        self.config.write_text(tomlkit.dumps({**config, "host": host}), "utf-8")

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "plughost", "serve", "--config", str(self.config), *self._options]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"
