"""The plugin in the pipeline: who is told what, and what never reaches a provider."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from mcp import MCPError
from mcp.server.mcpserver import MCPServer
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS
from mcp_types.version import LATEST_MODERN_VERSION
from plughost import Call, EventType, Host, HostEvent, InProcessProvider, Kind, Result
from plughost_testing import (
    ClientFactory,
    HostFactory,
    RecordingMiddleware,
    ScriptedProvider,
    VirtualClock,
    make_call,
    text,
)
from plughost_testing._provider import prompt, template, tool
from plughost_validation import META, ValidationConfig, ValidationPlugin
from plughost_validation._schema import CompiledSchema
from plughost_validation._tools import Tools

pytestmark = pytest.mark.anyio

ADD = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "maxLength": 20},
        "tags": {"type": "array", "items": {"enum": ["work", "home"]}},
    },
    "required": ["text"],
    "additionalProperties": False,
}
COUNT = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
HOSTILE = {"type": "object", "$ref": "http://169.254.169.254/latest"}


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


@pytest.fixture
def notes() -> ScriptedProvider:
    return ScriptedProvider(
        "notes",
        tools=[
            tool("add", inputSchema=ADD),
            tool("count", outputSchema=COUNT),
            tool("hostile", inputSchema=HOSTILE),
            tool("hostile_result", outputSchema=HOSTILE),
        ],
        prompts=[prompt("ask", arguments=[{"name": "topic", "required": True}, {"name": "tone"}])],
        resources=["note://1", "http://127.0.0.1/listed"],
        templates=[template("file:///srv/{+path}"), template("{+any}")],
    )


def validation(name: str = "validation", **config: Any) -> ValidationPlugin:
    return ValidationPlugin(ValidationConfig.model_validate(config), name=name)


async def send(host: Host, method: str = "tools/call", version: str = LATEST_MODERN_VERSION, **params: Any) -> Result:
    return await host.dispatch(make_call(method, params, protocol_version=version))


async def add(host: Host, **arguments: Any) -> Result:
    return await send(host, name="add", arguments=arguments)


async def told(host: Host, recorder: RecordingMiddleware, kind: EventType) -> list[HostEvent]:
    """The events of a kind, once all have been delivered."""
    await host.clock.sleep(1)
    return [event for event in recorder.events if event.type == kind]


# ---------------------------------------------------------------------------------------------------------------------
# Arguments
# ---------------------------------------------------------------------------------------------------------------------


async def test_bad_arguments(host: HostFactory, client: ClientFactory, notes: ScriptedProvider) -> None:
    """A model reads in the result where its arguments are wrong, and by which rule; the tool was not run."""
    caller = await client(await host(validation(), providers=[notes]))
    result = await caller.call_tool("add", {"tags": ["work", "play"], "secret-key": 4711})
    assert result.is_error
    assert result.structured_content is None
    (content,) = result.content
    assert content.type == "text"
    assert content.text.splitlines() == [
        "The arguments of tool 'add' are not valid, and it was not run. Correct them and call again:",
        '- /tags/1: must be one of "work", "home"',
        "- (root): must not have 'secret-key'",
        "- (root): needs the property 'text'",
    ]
    assert result.meta is not None
    assert result.meta[META] == {
        "violations": [
            {"pointer": "/tags/1", "rule": "enum"},
            {"pointer": "", "rule": "additionalProperties"},
            {"pointer": "", "rule": "required"},
        ]
    }
    assert notes.calls == []
    assert not (await caller.call_tool("add", {"text": "a", "tags": ["home"]})).is_error


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"name": "add", "arguments": [1]}, "arguments must be an object"),
        ({"name": "add", "arguments": "text"}, "arguments must be an object"),
        ({"name": ["add"], "arguments": {}}, "name must be a string"),
        ({"arguments": {}}, "name must be a string"),
    ],
)
async def test_malformed_requests(
    params: dict[str, Any], words: str, host: HostFactory, notes: ScriptedProvider
) -> None:
    """A request that is none is answered -32602, not with a result."""
    running = await host(validation(), providers=[notes])
    with pytest.raises(MCPError, match=words) as caught:
        await send(running, **params)
    assert caught.value.code == INVALID_PARAMS
    assert notes.calls == []


async def test_absent_arguments_are_none(host: HostFactory, notes: ScriptedProvider) -> None:
    """Absent arguments are held against the schema as an empty object."""
    running = await host(validation(), providers=[notes])
    assert (await send(running, name="add"))["isError"]
    assert "isError" not in await send(running, name="count", arguments={}, version="2025-03-26")


@pytest.mark.parametrize(
    ("arguments", "rule", "where"),
    [
        ({"text": "x" * 101}, "max_string", "/text"),
        ({"text": "a", "tags": ["work"] * 21}, "max_items", "/tags"),
        ({"text": [[[["deep"]]]]}, "max_depth", "/text/0/0/0"),
        ({f"{n}": "x" * 90 for n in range(20)}, "max_size", ""),
        ({"text": 2**70}, "number", "/text"),
    ],
)
async def test_limits(
    arguments: dict[str, Any], rule: str, where: str, host: HostFactory, notes: ScriptedProvider
) -> None:
    """What is too large, too deep, too long or too many is refused before it is compared with any schema (T10)."""
    limits = {"max_size": 1000, "max_depth": 4, "max_string": 100, "max_items": 20}
    running = await host(validation(arguments=limits), providers=[notes])
    result = await add(running, **arguments)
    assert result["isError"] is True
    assert result["_meta"][META]["violations"] == [{"pointer": where, "rule": rule}]
    assert notes.calls == []


async def test_names_that_nobody_lists(host: HostFactory, notes: ScriptedProvider) -> None:
    """A name without a schema has limits all the same, and leaves nothing behind."""
    plugin = validation(arguments={"max_depth": 2})
    running = await host(plugin, providers=[notes])
    for number in range(10):
        assert "isError" not in await send(running, name=f"invented-{number}", arguments={"a": 1})
    assert (await send(running, name="invented", arguments={"a": [[]]}))["isError"]
    assert plugin._tools.compiled == {}


async def test_prefixes(host: HostFactory) -> None:
    """The schema is that of the provider's own tool, whatever prefix it has."""
    one = ScriptedProvider("one", tools=[tool("add", inputSchema=ADD)], prefix="one_")
    two = ScriptedProvider("two", tools=["add"], prefix="two_")
    running = await host(validation(), providers=[one, two])
    assert (await send(running, name="one_add", arguments={"other": 1}))["isError"]
    assert "isError" not in await send(running, name="two_add", arguments={"other": 1})


