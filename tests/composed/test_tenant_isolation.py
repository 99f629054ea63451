"""Two tenants on one host with every plugin that is installed: neither can tell whether the other is there.

Non-interference (Goguen and Meseguer, 1982): what tenant b observes in a run with a is what it observes in the same
run without a. That is what it is answered, over HTTP, and what is kept of it: its events and the state made of them,
its series of metrics, its spans, its lines in the log. So no state, cache entry, count, limit, list, label or error of
one reaches the other, whatever both do.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from asgi_wire import COMMON, fetch, post, request
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mcp import MCPError
from mcp_types import INTERNAL_ERROR
from otlp_receiver import Collector, http_collector
from plughost import Call, Host, HostConfig, Result, create_host
from plughost_dedup import IDEMPOTENCY_KEY
from plughost_testing import ScriptedProvider, VirtualClock, make_host, run, text
from plughost_testing.services import Program, Stack

TENANTS, PEOPLE = "ab", ("ada", "bob")
"""People are named alike in both."""
TOKENS = {(tenant, who): f"bearer-{tenant}-{who}-0123456789abcdef" for tenant in TENANTS for who in PEOPLE}
TABLES: Mapping[str, Mapping[str, Any]] = {
    "errors": {},
    "shutdown": {},
    "health": {},
    "pool": {},
    "plugin-template": {},
    "bus": {},
    "metrics": {"tenant": True},
    "logs": {"path": "host.log", "format": "ecs", "level": "INFO"},
    "tracing": {"layers": 0},
    "events": {"url": "sqlite:///events.db", "arguments": ["n"]},
    "snapshots": {"every": 2},
    "encryption": {"keys": [secrets.token_urlsafe(32)], "data_keys": "data-keys.db"},
    "pinning": {},
    "auth": {
        "tokens": {
            f"{tenant}-{who}": {"token": token, "subject": who, "tenant": tenant}
            for (tenant, who), token in TOKENS.items()
        }
    },
    "tenancy": {"tenants": {name: {"providers": [f"{name}-own", "shared", "remote"]} for name in TENANTS}},
    "rbac": {"roles": {"authenticated": {"permissions": ["admin:access"]}}},
    "validation": {},
    "rate-limit": {"limit": "9/second", "per": ["tenant"], "advertise": True},
    "cache": {"tools": {"read": 0.3}, "advertise": True},
    "dedup": {"tools": ["join"], "window": 0.1},
    "retry": {"attempts": 2, "tools": ["flaky"], "backoff": 1e-9, "max_backoff": 1e-9},
    "circuit-breaker": {"minimum_calls": 3, "open": 0.5, "open_max": 0.5, "jitter": 0, "ramp": 0},
    "timeout": {"total": 5.0, "attempt": 2.0},
    "bulkhead": {"limit": 2, "per": ["tenant"], "max_queue": 1, "max_wait": 0.2},
    "chaos": {"i_know": True, "faults": [{"kind": "latency", "seconds": 0.01, "target": "do"}]},
}
"""Every plugin but `upstream`, which a provider brings that has a URL."""
SLOT, SERVICE = 0.04, 0.15
"""Seconds from call to call, and at the provider: calls overlap."""


@dataclass(frozen=True)
class Asked:
    """One thing that somebody asks."""

    tenant: str
    subject: str
    method: str
    params: tuple[tuple[str, Any], ...]

    async def of(self, host: Host, number: int) -> Any:
        """The answer, with its status, and what it says of time that is no point in time."""
        params = json.loads(json.dumps(dict(self.params)))
        params.setdefault("_meta", {})["traceparent"] = f"00-{trace_of(self.tenant, number)}-00000000000000aa-01"
        token = {"authorization": f"Bearer {TOKENS[self.tenant, self.subject]}"}
        reply = await post(host.app, request(self.method, params, request_id=number), token)
        return steady({"status": reply.status, "headers": reply.headers, "message": reply.message})


def trace_of(tenant: str, number: int) -> str:
    """The trace that a call belongs to. It tells whose it is."""
    return f"{tenant * 16}{number:016x}"


VOLATILE = frozenset(
    {"timestamp", "@timestamp", "requestId", "content-length", "hash", "position", "version", "process"}
)
"""What no two runs share: ids of the host's own, points in time by the real clock, and numbers in the store."""
UNITS = {"duration_us": 1e6, "duration": 1e9, "start": 1e9, "end": 1e9}


