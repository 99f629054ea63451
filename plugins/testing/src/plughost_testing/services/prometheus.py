"""Prometheus."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

from plughost_testing.services.service import Service

ANSWER_LIMIT = 5.0


class Prometheus(Service):
    """A Prometheus server that scrapes `targets` (`HOST:PORT`), often."""

    package = "prometheus"

    def __init__(self, targets: Sequence[str] = (), *, path: str = "/metrics", every: str = "200ms") -> None:
        super().__init__()
        self._job = {
            "job_name": "plughost",
            "scrape_interval": every,
            "scrape_timeout": every,
            "metrics_path": path,
            "static_configs": [{"targets": list(targets)}],
        }

    def prepare(self) -> None:
        (self.folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [self._job]}), "utf-8")

    def command(self) -> Sequence[str]:
        return [
            self.program("prometheus"),
            "--config.file=prometheus.yml",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def ready(self) -> bool:
        with suppress(OSError):
            return bool(self._get("/-/ready"))
        return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples that an expression gives now.

        Raises:
            OSError: It is not there, or refuses the expression.
        """
        found: list[dict[str, Any]] = json.loads(self._get(f"/api/v1/query?query={quote(expression)}"))["data"][
            "result"
        ]
        return found

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _get(self, path: str) -> bytes:
        with urlopen(self.url + path, timeout=ANSWER_LIMIT) as answer:  # noqa: S310 - a URL of our own
            body: bytes = answer.read()
            return body
