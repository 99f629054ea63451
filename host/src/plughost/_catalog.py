"""The merged, prefixed view of all providers, and the routing table from it."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import find_invalid_x_mcp_header, x_mcp_header_map
from mcp.shared.uri_template import UriTemplate
from mcp_types import INVALID_PARAMS

from plughost._call import Call
from plughost._errors import ProviderError
from plughost._provider import Kind, Listing, Provider

logger = logging.getLogger("plughost.catalog")

PAGE_SIZE = 1000
"""Entries on one page of a merged list."""
TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_KIND_OF = {"tools/call": Kind.TOOLS, "prompts/get": Kind.PROMPTS}


@dataclass(frozen=True, slots=True)
class Route:
    """Where a public name leads: its provider, the name there, and the entry as the provider lists it."""

    provider: str
    local_name: str
    entry: Mapping[str, Any]


def public_entry(provider: Provider, kind: Kind, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entry as clients see it: tools and prompts get the provider's prefix, URIs stay."""
    if not provider.prefix or kind in (Kind.RESOURCES, Kind.TEMPLATES):
        return entry
    return {**entry, "name": provider.prefix + str(entry.get("name"))}


class Catalog:
    """What all providers list, by public name. Immutable once built; a change builds a new one."""

    def __init__(self, providers: Iterable[Provider]) -> None:
        self.providers: Mapping[str, Provider] = {provider.name: provider for provider in providers}
        self.routes: Mapping[Kind, dict[str, Route]] = {kind: {} for kind in Kind}
        self.conflicts: list[ProviderError] = []
        self.header_schemas: dict[str, Mapping[str, Any]] = {}
        """Input schemas of the tools that mirror arguments into `Mcp-Param-*` headers."""
        self._templates: list[tuple[UriTemplate, Route]] = []

    @classmethod
    async def build(cls, providers: Iterable[Provider]) -> Catalog:
        """Ask every provider for its lists. One that fails loses its own names only (G5)."""
        catalog = cls(providers)
        for provider in catalog.providers.values():
            for kind in Kind:
                try:
                    listing = await provider.list(kind, None)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is this provider's alone
                    logger.warning("provider %r cannot list its %s: %s", provider.name, kind.value, error)
                    continue
                catalog._add(provider, kind, listing)
        return catalog

    def _add(self, provider: Provider, kind: Kind, listing: Listing) -> None:
        routes = self.routes[kind]
        for entry in listing.entries:
            local = str(entry.get(kind.key))
            public = str(public_entry(provider, kind, entry).get(kind.key))
            if (other := routes.get(public)) is not None:
                self.conflicts.append(self._collision(provider, kind, public, other))
                continue
            if kind is Kind.TOOLS and provider.prefix and not TOOL_NAME.match(public):
                remedy = "Shorten the prefix; names are up to 64 letters, digits, '_', '.' and '-'"
                self.conflicts.append(ProviderError(provider.name, f"tool name {public!r} is not valid", remedy=remedy))
                continue
            route = routes[public] = Route(provider.name, local, entry)
            if kind is Kind.TEMPLATES:
                self._add_template(local, route)
            elif kind is Kind.TOOLS and (schema := _mirrored(entry.get("inputSchema"))):
                self.header_schemas[public] = schema

    def _collision(self, provider: Provider, kind: Kind, name: str, other: Route) -> ProviderError:
        what = {Kind.TOOLS: "tool", Kind.PROMPTS: "prompt"}.get(kind, "resource")
        if other.provider == provider.name:
            return ProviderError(provider.name, f"lists the {what} {name!r} twice")
        remedy = (
            f"Set prefix in [providers.{provider.name}]"
            if kind in (Kind.TOOLS, Kind.PROMPTS)
            else "A URI cannot be prefixed: let one of them not offer it"
        )
        return ProviderError(provider.name, f"{what} {name!r} exists in provider {other.provider!r} too", remedy=remedy)

    def _add_template(self, template: str, route: Route) -> None:
        try:
            self._templates.append((UriTemplate.parse(template), route))
        except ValueError as error:
            logger.warning("provider %r has a template that cannot be matched, %r: %s", route.provider, template, error)

    def resolve(self, call: Call) -> bool:
        """Set `provider` and `local_name` of a call that names a target. False if nobody has it."""
        if call.method == "completion/complete":
            return self._resolve_completion(call)
        if call.target is None:
            return False
        kind = _KIND_OF.get(call.method)
        route = self.routes[kind].get(call.target) if kind else self.locate_resource(call.target)
        if route is not None:
            call.provider = route.provider
            call.local_name = route.local_name if kind else call.target
            return True
        return self._resolve_unlisted(call, (kind or Kind.RESOURCES).capability, call.target if kind else None)

    def _resolve_completion(self, call: Call) -> bool:
        ref = call.params.get("ref")
        ref = ref if isinstance(ref, Mapping) else {}
        name, uri = ref.get("name"), ref.get("uri")
        if isinstance(name, str):
            route = self.routes[Kind.PROMPTS].get(name)
        elif isinstance(uri, str):
            route = self.routes[Kind.TEMPLATES].get(uri) or self.locate_resource(uri)
        else:
            route = None
        if route is None:
            return self._resolve_unlisted(call, "completions", name if isinstance(name, str) else None)
        call.provider, call.local_name = route.provider, route.local_name
        return True

    def _resolve_unlisted(self, call: Call, capability: str, name: str | None) -> bool:
        """Names that a provider does not list (to us) go to the only one that could have them, which answers itself."""
        able = [
            provider
            for provider in self.providers.values()
            if capability in provider.capabilities(call.protocol_version)
            and (name is None or name.startswith(provider.prefix))
        ]
        if len(able) != 1:
            return False
        call.provider = able[0].name
        call.local_name = name.removeprefix(able[0].prefix) if name is not None else call.target
        return True

    def may_offer(self, capability: str, protocol_version: str) -> bool:
        """Whether a provider has the capability, or one that is down may have it when it comes back."""
        found = [provider.capabilities(protocol_version) for provider in self.providers.values()]
        return not (found and all(found)) or any(capability in able for able in found)

    def capabilities(self, protocol_version: str) -> dict[str, Any]:
        """What all providers together can do. The lists may always change: plugins and providers come and go."""
        merged: dict[str, Any] = {}
        for provider in self.providers.values():
            for name, value in provider.capabilities(protocol_version).items():
                known = merged.get(name)
                merged[name] = {**known, **value} if isinstance(known, dict) and isinstance(value, Mapping) else value
        for name in ("tools", "prompts", "resources"):
            if name in merged or self.may_offer(name, protocol_version):
                merged[name] = {**merged.get(name, {}), "listChanged": True}
        return merged

    @property
    def instructions(self) -> str | None:
        """The providers' instructions, under their names where there are several."""
        found = [(provider.name, provider.instructions) for provider in self.providers.values()]
        texts = [(name, text) for name, text in found if text]
        if len(found) == 1:
            return found[0][1]
        return "\n\n".join(f"## {name}\n{text}" for name, text in texts) or None

    def locate_resource(self, uri: str) -> Route | None:
        """The resource or the first template, in the providers' order, that has this URI."""
        if (route := self.routes[Kind.RESOURCES].get(uri)) is not None:
            return route
        return next((route for template, route in self._templates if template.match(uri) is not None), None)

    def changed_kinds(self, other: Catalog) -> set[Kind]:
        """The kinds whose entries differ between two catalogs."""
        return {kind for kind in Kind if self.routes[kind] != other.routes[kind]}

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self.routes[kind])} {kind.value}" for kind in Kind)
        return f"<Catalog of {len(self.providers)} providers: {counts}>"


