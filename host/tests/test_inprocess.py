"""Servers in the host's own process: all that they can do, they can do behind the host."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from asgi_wire import Reply, post, request
from asgi_wire import call as call_tool
from mcp import Client, MCPDeprecationWarning
from mcp.client.subscriptions import ServerEvent
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.lowlevel.server import Server
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.subscriptions import PromptsListChanged, ResourcesListChanged, ResourceUpdated, ToolsListChanged
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    Completion,
    CompletionContext,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmptyResult,
    InputRequiredResult,
    ListResourcesResult,
    ListToolsResult,
    LoggingMessageNotificationParams,
    PaginatedRequestParams,
    PromptReference,
    RequestParams,
    Resource,
    ResourceTemplateReference,
    ResourceUpdatedNotification,
    SubscribeRequestParams,
    TextContent,
    Tool,
)
from plughost import Call, Host, MCPPlugin, Middleware, Phase, Principal, ProviderError, Result, create_host, hookimpl
from plughost import CallNext as Onward
from plughost._inprocess import InProcessProvider
from pydantic import BaseModel

pytestmark = pytest.mark.anyio
LIMIT = 10
STAMP = "io.modelcontextprotocol/serverInfo"
BOTH_ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])


def hosting(server: object, **config: Any) -> Host:
    return create_host({"host": config}, providers={"p": server})


# -- what is a server --------------------------------------------------------------------------------------------------


def an_mcpserver() -> MCPServer:
    server = MCPServer("made")

    @server.tool()
    async def add(a: int, b: int) -> int:
        return a + b

    return server


def a_lowlevel_server() -> Server[Any]:
    async def tools(ctx: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[Tool(name="add", input_schema={"type": "object"})])

    async def call(ctx: Any, params: CallToolRequestParams) -> CallToolResult:
        numbers = params.arguments or {}
        return CallToolResult(content=[TextContent(text=str(numbers["a"] + numbers["b"]))])

    return Server("made", on_list_tools=tools, on_call_tool=call)


@BOTH_ERAS
@pytest.mark.parametrize("make", [an_mcpserver, a_lowlevel_server])
async def test_every_kind_of_server_is_served(make: Callable[[], object], mode: str) -> None:
    async with hosting(make()) as host, Client(host.front, mode=mode) as client:
        assert [item.name for item in (await client.list_tools()).tools] == ["add"]
        content = (await client.call_tool("add", {"a": 1, "b": 2})).content[0]
    assert isinstance(content, TextContent)
    assert content.text == "3"


def test_anything_else_is_refused_by_name() -> None:
    with pytest.raises(ProviderError, match=r"'p': builtins\.dict object is not an MCP server"):
        hosting({})


# -- life --------------------------------------------------------------------------------------------------------------


async def test_a_lifespan_is_entered_once_for_all_clients() -> None:
    """And left when the host stops; its value reaches the handlers."""
    life: list[str] = []

    @asynccontextmanager
    async def lifespan(server: Any) -> AsyncIterator[dict[str, str]]:
        life.append("start")
        yield {"database": "open"}
        life.append("stop")

    server = MCPServer("living", lifespan=lifespan)

    @server.tool()
    async def database(ctx: Context) -> str:
        return str(ctx.request_context.lifespan_context["database"])

    async with hosting(server) as host:
        for mode in ("legacy", "auto", "legacy"):
            async with Client(host.front, mode=mode) as client:
                result = await client.call_tool("database", {})
                assert result.structured_content == {"result": "open"}
        await call_tool(host.app, "database")
        assert life == ["start"]
    assert life == ["start", "stop"]


async def test_a_lifespan_that_raises_stops_the_start() -> None:
    """With its own message; the host does not run without what it was told to serve."""

    @asynccontextmanager
    async def lifespan(server: Any) -> AsyncIterator[None]:
        if server is not None:
            raise ConnectionError("no database")
        yield

    with pytest.raises(Exception, match="no database"):
        async with hosting(MCPServer("broken", lifespan=lifespan)):
            pass


async def test_the_same_host_can_run_again() -> None:
    """Each time with the server's lifespan."""
    life: list[str] = []

    @asynccontextmanager
    async def lifespan(server: Any) -> AsyncIterator[None]:
        life.append("start")
        yield
        life.append("stop")

    host = hosting(MCPServer("living", lifespan=lifespan))
    for _ in range(2):
        async with host:
            assert (await post(host.app, request("server/discover"))).status == 200
    assert life == ["start", "stop"] * 2


