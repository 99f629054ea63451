"""What the second level needs of a database, and the one on Redis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from plughost_redis import BackendUnavailable

if TYPE_CHECKING:
    from plughost_redis import RedisBackend
    from redis.asyncio import Redis

Listener = Callable[[bytes], object]


class Store(Protocol):
    """Bytes under keys, for a while. Every method raises `BackendUnavailable` if the database does not answer."""

    @property
    def up(self) -> bool:
        """Whether it answered when it was last asked."""
        ...

    async def get(self, keys: Sequence[str]) -> list[bytes | None]: ...

    async def put(self, values: Mapping[str, bytes], ttl: float) -> None:
        """Store several values for `ttl` seconds."""
        ...

    async def add(self, values: Mapping[str, bytes], ttl: float) -> list[bytes]:
        """Store values where there are none, and give what is there then."""
        ...

    async def tell(self, message: bytes) -> None:
        """Tell all processes that use the database."""
        ...

    async def check(self) -> None:
        """Return if it answers."""
        ...

    async def aclose(self) -> None: ...


class RedisStore:
    """A Redis or Valkey server, one round trip for each question."""

    def __init__(self, backend: RedisBackend) -> None:
        self._backend = backend

    async def start(self, heard: Listener, missed: Callable[[], object]) -> None:
        """Connect and listen; `missed` is called when messages may have been lost."""
        await self._backend.start()
        self._backend.subscribe(self._channel, heard, missed)

    @property
    def up(self) -> bool:
        return self._backend.up

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        found: list[bytes | None] = await self._ask(lambda redis: redis.mget([self._key(key) for key in keys]))
        return found

    async def put(self, values: Mapping[str, bytes], ttl: float) -> None:
        async def work(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as pipeline:
                for key, value in values.items():
                    pipeline.set(self._key(key), value, px=int(ttl * 1000) + 1)
                await pipeline.execute()

        await self._ask(work)

    async def add(self, values: Mapping[str, bytes], ttl: float) -> list[bytes]:
        async def work(redis: Redis) -> list[Any]:
            async with redis.pipeline(transaction=False) as pipeline:
                for key, value in values.items():
                    pipeline.set(self._key(key), value, nx=True, px=int(ttl * 1000) + 1)
                pipeline.mget([self._key(key) for key in values])
                return await pipeline.execute()

        found = (await self._ask(work))[-1]
        return [there or value for there, value in zip(found, values.values(), strict=True)]

    async def tell(self, message: bytes) -> None:
        await self._ask(lambda redis: redis.publish(self._channel, message))

    async def check(self) -> None:
        await self._ask(lambda redis: redis.ping())

    async def aclose(self) -> None:
        await self._backend.aclose()

    @property
    def _channel(self) -> str:
        return self._backend.key("given-up")

    def _key(self, key: str) -> str:
        return self._backend.key(key)

    async def _ask(self, work: Callable[[Redis], Any]) -> Any:
        try:
            return await self._backend.run(work)
        except BackendUnavailable:
            raise
        except Exception as error:  # it answered, but will not: out of memory, read only, no permission
            raise BackendUnavailable(f"{self._backend.url} refused: {error}") from error
