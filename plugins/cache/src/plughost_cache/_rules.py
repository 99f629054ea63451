"""Which calls are kept, in the generation in force, and what to give up when another one comes."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from weakref import ref

from plughost import Call, Kind, SecretBox

from plughost_cache._policy import LISTS, Group, Rule, named_for
from plughost_cache._tags import ALL

if TYPE_CHECKING:
    from plughost import Host

    from plughost_cache._config import CacheConfig
    from plughost_cache._levels import Levels
    from plughost_cache._question import Entrance

MAX_RULES = 10_000
"""Targets whose rule is remembered; clients invent URIs."""
LIST_TAGS = "lists"
"""The tag of all lists: they merge what all providers have."""
_UNKNOWN: Any = object()


class Rules:
    """The rule of each target. Holds no generation: whoever is in one must be free to go."""

    def __init__(self, host: Host, config: CacheConfig, levels: Levels) -> None:
        self._host = host
        self._config = config
        self._levels = levels
        self._groups: dict[tuple[str, str | None], Group] = {}
        self._rules: dict[tuple[str, str | None, str | None], Rule | None] = {}
        self._entrance: Entrance | None = None
        self._know()
        self.first = not self._providers
        """Whether no generation has been there before: what it has did not change."""

    @property
    def provider_names(self) -> list[str]:
        return list(self._providers)

    def take(self, config: CacheConfig) -> None:
        """Decide by another config from now on."""
        self._config = config
        self._rules.clear()

    def of(self, call: Call, entrance: Entrance) -> Rule | None:
        """How answers to a call are kept; `None` for what is not."""
        if self._generation() is not self._host.generation:
            self.follow()
        if entrance is not self._entrance and not self._is_in_force(entrance):
            return None
        target = call.method, call.provider, call.local_name
        rule = self._rules.get(target, _UNKNOWN)
        if rule is _UNKNOWN:
            if len(self._rules) >= MAX_RULES:
                self._rules.clear()
            rule = self._rules[target] = self._decide(call)
        return rule  # type: ignore[no-any-return]  # what stands for an unknown one is gone

    def follow(self) -> None:
        """Give up what another generation does not have any more: providers, tools and resources gone or changed."""
        generation = self._host.generation
        if self._generation() is generation:
            return
        providers, routes, pipeline = self._providers, self._routes, self._pipeline
        self._know()
        self._rules.clear()
        if pipeline() is not generation.pipeline:
            self._leave_entrance()
        self.first = not providers
        gone = [name for name, provider in providers.items() if provider() is not self._provider(name)]
        names = [f"provider:{name}" for name in gone]
        if providers and (gone or providers.keys() != self._providers.keys()):
            names.append(LIST_TAGS)
        for kind, tag in ((Kind.TOOLS, _tool_tag), (Kind.RESOURCES, _resource_tag)):
            now = self._routes[kind]
            names += [tag(route) for name, route in routes[kind].items() if now.get(name) != route]
        self._levels.give_up(names)

    def _know(self) -> None:
        generation = self._host.generation
        catalog = generation.catalog
        self._generation, self._pipeline = ref(generation), ref(generation.pipeline)
        self._routes = catalog.routes
        self._providers = {name: _weakly(provider) for name, provider in catalog.providers.items()}
        if self._levels.shared is not None:
            box: Any = self._host.get(SecretBox, default=None)  # type: ignore[type-abstract]  # shared as its protocol
            self._levels.shared.box = box

    def _provider(self, name: str) -> object:
        found = self._providers.get(name)
        return found() if found is not None else None

    def _leave_entrance(self) -> None:
        if self._entrance is not None:
            self._entrance.left = True
            self._entrance = None

    def _is_in_force(self, entrance: Entrance) -> bool:
        """Whether calls come by this entrance into the generation in force. The first to come settles it."""
        if entrance.left:
            return False
        if self._entrance is not None:
            if entrance.number < self._entrance.number:
                return False
            self._leave_entrance()  # it was that of a generation that went before anybody looked
            self._levels.forget()
        self._entrance = entrance
        return True

    def _decide(self, call: Call) -> Rule | None:
        """How answers to this target are kept; `None` for what is not, such as what no list has (any more)."""
        method, provider, name, config = call.method, call.provider, call.local_name, self._config
        group = self._groups.setdefault((method, provider), Group())
        if method in LISTS:
            identity = self._identity(*self._providers)
            return Rule(group, (ALL, LIST_TAGS, f"list:{method}"), identity, config.lists, config.default_ttl)
        if provider is None or name is None or call.target is None:
            return None
        catalog = self._host.generation.catalog
        if method == "resources/read":
            if catalog.locate_resource(call.target) is None:
                return None
            tags, named = (ALL, f"provider:{provider}", f"resource:{name}"), named_for(config.resources, name)
            return Rule(group, tags, self._identity(provider), named, config.default_ttl)
        route = catalog.routes[Kind.TOOLS].get(call.target)
        named = named_for(config.tools, name, f"{provider}/{name}")
        if route is None or route.provider != provider or named is None:
            return None
        return Rule(
            group, (ALL, f"provider:{provider}", _tool_tag(route)), self._identity(provider, route.entry), named
        )

    def _identity(self, *parts: Any) -> bytes:
        """What providers and definitions are, so that another process with others shares no answers with this one."""
        tables = self._host.config.providers
        told = [
            [part, tables[part].model_dump()] if isinstance(part, str) and part in tables else part for part in parts
        ]
        return blake2b(json.dumps(told, sort_keys=True, default=str).encode(), digest_size=16).digest()


def _tool_tag(route: Any) -> str:
    return f"tool:{route.provider}/{route.local_name}"


def _resource_tag(route: Any) -> str:
    return f"resource:{route.local_name}"


def _weakly(provider: object) -> Callable[[], object]:
    try:
        return ref(provider)
    except TypeError:  # a class with slots
        return lambda: provider