# -- everything that a server can do -----------------------------------------------------------------------------------


def a_rich_server() -> MCPServer:
    server = MCPServer("rich", instructions="Be brief.")

    @server.tool(title="A tool", description="Says it twice.")
    async def twice(words: str) -> list[str]:
        return [words, words]

    @server.tool()
    async def fails() -> str:
        raise ValueError("its own failure")

    @server.prompt(title="A prompt")
    async def greet(name: str) -> str:
        return f"Greet {name}"

    @server.resource("note://1", mime_type="text/markdown")
    async def note() -> str:
        return "# a note"

    @server.resource("blob://1", mime_type="image/png")
    async def blob() -> bytes:
        return b"\x89PNG"

    @server.resource("note://{part}/text")
    async def part(part: str) -> str:
        return f"part {part}"

    @server.completion()  # type: ignore[no-untyped-call, untyped-decorator]  # as the SDK has it
    async def complete(ref: Any, argument: Any, context: CompletionContext | None) -> Completion:
        return Completion(values=[f"{argument.value}!"], total=1, has_more=False)

    return server


async def everything(server: Any, mode: str) -> list[Any]:
    """What a client sees of a server, as wire mappings without the stamp."""
    async with Client(server, mode=mode, cache=None) as client:
        prompt, template = PromptReference(name="greet"), ResourceTemplateReference(uri="note://{part}/text")
        results: list[BaseModel] = [
            await client.list_tools(),
            await client.list_prompts(),
            await client.list_resources(),
            await client.list_resource_templates(),
            await client.call_tool("twice", {"words": "hi"}),
            await client.call_tool("twice", {"words": 7}),
            await client.call_tool("fails", {}),
            await client.get_prompt("greet", {"name": "Ada"}),
            await client.read_resource("note://1"),
            await client.read_resource("blob://1"),
            await client.read_resource("note://7/text"),
            await client.complete(prompt, {"name": "name", "value": "A"}),
            await client.complete(template, {"name": "part", "value": "B"}),
        ]
        found = [result.model_dump(mode="json", by_alias=True, exclude_none=True) for result in results]
        for item in found:
            item.get("_meta", {}).pop(STAMP, None)
            if not item.get("_meta", True):
                del item["_meta"]
        return [client.instructions, *found]


@BOTH_ERAS
async def test_a_client_sees_through_the_host_what_it_sees_without(mode: str) -> None:
    """Tools, prompts, resources, templates, completions, instructions, errors: all the same."""
    direct = await everything(a_rich_server(), mode)
    async with hosting(a_rich_server()) as host:
        assert await everything(host.front, mode) == direct


@BOTH_ERAS
async def test_progress_reaches_the_caller(mode: str) -> None:
    server = MCPServer("progress")

    @server.tool()
    async def work(ctx: Context) -> str:
        await ctx.report_progress(1, 2, "half")
        await ctx.report_progress(2, 2, "done")
        return "worked"

    seen: list[Any] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))

    async with hosting(server) as host, Client(host.front, mode=mode) as client:
        await client.call_tool("work", {}, progress_callback=note)
    assert seen == [(1, 2, "half"), (2, 2, "done")]


