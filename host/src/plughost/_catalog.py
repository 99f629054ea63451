"""The merged, prefixed view of all providers, and the routing table from it."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import anyio
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import find_invalid_x_mcp_header, x_mcp_header_map
from mcp.shared.uri_template import UriTemplate
from mcp_types import INVALID_PARAMS
from mcp_types.methods import SPEC_CLIENT_METHODS
from mcp_types.version import LATEST_MODERN_VERSION

from plughost._call import TARGETS, Call
from plughost._errors import ProviderError
from plughost._provider import Kind, Listing, Provider

logger = logging.getLogger("plughost.catalog")

LIST_TIMEOUT = 10.0
"""Seconds that a provider has for all its lists."""
PAGE_SIZE = 1000
"""Entries on one page of a merged list."""
NAMED = 10
"""Entries left out of one list that the log names."""
TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_REFERENCES = {"ref/prompt": (Kind.PROMPTS, "name", "uri"), "ref/resource": (Kind.TEMPLATES, "uri", "name")}
"""Type of a reference → what it is to, the member that names it, and the one that the other type has."""
_NO_URI = re.compile(r"[\x00-\x1f\x7f]|\A | \Z")
"""What no URI holds and parsers of URIs drop: a server that parses one would read another than was decided on."""
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
    return {**entry, "name": provider.prefix + entry["name"]}


class Catalog:
    """What all providers list, by public name. Immutable once built; a change builds a new one."""

    def __init__(self, providers: Iterable[Provider]) -> None:
        self.providers: Mapping[str, Provider] = {provider.name: provider for provider in providers}
        self.routes: Mapping[Kind, dict[str, Route]] = {kind: {} for kind in Kind}
        self.conflicts: list[ProviderError] = []
        self.header_schemas: dict[str, Mapping[str, Any]] = {}
        """Input schemas of the tools that mirror arguments into `Mcp-Param-*` headers."""
        self._templates: dict[str, tuple[UriTemplate, Route]] = {}

    @classmethod
    async def build(cls, providers: Iterable[Provider], before: Catalog | None = None) -> Catalog:
        """Ask every provider for its lists, all at once and within a time limit.

        One that is down or cannot answer keeps the names it had `before`: a call of them is answered that it is away,
        and no other provider can take them over meanwhile. A name that two of them list stays with the one that had it.
        """
        catalog = cls(providers)
        before = before or cls(())
        listings: dict[tuple[str, Kind], Listing] = {}
        async with anyio.create_task_group() as tasks:
            for provider in catalog.providers.values():
                tasks.start_soon(_ask, provider, listings)
        for kind in Kind:
            claims: dict[str, list[Route]] = {}
            for provider in catalog.providers.values():
                for public, route in _claims(provider, kind, listings.get((provider.name, kind)), before):
                    claims.setdefault(public, []).append(route)
            for public, rivals in claims.items():
                had = before.routes[kind].get(public)
                owner = next((route for route in rivals if had and route.provider == had.provider), rivals[0])
                catalog._add(kind, public, owner, [route for route in rivals if route is not owner])
        return catalog

    def _add(self, kind: Kind, public: str, route: Route, losers: Sequence[Route]) -> None:
        what = {Kind.TOOLS: "tool", Kind.PROMPTS: "prompt"}.get(kind, "resource")
        for loser in losers:
            problem = f"{what} {public!r} exists in provider {route.provider!r} too"
            remedy = f"Set prefix in [providers.{loser.provider}]"
            if what == "resource":
                remedy = "A URI cannot be prefixed: let one of them not offer it"
            self.conflicts.append(ProviderError(loser.provider, problem, remedy=remedy))
        if not _valid(self.providers[route.provider], kind, public):
            remedy = "Shorten the prefix; names are up to 64 letters, digits, '_', '.' and '-'"
            self.conflicts.append(ProviderError(route.provider, f"tool name {public!r} is not valid", remedy=remedy))
            return
        self.routes[kind][public] = route
        if kind is Kind.TEMPLATES:
            self._add_template(public, route)
        elif kind is Kind.TOOLS and (schema := _mirrored(route.entry.get("inputSchema"))) is not None:
            self.header_schemas[public] = schema

    def _add_template(self, template: str, route: Route) -> None:
        try:
            self._templates[template] = (UriTemplate.parse(template), route)
        except ValueError as error:
            logger.warning("provider %r has a template that cannot be matched, %r: %s", route.provider, template, error)

    def resolve(self, call: Call) -> bool:
        """Set `provider` and `local_name` of a call that leads to a provider. False if it leads to none."""
        method = call.method
        if method in _KIND_OF:
            kind, name = _KIND_OF[method], call.target
        elif method == "completion/complete":
            kind, name = _completed(call)
        elif method in TARGETS:
            kind, name = Kind.RESOURCES, call.target
        else:
            call.provider = self.provider_of(call.method)
            return call.provider is not None
        found = self.locate(kind, name) if name is not None else None
        if found is None:
            return False
        call.provider, call.local_name = found
        return True

    def locate(self, kind: Kind, name: str) -> tuple[str, str] | None:
        """The provider that a public name leads to, and the name there; `None` if it leads to none."""
        route = self.routes[kind].get(name)
        if route is None and kind in (Kind.RESOURCES, Kind.TEMPLATES):
            if _NO_URI.search(name):
                return None
            route = self.locate_resource(name)
        if route is None:
            return self._locate_unlisted(kind, name)
        return route.provider, name if kind is Kind.RESOURCES else route.local_name

    def lists(self, name: str | None) -> bool:
        """Whether a tool, prompt, resource or template of this public name is listed."""
        return any(name in routes for routes in self.routes.values())

    def _locate_unlisted(self, kind: Kind, name: str) -> tuple[str, str] | None:
        """A name that no provider lists (to us) goes to the only one that could have it, which answers itself.

        Never past a provider that is down, or that others could be mistaken for: arguments may be secret.
        """
        named = kind in (Kind.TOOLS, Kind.PROMPTS)
        able = list(self.providers.values())
        if len(able) > 1:
            able = [item for item in able if named and item.prefix and name.startswith(item.prefix)]
        if len(able) != 1 or (named and not name.startswith(able[0].prefix)):
            return None
        return able[0].name, name.removeprefix(able[0].prefix) if named else name

    def provider_of(self, method: str) -> str | None:
        """Whose a method of an extension is: the only provider's, or that of the first, in order, that serves it."""
        if method in SPEC_CLIENT_METHODS:
            return None
        able = (item.name for item in self.providers.values() if len(self.providers) == 1 or item.serves(method))
        return next(able, None)

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
        return next((route for template, route in self._templates.values() if template.match(uri) is not None), None)

    def new_conflicts(self, before: Catalog) -> list[ProviderError]:
        """The conflicts that another catalog did not have."""
        known = {str(conflict) for conflict in before.conflicts}
        return [conflict for conflict in self.conflicts if str(conflict) not in known]

    def changed_kinds(self, other: Catalog) -> set[Kind]:
        """The kinds whose entries differ between two catalogs."""
        return {kind for kind in Kind if self.routes[kind] != other.routes[kind]}

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self.routes[kind])} {kind.value}" for kind in Kind)
        return f"<Catalog of {len(self.providers)} providers: {counts}>"


