"""Change at runtime: built beside what runs, swapped in at once, undone as a whole if any part fails."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from textwrap import dedent
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import pytest
from asgi_wire import call as call_tool
from asgi_wire import exchange, fetch, headers_for, request
from doubles import Around, Bringing, Held, StubProvider, host_of, text, tool
from mcp import Client
from mcp.client.subscriptions import ServerEvent
from mcp.shared.subscriptions import ToolsListChanged
from mcp_types import ToolListChangedNotification
from plughost import (
    ConfigError,
    EventType,
    Host,
    Kind,
    ListChanged,
    MCPPlugin,
    Middleware,
    Phase,
    PlughostError,
    PluginError,
    PluginTable,
    ProviderError,
    create_host,
    hookimpl,
)
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

pytestmark = pytest.mark.anyio
LIMIT = 10


class Living(MCPPlugin):
    """A plugin that notes its life in a list that several share."""

    def __init__(self, name: str, life: list[str], *, fault: Exception | None = None) -> None:
        super().__init__(name=name)
        self.life = life
        self.fault = fault

    async def register(self, host: Host) -> None:
        self.life.append(f"+{self.name}")
        if self.fault is not None:
            raise self.fault

    async def unregister(self) -> None:
        self.life.append(f"-{self.name}")


@asynccontextmanager
async def standing(*plugins: MCPPlugin[Any]) -> AsyncIterator[Host]:
    """A host with one provider, `p`, with the tool `t`."""
    async with host_of(StubProvider("p", ["t"]), plugins=plugins) as host:
        yield host


async def answers(host: Host) -> bool:
    return bool((await call_tool(host.app, "t"))["result"]["content"] == text("p:t")["content"])


# -- in and out --------------------------------------------------------------------------------------------------------


async def test_a_registered_plugin_stands_in_the_way_of_the_next_call() -> None:
    trace: list[str] = []
    async with standing() as host:
        await call_tool(host.app, "t")
        report = await host.register(Around("guard", trace=trace))
        await call_tool(host.app, "t")
    assert trace == ["+guard", "-guard"]
    assert [(item["name"], item["action"]) for item in report["changed"]] == [("guard", "registered")]


async def test_an_unregistered_plugin_does_not() -> None:
    guard = Around("guard")
    async with standing(guard) as host:
        report = await host.unregister("guard")
        assert await answers(host)
    assert guard.trace == []
    assert [(item["name"], item["action"]) for item in report["changed"]] == [("guard", "unregistered")]


async def test_plugins_leave_in_reverse_order() -> None:
    life: list[str] = []
    async with standing(Living("a", life), Living("b", life)):
        pass
    assert life == ["+a", "+b", "-b", "-a"]


async def test_a_name_can_be_registered_once() -> None:
    async with standing(Around("guard")) as host:
        with pytest.raises(PluginError, match="'guard': is registered already"):
            await host.register(Around("guard"))


async def test_what_is_not_there_cannot_be_unregistered() -> None:
    async with standing(Around("guard")) as host:
        with pytest.raises(PluginError, match="did you mean 'guard'"):
            await host.unregister("gard")


async def test_a_host_that_does_not_run_says_so() -> None:
    with pytest.raises(PlughostError, match="enter it first: async with create_host"):
        await create_host().register(Around("guard"))


async def test_a_name_is_free_again_with_no_trace_of_its_former_table() -> None:
    """The keys of an instance that failed, or left, do not hang on to the next one of that name."""
    life: list[str] = []
    table = PluginTable.model_validate({"match": {"tool": "other"}})
    async with standing() as host:
        with pytest.raises(PluginError):
            await host.register(Living("guard", life, fault=ValueError("no")), table)
        guard = Around("guard")
        await host.register(guard)
        await call_tool(host.app, "t")
    assert guard.trace == ["+guard", "-guard"]


async def test_a_plugin_may_not_change_the_host_while_it_registers() -> None:
    """The change it is part of is under way; waiting for it to end would never end."""

    class Nested(MCPPlugin):
        async def register(self, host: Host) -> None:
            await host.register(Around("inner"))

    async with standing() as host:
        with anyio.fail_after(LIMIT), pytest.raises(PluginError, match=r"register\(\) cannot change the host"):
            await host.register(Nested(name="nested"))
        assert await answers(host)


async def test_events_tell_what_changed() -> None:
    async with standing(watcher := Around("watcher")) as host:
        await host.register(Around("guard"))
        await host.unregister("guard")
        with anyio.fail_after(LIMIT):
            while EventType.PLUGIN_UNREGISTERED not in {event.type for event in watcher.events}:
                await anyio.lowlevel.checkpoint()
    told = [(event.type, event.subject) for event in watcher.events if event.subject == "guard"]
    assert told == [(EventType.PLUGIN_REGISTERED, "guard"), (EventType.PLUGIN_UNREGISTERED, "guard")]


async def test_a_plugin_that_raises_when_told_loses_only_that_event(caplog: pytest.LogCaptureFixture) -> None:
    class Clumsy(MCPPlugin):
        @hookimpl
        def plughost_event(self, event: Any) -> None:
            raise ValueError("clumsy")

    async with standing(Clumsy(name="clumsy"), watcher := Around("watcher")) as host:
        await host.register(Around("guard"))
        with anyio.fail_after(LIMIT):
            while EventType.PLUGIN_REGISTERED not in {e.type for e in watcher.events if e.subject == "guard"}:
                await anyio.lowlevel.checkpoint()
    assert "plughost_event of plugin 'clumsy' raised" in caplog.text


# -- nothing half-applied ----------------------------------------------------------------------------------------------


class HookRaises(Living):
    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        raise ValueError("no middleware today")


class NoList(Living):
    @hookimpl
    def plughost_middleware(self) -> Any:
        return Around("inner").middleware


class WrongSignature(Living):
    @hookimpl
    def plughost_event(self, occurrence: Any) -> None:
        """The argument is called `event`."""


class Misspelt(Living):
    @hookimpl
    def plughost_middlewares(self) -> list[Middleware]:
        return []


class Unmarked(Living):
    def plughost_middleware(self) -> list[Middleware]:
        return []


class Cyclic(Living):
    """Wants to be before and after `anchor`."""

    @hookimpl
    def plughost_middleware(self) -> list[Middleware]:
        return [Middleware(self.passes, Phase.GUARD, before=["anchor"], after=["anchor"])]

    async def passes(self, call: Any, call_next: Any) -> Any:
        return await call_next(call)


class Colliding(Living):
    """Brings a provider of its own that starts, and collides."""

    @hookimpl
    def plughost_providers(self) -> list[StubProvider]:
        return [StubProvider("mine", ["t"], log=self.life)]


class CannotStart(Living):
    """Brings two providers, of which the second never starts."""

    @hookimpl
    def plughost_providers(self) -> list[StubProvider]:
        broken = StubProvider("broken", ["b"], log=self.life, fails_to_start=ProviderError("broken", "no such command"))
        return [StubProvider("fine", ["f"], log=self.life), broken]


class NoProviderName(Living):
    """Brings a provider whose name is taken."""

    @hookimpl
    def plughost_providers(self) -> list[StubProvider]:
        return [StubProvider("p", ["x"], log=self.life)]


@pytest.mark.parametrize(
    ("kind", "message", "life"),
    [
        (HookRaises, r"plughost_middleware raised ValueError: no middleware today \(.*\.py:\d+\)", ["+bad", "-bad"]),
        (NoList, r"plughost_middleware returned Middleware\(.*, which is not a list\. Put it", ["+bad", "-bad"]),
        (WrongSignature, "plughost_event takes 'occurrence', which the hook does not give; it gives event", []),
        (Misspelt, "plughost_middlewares", []),
        (Unmarked, "plughost_middleware is not marked as a hook; put @hookimpl above it", []),
        (Cyclic, "before/after constraints in GUARD form a cycle", ["+bad", "-bad"]),
        (Colliding, "tool 't' exists in provider 'p' too", ["+bad", "start", "stop", "-bad"]),
        (CannotStart, "no such command", ["+bad", "start", "start", "stop", "stop", "-bad"]),
        (NoProviderName, "brings the provider 'p', which exists already", ["+bad", "-bad"]),
    ],
)
async def test_a_failed_registration_leaves_nothing_behind(kind: type[Living], message: str, life: list[str]) -> None:
    """What was started is stopped, what was registered is unregistered, the message names the cause, calls go on."""
    noted: list[str] = []
    async with standing(anchor := Around("anchor")) as host:
        before = (host.generation, host.instances, host.http, host.config)
        with pytest.raises(PlughostError, match=message):
            await host.register(kind("bad", noted))
        assert (host.generation, host.instances, host.http, host.config) == before
        assert await answers(host)
        assert noted == life
    assert anchor.trace == ["+anchor", "-anchor"]


async def test_a_register_that_raises_is_named_with_cause_and_remedy() -> None:
    """The host is as it was; what the plugin took before it raised is its own to give back."""
    life: list[str] = []
    async with standing() as host:
        with pytest.raises(PluginError) as caught:
            await host.register(Living("bad", life, fault=ConnectionError("no route to redis")))
        assert await answers(host)
        assert "bad" not in host.instances
    assert "register() raised ConnectionError: no route to redis" in str(caught.value)
    assert "set enabled = false" in str(caught.value)


async def test_a_start_that_fails_is_undone() -> None:
    """Plugins that registered before the one that failed are unregistered, and the host does not run."""
    life: list[str] = []
    host = host_of(plugins=[Living("a", life), Living("bad", life, fault=ValueError("no"))])
    with pytest.raises(PluginError, match="'bad'"):
        await host.__aenter__()
    assert life == ["+a", "+bad", "-a"]
    assert not host.running


async def test_an_unregister_that_raises_takes_nothing_with_it(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the plugin is gone all the same."""

    class Clinging(MCPPlugin):
        async def unregister(self) -> None:
            raise ValueError("will not go")

    async with standing(Clinging(name="clinging")) as host:
        await host.unregister("clinging")
        assert "clinging" not in host.instances
        assert await answers(host)
    assert "will not go" in caplog.text