@BOTH_ERAS
async def test_log_messages_reach_the_caller(mode: str) -> None:
    """In 2026-07-28 at the level that the request asks for, in earlier revisions always."""
    server = MCPServer("logging")

    @server.tool()
    async def work(ctx: Context) -> str:
        if mode == "auto":
            with pytest.warns(MCPDeprecationWarning):
                await ctx.debug("too quiet")
        with pytest.warns(MCPDeprecationWarning):
            await ctx.warning("loud enough", logger_name="worker")
        return "worked"

    seen: list[Any] = []

    async def log(params: LoggingMessageNotificationParams) -> None:
        seen.append((params.level, params.data, params.logger))

    async with (
        hosting(server) as host,
        Client(host.front, mode=mode, logging_callback=log, log_level="warning") as client,
    ):
        await client.call_tool("work", {})
    assert seen == [("warning", "loud enough", "worker")]


class Name(BaseModel):
    """What the tool asks for."""

    name: str


async def test_a_tool_asks_a_session_of_2025() -> None:
    """A request from server to client goes through the host, and its answer comes back."""
    server = MCPServer("asking")

    @server.tool()
    async def ask(ctx: Context) -> str:
        answer = await ctx.elicit("Who?", Name)
        return f"{answer.action}: {answer.data.name}" if answer.action == "accept" else answer.action

    async def elicit(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"name": "Ada"})

    async with hosting(server) as host, Client(host.front, mode="legacy", elicitation_callback=elicit) as client:
        result = await client.call_tool("ask", {})
    assert result.structured_content == {"result": "accept: Ada"}


# -- changes -----------------------------------------------------------------------------------------------------------


def a_changing_server() -> MCPServer:
    server = MCPServer("changing")

    @server.tool()
    async def change(what: str, ctx: Context) -> str:
        if what == "tools":
            server.add_tool(change, name="another")
            await ctx.notify_tools_changed()
        elif what == "prompts":
            await ctx.notify_prompts_changed()
        elif what == "resources":
            await ctx.notify_resources_changed()
        else:
            await ctx.notify_resource_updated(what)
        return "changed"

    @server.resource("note://1")
    async def note() -> str:
        return "a note"

    return server


EVENTS = {
    "tools": ToolsListChanged(),
    "prompts": PromptsListChanged(),
    "resources": ResourcesListChanged(),
    "note://1": ResourceUpdated("note://1"),
}


@pytest.mark.parametrize("what", EVENTS)
async def test_a_stream_of_2026_hears_what_changed(what: str) -> None:
    async with (
        hosting(a_changing_server()) as host,
        Client(host.front) as client,
        client.listen(
            tools_list_changed=True,
            prompts_list_changed=True,
            resources_list_changed=True,
            resource_subscriptions=["note://1"],
        ) as news,
    ):
        await client.call_tool("change", {"what": what})
        with anyio.fail_after(LIMIT):
            event: ServerEvent = await anext(aiter(news))
    assert event == EVENTS[what]


@pytest.mark.parametrize("what", ["tools", "prompts", "resources"])
async def test_a_session_of_2025_hears_what_changed(what: str) -> None:
    heard, told = anyio.Event(), list[str]()

    async def listen(message: Any) -> None:
        told.append(message.method)
        heard.set()

    async with (
        hosting(a_changing_server()) as host,
        Client(host.front, mode="legacy", message_handler=listen) as client,
    ):
        await client.call_tool("change", {"what": what})
        with anyio.fail_after(LIMIT):
            await heard.wait()
    assert told[0] == f"notifications/{what}/list_changed"


async def test_a_changed_list_can_be_called_when_clients_are_told() -> None:
    """The host's own catalog is ahead of its notification."""
    async with hosting(a_changing_server()) as host, Client(host.front) as client:
        async with client.listen(tools_list_changed=True) as news:
            await client.call_tool("change", {"what": "tools"})
            with anyio.fail_after(LIMIT):
                await anext(aiter(news))
        assert "another" in [item.name for item in (await client.list_tools()).tools]
        assert not (await client.call_tool("another", {"what": "prompts"})).is_error