async def test_hidden_tools_tell_nothing(host: HostFactory, notes: ScriptedProvider) -> None:
    """It stands behind rbac and pinning: who may not see a tool does not read its schema from a refusal."""
    (first, *_) = validation().plughost_middleware()
    assert first.after == frozenset({"rbac", "pinning"})


# ---------------------------------------------------------------------------------------------------------------------
# Schemas
# ---------------------------------------------------------------------------------------------------------------------


async def test_hostile_schema(host: HostFactory, notes: ScriptedProvider, caplog: pytest.LogCaptureFixture) -> None:
    """A tool whose schema cannot be used is refused, once logged for the operator; the others go on (P6)."""
    recorder = RecordingMiddleware()
    plugin = validation()
    running = await host(plugin, recorder, providers=[notes])
    for name, key in (("hostile", "inputSchema"), ("hostile_result", "outputSchema")):
        for _ in range(2):
            with pytest.raises(MCPError, match=f"'{name}' is refused, since its {key} cannot be used") as caught:
                await send(running, name=name, arguments={})
            assert caught.value.code == INTERNAL_ERROR
    assert notes.calls == []
    assert "isError" not in await add(running, text="a")
    lines = [record.getMessage() for record in caplog.records if record.name == "plughost.validation"]
    assert len(lines) == 2
    assert "tool 'hostile' of provider 'notes' is refused: its inputSchema cannot be used" in lines[0]
    assert len(await told(running, recorder, EventType.SCHEMA_REFUSED)) == 2
    shown = await plugin.show()
    assert set(shown["refused_tools"]) == {"hostile", "hostile_result"}