def steady(value: Any, *volatile: str) -> Any:
    """The same without what is volatile, and with times that are equal if they differ by less than a millisecond."""
    if isinstance(value, Mapping):
        return {
            key: steady(item / UNITS[key] if key in UNITS else item, *volatile)
            for key, item in value.items()
            if key not in VOLATILE and key not in volatile
        }
    if isinstance(value, list):
        return [steady(item, *volatile) for item in value]
    return round(value, 3) + 0.0 if isinstance(value, float) else value


def unordered(found: Iterable[Any], *volatile: str) -> list[Any]:
    """Of things that happen at the same time, either may be first."""
    return sorted((steady(item, *volatile) for item in found), key=lambda item: json.dumps(item, sort_keys=True))


def tool_call(name: str, *, fail: bool = False, number: int = 0, key: str | None = None) -> Any:
    params: list[tuple[str, Any]] = [("name", name), ("arguments", {"n": number, "fail": fail})]
    return ("tools/call", (*params, *([("_meta", {IDEMPOTENCY_KEY: key})] if key else [])))


FOREIGN = {"a": "b", "b": "a"}


@st.composite
def things(draw: st.DrawFn) -> Asked:
    """What one of two people of either tenant may ask; they are named alike in both."""
    tenant, number = draw(st.sampled_from(TENANTS)), draw(st.integers(0, 1))
    other = FOREIGN[tenant]
    asked = draw(
        st.sampled_from(
            [
                tool_call("shared_read", number=number),
                tool_call("shared_join", number=number),
                tool_call("shared_do", number=number, key="key"),
                tool_call("shared_do", number=number),
                tool_call(f"{tenant}_flaky", number=number, fail=draw(st.booleans())),
                tool_call(f"{other}_flaky", number=number, fail=True),
                ("resources/read", (("uri", "shared://public"),)),
                ("resources/read", (("uri", f"{other}://own"),)),
                ("tools/list", ()),
                ("resources/list", ()),
            ]
        )
    )
    return Asked(tenant, draw(st.sampled_from(PEOPLE)), *asked)


class World:
    """A host and its providers. Each answer says how often its tenant was answered, and nothing of others."""

    def __init__(self, clock: VirtualClock, folder: Path, collector: str) -> None:
        self.clock = clock
        self.counts: Counter[tuple[str, str]] = Counter()
        shared = ScriptedProvider(
            "shared", tools=["read", "join", "do"], resources=["shared://public"], prefix="shared_"
        )
        for target in ("read", "join", "do", "shared://public"):
            shared.script(target, self._serve)
        own = [
            ScriptedProvider(f"{it}-own", tools=["flaky"], resources=[f"{it}://own"], prefix=f"{it}_") for it in TENANTS
        ]
        for provider in own:
            provider.script("flaky", self._serve)
        tables = {**TABLES, "tracing": {**TABLES["tracing"], "endpoint": collector}}
        source = folder / "plughost.toml"
        config = HostConfig.model_validate({"host": {"control": False}, "plugins": tables, "source": source})
        self.host = make_host(providers=[shared, *own], clock=clock, config=config)

    async def _serve(self, call: Call, params: Mapping[str, Any]) -> Result:
        assert call.principal is not None
        tenant = call.principal.tenant or ""
        await anyio.sleep(SERVICE)
        arguments = params.get("arguments", {})
        if arguments.get("fail"):
            raise MCPError(INTERNAL_ERROR, "broken")
        self.counts[tenant, call.local_name or ""] += 1
        said = f"{tenant} {call.principal.subject} {arguments} {self.counts[tenant, call.local_name or '']}"
        if call.method == "resources/read":
            contents = [{"uri": call.local_name, "text": said}]
            return {"contents": contents, "ttlMs": 200, "cacheScope": "public"}
        return text(said)


@dataclass(frozen=True)
class Observed:
    """What there is of one tenant after a run."""

    answers: Mapping[int, Any]
    """Number of the call → its answer, and how long it took."""
    metrics: Sequence[Any]
    events: Sequence[Any]
    states: Mapping[str, Any]
    logs: Sequence[Any]
    spans: Sequence[Any]


