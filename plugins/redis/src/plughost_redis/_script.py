"""Lua scripts that run on the server, atomically."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from plughost_redis._backend import RedisBackend

Argument = str | bytes | int | float


class Script:
    """A script of a backend: sent by its hash, and whole when the server does not know it (any more)."""

    __slots__ = ("_backend", "_hash", "_source")

    def __init__(self, backend: RedisBackend, source: str) -> None:
        self._backend = backend
        self._source = source
        self._hash = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[str | bytes] = (), args: Sequence[Argument] = ()) -> Any:
        """What the script returns for these keys and arguments.

        Raises:
            BackendUnavailable: The server is away.
            redis.exceptions.ResponseError: The script failed.
        """

        async def work(redis: Redis) -> Any:
            from plughost_redis._client import NoScriptError  # noqa: PLC0415 - loaded, since there is a client

            try:
                return await redis.evalsha(self._hash, len(keys), *keys, *args)
            except NoScriptError:
                return await redis.eval(self._source, len(keys), *keys, *args)

        return await self._backend.run(work)

    def __repr__(self) -> str:
        return f"<Script {self._hash[:8]} of {self._backend!r}>"