async def test_hostile_schema_fails_open(host: HostFactory, notes: ScriptedProvider) -> None:
    """Where it fails open, calls of such a tool pass, each of them counted (G1)."""
    recorder = RecordingMiddleware()
    running = await host(validation(fail_mode="open"), recorder, providers=[notes])
    assert "isError" not in await send(running, name="hostile", arguments={})
    (event,) = await told(running, recorder, EventType.FAIL_OPEN)
    assert event.details["method"] == "tools/call"


async def test_schemas_change(host: HostFactory, notes: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed schema is in force with the catalog that has it; what did not change is not compiled again."""
    running = await host(validation(), providers=[notes])
    compiled: list[Any] = []
    original = CompiledSchema.__init__

    def counting(self: CompiledSchema, schema: Any, **options: Any) -> None:
        compiled.append(schema)
        original(self, schema, **options)

    monkeypatch.setattr(CompiledSchema, "__init__", counting)
    assert (await add(running, other=1))["isError"]
    assert "isError" not in await send(running, name="count", arguments={}, version="2025-03-26")
    first = len(compiled)
    catalog = running.generation.catalog
    notes.change(Kind.TOOLS, [tool("add"), tool("count", outputSchema=COUNT)])
    while running.generation.catalog is catalog:
        await running.clock.sleep(0.01)
    assert "isError" not in await add(running, other=1)
    assert "isError" not in await send(running, name="count", arguments={}, version="2025-03-26")
    assert compiled[first:] == [{"type": "object"}]


async def test_one_is_not_true(host: HostFactory) -> None:
    """A schema in which `1` becomes `true`, which to Python is the same, is another."""
    listed = {"type": "object", "properties": {"level": {"const": 1}}}
    provider = ScriptedProvider("levels", tools=[tool("set", inputSchema=listed)])
    running = await host(validation(), providers=[provider])
    assert "isError" not in await send(running, name="set", arguments={"level": 1})
    catalog = running.generation.catalog
    changed = {"type": "object", "properties": {"level": {"const": True}}}
    provider.change(Kind.TOOLS, [tool("set", title="Set", inputSchema=changed)])
    while running.generation.catalog is catalog:
        await running.clock.sleep(0.01)
    assert (await send(running, name="set", arguments={"level": 1}))["isError"]


async def test_compiled_schemas_take_so_much_and_no_more(host: HostFactory) -> None:
    """However many large schemas a provider lists: those compiled first are given up, and made anew (P6)."""
    schemas = [{"type": "object", "properties": {"a": {"pattern": f"^a{{500}}{n}"}}} for n in range(20)]
    tools = [tool(f"t{n}", inputSchema=schema) for n, schema in enumerate(schemas)]
    broken = tool("broken", inputSchema={"type": "nothing"})
    running = await host(validation(), providers=[ScriptedProvider("large", tools=[broken, *tools])])
    kept = Tools(running, "validation", CompiledSchema, most=2000)
    for name in kept.names():
        kept.find(name)
        assert sum(found.size for found in kept.compiled.values()) <= 2000
    assert [name for name in kept.compiled if name != "broken"] == ["t17", "t18", "t19"]
    assert kept.compiled["broken"].fault is not None
    first = kept.find("t0")
    assert first is not None
    assert first is kept.find("t0")


# ---------------------------------------------------------------------------------------------------------------------
# Results
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "violation"),
    [
        (text("", structuredContent={"count": "4711"}), {"pointer": "/count", "rule": "type"}),
        (text("", structuredContent={}), {"pointer": "", "rule": "required"}),
        (text("", structuredContent=None), {"pointer": "", "rule": "type"}),
        (text("", structuredContent={"count": 2**80}), {"pointer": "/count", "rule": "number"}),
        (text("4711"), {"pointer": "", "rule": "structuredContent"}),
    ],
)
async def test_structured_output(
    answer: Mapping[str, Any],
    violation: Any,
    host: HostFactory,
    notes: ScriptedProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A result that breaks its outputSchema is withheld; the client reads that the call was made (P6)."""
    notes.script("count", answer)
    running = await host(validation(), providers=[notes])
    with pytest.raises(MCPError, match="did what was asked, but its answer does not match its outputSchema") as caught:
        await send(running, name="count", arguments={})
    assert caught.value.code == INTERNAL_ERROR
    assert caught.value.data["violations"] == [violation]
    assert len(notes.calls) == 1
    assert "4711" not in caught.value.message + caplog.text
    assert f"({violation['rule']})" in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        text("", structuredContent={"count": 1, "more": True}),
        text("it failed", isError=True),
        {"resultType": "input_required", "inputRequests": {}, "requestState": "s"},
    ],
)
async def test_other_results_pass(answer: Mapping[str, Any], host: HostFactory, notes: ScriptedProvider) -> None:
    """A result that fits passes; a tool's own failure and a question have no structure to check."""
    notes.script("count", answer)
    result = await send(await host(validation(), providers=[notes]), name="count", arguments={})
    assert {key: value for key, value in result.items() if key in answer} == answer


