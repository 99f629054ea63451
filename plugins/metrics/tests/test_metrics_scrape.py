"""The endpoint over HTTP: who may ask, what is answered, and what it costs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from plughost import Host, ProviderError, create_host, load_config
from plughost_metrics import MetricsConfig, MetricsPlugin
from plughost_metrics._exposition import render
from plughost_testing import HostFactory, ScriptedProvider, VirtualClock, make_call

pytestmark = pytest.mark.anyio

TOKEN = "s3cret-token"
Start = Callable[..., Awaitable[Host]]


@pytest.fixture
def anyio_backend(virtual_clock: VirtualClock) -> Any:
    return virtual_clock.backend


@pytest.fixture
def start(host: HostFactory) -> Start:
    async def start(**config: Any) -> Host:
        plugin = MetricsPlugin(MetricsConfig.model_validate(config), name="metrics")
        return await host(plugin, providers=[ScriptedProvider("notes", tools=["add"])])

    return start


@asynccontextmanager
async def browser(host: Host) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=host.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        yield client


async def get(asked: Host, path: str = "/metrics", **headers: str) -> httpx2.Response:
    async with browser(asked) as client:
        return await client.get(path, headers=headers)


async def call(host: Host) -> None:
    await host.dispatch(make_call("tools/call", {"name": "add"}))


async def test_formats(start: Start) -> None:
    """Prometheus's text by default, OpenMetrics to who asks for it, compressed for who can read that."""
    host = await start()
    await call(host)
    answer = await get(host)
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'mcp_server_operation_duration_seconds_count{gen_ai_tool_name="add"' in answer.text
    assert f'target_info{{service_name="plughost",service_version="{host.version}"}} 1' in answer.text
    answer = await get(host, accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
    plain = await get(host, **{"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.text.startswith("# HELP")


async def test_other_path_and_none(start: Start) -> None:
    """`path` moves the endpoint; with `prometheus = false` there is none."""
    host = await start(path="/internal/metrics")
    assert [(await get(host, path)).status_code for path in ("/metrics", "/internal/metrics")] == [404, 200]
    await host.unregister("metrics")
    await host.register(MetricsPlugin(MetricsConfig(prometheus=False), name="metrics"))
    assert (await get(host, "/internal/metrics")).status_code == 404


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Bearer wrong", 401),
        (f"Basic {TOKEN}", 401),
        ("Bearer ", 401),
        ("Bearer \u00fcml\u00e4ut", 401),
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
    ],
)
async def test_token(start: Start, header: str | None, status: int) -> None:
    """With a token in the config a scrape must carry it as a bearer; the answer says so."""
    host = await start(token=TOKEN)
    async with browser(host) as client:
        headers = {} if header is None else {b"authorization": header.encode("latin-1")}
        answer = await client.get("/metrics", headers=headers)
    assert answer.status_code == status
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert TOKEN not in answer.text


async def test_token_in_the_url_is_refused(start: Start) -> None:
    """A5: a token in the query string opens nothing."""
    host = await start(token=TOKEN)
    assert (await get(host, f"/metrics?token={TOKEN}&access_token={TOKEN}")).status_code == 401


async def test_foreign_host_and_origin(start: Start) -> None:
    """T1: the endpoint is behind the host's own check of Host and Origin, as everything that it serves."""
    host = await start()
    assert (await get(host, host="evil.example")).status_code == 421
    assert (await get(host, origin="https://evil.example")).status_code == 403


async def test_answers_are_rendered_once_a_second(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask, the text is made once a second and format; a later scrape sees later numbers."""
    rendered: list[bool] = []

    def counted(found: Any, *, openmetrics: bool = False) -> bytes:
        rendered.append(openmetrics)
        return render(found, openmetrics=openmetrics)

    monkeypatch.setattr("plughost_metrics._scrape.render", counted)
    host = await start()
    await call(host)
    first = [(await get(host)).text for _ in range(5)]
    await call(host)
    assert {*first, (await get(host)).text} == {first[0]}
    await get(host, accept="application/openmetrics-text")
    assert rendered == [False, True]
    await host.clock.sleep(2)
    assert (await get(host)).text != first[0]


async def test_disabled_and_enabled_many_times(start: Start) -> None:
    """The plugin comes and goes; what other plugins count is there each time, and starts at zero."""
    host = await start()
    counter = metrics.get_meter("plughost.quota").create_counter("plughost.quota.used")
    for _ in range(20):
        counter.add(3)
        assert "plughost_quota_used_total 3\n" in (await get(host)).text
        await host.unregister("metrics")
        counter.add(3)
        assert (await get(host)).status_code == 404
        await host.register(MetricsPlugin(name="metrics"))
        await host.clock.sleep(1)


async def test_replaced_it_loses_nothing() -> None:
    """A changed config replaces the instance; its numbers, and those of other plugins, go on."""
    config: dict[str, Any] = {"plugins": {"metrics": {}}}
    async with create_host(config, providers={"notes": ScriptedProvider("notes", tools=["add"])}) as host:
        await call(host)
        await host.reload(load_config({"plugins": {"metrics": {"path": "/other"}}}))
        await call(host)
        text = (await get(host, "/other")).text
    (line,) = (line for line in text.splitlines() if line.startswith("mcp_server_operation_duration_seconds_count"))
    assert line.endswith(" 2")


async def test_a_refused_change_changes_nothing() -> None:
    """The instance that goes on keeps its numbers and its limits, whatever the one that was refused wanted."""
    wanted = {"buckets": [0.5, 5], "max_series": 10}
    metrics: dict[str, Any] = {"plugins": {"metrics": {}}}
    async with create_host(metrics, providers={"notes": ScriptedProvider("notes", tools=["add"])}) as host:
        await call(host)
        refused = {"plugins": {"metrics": wanted}, "providers": {"late": {"python": "no_such_module:mcp"}}}
        with pytest.raises(ProviderError):
            await host.reload(load_config(refused))
        await call(host)
        await host.dispatch(make_call("tools/list"))
        told = await host.run_operation("metrics", "show")
        text = (await get(host)).text
        await host.reload(load_config({"plugins": {"metrics": wanted}}))
        await call(host)
        after = (await get(host)).text
    counts = [line for line in text.splitlines() if line.startswith("mcp_server_operation_duration_seconds_count")]
    assert sorted(line.rpartition(" ")[2] for line in counts) == ["1", "2"]
    assert told["max_series"] == 1000
    assert ('le="300.0"' in text, 'le="300.0"' in after) == (True, False)


async def test_application_with_a_provider_of_its_own(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """Where the application has a MeterProvider, calls are shown all the same, and the log says what is not."""
    own = MeterProvider()
    metrics.set_meter_provider(own)
    host = await start()
    await call(host)
    assert "MeterProvider of its own" in caplog.text
    assert "mcp_server_operation_duration_seconds_count" in (await get(host)).text
    own.shutdown()
