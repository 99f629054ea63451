"""Says that the host is degraded while the disk is almost full."""

import shutil
from collections.abc import Iterable

from plughost import HealthCheck, MCPPlugin, PluginConfig, Size, hookimpl


class DiskConfig(PluginConfig):
    path: str = "/"
    """Where to look."""
    free: Size = 2**20
    """Least space that must be free."""


class Disk(MCPPlugin[DiskConfig]):
    @hookimpl
    def plughost_health_checks(self) -> Iterable[HealthCheck]:
        return [HealthCheck("disk", self.check, timeout=1.0)]

    async def check(self) -> None:
        free = shutil.disk_usage(self.config.path).free
        if free < self.config.free:
            raise RuntimeError(f"{self.config.path} has {free} bytes left; {self.config.free} are the least")