# -- configuration files -----------------------------------------------------------------------------------------------

PLUGIN = """
    from plughost import MCPPlugin, Middleware, Phase, PluginConfig, hookimpl

    class Words(PluginConfig):
        word: str = "one"
        in_place: bool = False

    class Saying(MCPPlugin[Words]):
        async def reconfigure(self, config):
            return config.in_place

        @hookimpl
        def plughost_middleware(self):
            return [Middleware(self.say, Phase.REUSE, methods={"tools/call"})]

        async def say(self, call, call_next):
            return {"content": [{"type": "text", "text": self.config.word}]}

    class Refusing(Saying):
        async def register(self, host):
            raise ValueError("refuses to start")
"""


class Files:
    """A folder with a configuration and a plugin that is one file."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "plughost.toml"
        folder.joinpath("saying.py").write_text(dedent(PLUGIN))

    def write(self, **tables: str) -> None:
        lines = (f'[plugins.{name}]\nplugin = "./saying.py:Saying"\n{keys}\n' for name, keys in tables.items())
        self.config.write_text("".join(lines))

    @asynccontextmanager
    async def host(self) -> AsyncIterator[Host]:
        provider = Bringing("providers", StubProvider("p", ["t"]))
        async with create_host(self.config, plugins=[provider]) as host:
            yield host


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def said(host: Host) -> Any:
    return (await call_tool(host.app, "t"))["result"]["content"][0]["text"]


def actions(report: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["action"] for item in report["changed"]}


async def test_a_reload_adds_and_removes(files: Files) -> None:
    files.write()
    async with files.host() as host:
        assert await said(host) == "p:t"
        files.write(saying='word = "hello"')
        assert actions(await host.reload()) == {"saying": "registered"}
        assert await said(host) == "hello"
        files.write()
        assert actions(await host.reload()) == {"saying": "unregistered"}
        assert await said(host) == "p:t"


async def test_a_disabled_instance_is_not_there(files: Files) -> None:
    files.write(saying="enabled = false")
    async with files.host() as host:
        assert await said(host) == "p:t"


async def test_an_unchanged_file_changes_nothing(files: Files) -> None:
    files.write(saying="")
    async with files.host() as host:
        plugin = host.instances["saying"].plugin
        assert (await host.reload())["changed"] == []
        assert host.instances["saying"].plugin is plugin


async def test_a_plugin_may_take_its_config_in_place(files: Files) -> None:
    """The object and its state stay."""
    files.write(saying="in_place = true")
    async with files.host() as host:
        plugin = host.instances["saying"].plugin
        files.write(saying='in_place = true\nword = "two"')
        assert actions(await host.reload()) == {"saying": "reconfigured"}
        assert (await said(host), host.instances["saying"].plugin) == ("two", plugin)


async def test_a_plugin_that_does_not_is_replaced(files: Files) -> None:
    files.write(saying="")
    async with files.host() as host:
        plugin = host.instances["saying"].plugin
        files.write(saying='word = "two"')
        assert actions(await host.reload()) == {"saying": "replaced"}
        assert await said(host) == "two"
        assert host.instances["saying"].plugin is not plugin


async def test_a_changed_match_replaces_the_instance(files: Files) -> None:
    files.write(saying="in_place = true")
    async with files.host() as host:
        files.write(saying='in_place = true\nmatch = { tool = "other" }')
        assert actions(await host.reload()) == {"saying": "replaced"}
        assert await said(host) == "p:t"


@pytest.mark.parametrize(
    ("text_of_file", "message"),
    [
        ("[plugins.saying\n", "plughost.toml"),
        ('[plugins.saying]\nplugin = "./saying.py:Saying"\nwrod = "x"\n', "did you mean 'word'"),
        ('[plugins.saying]\nplugin = "./gone.py:Saying"\n', "gone.py"),
        ('[plugins.saying]\nplugin = "./saying.py:Missing"\n', "its module has no 'Missing'"),
        ('[plugins.saying]\nplugin = "./raising.py:Saying"\n', "ZeroDivisionError"),
        ('[plugins.new]\nplugin = "./saying.py:Refusing"\n', "refuses to start"),
        ("[plugins.nobody]\nenabled = true\n", "nobody"),
        ('[providers.x]\npython = "no_such_module:mcp"\n', "no_such_module"),
    ],
)
async def test_a_refused_reload_keeps_what_runs(files: Files, text_of_file: str, message: str) -> None:
    """Every kind of fault: the error names it, and the instance that ran is the one that runs on."""
    files.config.with_name("raising.py").write_text("1 / 0\n")
    files.write(saying='word = "before"')
    async with files.host() as host:
        before = (host.generation, host.instances["saying"], host.config)
        files.config.write_text(text_of_file)
        with pytest.raises(PlughostError, match=message):
            await host.reload()
        assert (host.generation, host.instances["saying"], host.config) == before
        assert await said(host) == "before"


async def test_a_change_in_place_is_taken_back_when_the_reload_fails(files: Files) -> None:
    """One instance took its new config, another one failed: the first has its former config again."""
    files.write(saying='in_place = true\nword = "before"')
    async with files.host() as host:
        files.write(saying='in_place = true\nword = "after"')
        with files.config.open("a") as file:
            file.write('[plugins.new]\nplugin = "./saying.py:Refusing"\n')
        with pytest.raises(PluginError, match="refuses to start"):
            await host.reload()
        assert await said(host) == "before"
        assert host.instances["saying"].table.own["word"] == "before"


async def test_an_instance_that_is_not_required_may_fail(files: Files) -> None:
    """The host starts without it, and says why."""
    files.config.write_text('[plugins.new]\nplugin = "./saying.py:Refusing"\nrequired = false\n')
    async with files.host() as host:
        assert await said(host) == "p:t"
        failed = [item for item in host.status()["plugins"] if item["status"] == "failed"]
    assert [(item["name"], "refuses to start" in item["reason"]) for item in failed] == [("new", True)]


async def test_an_instance_that_cannot_be_imported_may_fail_too(files: Files) -> None:
    files.config.write_text('[plugins.new]\nplugin = "./gone.py:Gone"\nrequired = false\n')
    async with files.host() as host:
        assert await said(host) == "p:t"
        assert list(host.failed) == ["new"]


async def test_a_faulty_config_is_never_optional(files: Files) -> None:
    """G2: `required = false` is for what fails, not for what is written wrong."""
    files.write(saying='required = false\nwrod = "x"')
    with pytest.raises(ConfigError, match="did you mean 'word'"):
        async with files.host():
            pass


async def test_a_reload_names_what_only_a_restart_applies(files: Files) -> None:
    files.config.write_text('[host]\nname = "a"\ndrain_timeout = "5s"\n')
    async with files.host() as host:
        files.config.write_text('[host]\nname = "b"\ndrain_timeout = "6s"\n')
        assert (await host.reload())["restart"] == ["name"]
        assert host.config.host.drain_timeout == 6


async def test_an_unregistered_instance_comes_back_with_a_reload(files: Files) -> None:
    """The file is the truth again."""
    files.write(saying="")
    async with files.host() as host:
        await host.unregister("saying")
        assert await said(host) == "p:t"
        await host.reload()
        assert await said(host) == "one"


async def test_a_python_provider_comes_with_the_file(files: Files, tmp_path: Path) -> None:
    """It is imported from the file's folder, kept while its table is the same, and stopped when it is gone."""
    source = """
        from contextlib import asynccontextmanager, suppress
        from mcp.server.mcpserver import MCPServer

        life = []

        @asynccontextmanager
        async def lifespan(server):
            life.append("start")
            yield {}
            life.append("stop")

        mcp = MCPServer("notes", lifespan=lifespan)

        @mcp.tool()
        async def note() -> str:
            return "noted"
    """
    tmp_path.joinpath("change_notes_server.py").write_text(dedent(source))
    table = '[providers.notes]\npython = "change_notes_server:mcp"\n'
    files.config.write_text("")
    async with files.host() as host:
        files.config.write_text(table)
        await host.reload()
        assert (await call_tool(host.app, "note"))["result"]["content"][0]["text"] == "noted"
        await host.reload()
        import change_notes_server  # type: ignore[import-not-found]

        assert change_notes_server.life == ["start"]
        files.config.write_text("")
        await host.reload()
        assert change_notes_server.life == ["start", "stop"]