def _valid(provider: Provider, kind: Kind, public: str) -> bool:
    """Whether the prefix leaves a tool's name one that clients accept."""
    return kind is not Kind.TOOLS or not provider.prefix or TOOL_NAME.match(public) is not None


async def _ask(provider: Provider, listings: dict[tuple[str, Kind], Listing]) -> None:
    """Every list of one provider. One that fails or hangs costs nobody else anything (G5)."""
    try:
        with anyio.fail_after(LIST_TIMEOUT):
            for kind in Kind if provider.capabilities(LATEST_MODERN_VERSION) else ():
                listings[provider.name, kind] = await provider.list(kind, None)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this provider's alone
        logger.warning("provider %r cannot list all it has: %s", provider.name, str(error) or type(error).__name__)


def _claims(provider: Provider, kind: Kind, listing: Listing | None, before: Catalog) -> Iterator[tuple[str, Route]]:
    """The public names that a provider has now, or had before if it cannot say."""
    if listing is None:
        yield from (item for item in before.routes[kind].items() if item[1].provider == provider.name)
        return
    seen: set[str] = set()
    left_out: list[str] = []
    for entry in listing.entries:
        name = entry.get(kind.key)
        if not isinstance(name, str) or name in seen:
            left_out.append(f"{name!r:.80}")
            continue
        seen.add(name)
        yield str(public_entry(provider, kind, entry)[kind.key]), Route(provider.name, name, entry)
    if left_out:
        what = "provider %r: left out %d of its %s, listed twice or without a name: %s"
        logger.warning(what, provider.name, len(left_out), kind.value, ", ".join(left_out[:NAMED]))