async def test_old_revisions_have_no_structure(host: HostFactory, notes: ScriptedProvider) -> None:
    """A client of a revision without structured output is not refused for its lack."""
    running = await host(validation(), providers=[notes])
    assert "content" in await send(running, name="count", arguments={}, version="2025-03-26")
    with pytest.raises(MCPError):
        await send(running, name="count", arguments={}, version="2025-06-18")


async def test_results_unchecked(host: HostFactory, notes: ScriptedProvider) -> None:
    """With `check_results = false` only limits hold."""
    running = await host(validation(check_results=False, results={"max_string": 50}), providers=[notes])
    assert "content" in await send(running, name="count", arguments={})
    notes.script("count", text("x" * 51))
    with pytest.raises(MCPError, match=r"is larger than allowed and is withheld: /content/0/text: must be at most 50"):
        await send(running, name="count", arguments={})


@pytest.mark.parametrize(
    ("method", "target", "answer"),
    [
        ("resources/read", {"uri": "note://1"}, {"contents": [{"uri": "note://1", "text": "x" * 51}]}),
        ("prompts/get", {"name": "ask", "arguments": {"topic": "a"}}, {"messages": [{"content": "x" * 51}]}),
    ],
)
async def test_limits_on_other_results(
    method: str, target: dict[str, Any], answer: Mapping[str, Any], host: HostFactory, notes: ScriptedProvider
) -> None:
    """What a resource or a prompt answers has limits as well."""
    notes.script(method, answer)
    for key in ("note://1", "ask"):
        notes.script(key, answer)
    running = await host(validation(results={"max_string": 50}), providers=[notes])
    with pytest.raises(MCPError, match="is larger than allowed"):
        await send(running, method, **target)


async def test_a_real_server(host: HostFactory, client: ClientFactory) -> None:
    """A server of the SDK, with the schemas that it makes of Python types: what fits passes, what doesn't is told."""
    server = MCPServer("real")

    @server.tool()
    def total(numbers: list[int], unit: str | None = None) -> dict[str, int]:
        return {unit or "sum": sum(numbers)}

    caller = await client(await host(validation(), providers=[InProcessProvider("real", server)]))
    good = await caller.call_tool("total", {"numbers": [1, 2], "unit": None})
    assert good.structured_content == {"sum": 3}
    bad = await caller.call_tool("total", {"numbers": ["1"], "unit": 5})
    assert bad.is_error
    assert bad.content[0].type == "text"
    assert "- /numbers/0: must be an integer" in bad.content[0].text
    assert "- /unit: matches none of the 2 alternatives; the closest: must be a string" in bad.content[0].text


