"""nginx."""

from __future__ import annotations

import os
from collections.abc import Sequence

from plughost_testing.services.service import Service

TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx(Service):
    """An nginx with one site: what a file in `/etc/nginx/conf.d` holds. `{port}` in it is its own."""

    package = "nginx"
    folders = ("/usr/sbin",)

    def __init__(self, site: str) -> None:
        super().__init__()
        self._site = site

    def prepare(self) -> None:
        (self.folder / "site.conf").write_text(self._site.replace("{port}", str(self.port)), "utf-8")
        paths = "".join(f"    {kind}_temp_path {kind};\n" for kind in TEMPORARY)
        (self.folder / "nginx.conf").write_text(
            ("user root;\n" if os.geteuid() == 0 else "")
            + "daemon off;\npid nginx.pid;\nerror_log stderr;\nworker_processes 1;\nevents {}\n"
            + f"http {{\n    access_log off;\n{paths}    include site.conf;\n}}\n",
            "utf-8",
        )

    def command(self) -> Sequence[str]:
        return [self.program("nginx"), "-p", str(self.folder), "-e", "stderr", "-c", "nginx.conf"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"
