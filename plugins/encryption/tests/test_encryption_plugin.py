"""The plugin in a host: keys from all sources, rotation, erasure, and what other plugins store with it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from meters import collecting
from plughost import (
    Call,
    CallNext,
    ConfigError,
    Host,
    KeyGoneError,
    MCPPlugin,
    Middleware,
    Phase,
    PluginError,
    Principal,
    Result,
    SealError,
    SecretBox,
    create_host,
    hookimpl,
    load_config,
)
from plughost_encryption import EncryptionConfig, EncryptionPlugin, new_key
from plughost_encryption._metrics import meter
from plughost_encryption.cli import encryption
from plughost_testing import RecordingMiddleware, ScriptedProvider, make_call, make_host, text

pytestmark = pytest.mark.anyio


OLD, NEW = new_key(), new_key()
KEYS = {"keys": [OLD]}


def made(**config: Any) -> EncryptionPlugin:
    return EncryptionPlugin(EncryptionConfig.model_validate(config or KEYS), name="encryption")


def box_of(host: Host) -> SecretBox:
    return host.get(SecretBox)  # type: ignore[type-abstract]  # shared as its protocol


class AsTenant(MCPPlugin):
    """Believes the caller."""

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.admit, Phase.ADMIT)]

    async def admit(self, call: Call, call_next: CallNext) -> Result:
        tenant = call.meta.get("tenant")
        call.principal = Principal("ann", tenant=tenant)
        return await call_next(call)


async def ask(host: Host, tenant: str) -> str:
    params = {"name": "read", "arguments": {}, "_meta": {"tenant": tenant}}
    result = await host.dispatch(make_call("tools/call", params))
    return str(result["content"][0]["text"])


# -- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [{}, {"keys": []}, {"keys": ["hunter2"]}, {"keys": [OLD], "command": ["x"]}])
async def test_there_is_no_default_key(table: Mapping[str, Any]) -> None:
    """Without a good key the host does not start, and says how to make one; it shows none (G3)."""
    with pytest.raises(ConfigError, match="plughost encryption new-key") as caught:
        async with create_host({"plugins": {"encryption": table}}):
            raise AssertionError
    assert "hunter2" not in str(caught.value)
    assert OLD not in str(caught.value)


async def test_keys_come_from_where_secrets_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment and files through references, or from a command; all mean the same."""
    (tmp_path / "old.key").write_text(OLD + "\n")
    monkeypatch.setenv("NEW_KEY", NEW)
    printing = ["sh", "-c", f"echo $NEW_KEY; echo; echo {OLD}"]
    rings = []
    for table in ('keys = ["${NEW_KEY}", "${file:old.key}"]', f"command = {printing}"):
        config = tmp_path / "plughost.toml"
        config.write_text(f"[plugins.encryption]\n{table}\n")
        async with create_host(config) as host:
            shown = await host.run_operation("encryption", "show")
            rings.append([key["id"] for key in shown["ring"]])
            assert [key["seals"] for key in shown["ring"]] == [True, False]
    assert rings[0] == rings[1]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["sh", "-c", "exit 3"], "failed with 3"),
        (["sh", "-c", "echo hunter2"], "key 1 is shorter"),
        (["true"], "there is no key"),
        (["plughost-no-such-program"], "No such file"),
        (["sleep", "30"], "did not end within 0.2 s"),
    ],
)
async def test_a_command_that_gives_no_keys_stops_the_start(command: list[str], why: str) -> None:
    """The message names the command and the cause, and never what it printed."""
    with pytest.raises(PluginError, match=why) as caught:
        async with make_host(made(command=command, command_timeout=0.2)):
            raise AssertionError
    assert repr(command[0]) in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_the_command_does_not_read_what_is_for_the_host() -> None:
    """What a client writes to a host on stdin is no input of the command: it has none."""
    mine, theirs = os.pipe()
    saved = os.dup(0)
    os.dup2(mine, 0)
    try:
        async with make_host(made(command=["sh", "-c", f"cat; echo {OLD}"], command_timeout=1)) as host:
            assert len((await host.run_operation("encryption", "show"))["ring"]) == 1
    finally:
        os.dup2(saved, 0)
        for handle in (mine, theirs, saved):
            os.close(handle)


