"""What a plugin is made of: `MCPPlugin`, its config, and the values its hooks return."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from enum import IntEnum
from inspect import iscoroutinefunction, isroutine, signature, unwrap
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, get_args, get_origin

import pluggy
from pydantic import BaseModel, SecretStr, model_validator
from typing_extensions import TypeVar

from plughost._documented import Documented

if TYPE_CHECKING:
    from plughost._call import Handler
    from plughost._host import Host

hookimpl = pluggy.HookimplMarker("plughost")
"""Marks a method of a plugin as the implementation of the hook of the same name."""

PLACEHOLDERS = frozenset({"changeme", "change-me", "secret", "password", "placeholder", "todo", "xxx", "example"})
"""Secrets that nobody chose (G3)."""


class Phase(IntEnum):
    """The named places in the pipeline, outside in. The host resolves the target between TRANSFORM and GUARD."""

    OBSERVE = 1
    ADMIT = 2
    TRANSFORM = 3
    GUARD = 4
    REUSE = 5
    PROTECT = 6


def refuse_placeholders(model: BaseModel) -> None:
    """Refuse secrets that nobody chose (G3).

    Raises:
        ValueError: Names the field.
    """
    for name, value in model:
        for secret in value if isinstance(value, tuple | list) else (value,):
            if isinstance(secret, SecretStr) and secret.get_secret_value().strip().lower() in PLACEHOLDERS:
                raise ValueError(f"{name} holds a placeholder, not a secret; set it from ${{ENV}} or ${{file:PATH}}")


class PluginConfig(Documented):
    """Base of a plugin's config. Unknown keys are refused, values are frozen, placeholder secrets too (G3)."""

    @model_validator(mode="after")
    def _no_placeholder_secret(self) -> PluginConfig:
        refuse_placeholders(self)
        return self


class GuardConfig(PluginConfig):
    """Base of the config of a plugin that can refuse calls: what its own failure means, and whether it bites."""

    fail_mode: Literal["closed", "open"] = "closed"
    """What a failure of the plugin itself does to the call: refuse it, or let it pass, counted and logged."""
    mode: Literal["enforce", "observe"] = "enforce"
    """`observe` logs and counts what would have been refused, and refuses nothing."""


class Match(Documented):
    """Which calls a plugin instance is for: globs on the provider's own, unprefixed names."""

    provider: str | None = None
    """Provider name."""
    tool: str | None = None
    """Tool name, as the provider has it."""
    prompt: str | None = None
    """Prompt name, as the provider has it."""
    resource: str | None = None
    """Resource URI."""
    tenant: str | None = None
    """Tenant of the principal."""
    principal: str | None = None
    """Subject of the principal."""

    @property
    def names(self) -> bool:
        """Whether it depends on what is called, not only on who calls."""
        return (self.provider, self.tool, self.prompt, self.resource) != (None, None, None, None)


ConfigT = TypeVar("ConfigT", bound=PluginConfig, default=PluginConfig)


@dataclass(frozen=True, slots=True)
class Middleware:
    """One layer of the pipeline: a handler `async (call, call_next) -> result`, its phase and its methods.

    `methods=None` means every request and no notification; notifications are named explicitly and reach OBSERVE
    only. `before` and `after` name plugins (all their instances); absent ones are ignored.

    Raises:
        TypeError: The handler returns nothing to await, or takes something else; or `methods`, `before` or `after` is
            one string, whose letters would be taken for names.
        ValueError: There is no such phase, or a method is neither in the specification nor named like an extension's.
    """

    handler: Handler
    phase: Phase
    _: KW_ONLY
    methods: Iterable[str] | None = None
    before: Iterable[str] = ()
    after: Iterable[str] = ()

    def __post_init__(self) -> None:
        _check_handler(self.handler)
        object.__setattr__(self, "phase", Phase(self.phase))
        for field in ("methods", "before", "after"):
            names = getattr(self, field)
            if isinstance(names, str):
                raise TypeError(f"{field} is the string {names!r}; write a set of names: {{{names!r}}}")
            object.__setattr__(self, field, None if names is None else frozenset(names))
        for method in self.methods or ():
            if "/" not in method and method not in {"initialize", "ping"}:
                raise ValueError(
                    f"methods has {method!r}, which no protocol revision knows; write for example 'tools/call'"
                )


def _check_handler(handler: Handler) -> None:
    name = getattr(handler, "__qualname__", repr(handler))
    # A plain def may hand on what `call_next(call)` returns, which saves a coroutine; it says so in its annotation.
    returns = str(getattr(handler, "__annotations__", {}).get("return"))
    awaited = iscoroutinefunction(unwrap(handler)) or "Awaitable" in returns or "Coroutine" in returns
    if isroutine(handler) and not awaited:
        raise TypeError(f"the handler {name} is a plain def, and is awaited; write async def")
    try:
        signature(handler).bind(None, None)
    except TypeError:
        raise TypeError(f"the handler {name}{signature(handler)} does not take (call, call_next)") from None


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A named check: `check()` returns normally if healthy and raises if not, within `timeout` seconds.

    A critical check that fails makes the host unhealthy; another one degrades it.
    """

    name: str
    check: Callable[[], Awaitable[None]]
    _: KW_ONLY
    critical: bool = False
    timeout: float = 5.0


class NoParameters(Documented):
    """What an operation without parameters takes."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A named action on a plugin instance, run with `plughost ctl INSTANCE NAME`.

    `run(parameters)` takes an instance of `parameters` and returns a JSON value. `changes` says whether it changes
    anything: consoles ask before such an operation.
    """

    name: str
    run: Callable[[Any], Awaitable[Any]]
    _: KW_ONLY
    parameters: type[BaseModel] = NoParameters
    changes: bool = False
    summary: str = ""


class MCPPlugin(Generic[ConfigT]):
    """Base of every plugin. Subclass it as `MCPPlugin[MyConfig]` and implement hooks with `@hookimpl`.

    `name` is the name of the instance in the configuration. `version` is the distribution's, written once in its
    metadata. `requires` and `provides` list types shared through `host.get` and `host.provide`; they order the
    registration. One type has one provider: a second instance that provides it is refused.
    """

    config_type: ClassVar[type[PluginConfig]] = PluginConfig
    provider_config: ClassVar[type[BaseModel] | None] = None
    """Model of the `[providers.NAME]` tables that this plugin serves (those with `command` or `url`)."""
    requires: ClassVar[tuple[type, ...]] = ()
    provides: ClassVar[tuple[type, ...]] = ()

    def __init__(self, config: ConfigT | None = None, *, name: str = "", version: str = "") -> None:
        self.config: ConfigT = config if config is not None else self.config_type()  # type: ignore[assignment]
        self.name = name or type(self).__name__
        self.version = version

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in getattr(cls, "__orig_bases__", ()):
            args = get_args(base)
            if get_origin(base) and args and isinstance(args[0], type):
                if not issubclass(args[0], PluginConfig):
                    raise TypeError(f"{args[0].__name__} is the config of {cls.__name__}; derive it from PluginConfig")
                cls.config_type = args[0]

    async def register(self, host: Host) -> None:
        """Acquire what the plugin needs: connections, tasks. If it raises, the host stays as it was."""

    async def unregister(self) -> None:
        """Release everything that `register()` took. Called when no call is in the plugin any more."""

    async def reconfigure(self, config: ConfigT) -> bool:
        """Take a new config in place and keep the state. Return False to be replaced by a new instance."""
        del config
        return False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"
