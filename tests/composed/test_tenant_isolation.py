"""Two tenants on one host with every plugin: neither can tell whether the other is there.

Non-interference (Goguen and Meseguer, 1982): what tenant b observes in a run with a is what it observes in the same
run without a. So no state, cache entry, count, limit, list or error of one reaches the other, whatever both do.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import anyio
import pytest
from asgi_wire import COMMON, fetch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mcp import MCPError
from mcp_types import INTERNAL_ERROR
from plughost import Call, Host, HostConfig, Principal, Result
from plughost_dedup import IDEMPOTENCY_KEY
from plughost_testing import ScriptedProvider, VirtualClock, make_call, make_host, run, text

TABLES: Mapping[str, Mapping[str, Any]] = {
    "errors": {},
    "shutdown": {},
    "health": {},
    "pool": {},
    "metrics": {"tenant": True},
    "tenancy": {"tenants": {name: {"providers": [f"{name}-own", "shared"]} for name in "ab"}},
    "rbac": {"roles": {"authenticated": {"permissions": ["admin:access"]}, "anonymous": {"inherits": "authenticated"}}},
    "validation": {},
    "rate-limit": {"limit": "9/second", "per": ["tenant"], "advertise": True},
    "cache": {"tools": {"read": 0.3}, "advertise": True},
    "dedup": {"tools": ["join"], "window": 0.1},
    "retry": {"attempts": 2, "tools": ["flaky"], "backoff": 1e-9, "max_backoff": 1e-9},
    "circuit-breaker": {"minimum_calls": 3, "open": 0.5, "open_max": 0.5, "jitter": 0, "ramp": 0},
    "timeout": {"total": 5.0, "attempt": 2.0},
    "bulkhead": {"limit": 2, "per": ["tenant"], "max_queue": 1, "max_wait": 0.2},
}
ELSEWHERE: Mapping[str, str] = {
    "auth": "says who calls; here the calls say it themselves",
    "bus": "tells replicas what changed, never who asked",
    "chaos": "fails calls on purpose",
    "encryption": "keeps no calls; its keys are its tests' subject",
    "events": "writes, and answers no call; its records hold the tenant",
    "logs": "writes, and answers no call",
    "pinning": "looks at what providers list",
    "plugin-template": "an example",
    "snapshots": "reads what events wrote",
    "tracing": "writes, and answers no call",
    "upstream": "its sessions are those of its own tests",
}
"""Plugins that are not in the run, and why."""
SLOT, SERVICE = 0.04, 0.15
"""Seconds from call to call, and at the provider: calls overlap."""


@dataclass(frozen=True)
class Asked:
    """One thing that somebody asks."""

    tenant: str
    subject: str
    method: str
    params: tuple[tuple[str, Any], ...]

    def call(self) -> Call:
        call = make_call(self.method, json.loads(json.dumps(dict(self.params))))
        call.principal = Principal(self.subject, "https://idp", self.tenant, claims={"client_id": "app"})
        return call


def tool_call(name: str, *, fail: bool = False, number: int = 0, key: str | None = None) -> Any:
    params: list[tuple[str, Any]] = [("name", name), ("arguments", {"n": number, "fail": fail})]
    return ("tools/call", (*params, *([("_meta", {IDEMPOTENCY_KEY: key})] if key else [])))


FOREIGN = {"a": "b", "b": "a"}


@st.composite
def things(draw: st.DrawFn) -> Asked:
    """What one of two people of either tenant may ask; they are named alike in both."""
    tenant, number = draw(st.sampled_from("ab")), draw(st.integers(0, 1))
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
    return Asked(tenant, draw(st.sampled_from(["ada", "bob", ""])), *asked)


class World:
    """A host and its providers. Each answer says how often its tenant was answered, and nothing of others."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.counts: Counter[tuple[str, str]] = Counter()
        shared = ScriptedProvider(
            "shared", tools=["read", "join", "do"], resources=["shared://public"], prefix="shared_"
        )
        for target in ("read", "join", "do", "shared://public"):
            shared.script(target, self._serve)
        own = [
            ScriptedProvider(f"{it}-own", tools=["flaky"], resources=[f"{it}://own"], prefix=f"{it}_") for it in "ab"
        ]
        for provider in own:
            provider.script("flaky", self._serve)
        config = HostConfig.model_validate({"host": {"control": False}, "plugins": TABLES})
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