async def test_a_session_of_2025_subscribes_to_a_resource() -> None:
    """The server's own handler accepts it, and its news reach those that asked, until they ask no more."""
    bus, subscribed = InMemorySubscriptionBus(), list[str]()

    async def resources(ctx: Any, params: PaginatedRequestParams | None) -> ListResourcesResult:
        return ListResourcesResult(resources=[Resource(uri=f"note://{n}", name=f"note {n}") for n in (1, 2)])

    async def subscribe(ctx: Any, params: SubscribeRequestParams) -> EmptyResult:
        subscribed.append(params.uri)
        return EmptyResult()

    async def unsubscribe(ctx: Any, params: Any) -> EmptyResult:
        subscribed.remove(params.uri)
        return EmptyResult()

    server = Server[Any](
        "watched",
        on_list_resources=resources,
        on_subscribe_resource=subscribe,
        on_unsubscribe_resource=unsubscribe,
        on_subscriptions_listen=ListenHandler(bus),
    )
    told: list[str] = []
    heard = anyio.Event()

    async def listen(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            told.append(message.params.uri)
            heard.set()

    async with hosting(server) as host, Client(host.front, mode="legacy", message_handler=listen) as client:
        with pytest.warns(MCPDeprecationWarning):
            await client.subscribe_resource("note://1")
        assert subscribed == ["note://1"]
        await bus.publish(ResourceUpdated("note://2"))
        await bus.publish(ResourceUpdated("note://1"))
        with anyio.fail_after(LIMIT):
            await heard.wait()
        with pytest.warns(MCPDeprecationWarning):
            await client.unsubscribe_resource("note://1")
        assert subscribed == []
        await bus.publish(ResourceUpdated("note://1"))
        await client.list_resources()
    assert told == ["note://1"]


# -- several rounds ----------------------------------------------------------------------------------------------------

STATE = "a-state-that-nobody-may-read"
ASK = ElicitRequest(
    params=ElicitRequestFormParams(
        message="Who?", requested_schema={"type": "object", "properties": {"name": {"type": "string"}}}
    )
)


def an_asking_server() -> MCPServer:
    """A tool that asks a question and keeps notes with the client meanwhile."""
    server = MCPServer("asking")

    async def answer(ctx: Context) -> CallToolResult | InputRequiredResult:
        responses = ctx.input_responses
        if responses is None:
            return InputRequiredResult(input_requests={"who": ASK}, request_state=STATE)
        who = responses["who"]
        assert isinstance(who, ElicitResult)
        assert who.content is not None
        return CallToolResult(content=[TextContent(text=f"{who.content['name']} / {ctx.request_state}")])

    @server.tool()
    async def ask(ctx: Context) -> CallToolResult | InputRequiredResult:
        return await answer(ctx)

    @server.tool()
    async def other(ctx: Context) -> CallToolResult | InputRequiredResult:
        return await answer(ctx)

    return server


CAN_ELICIT: dict[str, Any] = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}
ANSWER = {"who": {"action": "accept", "content": {"name": "Ada"}}}


async def round_of(host: Host, name: str = "ask", **params: Any) -> Reply:
    return await post(host.app, request("tools/call", {"name": name, "_meta": CAN_ELICIT, **params}))


async def test_a_question_is_answered_in_a_second_round() -> None:
    async def elicit(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"name": "Ada"})

    async with hosting(an_asking_server()) as host, Client(host.front, elicitation_callback=elicit) as client:
        content = (await client.call_tool("ask", {})).content[0]
    assert isinstance(content, TextContent)
    assert content.text == f"Ada / {STATE}"


async def test_the_state_between_rounds_is_sealed() -> None:
    """H2: the client carries it, and can neither read nor change it."""
    async with hosting(an_asking_server()) as host:
        first = (await round_of(host)).message["result"]
        assert first["resultType"] == "input_required"
        assert STATE not in json.dumps(first)
        second = await round_of(host, inputResponses=ANSWER, requestState=first["requestState"])
        assert second.message["result"]["content"][0]["text"] == f"Ada / {STATE}"


