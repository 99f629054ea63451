"""The plugin's place in the pipeline, and whom it leaves alone there."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION
from plughost import Kind, MCPPlugin, Phase

from plughost_testing._call import make_call
from plughost_testing._recording import RecordingMiddleware
from plughost_testing._subject import Stage, Subject

REQUESTS: Mapping[str, Mapping[str, Any]] = {
    "tools/list": {},
    "tools/call": {"name": "echo", "arguments": {"number": 1}},
    "prompts/list": {},
    "prompts/get": {"name": "ask", "arguments": {"a": "b"}},
    "resources/list": {},
    "resources/templates/list": {},
    "resources/read": {"uri": "test://one"},
    "completion/complete": {"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "a", "value": ""}},
    "test/custom": {"any": [1, {"b": None}]},
}
LISTS = {kind.method: kind for kind in Kind}


async def leaves_other_methods_alone(subject: Subject) -> None:
    """What it does not handle reaches the provider, and comes back, as without it; in both protocol eras."""
    for version in (LATEST_MODERN_VERSION, LATEST_HANDSHAKE_VERSION):
        async with subject.stage() as bare, subject.stage(subject.make()) as stage:
            for method, params in REQUESTS.items():
                if method in subject.handles:
                    continue
                expected = await bare.host.dispatch(make_call(method, params, protocol_version=version))
                result = await stage.host.dispatch(make_call(method, params, protocol_version=version))
                if method in LISTS:
                    result = _without_additions(method, expected, result)
                assert result == expected, f"{method} at {version} is not left alone: {result} instead of {expected}"
            asked = [(item.method, item.name, item.params) for item in bare.provider.calls]
            seen = [(item.method, item.name, item.params) for item in stage.provider.calls]
            assert seen == asked, f"the provider is asked {seen} instead of {asked} at {version}"


def _without_additions(method: str, expected: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """A list without what the plugin's own provider adds to it."""
    key = LISTS[method].value
    return {**result, key: [entry for entry in result[key] if entry in expected[key]]}


async def stands_in_one_place(subject: Subject) -> None:
    """Its place in the chain is the same whatever order plugins are registered in, and in every generation."""
    neighbours = [(phase, f"{letter}-{phase.name.lower()}") for phase in Phase for letter in "az"]
    chains: list[list[tuple[str, str]]] = []
    for order in (list, reversed, _shuffled):  # the first two exchange every pair
        plugins = [RecordingMiddleware(phase, name=name) for phase, name in neighbours]
        everyone: list[MCPPlugin[Any]] = list(order([*plugins, subject.make()]))
        async with subject.stage(*everyone) as stage:
            chains.append(_places(stage))
            await stage.host.register(RecordingMiddleware(name="later"))
            await stage.host.unregister("later")
            chains.append(_places(stage))
    standing = any(name == subject.name for name, _ in chains[0])
    assert standing == subject.has_middleware, f"has_middleware is {subject.has_middleware}, and the chain {chains[0]}"
    for chain in chains[1:]:
        assert chain == chains[0], f"the chain is once {chains[0]}, and once {chain}"


def _shuffled(plugins: list[MCPPlugin[Any]]) -> list[MCPPlugin[Any]]:
    return random.Random(0).sample(plugins, len(plugins))  # noqa: S311 - to be reproduced, not to be secret


def _places(stage: Stage) -> list[tuple[str, str]]:
    methods = ("tools/call", "resources/read", "tools/list")
    return [(at["instance"], at["phase"]) for method in methods for at in stage.host.chain(method=method)]