# ---------------------------------------------------------------------------------------------------------------------
# Prompts, completions, resources
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "argument 'topic' is required"),
        (None, "argument 'topic' is required"),
        ({"topic": 1}, "argument 'topic' must be a string"),
        ([], "arguments must be an object"),
        ({"topic": "x" * 101}, "/topic must be at most 100 characters long"),
    ],
)
async def test_prompts(arguments: Any, words: str, host: HostFactory, notes: ScriptedProvider) -> None:
    """A prompt gets strings for all arguments that it requires, or -32602 names the one that is missing."""
    running = await host(validation(arguments={"max_string": 100}), providers=[notes])
    with pytest.raises(MCPError, match=words) as caught:
        await send(running, "prompts/get", name="ask", arguments=arguments)
    assert caught.value.code == INVALID_PARAMS
    assert notes.calls == []
    assert "messages" in await send(running, "prompts/get", name="ask", arguments={"topic": "a", "unknown": "b"})


@pytest.mark.parametrize("listed", ["topic", ["topic"], [{"name": ["topic"], "required": True}], {"topic": 1}, 7])
async def test_odd_definitions_of_prompts(listed: Any, host: HostFactory) -> None:
    """What a provider lists for arguments may be anything: nothing is required by what says nothing."""
    provider = ScriptedProvider("odd", prompts=[{"name": "ask", "arguments": listed}])
    running = await host(validation(), providers=[provider])
    assert "messages" in await send(running, "prompts/get", name="ask", arguments={})