@pytest.mark.parametrize(
    "forge", [lambda _: STATE, lambda seal: seal[:-2] + "AA", lambda seal: seal[:-9], lambda _: ""]
)
async def test_a_forged_state_is_refused(forge: Callable[[str], str]) -> None:
    """H2: plaintext, tampered, cut, empty: the tool never sees it."""
    async with hosting(an_asking_server()) as host:
        seal = (await round_of(host)).message["result"]["requestState"]
        reply = await round_of(host, inputResponses=ANSWER, requestState=forge(seal))
    assert (reply.status, reply.message["error"]["code"]) == (400, -32602)


async def test_a_state_belongs_to_its_request() -> None:
    """H2: sealed for one tool, it does not open for another."""
    async with hosting(an_asking_server()) as host:
        seal = (await round_of(host)).message["result"]["requestState"]
        reply = await round_of(host, "other", inputResponses=ANSWER, requestState=seal)
    assert reply.message["error"]["code"] == -32602


class SignIn(MCPPlugin):
    """Stands for plugins that say who calls: whom a test says."""

    who: Principal | None = None

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.sign_in, Phase.ADMIT)]

    async def sign_in(self, call: Call, call_next: Onward) -> Result:
        call.principal = self.who
        return await call_next(call)


@pytest.mark.parametrize("keys", [[], ["o" * 32]])
async def test_a_state_belongs_to_its_caller(keys: list[str]) -> None:
    """H2: to the principal of the call: another subject, issuer or tenant, or nobody, cannot go on with it."""
    others = [
        Principal("bob", "here", "acme"),
        Principal("ada", "there", "acme"),
        Principal("ada", "here", "other"),
        Principal("ada", "here"),
        None,
    ]
    ada, signed_in = Principal("ada", "here", "acme"), SignIn()
    config = {"host": {"request_state_keys": keys}}
    async with create_host(config, providers={"asking": an_asking_server()}, plugins=[signed_in]) as host:
        signed_in.who = ada
        seal = (await round_of(host)).message["result"]["requestState"]
        for who in others:
            signed_in.who = who
            reply = await round_of(host, inputResponses=ANSWER, requestState=seal)
            assert reply.message["error"]["data"] == {"reason": "invalid_request_state"}
        signed_in.who = ada
        reply = await round_of(host, inputResponses=ANSWER, requestState=seal)
    assert reply.message["result"]["content"][0]["text"] == f"Ada / {STATE}"


async def test_a_state_belongs_to_its_provider() -> None:
    """H2: two servers may have one name and the host's keys; what one sealed is not for the other."""
    providers = {name: InProcessProvider(name, an_asking_server(), prefix=f"{name}_") for name in "ab"}
    async with create_host({"host": {"request_state_keys": ["o" * 32]}}, providers=providers) as host:
        seal = (await round_of(host, "a_ask")).message["result"]["requestState"]
        answers = [(await round_of(host, f"{n}_ask", inputResponses=ANSWER, requestState=seal)).message for n in "ab"]
    assert ["error" in answer for answer in answers] == [False, True]


OLD, NEW = "o" * 32, "n" * 32


async def second_round_elsewhere(here: list[str], there: list[str]) -> Any:
    """The first round at one replica, the second at another; the outcome."""
    async with (
        hosting(an_asking_server(), request_state_keys=here) as first,
        hosting(an_asking_server(), request_state_keys=there) as second,
    ):
        seal = (await round_of(first)).message["result"]["requestState"]
        return (await round_of(second, inputResponses=ANSWER, requestState=seal)).message


@pytest.mark.parametrize(("here", "there"), [([NEW], [NEW]), ([OLD, NEW], [NEW, OLD]), ([OLD], [NEW, OLD])])
async def test_replicas_with_a_common_key_take_over_a_request(here: list[str], there: list[str]) -> None:
    """H2: also while the keys are rotated."""
    outcome = await second_round_elsewhere(here, there)
    assert outcome["result"]["content"][0]["text"] == f"Ada / {STATE}"


@pytest.mark.parametrize(("here", "there"), [([], []), ([OLD], [NEW]), ([OLD], [])])
async def test_replicas_without_a_common_key_do_not(here: list[str], there: list[str]) -> None:
    """H2: without configured keys each process has its own."""
    assert (await second_round_elsewhere(here, there))["error"]["code"] == -32602


