"""Hook specifications: everything a plugin can contribute.

All hooks are synchronous and are called when the host composes a generation, never per request (`plughost_event`
aside, which is called from a queue). Implement one as a method of your plugin with the same name:

    from plughost import MCPPlugin, Middleware, Phase, hookimpl

    class Greeting(MCPPlugin):
        @hookimpl
        def plughost_middleware(self):
            return [Middleware(self.greet, Phase.TRANSFORM, methods={"tools/call"})]

        async def greet(self, call, call_next):
            return await call_next(call)

An implementation may leave out arguments that it does not need.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from starlette.middleware import Middleware as HTTPMiddleware
    from starlette.routing import BaseRoute

    from plughost._call import Handler
    from plughost._config import HostConfig
    from plughost._events import HostEvent
    from plughost._plugin import HealthCheck, Middleware, Operation, Phase
    from plughost._provider import Provider

hookspec = pluggy.HookspecMarker("plughost")

# ---------------------------------------------------------------------------------------------------------------------
# What stands in the way of a call
# ---------------------------------------------------------------------------------------------------------------------


@hookspec
def plughost_middleware() -> Iterable[Middleware]:  # type: ignore[empty-body]
    """Middleware with phase, methods and order. Called after `register()`, once per generation."""


@hookspec
def plughost_providers(config: HostConfig) -> Iterable[Provider]:  # type: ignore[empty-body]
    """Providers: how a plugin contributes tools, resources and prompts.

    Called after `register()`, once per generation, with the configuration of that generation. A provider object that
    was returned before keeps running; a new one is started before the swap; one no longer returned is stopped after
    the drain.
    """


@hookspec
def plughost_layer(instance: str, phase: Phase, handler: Handler) -> Handler | None:
    """What to run in place of a layer's handler, to measure or trace it; `None` leaves it as it is.

    Called once per generation and layer, with the layers of every instance, one's own too. A wrapper calls `handler`
    with its own arguments and hands on what that returns or raises.
    """


# ---------------------------------------------------------------------------------------------------------------------
# What stands beside it
# ---------------------------------------------------------------------------------------------------------------------


@hookspec
def plughost_http_routes() -> Iterable[BaseRoute]:  # type: ignore[empty-body]
    """Starlette routes on the main listener. Called once per generation."""


@hookspec
def plughost_http_middleware() -> Iterable[HTTPMiddleware]:  # type: ignore[empty-body]
    """ASGI middleware around every HTTP request, the MCP endpoint included. Called once per generation.

    A class with an attribute `http_order` above 0 stands further in than those that say nothing, one below 0 further
    out: what rewrites the path goes around what authenticates, and what asks who it is goes within.
    """


@hookspec
def plughost_health_checks() -> Iterable[HealthCheck]:  # type: ignore[empty-body]
    """Named async checks, run by whoever reports health. Called once per generation."""


@hookspec
def plughost_operations() -> Iterable[Operation]:  # type: ignore[empty-body]
    """Named async operations (show, reset, clear), served on the control socket. Called once per generation."""


# ---------------------------------------------------------------------------------------------------------------------
# What is told afterwards
# ---------------------------------------------------------------------------------------------------------------------


@hookspec
def plughost_event(event: HostEvent) -> None:
    """Told of host events, and of those that plugins publish, from a queue: no call ever waits for it."""


def hook_names() -> list[str]:
    """The names of all hooks, in the order of this file."""
    return [name for name, value in globals().items() if name.startswith("plughost_") and callable(value)]


def new_plugin_manager() -> pluggy.PluginManager:
    """A plugin manager that knows these specifications and nothing else."""
    import sys  # noqa: PLC0415 - this module, whatever it was imported as

    manager = pluggy.PluginManager("plughost")
    manager.add_hookspecs(sys.modules[__name__])
    return manager