async def observed(script: Sequence[Asked], tenant: str, *, alone: bool) -> tuple[dict[int, Any], str]:
    """What a tenant observes: each answer, and when it came; and what an operator's metrics say in the end."""
    clock = current_clock()
    world = World(clock)
    seen: dict[int, Any] = {}

    async def ask(number: int, asked: Asked, host: Host) -> None:
        await anyio.sleep(number * SLOT)
        try:
            answer: Any = {**await host.dispatch(asked.call())}
        except MCPError as error:
            data = {key: value for key, value in (error.data or {}).items() if key not in ("timestamp", "requestId")}
            answer = {"code": error.code, "message": error.message, "data": data}
        if asked.tenant == tenant:
            seen[number] = {**answer, "at": round(clock.monotonic() - began, 2)}

    async with world.host as host:
        began = clock.monotonic()
        async with anyio.create_task_group() as everybody:
            for number, asked in enumerate(script):
                if not alone or asked.tenant == tenant:
                    everybody.start_soon(ask, number, asked, host)
        metrics = (await fetch(host.app, b"", COMMON, method="GET", path="/metrics")).body.decode()
    return seen, metrics


_clock: list[VirtualClock] = []


def current_clock() -> VirtualClock:
    return _clock[-1]


def played(script: Sequence[Asked], tenant: str, *, alone: bool) -> tuple[dict[int, Any], str]:
    """The same on a clock of its own."""
    _clock.append(VirtualClock())
    try:
        return run(lambda: observed(script, tenant, alone=alone), clock=_clock[-1])
    finally:
        _clock.pop()


@settings(
    max_examples=10,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(things(), min_size=10, max_size=30))
def test_no_tenant_can_tell_that_another_is_there(script: list[Asked]) -> None:
    """K2, A8: answers, refusals, quotas, ages, lists and times of b are those that it gets alone, whatever a does."""
    together, _ = played(script, "b", alone=False)
    alone, _ = played(script, "b", alone=True)
    assert together == alone


FAILING = [Asked("a", "ada", *tool_call("a_flaky", fail=True))] * 8
READING = [Asked("a", "ada", "resources/read", (("uri", "shared://public"),))] * 8
BUSY = [Asked("a", "ada", *tool_call("shared_do", number=number)) for number in range(24)]


@pytest.mark.parametrize(
    ("storm", "every", "codes"), [(FAILING, 1, {-32011}), (READING, 1, {None}), (BUSY, 3, {-32010, -32013})]
)
def test_a_storm_of_one_is_calm_for_the_other(storm: list[Asked], every: int, codes: set[int]) -> None:
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
    together, _ = played(script, "b", alone=False)
    alone, _ = played(script, "b", alone=True)
    assert together == alone
    refused, _ = played(script, "a", alone=False)
    assert codes <= {answer.get("code") for answer in refused.values()}


def test_metrics_hold_a_tenant_beside_its_own_only() -> None:
    """No label of a series of b is a's; arguments and subjects are nowhere (G6)."""
    script = [Asked(tenant, "ada", *tool_call(f"{tenant}_flaky", number=7)) for tenant in "ab"]
    _, metrics = played(script, "b", alone=False)
    lines = [line for line in metrics.splitlines() if "_flaky" in line and "tenant=" in line]
    tenants = {tenant: [f'tenant="{tenant}"' in line for line in lines if f"{tenant}_flaky" in line] for tenant in "ab"}
    assert all(tenants.values())
    assert all(all(found) for found in tenants.values())
    assert "ada" not in metrics


def test_every_plugin_is_in_the_run_or_says_why_not() -> None:
    """A new plugin is put into one of the two tables."""
    installed = {point.name for point in entry_points(group="plughost.plugins")}
    assert installed - TABLES.keys() - ELSEWHERE.keys() == set()
    assert not TABLES.keys() & ELSEWHERE.keys()
