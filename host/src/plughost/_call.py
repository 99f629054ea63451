"""`Call`: one request (or notification) on its way through the pipeline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp.server.connection import Connection
    from mcp.server.context import ServerRequestContext
    from mcp.shared.dispatcher import DispatchContext
    from starlette.requests import Request

Result = Mapping[str, Any]
"""A result as the specification writes it on the wire (camelCase); never a model."""

TARGETS: Mapping[str, str] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "resources/subscribe": "uri",
    "resources/unsubscribe": "uri",
}
"""Method → the parameter that names its target."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. Set by the plugin that authenticates; `None` on a call means nobody did."""

    subject: str
    issuer: str = ""
    tenant: str | None = None
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    claims: Mapping[str, Any] = field(default_factory=dict, compare=False)


class Call:
    """One message from a client, walking the pipeline.

    `method` and `params` are the raw wire values; `target` is the tool name, prompt name or resource URI that
    the client sent (`None` if absent or not a string). `provider` and `local_name` are `None` until the host
    has resolved the target, after TRANSFORM, and frozen from there on. `deadline` is on the host's clock, in
    seconds; `attempt_deadline` is when the last attempt has had its full time, perhaps after `deadline`; `None` if
    attempts have no limit. `state` is a dict private to this call, for middleware. `connection` and `dispatch` are the
    SDK's: the client's connection and this request's line back to it.
    """

    __slots__ = (
        "__dict__",  # holds only the lazy values below
        "attempt_deadline",
        "connection",
        "deadline",
        "dispatch",
        "local_name",
        "method",
        "params",
        "principal",
        "protocol_version",
        "provider",
        "request",
        "request_id",
        "target",
    )

    def __init__(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        connection: Connection,
        dispatch: DispatchContext[Any],
        request: Request | None = None,
        context: ServerRequestContext[Any, Any] | None = None,
    ) -> None:
        self.method = method
        self.params = params
        self.connection = connection
        self.dispatch = dispatch
        self.request = request
        self.request_id = dispatch.request_id
        self.protocol_version = connection.protocol_version
        self.provider: str | None = None
        self.local_name: str | None = None
        self.principal: Principal | None = None
        self.deadline: float | None = None
        self.attempt_deadline: float | None = None
        target = params.get(TARGETS[method]) if method in TARGETS else None
        self.target: str | None = target if isinstance(target, str) else None
        if context is not None:
            self.__dict__["context"] = context

    @cached_property
    def state(self) -> dict[Any, Any]:
        """Notes of middleware about this call; use your plugin instance or a private object as key."""
        return {}

    @property
    def meta(self) -> Mapping[str, Any]:
        """The request's `_meta`, empty if absent or malformed."""
        meta = self.params.get("_meta")
        return meta if isinstance(meta, Mapping) else {}

    @property
    def is_notification(self) -> bool:
        return self.request_id is None

    @cached_property
    def context(self) -> ServerRequestContext[Any, Any]:
        """The SDK's request context, for what the host does not wrap."""
        from plughost._sdk import make_context  # noqa: PLC0415 - made only for the few calls that ask

        return make_context(self)

    def replace_params(self, params: Mapping[str, Any]) -> None:
        """Change the parameters, and with them the target. Only for middleware in TRANSFORM.

        Raises:
            RuntimeError: The call is resolved already.
        """
        if self.provider is not None:
            raise RuntimeError(f"{self!r} is resolved; only TRANSFORM may change its parameters")
        self.params = params
        target = params.get(TARGETS[self.method]) if self.method in TARGETS else None
        self.target = target if isinstance(target, str) else None

    def __repr__(self) -> str:
        where = f" -> {self.provider}/{self.local_name}" if self.provider else ""
        return f"<Call {self.method} {self.target or ''}{where}>"


CallNext = Callable[[Call], Awaitable[Result]]
Handler = Callable[[Call, CallNext], Awaitable[Result]]