# -- drain -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def a_call_inside(host: Host, held: Held) -> AsyncIterator[list[Any]]:
    """A call of `hold` is under way in the block; its response is in the list when it ends."""
    responses: list[Any] = []

    async def call() -> None:
        responses.append(await call_tool(host.app, "hold"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        with anyio.fail_after(LIMIT):
            await held.entered.wait()
        yield responses
        held.release.set()


async def test_a_plugin_is_released_after_the_calls_inside_it() -> None:
    """New calls go without it at once; it is unregistered when the last call has left."""
    held, life = Held(), list[str]()
    gone = anyio.Event()

    async def unregister(host: Host) -> None:
        report.append(await host.unregister("living"))
        gone.set()

    report: list[Any] = []
    async with (
        create_host({}, providers={"held": held.server}, plugins=[Living("living", life)]) as host,
        a_call_inside(host, held) as responses,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(unregister, host)
        with anyio.fail_after(LIMIT):
            while "living" in host.instances:
                await anyio.lowlevel.checkpoint()
        assert life == ["+living"]
        assert (await call_tool(host.app, "add", a=1, b=2))["result"]["structuredContent"] == {"result": 3}
        held.release.set()
        with anyio.fail_after(LIMIT):
            await gone.wait()
        assert life == ["+living", "-living"]
    assert responses[0]["result"]["content"][0]["text"] == "done"
    assert report[0]["changed"][0]["drained"] == 1


async def test_a_drain_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """After `drain_timeout` the plugin is released although a call hangs; the call itself goes on."""
    held, life = Held(), list[str]()
    config = {"host": {"drain_timeout": 0.05}}
    async with (
        create_host(config, providers={"held": held.server}, plugins=[Living("living", life)]) as host,
        a_call_inside(host, held) as responses,
    ):
        with anyio.fail_after(LIMIT):
            await host.unregister("living")
        assert life == ["+living", "-living"]
        assert responses == []
        held.release.set()
    assert responses[0]["result"]["content"][0]["text"] == "done"
    assert "did not finish within 0.05 s" in caplog.text


async def test_a_cancelled_change_is_finished_or_undone() -> None:
    """Whoever asked may give up during the drain: the plugin is released all the same."""
    held, life = Held(), list[str]()
    async with (
        create_host({}, providers={"held": held.server}, plugins=[Living("living", life)]) as host,
        a_call_inside(host, held),
        anyio.create_task_group() as tasks,
    ):
        asker = anyio.CancelScope()

        async def ask() -> None:
            with asker:
                await host.unregister("living")

        tasks.start_soon(ask)
        with anyio.fail_after(LIMIT):
            while "living" in host.instances:
                await anyio.lowlevel.checkpoint()
        asker.cancel()
        held.release.set()
        with anyio.fail_after(LIMIT):
            while "-living" not in life:
                await anyio.lowlevel.checkpoint()


async def test_a_provider_is_stopped_after_the_calls_inside_it() -> None:
    """A plugin that brought it leaves; the call that the provider serves is finished first."""
    entered, release = anyio.Event(), anyio.Event()

    async def slow(call: Any, params: Any) -> dict[str, Any]:
        entered.set()
        await release.wait()
        return text("stopped" if "stop" in provider.log else "done")

    provider = StubProvider("extra", ["e"], answer=slow)
    responses: list[Any] = []
    async with standing() as host:
        await host.register(Bringing("extra", provider))

        async def call() -> None:
            responses.append(await call_tool(host.app, "e"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await entered.wait()
            tasks.start_soon(host.unregister, "extra")
            with anyio.fail_after(LIMIT):
                while "extra" in host.instances:
                    await anyio.lowlevel.checkpoint()
            release.set()
        assert provider.log == ["start", "stop"]
    assert responses[0]["result"]["content"] == text("done")["content"]


async def test_two_changes_at_once_wait_for_each_other() -> None:
    async with standing() as host:
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(host.register, Around(f"p{number}"))
        assert {f"p{number}" for number in range(10)} < set(host.instances)
        assert await answers(host)


# -- shared things -----------------------------------------------------------------------------------------------------


class Vault:
    """Something that one plugin shares with others."""


class Sharing(Living):
    provides: ClassVar = (Vault,)

    async def register(self, host: Host) -> None:
        await super().register(host)
        self.vault = Vault()
        host.provide(Vault, self.vault)


class Needing(Living):
    requires: ClassVar = (Vault,)

    async def register(self, host: Host) -> None:
        await super().register(host)
        self.vault = host.get(Vault)


class First(Living):
    provides: ClassVar = (int,)
    requires: ClassVar = (str,)


class Second(Living):
    provides: ClassVar = (str,)
    requires: ClassVar = (int,)


async def test_what_is_required_is_registered_first() -> None:
    """Whatever the order they are given in."""
    life: list[str] = []
    needing, sharing = Needing("needing", life), Sharing("sharing", life)
    async with standing(needing, sharing):
        assert needing.vault is sharing.vault
    assert life == ["+sharing", "+needing", "-needing", "-sharing"]


async def test_what_nobody_provides_is_missed_at_once() -> None:
    with pytest.raises(PluginError, match=r"'needing'.* requires Vault, which no enabled plugin provides"):
        async with standing(Needing("needing", [])):
            pass


async def test_what_another_one_needs_cannot_leave() -> None:
    """Nothing has changed; the one that needs it is named."""
    life: list[str] = []
    async with standing(Sharing("sharing", life), Needing("needing", life)) as host:
        with pytest.raises(PluginError, match=r"'needing'.* requires Vault"):
            await host.unregister("sharing")
        assert life == ["+sharing", "+needing"]


async def test_one_thing_has_one_provider() -> None:
    """A second one would be silently without effect: the change is refused before anything of it is registered."""
    life: list[str] = []
    async with standing(Sharing("sharing", life)) as host:
        vault = host.get(Vault)
        with pytest.raises(PluginError, match=r"'rival'.*provides Vault.*'sharing' does too.*Disable 'sharing' or"):
            await host.register(Sharing("rival", life))
        assert life == ["+sharing"]
        assert host.get(Vault) is vault


def test_a_check_finds_two_that_provide_the_same() -> None:
    """Without registering either of them."""
    with pytest.raises(PluginError, match=r"'rival'.*provides Vault.*'sharing' does too"):
        create_host(plugins=[Sharing("sharing", []), Sharing("rival", [])]).check()


async def test_what_is_shared_is_announced() -> None:
    """Otherwise nobody could see that two share the same, or who must be registered first."""

    class Silent(Living):
        async def register(self, host: Host) -> None:
            host.provide(Vault, Vault())

    with pytest.raises(PluginError, match=r"'silent'.*shares Vault unannounced.*List it in provides"):
        async with standing(Silent("silent", [])):
            pass


async def test_a_provider_may_take_another_ones_place(tmp_path: Path) -> None:
    """In one change, under another name: what counts is who provides in the end."""
    tmp_path.joinpath("boxes.py").write_text(dedent(SHARING))
    config = tmp_path / "plughost.toml"
    config.write_text('[plugins.old]\nplugin = "./boxes.py:Sharing"\n')
    async with create_host(config) as host:
        config.write_text('[plugins.new]\nplugin = "./boxes.py:Sharing"\n')
        assert actions(await host.reload()) == {"old": "unregistered", "new": "registered"}


async def test_requirements_in_a_circle_are_printed() -> None:
    with pytest.raises(
        PluginError, match=r"requirements form a cycle: (first -> second -> first|second -> first -> second)"
    ):
        async with standing(First("first", []), Second("second", [])):
            pass


async def test_sharing_is_for_register() -> None:
    async with standing() as host:
        with pytest.raises(RuntimeError, match="is for register"):
            host.provide(Vault, Vault())


async def test_what_is_not_shared_has_a_default_or_an_error() -> None:
    async with standing() as host:
        assert host.get(Vault, None) is None
        with pytest.raises(PlughostError, match="no enabled plugin provides Vault"):
            host.get(Vault)


async def test_what_a_failed_plugin_shared_is_not_shared() -> None:
    class Failing(Sharing):
        async def register(self, host: Host) -> None:
            await super().register(host)
            raise ValueError("no")

    async with standing() as host:
        with pytest.raises(PluginError):
            await host.register(Failing("failing", []))
        assert host.get(Vault, None) is None


SHARING = """
    from plughost import MCPPlugin, PluginConfig

    class Box:
        def __init__(self, word):
            self.word = word

    class Words(PluginConfig):
        word: str = "one"

    class Sharing(MCPPlugin[Words]):
        provides = (Box,)

        async def register(self, host):
            host.provide(Box, Box(self.config.word))

    class Needing(MCPPlugin):
        requires = (Box,)

        async def register(self, host):
            self.box = host.get(Box)
"""


async def test_whoever_holds_a_replaced_thing_is_made_new(tmp_path: Path) -> None:
    """A plugin does not keep using what another one has released."""
    tmp_path.joinpath("boxes.py").write_text(dedent(SHARING))
    config = tmp_path / "plughost.toml"

    def write(word: str) -> None:
        config.write_text(
            f'[plugins.needing]\nplugin = "./boxes.py:Needing"\n'
            f'[plugins.sharing]\nplugin = "./boxes.py:Sharing"\nword = "{word}"\n'
        )

    write("one")
    async with create_host(config) as host:
        write("two")
        assert actions(await host.reload()) == {"needing": "replaced", "sharing": "replaced"}
        plugin: Any = host.instances["needing"].plugin
        assert plugin.box.word == "two"


# -- release -----------------------------------------------------------------------------------------------------------


class Everything(Around):
    """Contributes through every hook."""

    @hookimpl
    def plughost_http_routes(self) -> list[BaseRoute]:
        return [Route("/mine", self.answer)]

    @hookimpl
    def plughost_providers(self) -> list[StubProvider]:
        self.provider = getattr(self, "provider", StubProvider("mine", ["m"], answer=self.serve))
        return [self.provider]

    async def serve(self, call: Any, params: Any) -> dict[str, Any]:
        return text("mine")

    async def answer(self, request: Request) -> Response:
        return PlainTextResponse(self.name)


async def test_an_unregistered_plugin_is_garbage_collected() -> None:
    """No task, handler, route, chain or table holds it: not after calls, requests and events went through it."""
    async with standing() as host, Client(host.front, mode="legacy") as client:
        plugin = Everything("mine")
        await host.register(plugin)
        await client.call_tool("m", {})
        await call_tool(host.app, "m")
        assert (await fetch(host.app, method="GET", path="/mine", headers={"host": "localhost"})).body == b"mine"
        gone = weakref.ref(plugin)
        del plugin
        await host.unregister("mine")
        gc.collect()
        assert gone() is None


async def test_a_plugin_that_failed_to_register_is_garbage_collected() -> None:
    async with standing() as host:
        plugin = Living("bad", [], fault=ValueError("no"))
        gone = weakref.ref(plugin)
        with suppress(PluginError):
            await host.register(plugin)
        del plugin
        await anyio.lowlevel.checkpoint()  # the event loop lets go of the task that failed
        gc.collect()
        assert gone() is None


async def test_a_plugins_route_comes_and_goes_with_it() -> None:
    async def status(host: Host) -> int:
        return (await fetch(host.app, method="GET", path="/mine", headers={"host": "localhost"})).status

    async with standing() as host:
        assert await status(host) == 404
        await host.register(Everything("mine"))
        assert await status(host) == 200
        await host.unregister("mine")
        assert await status(host) == 404


# -- under load --------------------------------------------------------------------------------------------------------


async def under_load(host: Host, change: Callable[[], Awaitable[None]]) -> int:
    """Run `change` while three callers call; the number of calls. Every single one must be answered, and rightly."""
    calls = 0
    over = False

    async def caller() -> None:
        nonlocal calls
        while not over:
            assert await answers(host)
            calls += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(caller)
        await change()
        over = True
    return calls


async def test_a_thousand_cycles_under_load_lose_nothing() -> None:
    """A plugin comes and goes 1,000 times while calls walk through it; none fails, none is lost."""
    cycles = 1000
    guard = Around("guard")

    async with standing() as host:

        async def change() -> None:
            for _ in range(cycles):
                await host.register(guard)
                await host.unregister("guard")

        calls = await under_load(host, change)
        assert calls > cycles
        assert guard.trace.count("+guard") == guard.trace.count("-guard") > 0
        assert host.generation.pipeline.gate.inside == 0


# -- clients are told --------------------------------------------------------------------------------------------------


async def test_a_session_of_2025_is_told_that_the_tools_changed() -> None:
    told = anyio.Event()

    async def listen(message: Any) -> None:
        if isinstance(message, ToolListChangedNotification):
            told.set()

    async with standing() as host, Client(host.front, mode="legacy", message_handler=listen) as client:
        await host.register(Bringing("more", StubProvider("q", ["u"])))
        with anyio.fail_after(LIMIT):
            await told.wait()
        assert [item.name for item in (await client.list_tools()).tools] == ["t", "u"]


async def test_a_stream_of_2026_is_told_that_the_tools_changed() -> None:
    async with standing() as host, Client(host.front) as client:
        async with client.listen(tools_list_changed=True) as news:
            await host.register(Bringing("more", StubProvider("q", ["u"])))
            with anyio.fail_after(LIMIT):
                event: ServerEvent = await anext(aiter(news))
        assert isinstance(event, ToolsListChanged)


async def test_nobody_is_told_when_the_catalog_stays_as_it_was() -> None:
    """A guard that comes changes no list."""
    async with standing(watcher := Around("watcher")) as host:
        await host.register(Around("guard"))
        with anyio.fail_after(LIMIT):
            while EventType.PLUGIN_REGISTERED not in {e.type for e in watcher.events if e.subject == "guard"}:
                await anyio.lowlevel.checkpoint()
        seen = [event.type for event in watcher.events]
        last = len(seen) - 1 - seen[::-1].index(EventType.PLUGIN_REGISTERED)
    assert EventType.CATALOG_CHANGED not in seen[last:]


async def test_a_list_that_changes_while_a_change_is_built_is_not_lost() -> None:
    """The provider said so while another one was asked for its lists: the next catalog has the new name."""
    changing = StubProvider("changing", ["c"])

    class Slow(StubProvider):
        async def list(self, kind: Kind, call: Any) -> Any:
            if kind is Kind.TOOLS and call is None and "grown" not in changing.log:
                changing.log.append("grown")
                changing.entries[Kind.TOOLS].append(tool("late"))
                changing.listener(ListChanged(Kind.TOOLS))
                for _ in range(50):  # let the news be worked on, and the catalog be built from it
                    await anyio.lowlevel.checkpoint()
            return await super().list(kind, call)

    async with host_of(changing) as host:
        await host.register(Bringing("slow", Slow("slow", ["s"])))
        with anyio.fail_after(LIMIT):
            while "late" not in host.generation.catalog.routes[Kind.TOOLS]:
                await anyio.lowlevel.checkpoint()
        assert (await call_tool(host.app, "s"))["result"]["content"] == text("slow:s")["content"]


async def test_an_open_stream_does_not_hold_up_a_change() -> None:
    """Long-lived streams pin no generation: a plugin leaves at once, and the stream goes on."""
    message = request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    async with (
        standing(Living("living", [])) as host,
        exchange(host.app, json.dumps(message).encode(), headers_for(message)) as stream,
    ):
        with anyio.fail_after(2):
            await stream.until(b"acknowledged")
            await host.unregister("living")
            assert not stream.done.is_set()
            await host.register(Bringing("more", StubProvider("q", ["u"])))
            await stream.until(b"notifications/tools/list_changed")


async def test_streams_under_a_changed_http_middleware_are_ended_properly() -> None:
    """The plugin is not released under an open stream; the stream gets its result, and its client listens again."""
    message = request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    async with standing() as host:
        await host.register(Everything("mine"))
        async with exchange(host.app, json.dumps(message).encode(), headers_for(message)) as stream:
            with anyio.fail_after(2):
                await stream.until(b"acknowledged")
                await host.unregister("mine")
                await stream.done.wait()
        assert stream.reply.complete
        assert stream.reply.message["result"]["resultType"] == "complete"