async def test_the_command_is_asked_again(tmp_path: Path) -> None:
    """`reload` takes what it prints now; a bad answer changes nothing."""
    path = tmp_path / "keys"
    path.write_text(OLD)
    events = RecordingMiddleware(name="watch")
    async with make_host(made(command=["cat", str(path)]), events) as host:
        sealed = box_of(host).seal(b"text", context=b"")
        before = [key["id"] for key in (await host.run_operation("encryption", "show"))["ring"]]
        path.write_text("gone")
        with pytest.raises(PluginError, match="gave no keys"):
            await host.run_operation("encryption", "reload")
        path.write_text(f"{NEW}\n{OLD}\n")
        after = (await host.run_operation("encryption", "reload"))["ring"]
        assert after[1:] == before
        assert box_of(host).unseal(sealed, context=b"") == b"text"
        await asyncio.sleep(0)
    found = [event for event in events.events if event.type == "encryption.keys_changed"]
    assert [event.details for event in found] == [{"before": before, "after": after}]


async def test_keys_of_the_config_are_changed_there() -> None:
    """`reload` without a command says so."""
    async with make_host(made()) as host:
        with pytest.raises(PluginError, match="Change and reload that"):
            await host.run_operation("encryption", "reload")


def test_the_command_line_makes_keys() -> None:
    """`plughost encryption new-key` prints one that is accepted."""
    key = CliRunner().invoke(encryption, ["new-key"]).output.strip()
    assert made(keys=[key]).config.keys[0].get_secret_value() == key
    assert key not in repr(made(keys=[key]).config)


# -- rotation ---------------------------------------------------------------------------------------------------------


async def test_the_ring_turns_under_load_and_no_read_fails(tmp_path: Path) -> None:
    """The config is reloaded again and again while everything that was ever sealed is read."""
    path = tmp_path / "plughost.toml"
    keys = [new_key() for _ in range(4)]

    def write(count: int) -> None:
        path.write_text(f"[plugins.encryption]\ndata_keys = 'keys.db'\nkeys = {keys[:count][::-1]}\n")

    write(1)
    async with create_host(path) as host:
        box, running, sealed = box_of(host), True, list[bytes]()

        async def work(number: int) -> None:
            while running:
                sealed.append(box.seal(b"text", context=b"", tenant=f"t{number}"))
                for data in sealed[-20:]:
                    assert box.unseal(data, context=b"") == b"text"
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as tasks:
            for number in range(3):
                tasks.create_task(work(number))
            for count in (2, 3, 4):
                await asyncio.sleep(0.01)
                write(count)
                report = await host.reload()
                assert [change["action"] for change in report["changed"]] == ["reconfigured"]
            running = False
        assert len(sealed) > 50
        assert {box.unseal(data, context=b"") for data in sealed} == {b"text"}
        shown = await host.run_operation("encryption", "show")
        assert (len(shown["ring"]), shown["data_keys"]["count"], shown["refused"], shown["gone"]) == (4, 3, 0, 0)


async def test_a_key_that_leaves_too_early_is_refused(tmp_path: Path) -> None:
    """A reload that would make data keys unreadable is refused as a whole; what runs runs on."""
    path = tmp_path / "plughost.toml"
    path.write_text(f"[plugins.encryption]\ndata_keys = 'keys.db'\nkeys = ['{OLD}']\n")
    async with create_host(path) as host:
        sealed = box_of(host).seal(b"text", context=b"")
        path.write_text(f"[plugins.encryption]\ndata_keys = 'keys.db'\nkeys = ['{NEW}']\n")
        with pytest.raises(PluginError, match="not in the ring; put it back at its end"):
            await host.reload()
        assert box_of(host).unseal(sealed, context=b"") == b"text"
    with pytest.raises(PluginError, match="not in the ring"):
        async with create_host(path):
            raise AssertionError


