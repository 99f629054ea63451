"""Every error of Plughost.

    PlughostError                Base of what the host raises to operators and authors.
      ConfigError                Raised when the configuration is refused; holds every fault.
      PluginError                Raised when a plugin cannot be loaded, registered or changed.
      ProviderError              Raised when a provider cannot be started or its names collide.
      ControlError               Raised when a running host cannot be reached or refused a command.
      SealError                  Raised when a secret box cannot seal, or does not accept what it is to unseal.
        KeyGoneError             Raised when what it is to unseal was sealed with a key that is gone.

What a call is answered with is `mcp.MCPError`, and `Refusal` (in `_refusal.py`, since it imports `mcp`) of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum
from traceback import walk_tb


class ErrorCode(IntEnum):
    """JSON-RPC codes of Plughost's own refusals, away from those that SDKs use, -32000 … -32002 (T6)."""

    RATE_LIMIT_EXCEEDED = -32010  #: a rate limit is used up
    CIRCUIT_OPEN = -32011  #: the breaker of the provider or tool is open
    TIMEOUT = -32012  #: the call took longer than it may
    BULKHEAD_FULL = -32013  #: too many calls are in flight, and the queue is full
    SHUTTING_DOWN = -32014  #: the host drains and takes no new calls
    UNAUTHORIZED = -32015  #: the caller may not do this
    UPSTREAM_UNAVAILABLE = -32016  #: the provider is down or was lost during the call
    QUARANTINED = -32017  #: the definition changed and nobody approved it yet
    TENANT_REQUIRED = -32018  #: the call names no tenant


RETRYABLE = frozenset(
    {
        ErrorCode.RATE_LIMIT_EXCEEDED,
        ErrorCode.CIRCUIT_OPEN,
        ErrorCode.TIMEOUT,
        ErrorCode.BULKHEAD_FULL,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.UPSTREAM_UNAVAILABLE,
    }
)
"""Codes that say "not now": the same call may succeed later."""


def with_remedy(problem: str, remedy: str) -> str:
    """A problem and what to do about it, as two sentences."""
    return f"{problem}{'' if problem.endswith('?') else '.'} {remedy}" if remedy else problem


class PlughostError(Exception):
    """Base of what the host raises to operators and plugin authors."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a configuration: where it stands and what is wrong with the remedy in the text."""

    where: str
    problem: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}" if self.where else self.problem


class ConfigError(PlughostError):
    """Raised when the configuration is refused. `faults` names every fault found, not only the first."""

    def __init__(self, faults: Iterable[Fault], *, source: str = "configuration") -> None:
        self.faults = tuple(faults)
        self.source = source
        lines = "".join(f"\n  - {fault}" for fault in self.faults)
        super().__init__(f"{source} is refused ({len(self.faults)} fault{'s' * (len(self.faults) != 1)}):{lines}")


class PluginError(PlughostError):
    """Raised when a plugin cannot be loaded, registered, changed or taken out.

    The message names the plugin instance, its entry point and distribution where known, the cause and the remedy.
    """

    def __init__(self, name: str, problem: str, *, origin: str = "", remedy: str = "") -> None:
        self.name = name
        self.problem = problem
        self.remedy = remedy
        text = f"plugin {name!r}{f' ({origin})' if origin else ''}: {problem}"
        super().__init__(with_remedy(text, remedy))


class ProviderError(PlughostError):
    """Raised when a provider cannot be started, is unknown, or its names collide with another's."""

    def __init__(self, name: str, problem: str, *, remedy: str = "") -> None:
        self.name = name
        self.problem = problem
        text = f"provider {name!r}: {problem}"
        super().__init__(with_remedy(text, remedy))


class ControlError(PlughostError):
    """Raised when no running host answers on the control socket, or it refused the command."""


class SealError(PlughostError):
    """Raised when a secret box cannot seal, or does not accept what it is to unseal. Says nothing of the content."""


class KeyGoneError(SealError):
    """Raised when something was sealed with a key that is gone: dropped on purpose, or out of the ring too early."""


def located(error: BaseException, module: str) -> str:
    """An exception, and the line of the package of `module` that it came through last: `KeyError: 'x' (trim.py:12)`."""
    package = module.partition(".")[0]
    lines = [
        f" ({frame.f_code.co_filename}:{line})"
        for frame, line in walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).startswith(package)
    ]
    return f"{type(error).__name__}: {error}{lines[-1] if lines else ''}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion to append to a message, or an empty string: `; did you mean 'limit'?`."""
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
