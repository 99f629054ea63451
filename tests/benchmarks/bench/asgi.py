"""A minimal ASGI client: drives an application in process, with no socket and next to no cost of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from bench import message

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
Post = Callable[[], Awaitable[bytes]]


def poster(app: App, tool: str = "echo", state: dict[str, Any] | None = None) -> Post:
    """A function that posts one `tools/call` to `app` and returns the body of the reply.

    It raises RuntimeError if the status is not 200; the body is for the caller to check.
    """
    body = message.body(tool)
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": message.PATH,
        "raw_path": message.PATH.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in message.headers(tool).items()],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }

    async def post() -> bytes:
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        chunks: list[bytes] = []
        status = 0

        async def receive() -> Message:
            if pending:
                return pending.pop()
            # The client stays until it has its answer: whoever watches for it to leave waits until cancelled.
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        async def send(part: Message) -> None:
            nonlocal status
            if part["type"] == "http.response.start":
                status = part["status"]
            else:
                chunks.append(part.get("body", b""))

        await app({**scope, "state": dict(state or {})}, receive, send)
        reply = b"".join(chunks)
        if status != 200:
            raise RuntimeError(f"answered {status} {reply[:500]!r}")
        return reply

    return post


@asynccontextmanager
async def running(app: App) -> AsyncIterator[dict[str, Any]]:
    """Run the lifespan of `app`; yields its state.

    Raises:
        RuntimeError: The application failed to start.
    """
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    state: dict[str, Any] = {}
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}

    async def life() -> None:
        await app(scope, to_app.get, from_app.put)

    async def tell(what: str) -> None:
        await to_app.put({"type": f"lifespan.{what}"})
        answer = asyncio.create_task(from_app.get())
        await asyncio.wait({task, answer}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            await task
        elif (await answer)["type"] != f"lifespan.{what}.complete":
            raise RuntimeError(f"the application failed at {what}: {answer.result().get('message', '')}")

    task = asyncio.create_task(life())
    try:
        await tell("startup")
        yield state
        await tell("shutdown")
        await task
    finally:
        task.cancel()