# -- what a server brings along ----------------------------------------------------------------------------------------


class AskParams(RequestParams):
    """Parameters of the extension's method."""

    question: str


class Oracle(Extension):
    """An extension with a method of its own, which also looks at every tool call."""

    identifier = "example.com/oracle"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def settings(self) -> dict[str, Any]:
        return {"wise": True}

    def methods(self) -> list[MethodBinding]:
        return [MethodBinding("example.com/ask", AskParams, self.ask)]

    async def ask(self, ctx: ServerRequestContext[Any, Any], params: Any) -> dict[str, Any]:
        return {"answer": f"{params.question} 42"}

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        self.seen.append(params.name)
        return await call_next(ctx)


async def test_an_extension_of_the_server_is_served() -> None:
    """Its settings are advertised, its method answers, its interceptor runs under the server's own names."""
    oracle = Oracle()
    server = MCPServer("oracle", extensions=[oracle])

    @server.tool()
    async def add(a: int, b: int) -> int:
        return a + b

    async with hosting(server) as host:
        discovered = (await post(host.app, request("server/discover"))).message["result"]
        asked = (await post(host.app, request("example.com/ask", {"question": "why?"}))).message["result"]
        await call_tool(host.app, "add", a=1, b=2)
    assert discovered["capabilities"]["extensions"] == {"example.com/oracle": {"wise": True}}
    assert asked["answer"] == "why? 42"
    assert oracle.seen == ["add"]


@BOTH_ERAS
async def test_the_servers_own_middleware_runs(mode: str) -> None:
    """Once for each call."""
    seen: list[str] = []

    async def look(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        seen.append(ctx.method)
        return await call_next(ctx)

    server = an_mcpserver()
    server.middleware.append(look)
    async with hosting(server) as host, Client(host.front, mode=mode) as client:
        seen.clear()
        await client.call_tool("add", {"a": 1, "b": 2})
    assert seen.count("tools/call") == 1


async def test_two_servers_with_custom_methods_each_get_their_own() -> None:
    async def one(ctx: Any, params: RequestParams) -> dict[str, Any]:
        return {"from": "one"}

    async def two(ctx: Any, params: RequestParams) -> dict[str, Any]:
        return {"from": "two"}

    servers = {"one": Server[Any]("one"), "two": Server[Any]("two")}
    servers["one"].add_request_handler("example.com/one", RequestParams, one)
    servers["two"].add_request_handler("example.com/two", RequestParams, two)
    async with create_host({}, providers=servers) as host:
        answers = [(await post(host.app, request(f"example.com/{name}"))).message["result"]["from"] for name in servers]
    assert answers == ["one", "two"]


async def test_the_pages_of_a_server_are_joined() -> None:
    """A server's own cursors stay between it and the host."""

    async def tools(ctx: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
        start = int(params.cursor) if params is not None and params.cursor else 0
        names = [f"t{n}" for n in range(start, start + 2)]
        following = str(start + 2) if start < 4 else None
        listed = [Tool(name=name, input_schema={"type": "object"}) for name in names]
        return ListToolsResult(tools=listed, next_cursor=following)

    async with hosting(Server[Any]("paged", on_list_tools=tools)) as host:
        result = (await post(host.app, request("tools/list"))).message["result"]
    assert [item["name"] for item in result["tools"]] == [f"t{n}" for n in range(6)]
    assert "nextCursor" not in result


async def test_a_list_that_never_ends_is_the_providers_defect(caplog: pytest.LogCaptureFixture) -> None:
    """It costs nobody else anything (G5)."""

    async def tools(ctx: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[], next_cursor="again")

    servers = {"endless": Server[Any]("endless", on_list_tools=tools), "sound": an_mcpserver()}
    async with create_host({}, providers=servers) as host:
        result = (await post(host.app, request("tools/list"))).message["result"]
    assert [item["name"] for item in result["tools"]] == ["add"]
    assert "did not end after 1000 pages" in caplog.text
