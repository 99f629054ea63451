"""Ways to make a plugin's own middleware fail, without knowing it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any

from plughost import Call, CallNext, MCPPlugin, Middleware, Result, hookimpl

Handler = Callable[[Call, CallNext], Awaitable[Result]]


class SabotageError(RuntimeError):
    """Raised inside the plugin under test, by what it looked at."""


class Hostile:
    """Stands in for something that a plugin reads; whatever it reads of it raises. `tripped` tells whether it did."""

    def __init__(self) -> None:
        object.__setattr__(self, "tripped", False)

    def __getattr__(self, name: str) -> Any:
        object.__setattr__(self, "tripped", True)
        raise SabotageError(f"the contract made {name!r} fail")


def hostile_calls(plugin_class: type[MCPPlugin[Any]], hostile: Hostile) -> type[MCPPlugin[Any]]:
    """The plugin class, its middleware shown a hostile call; what stands further in sees the real one."""

    def shown(handler: Handler) -> Handler:
        async def handle(call: Call, call_next: CallNext) -> Result:
            def onward(_: Call) -> Awaitable[Result]:
                return call_next(call)

            return await handler(hostile, onward)  # type: ignore[arg-type]  # that it is no call is the point

        return handle

    return rewired(plugin_class, shown)


def rewired(plugin_class: type[MCPPlugin[Any]], change: Callable[[Handler], Handler]) -> type[MCPPlugin[Any]]:
    """The plugin class, the handlers of its middleware changed."""

    class Rewired(plugin_class):  # type: ignore[misc,valid-type]  # a class that is only known now
        @hookimpl
        def plughost_middleware(self) -> list[Middleware]:
            own: Iterable[Middleware] = getattr(super(), "plughost_middleware", tuple)()
            return [replace(item, handler=change(item.handler)) for item in own]

    Rewired.__name__ = plugin_class.__name__
    return Rewired