async def test_old_keys_call_for_new_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file knows when a key was first used; without it nobody does."""
    config = {"keys": [OLD], "data_keys": tmp_path / "keys.db", "rotate_after": 1e-6}
    async with make_host(made(**{**config, "rotate_after": "1d"})) as host:
        assert (await host.run_operation("encryption", "show"))["rotation_due"] is False
        assert caplog.messages == []
    async with make_host(made(**config), clock=_Later()) as host:
        assert (await host.run_operation("encryption", "show"))["rotation_due"] is True
        assert "put a new one in front of the ring" in caplog.text
    async with make_host(made()) as host:
        assert (await host.run_operation("encryption", "show"))["rotation_due"] is None


class _Later:
    """Ten years on."""

    def time(self) -> float:
        import time

        return time.time() + 10 * 365 * 86_400

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


# -- erasure ----------------------------------------------------------------------------------------------------------


async def test_dropping_a_tenant_erases_what_two_hosts_stored(tmp_path: Path) -> None:
    """Whoever shares the file cannot read it any more, at once, nor after a restart; others' data stays."""
    one, other = made(**KEYS, data_keys=tmp_path / "k.db"), made(**KEYS, data_keys=tmp_path / "k.db")
    events = RecordingMiddleware(name="watch")
    async with make_host(one, events) as first, make_host(other) as second:
        lost = [box_of(host).seal(b"text", context=b"", tenant="acme") for host in (first, second)]
        kept = box_of(second).seal(b"kept", context=b"", tenant="evil")
        answer = await first.run_operation("encryption", "drop-tenant", {"tenant": "acme"})
        assert answer == {"tenant": "acme", "dropped": True}
        for host in (first, second):
            assert box_of(host).unseal(kept, context=b"") == b"kept"
            for sealed in lost:
                with pytest.raises(KeyGoneError):
                    box_of(host).unseal(sealed, context=b"")
        assert not (await second.run_operation("encryption", "drop-tenant", {"tenant": "acme"}))["dropped"]
        with pytest.raises(ConfigError):
            await first.run_operation("encryption", "drop-tenant", {"tenant": ""})
        await asyncio.sleep(0)
    assert [event.details for event in events.events if event.type == "encryption.tenant_dropped"] == [
        {"tenant": "acme"}
    ]
    async with make_host(made(**KEYS, data_keys=tmp_path / "k.db")) as third:
        with pytest.raises(KeyGoneError):
            box_of(third).unseal(lost[0], context=b"")


async def test_the_ring_alone_erases_nobody() -> None:
    """Without data keys the operation says what to set."""
    async with make_host(made()) as host:
        with pytest.raises(SealError, match="set data_keys"):
            await host.run_operation("encryption", "drop-tenant", {"tenant": "acme"})


async def test_a_lost_file_shows_in_health(tmp_path: Path) -> None:
    """The host is degraded while the data keys cannot be read."""
    path = tmp_path / "keys.db"
    async with make_host(made(**KEYS, data_keys=path)) as host:
        ((_, check),) = host.health_checks
        await check.check()
        path.write_bytes(b"no database" * 500)
        with pytest.raises(SealError, match="cannot be used"):
            await check.check()
        assert not check.critical
        path.unlink()
        with pytest.raises(SealError, match="cannot be used"):
            await check.check()
        path.touch()
        with pytest.raises(SealError, match="was replaced while it was open"):
            await check.check()
    async with make_host(made()) as host:
        assert host.health_checks == []


# -- with the cache ---------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[], bytes]:
    """All bytes that the cache has on disk."""
    return lambda: b"".join(path.read_bytes() for path in tmp_path.glob("cache.db*"))