async def observed(
    script: Mapping[int, Asked], clock: VirtualClock, folder: Path, collector: Collector
) -> Mapping[str, Observed]:
    """What each tenant is answered, and what is kept of it."""
    answers: dict[str, dict[int, Any]] = {tenant: {} for tenant in TENANTS}
    events: dict[str, list[Any]] = {}
    states: dict[str, dict[str, Any]] = {}

    async def ask(number: int, asked: Asked) -> None:
        await anyio.sleep(number * SLOT)
        begin = clock.monotonic()
        answer = await asked.of(host, number)
        answers[asked.tenant][number] = {**answer, "took": round(clock.monotonic() - begin, 3)}

    async with World(clock, folder, collector.url).host as host:
        async with anyio.create_task_group() as everybody:
            for number, asked in script.items():
                everybody.start_soon(ask, number, asked)
        await anyio.sleep(1)  # what is gathered is written
        exposition = (await fetch(host.app, b"", COMMON, method="GET", path="/metrics")).body.decode()
        for tenant in TENANTS:
            streams = await host.run_operation("events", "streams", {"prefix": f"principal:{tenant}|"})
            read = [await host.run_operation("events", "read", {"stream": it, "last": 500}) for it in streams]
            events[tenant] = [event for stream in read for event in stream]
            found = [await host.run_operation("snapshots", "state", {"stream": it}) for it in streams]
            states[tenant] = {state["stream"]: steady(state["state"]) for state in found}
    log = [json.loads(line) for line in (folder / "host.log").read_text("utf-8").splitlines()]
    return {
        tenant: Observed(
            answers[tenant],
            metrics=[_sample(line) for line in exposition.splitlines() if f'tenant="{tenant}"' in line],
            events=unordered(events[tenant], "id", "time"),
            states=states[tenant],
            logs=unordered((line for line in log if line.get("organization") == {"id": tenant}), "span"),
            spans=unordered((asdict(it) for it in collector.spans if it.trace_id[0] == tenant), "span_id", "parent_id"),
        )
        for tenant in TENANTS
    }


def _sample(line: str) -> tuple[str, float]:
    series, _, value = line.rpartition(" ")
    return series, round(float(value), 3)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with http_collector() as found:
        yield found


def played(script: Sequence[Asked], collector: Collector, tenants: str = TENANTS) -> Mapping[str, Observed]:
    """What these tenants ask in the script, each call in its time, on a clock and in a folder of their own."""
    collector.spans.clear()
    clock = VirtualClock()
    asked = {number: asked for number, asked in enumerate(script) if asked.tenant in tenants}
    with TemporaryDirectory() as folder:
        return run(lambda: observed(asked, clock, Path(folder), collector), clock=clock)


