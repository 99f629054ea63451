"""The plugin in a host: what each of its pages says, in every state, and what it tells others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import anyio
import pytest
from plughost import (
    EventType,
    HealthCheck,
    Host,
    HostEvent,
    MCPPlugin,
    PluginConfig,
    PluginTable,
    hookimpl,
)
from plughost_health import HealthConfig, HealthPlugin, State
from plughost_testing import HostFactory, RecordingMiddleware, ScriptedProvider, VirtualClock
from starlette.types import Message

pytestmark = pytest.mark.anyio
TOKEN = "a token of sixteen and more"
FORGED = [{}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer "}, {"authorization": ""}]


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    return virtual_clock.backend


class Store(MCPPlugin):
    """A plugin with a backend that can be away."""

    def __init__(self, *, name: str = "store", critical: bool = False) -> None:
        super().__init__(name=name)
        self.critical = critical
        self.away = False
        self.asked = 0

    @hookimpl
    def plughost_health_checks(self) -> Iterable[HealthCheck]:
        return [HealthCheck("redis", self.check, critical=self.critical)]

    async def check(self) -> None:
        self.asked += 1
        if self.away:
            raise ConnectionError("redis://10.0.0.1 refused")


def health(**config: Any) -> HealthPlugin:
    return HealthPlugin(HealthConfig.model_validate({"cache": 0, **config}), name="health")


async def get(host: Host, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """Status and body, as a kubelet asks that knows the pod by its address."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in {"host": "10.1.2.3:8000", **(headers or {})}.items()]
    scope = {"type": "http", "method": "GET", "path": path, "headers": raw, "query_string": b"", "root_path": ""}
    await host.app(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


async def pages(host: Host) -> dict[str, tuple[int, str]]:
    found = {}
    for page in ("livez", "readyz", "healthz"):
        status, body = await get(host, f"/{page}")
        assert body.keys() == {"status"}
        found[page] = (status, body["status"])
    return found


# -- the states --------------------------------------------------------------------------------------------------------


async def test_healthy(host: HostFactory) -> None:
    """All is 200."""
    running = await host(health(), Store(), providers=[ScriptedProvider("notes", tools=["add"])])
    assert await pages(running) == {"livez": (200, "alive"), "readyz": (200, "healthy"), "healthz": (200, "healthy")}


async def test_degraded_when_a_check_fails(host: HostFactory) -> None:
    """Most calls work: it stays in the load balancer."""
    store = Store()
    running = await host(health(), store)
    store.away = True
    assert await pages(running) == {"livez": (200, "alive"), "readyz": (200, "degraded"), "healthz": (200, "degraded")}


async def test_unhealthy_when_a_critical_check_fails(host: HostFactory) -> None:
    """Out of the load balancer, and not restarted for it: another process has the same backend."""
    store = Store(critical=True)
    running = await host(health(), store)
    store.away = True
    assert await pages(running) == {
        "livez": (200, "alive"),
        "readyz": (503, "unhealthy"),
        "healthz": (503, "unhealthy"),
    }
    store.away = False
    assert (await get(running, "/readyz"))[0] == 200


async def test_draining_is_not_ready(host: HostFactory) -> None:
    """However healthy."""
    running = await host(health())
    await running.leave()
    assert await pages(running) == {"livez": (200, "alive"), "readyz": (503, "draining"), "healthz": (200, "healthy")}


async def test_providers_count(host: HostFactory) -> None:
    """One down: degraded. All down: unhealthy. Back: healthy."""
    notes, files = ScriptedProvider("notes", tools=["add"]), ScriptedProvider("files", tools=["read"])
    running = await host(health(), providers=[notes, files])
    changes: list[Callable[[], None]] = [notes.down, files.down, notes.up, files.up]
    seen = []
    for change in changes:
        change()
        await anyio.sleep(0.01)
        seen.append(await get(running, "/readyz"))
    assert seen == [
        (200, {"status": "degraded"}),
        (503, {"status": "unhealthy"}),
        (200, {"status": "degraded"}),
        (200, {"status": "healthy"}),
    ]


class Failing(MCPPlugin[PluginConfig]):
    async def register(self, host: Host) -> None:
        raise ConnectionError("no backend")


async def test_an_instance_that_is_not_required_and_failed_degrades(host: HostFactory) -> None:
    """It is named, with the reason."""
    running = await host(health(details_token=TOKEN))
    await running.register(Failing(name="extra"), PluginTable(required=False))
    status, body = await get(running, "/readyz", {"authorization": f"Bearer {TOKEN}"})
    failed = [check for check in body["checks"] if check["status"] == "failed"]
    assert (status, body["status"]) == (200, "degraded")
    assert failed[0]["name"] == "plugin/extra"
    assert "ConnectionError: no backend" in failed[0]["reason"]


# -- details -----------------------------------------------------------------------------------------------------------


async def test_details_are_for_who_has_the_token(host: HostFactory) -> None:
    """Addresses of backends are nobody else's business (G6)."""
    store = Store()
    running = await host(health(details_token=TOKEN), store, providers=[ScriptedProvider("notes", tools=["add"])])
    store.away = True
    for headers in FORGED:
        assert await get(running, "/healthz", headers) == (200, {"status": "degraded"})
    _, body = await get(running, "/healthz", {"authorization": f"Bearer {TOKEN}"})
    found = {check.pop("name"): check for check in body["checks"]}
    assert found["check/store/redis"].pop("ms") >= 0
    assert found["check/store/redis"] == {
        "status": "failed",
        "critical": False,
        "reason": "ConnectionError: redis://10.0.0.1 refused",
    }
    assert found["provider/notes"]["status"] == "passed"


async def test_without_a_token_nobody_reads_details(host: HostFactory) -> None:
    """Not even with an empty one (G3)."""
    running = await host(health())
    for headers in FORGED:
        assert await get(running, "/healthz", headers) == (200, {"status": "healthy"})


async def test_show_tells_the_operator_all(host: HostFactory) -> None:
    """The control socket is the owner's; it needs no token."""
    store = Store()
    running = await host(health(), store)
    store.away = True
    shown = await running.run_operation("health", "show")
    assert (shown["status"], shown["ready"], shown["draining"]) == ("degraded", True, False)
    assert [check["name"] for check in shown["checks"] if check["status"] == "failed"] == ["check/store/redis"]


# -- what others are told ----------------------------------------------------------------------------------------------


async def test_a_change_of_state_is_an_event(host: HostFactory, virtual_clock: VirtualClock) -> None:
    """One for each change, without any probe: the host looks by itself."""
    store, watch, plugin = Store(), RecordingMiddleware(name="watch"), health(interval="10s")
    await host(watch, plugin, store)
    await virtual_clock.sleep(25)
    store.away = True
    await virtual_clock.sleep(25)
    assert plugin.state is State.DEGRADED
    store.away = False
    await virtual_clock.sleep(25)
    told = [event.details for event in watch.events if event.type == EventType.HEALTH_CHANGED]
    assert told == [
        {"before": "healthy", "state": "degraded", "failed": ["check/store/redis"]},
        {"before": "degraded", "state": "healthy", "failed": []},
    ]
    assert store.asked <= 9


async def test_news_of_a_backend_is_looked_at_at_once(host: HostFactory, virtual_clock: VirtualClock) -> None:
    """Long before the next look."""
    store, plugin = Store(), health(interval="1h")
    running = await host(plugin, store)
    await virtual_clock.sleep(1)
    store.away = True
    running.publish(HostEvent(EventType.BACKEND_DOWN, "store"))
    await virtual_clock.sleep(0.1)
    assert plugin.state is State.DEGRADED


async def test_news_is_not_answered_with_what_was_found_before(host: HostFactory, virtual_clock: VirtualClock) -> None:
    """What a probe found a moment ago is told again to probes; the host looks anew as soon as that is over."""
    store, plugin = Store(), health(interval="1h", cache="5s")
    running = await host(plugin, store)
    await virtual_clock.sleep(6)
    assert (await get(running, "/readyz"))[0] == 200
    store.away = True
    running.publish(HostEvent(EventType.BACKEND_DOWN, "store"))
    await virtual_clock.sleep(5.1)
    assert plugin.state is State.DEGRADED


async def test_the_gauge_follows_the_state(host: HostFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin, store = health(), Store()
    levels: list[int] = []
    monkeypatch.setattr(plugin._gauge, "set", levels.append)
    running = await host(plugin, store)
    store.away = True
    await get(running, "/healthz")
    assert levels == [0, 1]


async def test_keys_change_in_place(host: HostFactory, virtual_clock: VirtualClock) -> None:
    """A longer cache holds from the next look on."""
    store, plugin = Store(), health(interval="1h")
    running = await host(plugin, store)
    assert await plugin.reconfigure(HealthConfig(cache=60, interval=3600))
    await virtual_clock.sleep(1)
    await get(running, "/healthz")
    before = store.asked
    await virtual_clock.sleep(30)
    await get(running, "/healthz")
    assert store.asked == before
