"""Plughost: a thin host for MCP servers with hot-swappable plugins.

A plugin is a class and an entry point in the group `plughost.plugins`:

    from plughost import MCPPlugin, Middleware, Phase, PluginConfig, hookimpl

    class Greeting(PluginConfig):
        text: str = "hello"

    class GreetingPlugin(MCPPlugin[Greeting]):
        @hookimpl
        def plughost_middleware(self):
            return [Middleware(self.greet, Phase.TRANSFORM, methods={"tools/call"})]

        async def greet(self, call, call_next):
            return await call_next(call)

Names are imported when they are first used, so that a command which needs no server does not import `mcp`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plughost._call import TARGETS, Call, CallNext, Handler, Principal, Result
    from plughost._config import (
        Duration,
        HostConfig,
        HostSettings,
        PluginTable,
        ProviderTable,
        Size,
        faults_of,
        load_config,
        parse_plugin_config,
    )
    from plughost._errors import (
        ConfigError,
        ControlError,
        ErrorCode,
        Fault,
        KeyGoneError,
        PlughostError,
        PluginError,
        ProviderError,
        SealError,
        did_you_mean,
    )
    from plughost._events import EventType, HostEvent
    from plughost._host import Host, create_host
    from plughost._inprocess import InProcessProvider
    from plughost._meter import InstanceMeter, Readings
    from plughost._outcome import Outcome, classify
    from plughost._plugin import (
        GuardConfig,
        HealthCheck,
        Match,
        MCPPlugin,
        Middleware,
        Operation,
        Phase,
        PluginConfig,
        hookimpl,
    )
    from plughost._provider import (
        Kind,
        ListChanged,
        Listing,
        Provider,
        ProviderDown,
        ProviderEvent,
        ProviderListener,
        ProviderUp,
        ResourceChanged,
        same_json,
    )
    from plughost._refusal import Refusal, unknown_target
    from plughost._shared import Clock, PoolLimits, ReplicaBus, ResourcePool, ResourcePools, SecretBox, Shutdown
    from plughost._state_url import StateURL
    from plughost._visible import filter_instructions, filter_list, private
    from plughost._writer import LineSink, LineWriter, StandardError

_HOME = {
    "_call": "TARGETS Call CallNext Handler Principal Result",
    "_config": (
        "Duration HostConfig HostSettings PluginTable ProviderTable Size faults_of load_config parse_plugin_config"
    ),
    "_errors": (
        "ConfigError ControlError ErrorCode Fault KeyGoneError PlughostError PluginError ProviderError SealError "
        "did_you_mean"
    ),
    "_events": "EventType HostEvent",
    "_host": "Host create_host",
    "_inprocess": "InProcessProvider",
    "_meter": "InstanceMeter Readings",
    "_outcome": "Outcome classify",
    "_plugin": "GuardConfig HealthCheck MCPPlugin Match Middleware Operation Phase PluginConfig hookimpl",
    "_provider": (
        "Kind ListChanged Listing Provider ProviderDown ProviderEvent ProviderListener ProviderUp ResourceChanged "
        "same_json"
    ),
    "_refusal": "Refusal unknown_target",
    "_shared": "Clock PoolLimits ReplicaBus ResourcePool ResourcePools SecretBox Shutdown",
    "_state_url": "StateURL",
    "_visible": "filter_instructions filter_list private",
    "_writer": "LineSink LineWriter StandardError",
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = [
    "TARGETS",
    "Call",
    "CallNext",
    "Clock",
    "ConfigError",
    "ControlError",
    "Duration",
    "ErrorCode",
    "EventType",
    "Fault",
    "GuardConfig",
    "Handler",
    "HealthCheck",
    "Host",
    "HostConfig",
    "HostEvent",
    "HostSettings",
    "InProcessProvider",
    "InstanceMeter",
    "KeyGoneError",
    "Kind",
    "LineSink",
    "LineWriter",
    "ListChanged",
    "Listing",
    "MCPPlugin",
    "Match",
    "Middleware",
    "Operation",
    "Outcome",
    "Phase",
    "PlughostError",
    "PluginConfig",
    "PluginError",
    "PluginTable",
    "PoolLimits",
    "Principal",
    "Provider",
    "ProviderDown",
    "ProviderError",
    "ProviderEvent",
    "ProviderListener",
    "ProviderTable",
    "ProviderUp",
    "Readings",
    "Refusal",
    "ReplicaBus",
    "ResourceChanged",
    "ResourcePool",
    "ResourcePools",
    "Result",
    "SealError",
    "SecretBox",
    "Shutdown",
    "Size",
    "StandardError",
    "StateURL",
    "classify",
    "create_host",
    "did_you_mean",
    "faults_of",
    "filter_instructions",
    "filter_list",
    "hookimpl",
    "load_config",
    "parse_plugin_config",
    "private",
    "same_json",
    "unknown_target",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'plughost' has no attribute {name!r}")
    value = getattr(import_module(f"plughost.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
