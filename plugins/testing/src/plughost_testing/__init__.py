"""The testing kit of Plughost: what a plugin author needs to prove a plugin right.

    from plughost_testing import PluginContract

    class TestGreeting(PluginContract):
        plugin_class = GreetingPlugin
        config = {"text": "hello"}

With pytest its fixtures are there without an import. Names are imported when they are first used, since this package is
imported by every pytest that has it installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plughost_testing._backends import Backend, on_backends
    from plughost_testing._call import Line, make_call
    from plughost_testing._client import MockClient
    from plughost_testing._clock import DeadlockError, VirtualClock, VirtualLoop, run
    from plughost_testing._contract import PluginContract
    from plughost_testing._fixtures import ClientFactory, HostFactory, LiveHostFactory
    from plughost_testing._holding import Holder, holding
    from plughost_testing._hosting import make_host
    from plughost_testing._leaks import Inventory, LeakError, check_leaks
    from plughost_testing._live import LiveHost, serve_http, stdio_command
    from plughost_testing._provider import (
        Hang,
        Log,
        Pause,
        Progress,
        Received,
        Reply,
        ScriptedProvider,
        Step,
        prompt,
        resource,
        template,
        text,
        tool,
    )
    from plughost_testing._recording import Record, RecordingMiddleware
    from plughost_testing._subject import Stage, Subject

_HOME = {
    "_backends": "Backend on_backends",
    "_call": "Line make_call",
    "_client": "MockClient",
    "_clock": "DeadlockError VirtualClock VirtualLoop run",
    "_contract": "PluginContract",
    "_fixtures": "ClientFactory HostFactory LiveHostFactory",
    "_holding": "Holder holding",
    "_hosting": "make_host",
    "_leaks": "Inventory LeakError check_leaks",
    "_live": "LiveHost serve_http stdio_command",
    "_provider": "Hang Log Pause Progress Received Reply ScriptedProvider Step prompt resource template text tool",
    "_recording": "Record RecordingMiddleware",
    "_subject": "Stage Subject",
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = [
    "Backend",
    "ClientFactory",
    "DeadlockError",
    "Hang",
    "Holder",
    "HostFactory",
    "Inventory",
    "LeakError",
    "Line",
    "LiveHost",
    "LiveHostFactory",
    "Log",
    "MockClient",
    "Pause",
    "PluginContract",
    "Progress",
    "Received",
    "Record",
    "RecordingMiddleware",
    "Reply",
    "ScriptedProvider",
    "Stage",
    "Step",
    "Subject",
    "VirtualClock",
    "VirtualLoop",
    "check_leaks",
    "holding",
    "make_call",
    "make_host",
    "on_backends",
    "prompt",
    "resource",
    "run",
    "serve_http",
    "stdio_command",
    "template",
    "text",
    "tool",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'plughost_testing' has no attribute {name!r}")
    value = getattr(import_module(f"plughost_testing.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