async def test_completions(host: HostFactory, notes: ScriptedProvider) -> None:
    """What is asked to be completed has limits."""
    running = await host(validation(arguments={"max_string": 100}), providers=[notes])
    ask: dict[str, Any] = {"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "topic", "value": "a"}}
    assert "completion" in await send(running, "completion/complete", **ask)
    with pytest.raises(MCPError, match="/argument/value must be at most 100 characters long"):
        await send(running, "completion/complete", **{**ask, "argument": {"name": "topic", "value": "a" * 101}})


@pytest.mark.parametrize("method", ["resources/read", "resources/subscribe", "resources/unsubscribe"])
async def test_uris(method: str, host: HostFactory, notes: ScriptedProvider) -> None:
    """No traversal and no private address reaches a provider; what it lists itself does (S1)."""
    running = await host(validation(), providers=[notes])
    for uri, words in (
        ("file:///srv/../etc/passwd", "holds '..' in its path"),
        ("file:///srv/%2e%2e/etc/passwd", "holds '..' in its path"),
        ("http://169.254.169.254/latest/meta-data", "leads to a private address"),
        ("http://0x7f.1/", "leads to a private address"),
        ("http://user:pw@example.com/", "holds credentials"),
    ):
        with pytest.raises(MCPError, match=f"The resource URI {words}") as caught:
            await send(running, method, version="2025-11-25", uri=uri)
        assert caught.value.code == INVALID_PARAMS
        assert uri not in caught.value.message
    assert notes.calls == []
    assert notes.watched == set()
    for uri in ("note://1", "http://127.0.0.1/listed", "file:///srv/a", "https://example.com/"):
        await send(running, method, version="2025-11-25", uri=uri)
    with pytest.raises(MCPError, match="uri must be a string"):
        await send(running, method, version="2025-11-25", uri=["note://1"])


async def test_allow_list(host: HostFactory, notes: ScriptedProvider) -> None:
    """What the allow-list lacks is answered like what does not exist, even if it is listed."""
    running = await host(validation(allow_uris=["note://*"]), providers=[notes])
    assert "contents" in await send(running, "resources/read", uri="note://1")
    for uri in ("http://127.0.0.1/listed", "test://any"):
        with pytest.raises(MCPError) as caught:
            await send(running, "resources/read", uri=uri)
        assert (caught.value.code, caught.value.message) == (INVALID_PARAMS, f"Unknown resource: {uri}")
        assert caught.value.data == {"uri": uri}


# ---------------------------------------------------------------------------------------------------------------------
# Operators
# ---------------------------------------------------------------------------------------------------------------------


async def test_observe(host: HostFactory, notes: ScriptedProvider, caplog: pytest.LogCaptureFixture) -> None:
    """In `observe` mode all passes, and what would have been refused is told and logged, without any value."""
    recorder = RecordingMiddleware()
    running = await host(validation(mode="observe"), recorder, providers=[notes])
    caplog.set_level(logging.WARNING)
    notes.script("count", text("", structuredContent={"count": "secret"}))
    assert "isError" not in await add(running, text=4711)
    assert (await send(running, name="count", arguments={}))["structuredContent"] == {"count": "secret"}
    assert "content" in await send(running, name="hostile", arguments={})
    assert "contents" in await send(running, "resources/read", uri="http://127.0.0.1/x")
    assert len(notes.calls) == 4
    assert len(await told(running, recorder, EventType.WOULD_REFUSE)) == 4
    assert await told(running, recorder, EventType.REFUSED) == []
    assert "would refuse" in caplog.text
    assert "/text: must be a string" in caplog.text
    assert "4711" not in caplog.text
    assert "secret" not in caplog.text


async def test_events_hold_no_values(host: HostFactory, notes: ScriptedProvider) -> None:
    """A refusal is an event with method, side and rule; neither it nor the operation shows arguments (G6)."""
    recorder = RecordingMiddleware()
    plugin = validation()
    running = await host(plugin, recorder, providers=[notes])
    await add(running, text=4711)
    with pytest.raises(MCPError):
        await send(running, "resources/read", uri="file:///a/../secret")
    assert [dict(event.details) for event in await told(running, recorder, EventType.REFUSED)] == [
        {"method": "tools/call", "side": "arguments", "rule": "type"},
        {"method": "resources/read", "side": "uri", "rule": "traversal"},
    ]
    shown = await plugin.show()
    assert shown["refused_calls"] == {"traversal": 1, "type": 1}
    assert "4711" not in json.dumps(shown)


async def test_refusals_are_counted(
    host: HostFactory, notes: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counter tells which side broke which rule; calls that pass cost it nothing."""
    plugin = validation()
    counted: list[Any] = []
    monkeypatch.setattr(plugin._count, "add", lambda amount, attributes: counted.append((amount, attributes)))
    running = await host(plugin, providers=[notes])
    await add(running, text="a")
    await add(running, text=1)
    attributes = {
        "plughost.plugin": "validation",
        "plughost.validation.side": "arguments",
        "plughost.validation.rule": "type",
    }
    assert counted == [(1, attributes)]


async def test_check(host: HostFactory, notes: ScriptedProvider) -> None:
    """`check` looks at every tool, `show` tells what was looked at."""
    plugin = validation()
    await host(plugin, providers=[notes])
    shown = await plugin.show()
    assert (shown["tools"], shown["compiled"], shown["refused_tools"]) == (4, 0, {})
    checked = await plugin.check()
    assert (checked["tools"], checked["compiled"]) == (4, 4)
    assert "nothing is fetched" in checked["refused_tools"]["hostile"]


async def test_reconfigured(host: HostFactory, notes: ScriptedProvider) -> None:
    """Changed in place it holds calls to the new limits, formats and lists."""
    notes.change(Kind.TOOLS, [tool("mail", inputSchema={"properties": {"to": {"format": "email"}}})])
    plugin = validation()
    running = await host(plugin, providers=[notes])
    assert "isError" not in await send(running, name="mail", arguments={"to": "nobody"})
    await plugin.reconfigure(ValidationConfig.model_validate({"formats": True, "allow_uris": ["note://*"]}))
    assert (await send(running, name="mail", arguments={"to": "nobody"}))["isError"]
    with pytest.raises(MCPError, match="Unknown resource"):
        await send(running, "resources/read", uri="http://127.0.0.1/listed")


async def test_arguments_are_handed_on_as_they_are(host: HostFactory, notes: ScriptedProvider) -> None:
    """Nothing is coerced, filled in or taken away."""
    seen: list[Any] = []

    async def keep(call: Call, params: Mapping[str, Any]) -> Result:
        seen.append(params["arguments"])
        return text("ok")

    notes.script("count", keep)
    arguments = {"number": "1", "nothing": None, "more": {"a": [1.0]}}
    await send(await host(validation(check_results=False), providers=[notes]), name="count", arguments=arguments)
    assert seen == [arguments]
