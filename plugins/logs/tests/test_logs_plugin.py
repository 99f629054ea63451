"""Logs of a host: what stands in a line, and that nobody waits for it."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner
from mcp.shared.exceptions import MCPError
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from plughost import (
    Call,
    CallNext,
    Host,
    MCPPlugin,
    Middleware,
    Phase,
    PlughostError,
    Principal,
    Result,
    create_host,
    hookimpl,
    load_config,
)
from plughost_logs import LogsConfig, LogsPlugin
from plughost_logs._elastic import FIELDS, OWN_FIELDS
from plughost_logs.cli import logs
from plughost_testing import ScriptedProvider, VirtualClock, make_call, make_host, text
from starlette.requests import Request

pytestmark = pytest.mark.anyio

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


@pytest.fixture(autouse=True)
def root_level() -> Iterator[None]:
    """The tests log from INFO on."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.INFO)
    yield
    root.setLevel(before)


@pytest.fixture
def provider() -> ScriptedProvider:
    made = ScriptedProvider("notes", tools=["add", "broken", "wrong"], resources=["note://1"])
    made.script("broken", MCPError(-32603, "it broke"))
    made.script("wrong", {**text("no"), "isError": True})
    return made


class Log:
    """What was written to a file, once the host that wrote it is gone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["log"]["logger"] == "plughost.calls"]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "host.log")


@pytest.fixture
def logging_host(log: Log, provider: ScriptedProvider, virtual_clock: VirtualClock) -> Any:
    """A host that logs into the file; all is written when it is left."""

    @asynccontextmanager
    async def host(*others: MCPPlugin[Any], **config: Any) -> AsyncIterator[Host]:
        keys = {"format": "ecs", "path": str(log.path), **config}
        plugin = LogsPlugin(LogsConfig.model_validate(keys), name="logs")
        async with make_host(plugin, *others, providers=[provider], clock=virtual_clock) as running:
            yield running

    return host


def call(tool: str, arguments: Mapping[str, Any] | None = None, **meta: Any) -> Call:
    made = make_call("tools/call", {"name": tool, "arguments": arguments or {}})
    made.params = {**made.params, "_meta": {**made.meta, **meta}}
    return made


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in document.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


@pytest.mark.parametrize(("client", "shown"), [("192.0.2.7", {"ip": "192.0.2.7"}), ("not an address", None)])
async def test_http_tells_trace_and_client(logging_host: Any, log: Log, client: str, shown: Any) -> None:
    """The trace of a caller that sends it as a header; the client's address, if it is one."""
    made = call("add")
    headers = [(b"traceparent", f"00-{TRACE}-b7ad6b7169203331-01".encode())]
    made.request = Request({"type": "http", "headers": headers, "client": (client, 1)})
    async with logging_host() as host:
        await host.dispatch(made)
    assert (log.calls[0]["trace"]["id"], log.calls[0].get("client")) == (TRACE, shown)


async def test_each_request_has_a_line(logging_host: Any, log: Log) -> None:
    """Method, target, provider, outcome and duration, and the level that fits."""
    async with logging_host() as host:
        for tool in ("add", "wrong", "broken"):
            try:
                await host.dispatch(call(tool))
            except MCPError:
                assert tool == "broken"
    shown = [
        (line["mcp"]["target"], line["event"]["outcome"], line["log"]["level"], line.get("error", {}).get("code"))
        for line in log.calls
    ]
    assert shown == [
        ("add", "success", "info", None),
        ("wrong", "failure", "warning", None),
        ("broken", "failure", "error", "-32603"),
    ]
    line = log.calls[0]
    assert line["event"]["action"] == line["mcp"]["method"]["name"] == "tools/call"
    assert line["plughost"] == {"provider": "notes"}
    assert line["message"].startswith("tools/call add: success in ")


async def test_every_field_of_a_line_is_in_the_index_template(
    logging_host: Any, log: Log, provider: ScriptedProvider
) -> None:
    """And no line has another, a crash's included."""
    provider.script("broken", ValueError("no"))
    async with logging_host() as host:
        await host.dispatch(call("add", traceparent=f"00-{TRACE}-b7ad6b7169203331-01"))
        with pytest.raises(MCPError):
            await host.dispatch(call("broken"))
        logging.getLogger("other").warning("with extra", extra={"method": "x"})
    names = {name for line in log.lines for name in flat(line) if not name.startswith("labels.")}
    assert names - FIELDS.keys() - OWN_FIELDS.keys() == set()
    assert {"error.stack_trace", "trace.id", "event.duration"} <= names