@settings(
    max_examples=6,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
@given(st.lists(things(), min_size=10, max_size=30))
def test_no_tenant_can_tell_that_another_is_there(collector: Collector, script: list[Asked]) -> None:
    """K2, A8: what b is answered, and what is kept of it, is what it would be alone, whatever a does."""
    together, alone = played(script, collector), played(script, collector, "b")
    assert together["b"] == alone["b"]


FAILING = [Asked("a", "ada", *tool_call("a_flaky", fail=True))] * 8
READING = [Asked("a", "ada", "resources/read", (("uri", "shared://public"),))] * 8
BUSY = [Asked("a", "ada", *tool_call("shared_do", number=number)) for number in range(24)]


@pytest.mark.parametrize(
    ("storm", "every", "codes"), [(FAILING, 1, {-32011}), (READING, 1, {None}), (BUSY, 3, {-32010, -32013})]
)
def test_a_storm_of_one_is_calm_for_the_other(
    collector: Collector, storm: list[Asked], every: int, codes: set[int]
) -> None:
    """K2: while a opens its breaker, fills caches, bulkhead or rate limit; and the run does exercise that."""
    calm = [
        Asked("b", "ada", *tool_call("shared_read")),
        Asked("b", "ada", *tool_call("shared_join")),
        Asked("b", "ada", *tool_call("b_flaky")),
        Asked("b", "ada", "resources/read", (("uri", "shared://public"),)),
    ]
    script: list[Asked] = []
    for number, item in enumerate(storm):
        script += [item] if number % every else [item, calm[number // every % 4]]
    together, alone = played(script, collector), played(script, collector, "b")
    assert together["b"] == alone["b"]
    assert codes <= {answer["message"].get("error", {}).get("code") for answer in together["a"].answers.values()}
    empty = {
        (tenant, field.name)
        for tenant in TENANTS
        for field in fields(Observed)
        if not getattr(together[tenant], field.name)
    }
    assert empty == set()


def test_what_is_kept_of_a_tenant_names_no_other(collector: Collector) -> None:
    """No label, event, state, line or span of one has a name of the other's; subjects are no labels (G6)."""
    script = [Asked(tenant, "ada", *tool_call(f"{tenant}_flaky", number=7)) for tenant in TENANTS]
    found = played(script, collector)
    for tenant in TENANTS:
        kept = json.dumps(asdict(found[tenant]))
        assert f"{tenant}_flaky" in kept
        assert f"{FOREIGN[tenant]}_flaky" not in kept
        assert f"{FOREIGN[tenant]}-own" not in kept
        assert "ada" not in json.dumps(found[tenant].metrics)


REMOTE = """
import json
import secrets
import sys

import uvicorn
from mcp.server.lowlevel import Server
from mcp_types import CallToolResult, ListToolsResult, Tool


async def list_tools(ctx, params):
    return ListToolsResult(tools=[Tool(name="seen", input_schema={"type": "object"})])


async def call_tool(ctx, params):
    meta = json.loads(json.dumps(dict(ctx.meta or {}), default=str))
    trace = meta.pop("traceparent").split("-")[1]  # the rest is the span, which is new each time
    seen = {"arguments": params.arguments, "meta": meta, "headers": dict(ctx.request.headers), "trace": trace}
    return CallToolResult(content=[], structured_content=seen)


server = Server("remote", on_list_tools=list_tools, on_call_tool=call_tool)
uvicorn.run(server.streamable_http_app(), port=int(sys.argv[1]), log_level="error")
"""


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = tmp_path_factory.mktemp("remote") / "remote.py"
    program.write_text(REMOTE, "utf-8")
    with Stack() as stack:
        yield stack.start(Program(sys.executable, str(program), "{port}")).url


async def asked_of(remote: str, collector: Collector, script: Mapping[int, Asked], folder: Path) -> Mapping[int, Any]:
    """The answers of an upstream, each of which says all that the upstream was sent."""
    tables = {**TABLES, "rate-limit": {}, "tracing": {"endpoint": collector.url}}  # the limit would tell the time
    config = {"host": {"control": False}, "providers": {"remote": {"url": remote}}, "plugins": tables}
    source = folder / "plughost.toml"
    async with create_host(HostConfig.model_validate({**config, "source": source})) as host:
        return {number: await asked.of(host, number) for number, asked in script.items()}


@settings(
    max_examples=3,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.builds(
            lambda tenant, who, number: Asked(tenant, who, *tool_call("seen", number=number)),
            st.sampled_from(TENANTS),
            st.sampled_from(PEOPLE),
            st.integers(0, 1),
        ),
        min_size=4,
        max_size=12,
    )
)
def test_an_upstream_carries_nothing_over(remote: str, collector: Collector, script: list[Asked]) -> None:
    """K2, A4: what an upstream is sent for b, over sessions that both share, is what it is sent for b alone."""
    together, alone = dict(enumerate(script)), {it: asked for it, asked in enumerate(script) if asked.tenant == "b"}
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        found = anyio.run(asked_of, remote, collector, together, Path(first))
        expected = anyio.run(asked_of, remote, collector, alone, Path(second))
    assert {number: found[number] for number in alone} == expected
    assert all(answer["status"] == 200 and "arguments" in json.dumps(answer) for answer in found.values())


def test_every_installed_plugin_is_in_the_run() -> None:
    """A new plugin is put into the table."""
    installed = {point.name for point in entry_points(group="plughost.plugins")}
    assert installed == {*TABLES, "upstream"}
