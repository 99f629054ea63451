"""What serves tools, resources and prompts: the `Provider` protocol and the values it speaks in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from plughost._call import Call


def same_json(one: object, other: object) -> bool:
    """Whether two entries, or parts of them, are the same JSON, in the same order. To Python alone `True` is 1."""
    return one is other or (one == other and repr(one) == repr(other))


class Kind(StrEnum):
    """The four lists of a catalog; the value is the key of the entries in the list result."""

    TOOLS = "tools"
    PROMPTS = "prompts"
    RESOURCES = "resources"
    TEMPLATES = "resourceTemplates"

    @property
    def method(self) -> str:
        return "resources/templates/list" if self is Kind.TEMPLATES else f"{self.value}/list"

    @property
    def key(self) -> str:
        """The field that identifies an entry."""
        return {"resources": "uri", "resourceTemplates": "uriTemplate"}.get(self.value, "name")

    @property
    def capability(self) -> str:
        return "resources" if self is Kind.TEMPLATES else self.value


@dataclass(frozen=True, slots=True)
class Listing:
    """All entries of one kind, in the provider's order and with its own names, all pages joined.

    `extra` holds the rest of the list result (`ttlMs`, `cacheScope`, `_meta`), of the last page.
    """

    entries: tuple[Mapping[str, Any], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListChanged:
    """The provider's list of this kind changed; ask it again."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class ResourceChanged:
    """The resource at `uri` changed."""

    uri: str


@dataclass(frozen=True, slots=True)
class ProviderUp:
    """The provider serves (again)."""


@dataclass(frozen=True, slots=True)
class ProviderDown:
    """The provider does not serve; its names leave the catalog until it is up."""

    reason: str


ProviderEvent = ListChanged | ResourceChanged | ProviderUp | ProviderDown
ProviderListener = Callable[[ProviderEvent], None]
"""Synchronous, never raises, called on the event loop."""


class Provider(Protocol):
    """One source of tools, resources and prompts.

    `name` is the one in `[providers.NAME]`; `prefix` goes in front of its tool and prompt names. The host owns the
    life cycle: `start()` once, then requests, then `stop()` once, all in one task. A provider that is down after
    `start()` returned is normal (it emits `ProviderUp` later); `start()` raises only for what no waiting can mend.
    """

    name: str
    prefix: str

    @property
    def instructions(self) -> str | None:
        """Advice for the model, shown by `initialize` and `server/discover`."""
        ...

    async def start(self, listener: ProviderListener) -> None:
        """Connect. `listener` is told of changes until `stop()` returns.

        Raises:
            ProviderError: It can never work as configured (no such module, no such command).
        """
        ...

    async def stop(self) -> None:
        """Release everything. No request is under way."""
        ...

    def capabilities(self, protocol_version: str) -> Mapping[str, Any]:
        """Server capabilities as a wire mapping, at this protocol revision. Empty while down."""
        ...

    async def list(self, kind: Kind, call: Call | None) -> Listing:
        """Every entry of a kind, with the provider's own names, shaped for the caller's protocol revision.

        `call` is `None` when the host asks for its catalog. Empty when the provider is down or lacks the kind.
        """
        ...

    async def request(self, call: Call, params: Mapping[str, Any]) -> dict[str, Any]:
        """Serve `call.method` with `params` (already in the provider's own names) and return the wire result.

        The result is shaped for `call.protocol_version`, without the server's identity stamp. Progress, log
        messages and requests to the client go through `call.dispatch`. Cancelling the task cancels the request.

        Raises:
            MCPError: The provider's answer is an error; `Refusal` with UPSTREAM_UNAVAILABLE if it is down.
        """
        ...

    def serves(self, method: str) -> bool:
        """Whether a request of an extension's method may be meant for this provider, where there are several."""
        ...

    async def notify(self, call: Call) -> None:
        """Hand on a client's notification. Never raises."""
        ...

    async def subscribe(self, uri: str) -> None:
        """Start to emit `ResourceChanged` for `uri`. The host counts subscribers: called for the first only."""
        ...

    async def unsubscribe(self, uri: str) -> None:
        """Stop to emit `ResourceChanged` for `uri`. Called for the last subscriber only."""
        ...