async def test_no_argument_and_no_result_is_logged(logging_host: Any, log: Log, provider: ScriptedProvider) -> None:
    """Unless the operator names the argument; one whose name says that it is a secret never is (G6)."""
    provider.script("add", text("secret-result"))
    given = {"text": "secret-argument", "city": "Rome", "password": "hunter2"}
    async with logging_host() as host:
        await host.dispatch(call("add", given))
    async with logging_host(arguments=["city", "password"]) as host:
        await host.dispatch(call("add", given))
    assert not {"secret-argument", "secret-result", "hunter2"} & set(log.text.replace('"', " ").split())
    assert "secret-" not in log.text
    assert log.calls[1]["labels"] == {"argument_city": "Rome", "argument_password": "[redacted]"}


class Talking(MCPPlugin):
    """A third party's plugin that logs, and knows nothing of this one."""

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.talk, Phase.GUARD)]

    async def talk(self, call: Call, call_next: CallNext) -> Result:
        call.principal = Principal("ada", tenant="acme")
        logging.getLogger("third.party").warning("token=%s seen", "abc.DEF-123", extra={"attempt": 2})
        return await call_next(call)


async def test_lines_of_third_parties_belong_to_their_request(
    logging_host: Any, log: Log, provider: ScriptedProvider
) -> None:
    """Also from a worker thread of a server's tool: trace, request, caller and tenant, and without secrets (G6)."""

    def work() -> None:
        logging.getLogger("server.tool").info("working")

    async def tool(call: Call, params: Mapping[str, Any]) -> Result:
        await anyio.to_thread.run_sync(work)
        return text("done")

    provider.script("add", tool)
    made = call("add", traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
    async with logging_host(Talking(name="talking")) as host:
        await host.dispatch(made)
        logging.getLogger("third.party").warning("afterwards")
    by_logger = {line["log"]["logger"]: line for line in log.lines if line["message"] != "afterwards"}
    for name in ("third.party", "server.tool", "plughost.calls"):
        line = by_logger[name]
        assert line["trace"]["id"] == TRACE
        assert line["mcp"]["request"]["id"] == str(made.request_id)
        assert (line["user"]["id"], line["organization"]["id"]) == ("ada", "acme")
    assert by_logger["third.party"]["message"] == "token=[redacted] seen"
    assert by_logger["third.party"]["labels"] == {"attempt": "2"}
    [afterwards] = [line for line in log.lines if line["message"] == "afterwards"]
    assert not afterwards.keys() & {"trace", "mcp", "user"}


async def test_the_hosts_own_trace_counts_before_the_callers_header(logging_host: Any, log: Log) -> None:
    """With a span in force, its ids are those of the line."""
    span = NonRecordingSpan(SpanContext(0xA, 0xB, is_remote=False, trace_flags=TraceFlags(1)))
    async with logging_host() as host:
        with trace.use_span(span):
            await host.dispatch(call("add", traceparent=f"00-{TRACE}-b7ad6b7169203331-01"))
    assert (log.calls[0]["trace"]["id"], log.calls[0]["span"]["id"]) == (f"{10:032x}", f"{11:016x}")


@pytest.mark.parametrize("header", [7, "", "00-x-y-01", f"00-{'0' * 32}-b7ad6b7169203331-01", f"{TRACE}"])
async def test_a_malformed_trace_header_is_no_trace(logging_host: Any, log: Log, header: Any) -> None:
    """What a client writes there is not taken for an id."""
    async with logging_host() as host:
        await host.dispatch(call("add", traceparent=header))
    assert "trace" not in log.calls[0]


async def test_only_some_of_the_quick_successes_have_a_line(
    logging_host: Any, log: Log, provider: ScriptedProvider
) -> None:
    """Failures and slow ones always do."""

    async def slow(call: Call, params: Mapping[str, Any]) -> Result:
        await anyio.sleep(2)
        return text("late")

    provider.script("wrong", slow)
    async with logging_host(sample=0.0, slow="1s") as host:
        await host.dispatch(call("add"))
        await host.dispatch(call("wrong"))
        with pytest.raises(MCPError):
            await host.dispatch(call("broken"))
    assert [(line["mcp"]["target"], line["log"]["level"]) for line in log.calls] == [
        ("wrong", "warning"),
        ("broken", "error"),
    ]
    assert log.calls[0]["event"]["duration"] == pytest.approx(2e9, rel=1e-3)


async def test_requests_can_be_left_out(logging_host: Any, log: Log) -> None:
    """With `calls = false` only other lines are written."""
    async with logging_host(calls=False) as host:
        await host.dispatch(call("add"))
        logging.getLogger("other").info("a line")
    assert [line["message"] for line in log.lines if line["log"]["logger"] == "other"] == ["a line"]
    assert log.calls == []


async def test_a_line_for_people(logging_host: Any, log: Log) -> None:
    """Time, level, logger, message and the ids; what a client wrote cannot forge a line or move the cursor."""
    async with logging_host(format="human") as host:
        await host.dispatch(call("add"))
        logging.getLogger("other").info("hello\n12:00:00 \x1b[31mERROR fake")
    lines = [line for line in log.text.splitlines() if "other" in line or "plughost.calls" in line]
    assert len(lines) == 2
    assert "INFO     plughost.calls: tools/call add: success in " in lines[0]
    assert " request=" in lines[0]
    assert lines[1].endswith(r"INFO     other: hello\n12:00:00 \x1b[31mERROR fake")


async def test_the_root_loggers_handlers_come_back(logging_host: Any) -> None:
    """They are displaced while the plugin is there, and its own is the only one."""
    root = logging.getLogger()
    before = root.handlers[:]
    async with logging_host():
        [handler] = root.handlers
        assert type(handler).__name__ == "LogsHandler"
    assert root.handlers == before


async def test_two_instances_write_side_by_side(logging_host: Any, log: Log, tmp_path: Path) -> None:
    """Each line of a request stands once in the log of each; the one that stays goes on when the other leaves."""
    second = Log(tmp_path / "second.log")
    async with logging_host() as host:
        await host.register(LogsPlugin(LogsConfig(format="ecs", path=str(second.path)), name="more"))
        await host.dispatch(call("add"))
        await host.unregister("more")
        await host.dispatch(call("wrong"))
    assert [line["mcp"]["target"] for line in log.calls] == ["add", "wrong"]
    assert [line["mcp"]["target"] for line in second.calls] == ["add"]


async def test_a_change_of_config_keeps_the_log(tmp_path: Path) -> None:
    """A new level holds; a change that is refused leaves all as it was; and so is the root logger in the end."""
    root = logging.getLogger()
    before = root.handlers[:]
    log = Log(tmp_path / "host.log")
    (tmp_path / "failing.py").write_text(
        "from plughost import MCPPlugin\n\nclass Failing(MCPPlugin):\n"
        "    async def register(self, host):\n        raise OSError('no backend')\n"
    )

    def config(level: str, **others: Any) -> Any:
        return load_config({"plugins": {"logs": {"path": str(log.path), "level": level}, **others}})

    async with create_host(config("WARNING")) as host:
        await host.reload(config("DEBUG"))
        logging.getLogger("other").debug("one")
        with pytest.raises(PlughostError, match="no backend"):
            await host.reload(config("ERROR", failing={"plugin": f"{tmp_path / 'failing.py'}:Failing"}))
        logging.getLogger("other").debug("two")
    assert [line["message"] for line in log.lines if line["log"]["logger"] == "other"] == ["one", "two"]
    assert (root.handlers, root.level) == (before, logging.INFO)


async def test_the_level_is_changed_while_it_runs(logging_host: Any, log: Log) -> None:
    """Of one logger or of all, by an operation; the root logger's former level comes back at the end."""
    async with logging_host(level="WARNING") as host:
        logging.getLogger("other").info("before")
        await host.run_operation("logs", "level", {"level": "INFO"})
        logging.getLogger("other").info("after")
        assert (await host.run_operation("logs", "show"))["lost"] == 0
    assert [line["message"] for line in log.lines if line["log"]["logger"] == "other"] == ["after"]
    assert logging.getLogger().level == logging.INFO


async def test_a_file_that_cannot_be_opened_stops_the_start(logging_host: Any, tmp_path: Path) -> None:
    """The message names it."""
    with pytest.raises(Exception, match="no-such-folder"):
        async with logging_host(path=str(tmp_path / "no-such-folder" / "log")):
            pass


def test_the_index_template_is_printed() -> None:
    """As JSON, with each field under its path."""
    printed = CliRunner().invoke(logs, ["template"])
    properties = json.loads(printed.stdout)["template"]["mappings"]["properties"]
    assert properties["log"]["properties"]["level"] == {"type": "keyword", "ignore_above": 1024}
    assert properties["client"]["properties"]["ip"] == {"type": "ip"}


def test_saved_objects_refer_to_one_another_and_to_fields_that_exist() -> None:
    """One JSON object a line; each reference resolves, and each column is a field of a line."""
    objects = [json.loads(line) for line in CliRunner().invoke(logs, ["kibana"]).stdout.splitlines()]
    known = {(item["type"], item["id"]) for item in objects}
    assert len(known) == len(objects) == 4
    for item in objects:
        assert {(link["type"], link["id"]) for link in item["references"]} <= known
        assert set(item["attributes"].get("columns", ())) <= FIELDS.keys() | OWN_FIELDS.keys()
        if item["type"] == "search":
            source = json.loads(item["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
            assert source["indexRefName"] == item["references"][0]["name"]
