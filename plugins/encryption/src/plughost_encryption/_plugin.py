"""The plugin: shares a box, and lets operators rotate and drop keys while it is used."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from subprocess import DEVNULL
from typing import TYPE_CHECKING, Any

import anyio
from plughost import HealthCheck, HostEvent, MCPPlugin, Operation, PluginError, SealError, SecretBox, hookimpl
from pydantic import BaseModel, ConfigDict, Field

from plughost_encryption._box import Box
from plughost_encryption._config import EncryptionConfig
from plughost_encryption._data_keys import DataKeys
from plughost_encryption._keys import Master, ring
from plughost_encryption._metrics import meter

if TYPE_CHECKING:
    from plughost import Host

logger = logging.getLogger("plughost.encryption")

SHOWN = 100
"""Data keys that `show` lists."""


class DropParameters(BaseModel):
    """What `drop-tenant` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant: str = Field(min_length=1)
    """The tenant whose data is to become unreadable, for ever."""


class EncryptionPlugin(MCPPlugin[EncryptionConfig]):
    """Shares a `SecretBox`; what other plugins store is sealed with it."""

    provides = (SecretBox,)
    box: Box

    async def register(self, host: Host) -> None:
        self._host = host
        masters = await self._masters(self.config)
        path = self.config.data_keys
        data_keys = None
        try:
            data_keys = None if path is None else DataKeys(host.config.folder / path)
            self.box = Box(masters, now=host.clock.time, data_keys=data_keys)
        except SealError as error:
            if data_keys is not None:
                data_keys.close()
            raise PluginError(self.name, str(error)) from error
        host.provide(SecretBox, self.box)  # type: ignore[type-abstract]  # shared as its protocol
        meter.watch(self)
        if self._is_old():
            logger.warning("plugin %r: the newest key is old; put a new one in front of the ring", self.name)

    async def unregister(self) -> None:
        meter.unwatch(self)
        self.box.close()

    async def reconfigure(self, config: EncryptionConfig) -> bool:
        """Take another key ring while everybody goes on; with another file of data keys the instance is made anew."""
        if config.data_keys != self.config.data_keys:
            return False
        self._use(await self._masters(config))
        self.config = config
        return True

    @hookimpl
    def plughost_health_checks(self) -> Iterable[HealthCheck]:
        return [HealthCheck("data-keys", self.check)] if self.config.data_keys is not None else []

    @hookimpl
    def plughost_operations(self) -> Iterable[Operation]:
        return [
            Operation("show", self.show, summary="Keys by id and age, and what was done with them"),
            Operation("reload", self.reload, changes=True, summary="Run the command again, and use the keys it prints"),
            Operation(
                "drop-tenant",
                self.drop_tenant,
                parameters=DropParameters,
                changes=True,
                summary="Make what is stored of a tenant unreadable, for ever",
            ),
        ]

    async def check(self) -> None:
        """Whether the data keys can be read."""
        self.box.data_key_count()

    async def show(self, parameters: BaseModel | None = None) -> dict[str, Any]:
        """What the operation of this name answers."""
        del parameters
        box = self.box
        counts = {name: getattr(box, name) for name in ("sealed", "unsealed", "refused", "gone")}
        return {**box.describe(SHOWN), **counts, "rotation_due": self._is_old()}

    async def reload(self, parameters: BaseModel | None = None) -> dict[str, Any]:
        """Ask the command for the keys again; keys of the config are changed by reloading that."""
        del parameters
        if not self.config.command:
            raise PluginError(self.name, "has its keys in the config", remedy="Change and reload that")
        self._use(await self._masters(self.config))
        return {"ring": [master.id.hex() for master in self.box.masters]}

    async def drop_tenant(self, parameters: DropParameters) -> dict[str, Any]:
        """Drop a tenant's data key; says whether there was one."""
        dropped = self.box.drop(parameters.tenant)
        if dropped:
            logger.warning("plugin %r: the data key of tenant %r was dropped", self.name, parameters.tenant)
            self._host.publish(HostEvent("encryption.tenant_dropped", self.name, {"tenant": parameters.tenant}))
        return {"tenant": parameters.tenant, "dropped": dropped}

    def _use(self, masters: tuple[Master, ...]) -> None:
        before = [master.id.hex() for master in self.box.masters]
        try:
            self.box.use(masters)
        except SealError as error:
            raise PluginError(self.name, str(error)) from error
        after = [master.id.hex() for master in masters]
        if after != before:
            logger.info("plugin %r: keys %s instead of %s", self.name, after, before)
            self._host.publish(HostEvent("encryption.keys_changed", self.name, {"before": before, "after": after}))

    def _is_old(self) -> bool | None:
        """Whether a new key is due; `None` where nobody knows how old the newest one is."""
        newest = self.box.describe(0)["ring"][0]["age_days"]
        return None if newest is None else bool(newest * 86_400 >= self.config.rotate_after)

    async def _masters(self, config: EncryptionConfig) -> tuple[Master, ...]:
        if not config.command:
            return ring([key.get_secret_value() for key in config.keys])
        try:
            with anyio.fail_after(config.command_timeout):
                ran = await anyio.run_process(config.command, stdin=DEVNULL, stderr=None, check=False)
            texts = [line.strip() for line in ran.stdout.decode().splitlines() if line.strip()]
            if ran.returncode:
                raise PluginError(self.name, f"the command {config.command[0]!r} failed with {ran.returncode}")
            return ring(texts)
        except (OSError, TimeoutError, ValueError) as error:
            problem = str(error) or f"did not end within {config.command_timeout:g} s"
            raise PluginError(self.name, f"the command {config.command[0]!r} gave no keys: {problem}") from None