def caching(tmp_path: Path, **encrypting: Any) -> Host:
    provider = ScriptedProvider("notes", tools=["read"])
    provider.script("read", *(text(f"a very secret answer, number {number}") for number in range(1, 50)))
    path = tmp_path / "plughost.toml"
    document = {
        "plugins": {
            "cache": {"tools": {"read": "1h"}, "url": "sqlite:///cache.db"},
            **({"encryption": encrypting} if encrypting else {}),
        }
    }
    config = load_config(document).model_copy(update={"source": path})
    return create_host(config, providers={"notes": provider}, plugins=[AsTenant(name="tenants")])


async def test_what_the_cache_stores_is_sealed(tmp_path: Path, stored: Callable[[], bytes]) -> None:
    """The file holds no plaintext and serves the next process; without the key it is worth nothing."""
    async with caching(tmp_path, **KEYS) as host:
        assert await ask(host, "acme") == "a very secret answer, number 1"
    assert b"number 1" not in stored()
    async with caching(tmp_path, keys=[NEW, OLD]) as host:
        assert await ask(host, "acme") == "a very secret answer, number 1"
        assert (await host.run_operation("cache", "show"))["hits_l2"] == 1
    async with caching(tmp_path, keys=[NEW]) as host:
        assert await ask(host, "acme") == "a very secret answer, number 1"
        assert (await host.run_operation("cache", "show"))["second_level"]["unreadable"] == 1
    async with caching(tmp_path) as host:
        await ask(host, "open")
    assert b"number 1" in stored()


async def test_what_the_cache_stored_of_a_dropped_tenant_is_gone(tmp_path: Path) -> None:
    """The next process asks the provider again for that one tenant, and for no other."""
    config: dict[str, Any] = {**KEYS, "data_keys": "keys.db"}
    async with caching(tmp_path, **config) as host:
        assert [await ask(host, tenant) for tenant in ("acme", "evil")] == [
            "a very secret answer, number 1",
            "a very secret answer, number 2",
        ]
        assert (await host.run_operation("encryption", "drop-tenant", {"tenant": "acme"}))["dropped"]
    async with caching(tmp_path, **config) as host:
        await ask(host, "evil")
        assert (await host.run_operation("cache", "show"))["hits_l2"] == 1
        await ask(host, "acme")
        shown = await host.run_operation("cache", "show")
        assert (shown["hits_l2"], shown["second_level"]["unreadable"]) == (1, 1)


async def test_calls_go_on_while_nothing_can_be_sealed(tmp_path: Path, stored: Callable[[], bytes]) -> None:
    """A file of data keys that breaks costs the second level, and no call; nothing is stored in the open."""
    async with caching(tmp_path, **KEYS, data_keys="keys.db") as host:
        (tmp_path / "keys.db").write_bytes(b"no database" * 500)
        assert await ask(host, "acme") == "a very secret answer, number 1"
    assert b"number 1" not in stored()


# -- metrics ----------------------------------------------------------------------------------------------------------


async def test_metrics_tell_what_was_done(tmp_path: Path) -> None:
    """Messages by result, and keys by kind; nothing of a plugin that is gone."""
    with collecting(meter) as collector:
        async with make_host(made(**KEYS, data_keys=tmp_path / "keys.db")) as host:
            box = box_of(host)
            sealed = box.seal(b"text", context=b"", tenant="acme")
            box.unseal(sealed, context=b"")
            with suppress(SealError):
                box.unseal(sealed, context=b"other")
            results = {"sealed": 1, "unsealed": 1, "refused": 1, "gone": 0}
            name = "plugin=encryption"
            assert collector.points() == {
                "plughost.encryption.messages": {
                    f"{name} encryption.result={result}": count for result, count in results.items()
                },
                "plughost.encryption.keys": {f"{name} encryption.kind=ring": 1, f"{name} encryption.kind=data": 1},
            }
        assert collector.points() == {}
