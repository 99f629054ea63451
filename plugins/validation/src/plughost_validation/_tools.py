"""The compiled schemas of the tools in the catalog: made when first asked for, made anew when they change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plughost import EventType, HostEvent, Kind, same_json

from plughost_validation._schema import CompiledSchema
from plughost_validation._work import UnusableSchema

if TYPE_CHECKING:
    from plughost import Host

logger = logging.getLogger("plughost.validation")


MOST = 1_000_000.0
"""Sizes of schemas that are kept compiled: about 250 MB. Providers choose how many large ones they list."""


@dataclass(frozen=True, slots=True)
class Tool:
    """What a tool's calls are held against. One with a `fault` has a schema that cannot be used."""

    provider: str
    arguments: CompiledSchema | None = None
    result: CompiledSchema | None = None
    fault: str | None = None
    source: tuple[Any, Any] = (None, None)

    @property
    def size(self) -> float:
        """What its validators take, in the unit of `MOST`."""
        return sum(schema.size for schema in (self.arguments, self.result) if schema is not None)


class Tools:
    """The tools of the catalog in force, by public name. Holds as many as the catalog lists, and no invented name.

    Where their schemas take more than `most` together, those compiled first are given up, and made anew when needed.
    """

    def __init__(
        self, host: Host, name: str, compile_schema: Callable[[Any], CompiledSchema], *, most: float = MOST
    ) -> None:
        self._host = host
        self._name = name
        self._compile_schema = compile_schema
        self._catalog = host.generation.catalog
        self._most = most
        self._size = 0.0
        self._before: Mapping[str, Tool] = {}
        self.compiled: dict[str, Tool] = {}

    def find(self, name: str) -> Tool | None:
        """The schemas of a tool; `None` if no provider lists it."""
        catalog = self._host.generation.catalog
        if catalog is not self._catalog:
            self._catalog = catalog
            listed = catalog.routes[Kind.TOOLS]
            known = {**self._before, **self.compiled}
            self._before = {key: tool for key, tool in known.items() if key in listed}
            self.compiled, self._size = {}, 0.0
        tool = self.compiled.get(name)
        if tool is None and (route := catalog.routes[Kind.TOOLS].get(name)) is not None:
            tool = self._make(name, route.provider, route.entry)
            self._keep(name, tool)
        return tool

    def _keep(self, name: str, tool: Tool) -> None:
        self.compiled[name] = tool
        self._size += tool.size
        if self._size <= self._most:
            return
        self._before = {}
        for other in [key for key, known in self.compiled.items() if known.size and known is not tool]:
            self._size -= self.compiled.pop(other).size
            if self._size <= self._most:
                return

    def names(self) -> list[str]:
        """Every tool that is listed."""
        return list(self._host.generation.catalog.routes[Kind.TOOLS])

    def _make(self, name: str, provider: str, entry: Mapping[str, Any]) -> Tool:
        source = (entry.get("inputSchema"), entry.get("outputSchema"))
        before = self._before.get(name)
        if before is not None and before.provider == provider and same_json(before.source, source):
            return before
        compiled: dict[str, CompiledSchema | None] = {}
        for key, schema in zip(("inputSchema", "outputSchema"), source, strict=True):
            try:
                compiled[key] = None if schema is None else self._compile_schema(schema)
            except UnusableSchema as error:
                return self._refused(name, provider, f"its {key} cannot be used: {error}", source)
        return Tool(provider, compiled["inputSchema"], compiled["outputSchema"], source=source)

    def _refused(self, name: str, provider: str, fault: str, source: tuple[Any, Any]) -> Tool:
        logger.error("every call of tool %r of provider %r is refused: %s", name, provider, fault)
        details = {"tool": name, "provider": provider, "reason": fault}
        self._host.publish(HostEvent(EventType.SCHEMA_REFUSED, self._name, details))
        return Tool(provider, fault=fault, source=source)