def _completed(call: Call) -> tuple[Kind, str | None]:
    """What a completion is for: a prompt, or a resource or its template. What could be read in two ways is for nothing.

    Servers go by `type`: where anything else decided here, a harmless name would lead to another target.
    """
    ref = call.params.get("ref")
    ref = ref if isinstance(ref, Mapping) else {}
    found = _REFERENCES.get(str(ref.get("type")))
    if found is None:
        return Kind.TEMPLATES, None
    kind, key, other = found
    name = ref.get(key)
    return kind, name if isinstance(name, str) and other not in ref else None


def _mirrored(schema: Any) -> Mapping[str, Any] | None:
    """The schema, if it mirrors arguments into headers."""
    valid = isinstance(schema, Mapping) and x_mcp_header_map(schema) and find_invalid_x_mcp_header(schema) is None
    return schema if valid else None


def merge(
    parts: Sequence[tuple[Provider, Listing]],
    kind: Kind,
    cursor: Any,
    routes: Mapping[str, Route] = MappingProxyType({}),
) -> dict[str, Any]:
    """One page of the merged list: stable order, each name from where `routes` lead, the strictest cache advice of all.

    Raises:
        MCPError: The cursor is not one of ours, or its entry is gone.
    """
    seen: dict[str, Mapping[str, Any]] = {}
    for provider, listing in parts:
        for entry in listing.entries:
            if not isinstance(entry.get(kind.key), str):
                continue
            public = public_entry(provider, kind, entry)
            name = str(public[kind.key])
            route = routes.get(name)
            if (route is None or route.provider == provider.name) and _valid(provider, kind, name):
                seen.setdefault(name, public)
    keys = list(seen)
    start = 0
    if cursor is not None:
        name = name_in(cursor)
        if name not in seen:
            raise invalid_cursor()
        start = keys.index(name) + 1
    page = keys[start : start + PAGE_SIZE]
    extras = [listing.extra for _, listing in parts]
    result: dict[str, Any] = {kind.value: [seen[key] for key in page], **_merge_extra(extras)}
    if start + PAGE_SIZE < len(keys):
        result["nextCursor"] = cursor_after(page[-1])
    return result


def cursor_after(name: str) -> str:
    """The cursor of the page that begins after an entry."""
    return base64.urlsafe_b64encode(name.encode()).decode()


def name_in(cursor: Any) -> str:
    """The name of the entry that a page begins after.

    Raises:
        MCPError: The cursor is not one of ours.
    """
    try:
        return base64.urlsafe_b64decode(cursor).decode()
    except (ValueError, TypeError):
        raise invalid_cursor() from None


def invalid_cursor() -> MCPError:
    """The answer to a cursor that is not ours, or whose entry is gone, or not for the caller to see (A8)."""
    return MCPError(INVALID_PARAMS, "Invalid cursor; list again from the start")


def _merge_extra(extras: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    if len(extras) == 1:
        return extras[0]
    merged: dict[str, Any] = {}
    if any("ttlMs" in extra for extra in extras):
        merged["ttlMs"] = min(extra.get("ttlMs", 0) for extra in extras)
        public = all(extra.get("cacheScope") == "public" for extra in extras)
        merged["cacheScope"] = "public" if public else "private"
    return merged