def _mirrored(schema: Any) -> Mapping[str, Any] | None:
    """The schema, if it mirrors arguments into headers."""
    valid = isinstance(schema, Mapping) and x_mcp_header_map(schema) and find_invalid_x_mcp_header(schema) is None
    return schema if valid else None


def merge(parts: Sequence[tuple[Provider, Listing]], kind: Kind, cursor: Any) -> dict[str, Any]:
    """One page of the merged list: stable order, first name wins, the strictest cache advice of all.

    Raises:
        MCPError: The cursor is not one of ours, or its entry is gone.
    """
    seen: dict[str, Mapping[str, Any]] = {}
    for provider, listing in parts:
        for entry in listing.entries:
            public = public_entry(provider, kind, entry)
            seen.setdefault(str(public.get(kind.key)), public)
    keys = list(seen)
    start = 0
    if cursor is not None:
        try:
            start = keys.index(base64.urlsafe_b64decode(cursor).decode()) + 1
        except (ValueError, TypeError):
            raise MCPError(INVALID_PARAMS, "Invalid cursor; list again from the start") from None
    page = keys[start : start + PAGE_SIZE]
    extras = [listing.extra for _, listing in parts]
    result: dict[str, Any] = {kind.value: [seen[key] for key in page], **_merge_extra(extras)}
    if start + PAGE_SIZE < len(keys):
        result["nextCursor"] = base64.urlsafe_b64encode(page[-1].encode()).decode()
    return result


def _merge_extra(extras: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    if len(extras) == 1:
        return extras[0]
    merged: dict[str, Any] = {}
    if any("ttlMs" in extra for extra in extras):
        merged["ttlMs"] = min(extra.get("ttlMs", 0) for extra in extras)
        public = all(extra.get("cacheScope") == "public" for extra in extras)
        merged["cacheScope"] = "public" if public else "private"
    return merged
