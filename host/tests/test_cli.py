"""The command line without a running host."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from plughost import ConfigError
from plughost._cli import cli
from plughost._discovery import PluginSource, host_version
from plughost._edit import replace_file, switch

PLUGIN = """
from typing import Annotated
from pydantic import Field, SecretStr
from plughost import Duration, MCPPlugin, Middleware, Operation, Phase, PluginConfig, hookimpl

class Settings(PluginConfig):
    limit: int = 10
    \"\"\"Calls per minute.\"\"\"
    wait: Duration = 1.0
    token: SecretStr | None = None

class Plugin(MCPPlugin[Settings]):
    @hookimpl
    def plughost_middleware(self):
        return [Middleware(self.handle, Phase.GUARD, methods={"tools/call"}, after={"second"})]

    async def handle(self, call, call_next):
        return await call_next(call)

class Observer(MCPPlugin):
    @hookimpl
    def plughost_middleware(self):
        return [Middleware(self.handle, Phase.OBSERVE)]

    async def handle(self, call, call_next):
        return await call_next(call)
"""

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in an empty folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(cli, arguments, prog_name="plughost")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


@pytest.fixture
def acme(site: Any) -> Any:
    """Two installed plugins, `limits` and `watch`."""
    site.install(
        "acme-limits",
        {"limits": "acme_limits:Plugin", "watch": "acme_limits:Observer"},
        modules={"acme_limits": PLUGIN},
        version="2.1",
        summary="Limits of Acme.",
    )
    return site


def write(text: str, name: str = "plughost.toml") -> Path:
    path = Path(name).absolute()
    path.write_bytes(text.encode())
    return path


def rows(result: Result) -> dict[str, dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return {row["name"]: row for row in json.loads(result.stdout)}


# ---------------------------------------------------------------------------------------------------------------------
# The whole
# ---------------------------------------------------------------------------------------------------------------------

IMPORTS = """
import atexit, sys
def tell():
    heavy = {"mcp", "mcp_types", "opentelemetry", "pydantic", "starlette", "acme_heavy", "plughost._host"}
    print("imported:", *sorted(heavy & set(sys.modules)))
atexit.register(tell)
from plughost.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["plugins", "list"], ["plugins", "--help"], ["config", "--help"], ["new", "x"]],
)
def test_quick_commands_import_nothing(site: Any, tmp_path: Path, arguments: list[str]) -> None:
    """Help, version, listing and `new` import neither the SDK nor a plugin, nor even pydantic."""
    heavy = "raise RuntimeError('imported')"
    site.install(
        "acme", {"heavy": "acme_heavy:Plugin"}, commands={"heavy": "acme_heavy:command"}, modules={"acme_heavy": heavy}
    )
    (tmp_path / "plughost.toml").write_text("[plugins.heavy]\n[plugins.errors]\n")
    command = [sys.executable, "-c", IMPORTS, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported:"


def test_module() -> None:
    """`python -m plughost` is the command `plughost`."""
    done = subprocess.run([sys.executable, "-m", "plughost", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"plughost, version {host_version()}\n"


def test_help_names_every_command(run: Run) -> None:
    """`--help` lists the commands, and those of installed distributions with them."""
    text = run("--help").stdout
    own = {"chain", "config", "ctl", "new", "plugins", "run", "serve"}
    assert own <= set(re.findall(r"^  ([a-z]+) ", text, re.MULTILINE))


@pytest.mark.parametrize(
    "arguments",
    [["plugins", "enable", "x"], ["config", "check"], ["chain"], ["ctl", "x"], ["serve"], ["config", "show"]],
)
def test_no_config_file(run: Run, arguments: list[str]) -> None:
    """A command that needs a config file says so on stderr, with exit code 2."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "plughost.toml is refused" in result.stderr
    assert "create it, or name a config file with --config" in result.stderr


@pytest.mark.parametrize("arguments", [["plugins", "list"], ["config", "check"], ["plugins", "disable", "x"]])
def test_broken_config_file(run: Run, arguments: list[str]) -> None:
    """Broken TOML is one message with the line, and exit code 2."""
    write("[plugins\n")
    result = run(*arguments)
    assert result.exit_code == 2
    assert "is not valid TOML" in result.stderr
    assert "line 1" in result.stderr
    assert "Traceback" not in result.stderr


# ---------------------------------------------------------------------------------------------------------------------
# Commands of other distributions
# ---------------------------------------------------------------------------------------------------------------------


def test_foreign_command(site: Any, run: Run) -> None:
    """A command of another distribution is listed with its name, and runs with its own options."""
    source = """
        import click
        @click.command()
        @click.option("--loud", is_flag=True)
        def hello(loud):
            click.echo("HELLO" if loud else "hello")
    """
    site.install(
        "acme-hello",
        commands={"hello": "acme_hello:hello", "serve": "acme_hello:hello"},
        modules={"acme_hello": source},
    )
    assert re.search(r"hello +From acme-hello\.", run("--help").stdout)
    assert run("hello", "--loud").stdout == "HELLO\n"
    assert "--watch" in run("serve", "--help").stdout  # the host's own commands are not to be replaced


@pytest.mark.parametrize(
    ("source", "message"),
    [("1 / 0", "cannot be loaded: ZeroDivisionError"), ("hello = 3", "is no click command: acme_bad:hello")],
)
def test_broken_foreign_command(site: Any, run: Run, source: str, message: str) -> None:
    """A broken command of another distribution is one line where it is invoked, and does not break `--help`."""
    site.install("acme", commands={"hello": "acme_bad:hello"}, modules={"acme_bad": source})
    assert re.search(r"hello +From acme\.", run("--help").stdout)
    result = run("hello")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert f"command 'hello' of acme {message}" in result.stderr


# ---------------------------------------------------------------------------------------------------------------------
# plugins list, show, check
# ---------------------------------------------------------------------------------------------------------------------


def test_list_without_config(acme: Any, run: Run) -> None:
    """Without a config file everything installed is available."""
    found = rows(run("plugins", "list", "--json"))
    assert {"limits", "watch"} <= set(found)
    assert {row["status"] for row in found.values()} == {"available"}
    assert found["limits"] == {
        "name": "limits",
        "plugin": "limits",
        "distribution": "acme-limits",
        "version": "2.1",
        "summary": "Limits of Acme.",
        "status": "available",
        "reason": "",
        "remedy": "",
        "position": [],
        "hooks": [],
        "location": str(acme.folder / "acme_limits.py"),
    }
    assert re.search(r"^limits +available +2\.1 +- +Limits of Acme\.$", run("plugins", "list").stdout, re.MULTILINE)


def test_list_with_config(acme: Any, run: Run) -> None:
    """Each instance has a status, and where it is not well, a reason and a remedy."""
    acme.install("acme-old", {"old": "acme_old:Plugin"}, requires=["plughost<0.0.1"])
    write("""
        [plugins.limits]
        [plugins.mine]
        plugin = "limits"
        enabled = false
        [plugins.old]
        [plugins.admin]
        [plugins.lmits]
        [plugins.file]
        plugin = "./mine.py:Plugin"
    """)
    found = rows(run("plugins", "list", "--json"))
    assert found["limits"]["reason"] == "enabled, but no host is running"
    assert (found["mine"]["status"], found["mine"]["plugin"]) == ("disabled", "limits")
    assert found["mine"]["remedy"] == "plughost plugins enable mine"
    assert found["old"]["status"] == "incompatible"
    assert "needs plughost <0.0.1" in found["old"]["reason"]
    assert (found["admin"]["status"], found["admin"]["remedy"]) == ("failed", "Install it: pip install plughost-admin")
    assert "did you mean 'limits'?" in found["lmits"]["reason"]
    assert found["file"]["location"] == str(Path("mine.py").absolute())
    assert found["watch"]["status"] == "available"
    text = run("plugins", "list").stdout
    assert "\nadmin: no installed distribution has a plugin 'admin'\n  Install it: pip install plughost-admin\n" in text


@pytest.mark.parametrize("ill", [1, 2])
def test_list_of_several_workers(acme: Any, run: Run, monkeypatch: pytest.MonkeyPatch, ill: int) -> None:
    """Of workers that disagree about an instance, the listing shows the one where it is not well."""
    path = write("[plugins.limits]\n")
    well = {"name": "limits", "plugin": "limits", "status": "active", "reason": "", "remedy": ""}
    replies = {pid: {"plugins": [{**well, "status": "failed"} if pid == ill else well]} for pid in (1, 2)}

    def request(config: Path, command: str) -> dict[int, Any]:
        assert (config, command) == (path, "status")
        return replies

    monkeypatch.setattr("plughost._control.request", request)
    assert rows(run("plugins", "list", "--json"))["limits"]["status"] == "failed"


def test_show(acme: Any, run: Run) -> None:
    """`show` imports one plugin and adds its hooks and its config."""
    write("[plugins.mine]\nplugin = 'limits'\n")
    shown = json.loads(run("plugins", "show", "mine", "--json").stdout)
    assert shown["hooks"] == ["plughost_middleware"]
    assert shown["config_schema"]["properties"]["limit"]["description"] == "Calls per minute."
    text = run("plugins", "show", "limits").stdout
    assert re.search(r"^distribution +acme-limits$", text, re.MULTILINE)
    assert re.search(r"^limit +10 +Calls per minute\.$", text, re.MULTILINE)
    assert "remedy" not in text


def test_show_writes_defaults_as_the_file_would(acme: Any, run: Run) -> None:
    """Sets are sorted lists, texts have quotation marks, and a description of several lines is one."""
    acme.install("acme-much", {"much": "acme_much:Plugin"}, modules={"acme_much": MUCH})
    lines = run("plugins", "show", "much").stdout.split("CONFIG KEY")[1].splitlines()[1:]
    assert [" ".join(line.split()) for line in lines] == ['names ["a", "b"] Who is meant.', 'text "x"', "none"]


@pytest.mark.usefixtures("acme", "run")
@pytest.mark.parametrize("command", [["plugins", "enable"], ["plugins", "show"], ["ctl"]])
def test_tab_completes_names(command: list[str]) -> None:
    """Those of the config, and those that are installed; a config that is none offers what is installed."""
    path = write("[plugins.likely]\nplugin = 'limits'\n")

    def offered() -> list[str]:
        complete = ShellComplete(cli, {}, "plughost", "_PLUGHOST_COMPLETE")
        return [item.value for item in complete.get_completions(command, "li")]

    assert offered() == ["likely", "limits"]
    path.write_text("[plugins")
    assert offered() == ["limits"]


MUCH = '''
from plughost import MCPPlugin, PluginConfig

class Settings(PluginConfig):
    names: frozenset[str] = frozenset({"b", "a"})
    """Who
    is meant."""
    text: str = "x"
    none: str | None = None

class Plugin(MCPPlugin[Settings]): ...
'''


def test_show_unknown(acme: Any, run: Run) -> None:
    """An unknown name is an error with a suggestion."""
    result = run("plugins", "show", "limts")
    assert result.exit_code == 1
    assert "no installed distribution has a plugin 'limts'; did you mean 'limits'?" in result.stderr


def test_check(acme: Any, run: Run) -> None:
    """A plugin without fault passes, by the name of an instance too."""
    write("[plugins.mine]\nplugin = 'limits'\n")
    result = run("plugins", "check", "mine")
    assert (result.exit_code, result.stdout) == (0, "mine: ok\n")
    assert json.loads(run("plugins", "check", "limits", "--json").stdout) == [
        {"name": "limits", "ok": True, "faults": []}
    ]


FAULTY = """
from plughost import MCPPlugin, PluginConfig, hookimpl

class Settings(PluginConfig):
    enabled: int = 3
    kind: type = int

class Plugin(MCPPlugin[Settings]):
    @hookimpl
    def plughost_midleware(self): ...
    @hookimpl
    def healthy(self): ...
    def plughost_providers(self, config): ...
    @hookimpl
    async def plughost_http_routes(self): ...
    @hookimpl
    def plughost_event(self, event, loudly, late=True): ...
    @hookimpl
    def plughost_health_checks(self, *, eagerly): ...
    def register(self, host): ...
"""


SLIP = """
from plughost import MCPPlugin, hookimpl

class Plugin(MCPPlugin):
    @hookimpl
    def plughost_midleware(self): ...
"""


def test_check_names_every_fault(acme: Any, run: Run) -> None:
    """`check` names every fault of a plugin with its remedy, and exits with 1."""
    acme.install("acme-faulty", {"faulty.name": "acme_faulty:Plugin"}, modules={"acme_faulty": FAULTY})
    result = run("plugins", "check", "faulty.name")
    assert result.exit_code == 1
    for fault in (
        "entry point name 'faulty.name' cannot be a table",
        "plughost_midleware is no hook; did you mean 'plughost_middleware'?",
        "healthy is no hook",
        "plughost_providers is not marked as a hook; put @hookimpl above it",
        "plughost_http_routes is async",
        "plughost_event takes 'loudly', which the hook does not give; it gives event",
        "plughost_health_checks takes 'eagerly', which the hook does not give; it gives nothing",
        "register is a plain def, and the host awaits it; write async def",
        "config key 'enabled' is the host's own",
        "the config has no JSON Schema",
    ):
        assert fault in result.stdout
    assert "'late'" not in result.stdout
    assert run("plugins", "check").exit_code == 1


def test_config_check_looks_at_hooks(acme: Any, run: Run) -> None:
    """What the host would not start with is a fault of the config that enables it."""
    acme.install("acme-slip", {"slip": "acme_slip:Plugin"}, modules={"acme_slip": SLIP})
    write("[plugins.slip]\n")
    assert (
        "plugins.slip: plughost_midleware is no hook; did you mean 'plughost_middleware'?"
        in run("config", "check").stderr
    )


def test_check_of_a_broken_plugin(acme: Any, run: Run) -> None:
    """One plugin that cannot be imported does not keep the others from being checked."""
    acme.install("acme-broken", {"broken": "acme_broken:Plugin"}, modules={"acme_broken": "1 / 0"})
    result = run("plugins", "check", "--json")
    found = {row["name"]: row for row in json.loads(result.stdout)}
    assert found["limits"]["ok"]
    assert "ZeroDivisionError" in found["broken"]["faults"][0]
    assert result.exit_code == 1


# ---------------------------------------------------------------------------------------------------------------------
# plugins enable, disable
# ---------------------------------------------------------------------------------------------------------------------


def test_disable_and_enable(acme: Any, run: Run) -> None:
    """Switching edits one line and keeps the rest; without a host that is all, and said."""
    before = "# ours\n[plugins.limits]  # important\nlimit = 3 # per minute\n\n# about the other\n[plugins.watch]\n"
    path = write(before)
    result = run("plugins", "disable", "limits")
    assert result.exit_code == 0
    assert result.stdout == f"disabled limits in {path}; no host is running with it\n"
    disabled = before.replace("important\n", "important\nenabled = false\n")
    assert path.read_text() == disabled
    assert json.loads(run("plugins", "enable", "limits", "--json").stdout) == {
        "name": "limits",
        "status": "enabled",
        "workers": [],
    }
    assert path.read_text() == disabled.replace("false", "true")


def test_enable_new(acme: Any, run: Run) -> None:
    """Enabling what has no table yet adds one at the end."""
    path = write("[plugins.watch]\n# the end\n")
    assert run("plugins", "enable", "limits").exit_code == 0
    assert path.read_text() == "[plugins.watch]\n# the end\n\n[plugins.limits]\n"


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["enable", "admin"], "pip install plughost-admin", 1),
        (["enable", "bad"], "plugins.bad.limit: Input should be a valid integer", 2),
        (["enable", "no such"], "no installed distribution has a plugin 'no such'", 1),
        (["disable", "limit"], "plugins.limit: there is no such table to disable; did you mean 'limits'?", 2),
        (["disable", "watch"], "there is no such table to disable", 2),
    ],
)
def test_refused_switch(acme: Any, run: Run, arguments: list[str], message: str, code: int) -> None:
    """A switch that cannot be is refused before anything is written."""
    before = "[plugins.limits]\n[plugins.bad]\nplugin='limits'\nenabled=false\nlimit='many'\n"
    path = write(before)
    result = run("plugins", *arguments)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr
    assert path.read_text() == before


def test_switch_in_pyproject(acme: Any, run: Run) -> None:
    """The table may be one of pyproject.toml."""
    path = write("[tool.plughost.plugins.limits]\nlimit = 3\n", "pyproject.toml")
    assert run("plugins", "disable", "limits").exit_code == 0
    assert run("plugins", "enable", "watch").exit_code == 0
    assert (
        path.read_text()
        == "[tool.plughost.plugins.limits]\nenabled = false\nlimit = 3\n\n[tool.plughost.plugins.watch]\n"
    )


NOTATIONS = [
    "[plugins.a]\nx = 1 # one\n\n[providers.z]\npython = 'a:b'\n\n[plugins.b]\nenabled = false # off\n",
    "plugins = { a = { x = 1 }, b = {} }\n",
    "[plugins]\na = { x = 1 }\nb.y = 2\n[host]\nname = 'n'\n",
    "plugins.a.x = 1\nplugins.b.enabled = true\n[host]\nname = 'n'\n",
    "[plugins.a]\r\nx = 1\r\n[plugins.b.match]\r\ntool = 't'\r\n",
    "[plugins.'a']\n[plugins.\"b\"]\nlist = [\n  1, # one\n]\n",
]


@given(st.sampled_from(NOTATIONS), st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), min_size=1))
def test_switching_changes_nothing_else(text: str, switches: list[tuple[str, bool]]) -> None:
    """However the table is written, switching changes `enabled` alone, and every comment stays."""
    path = Path("plughost.toml")
    after = text
    for name, enabled in switches:
        after = switch(after, path, name, enabled=enabled)
    expected = tomllib.loads(text)
    for name, enabled in switches:
        table = expected["plugins"][name]
        if table.get("enabled", True) is not enabled:
            table["enabled"] = enabled
    assert tomllib.loads(after) == expected
    assert re.findall("#.*", after) == re.findall("#.*", text)


def test_table_that_cannot_be_added() -> None:
    """Where TOML has no room for another table, nothing is written, and the error says what to do."""
    with pytest.raises(ConfigError, match=r"plugins\.b: is written in a way that cannot be edited; do it by hand"):
        switch("plugins = { a = {} }\n", Path("plughost.toml"), "b", enabled=True)


def test_replace_file(tmp_path: Path) -> None:
    """A file is replaced as a whole: its mode and what links to it stay."""
    path = tmp_path / "plughost.toml"
    path.write_text("old")
    path.chmod(0o640)
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    replace_file(link, b"new")
    assert link.is_symlink()
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o640)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["link.toml", "plughost.toml"]


def test_folder_that_is_gone(tmp_path: Path) -> None:
    """A file that cannot be replaced is an error of the configuration."""
    with pytest.raises(ConfigError, match="cannot be written"):
        replace_file(tmp_path / "gone" / "plughost.toml", b"")


# ---------------------------------------------------------------------------------------------------------------------
# config check, show, schema
# ---------------------------------------------------------------------------------------------------------------------


def test_config_check(acme: Any, run: Run) -> None:
    """A valid config is ok, with what it has."""
    path = write("[providers.a]\npython = 'm:o'\n[plugins.limits]\nlimit = 3\n[plugins.watch]\nenabled = false\n")
    assert run("config", "check").stdout == f"{path}: ok (1 provider, 1 plugin enabled)\n"
    assert json.loads(run("config", "check", "--json").stdout) == {"ok": True, "faults": []}


def test_config_check_names_every_fault(acme: Any, run: Run) -> None:
    """Faults in the plugins' own keys, and plugins that are not there, come all at once, with exit code 2."""
    write("[plugins.limits]\nlimt = 3\nlimit = 'x'\n[plugins.admin]\n[plugins.file]\nplugin = './gone.py:P'\n")
    result = run("config", "check", "--json")
    assert result.exit_code == 2
    faults = {fault["where"]: fault["problem"] for fault in json.loads(result.stdout)["faults"]}
    assert list(faults) == ["plugins.limits.limit", "plugins.limits.limt", "plugins.admin", "plugins.file"]
    assert faults["plugins.limits.limt"] == "unknown key; did you mean 'limit'?"
    assert faults["plugins.admin"].endswith("Install it: pip install plughost-admin")
    assert faults["plugins.file"].startswith("there is no file ")
    assert "(4 faults)" in run("config", "check").stderr


UPSTREAM = """
from pydantic import BaseModel, SecretStr
from plughost import MCPPlugin

class Keys(BaseModel, extra="forbid"):
    timeout: float = 5.0
    headers: dict[str, SecretStr] = {}

class Plugin(MCPPlugin):
    provider_config = Keys
"""


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin of one file in the place of the installed `upstream`."""
    file = tmp_path / "upstream.py"
    file.write_text(UPSTREAM)
    found = {"upstream": PluginSource("upstream", f"{file}:Plugin")}
    monkeypatch.setattr("plughost._cli.loading.discover", lambda: found)
    monkeypatch.setattr("plughost._cli.schema.discover", lambda: found)


@pytest.mark.usefixtures("upstream")
def test_provider_keys(run: Run) -> None:
    """The keys of a provider that a plugin serves are the plugin's: checked, shown and described by its model."""
    path = write("[providers.a]\nurl = 'http://x'\ntimeuot = 3\nprefx = 'x'\nheaders = { Authorization = 'hunter2' }\n")
    result = run("config", "check")
    assert "providers.a.timeuot: unknown key; did you mean 'timeout'?" in result.stderr
    assert "providers.a.prefx: unknown key; did you mean 'prefix'?" in result.stderr
    assert json.loads(run("config", "schema").stdout)["$defs"]["provider"]["properties"].keys() == {
        "python", "command", "url", "prefix", "timeout", "headers"
    }  # fmt: skip
    path.write_text(path.read_text().replace("timeuot", "timeout").replace("prefx", "prefix"))
    assert tomllib.loads(run("config", "show").stdout)["providers"]["a"] == {
        "url": "http://x",
        "prefix": "x",
        "timeout": 3.0,
        "headers": {"Authorization": "**********"},
    }


def test_config_check_of_disabled_upstream(run: Run) -> None:
    """A provider with `url` while the plugin that serves it is disabled is a fault."""
    write("[providers.a]\nurl = 'http://127.0.0.1:1/mcp'\n[plugins.upstream]\nenabled = false\n")
    assert "providers.a: needs the plugin 'upstream', which is disabled; enable it" in run("config", "check").stderr


def test_config_show(acme: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`show` fills in defaults, writes references as the file has them, and hides secrets (G6)."""
    monkeypatch.setenv("TOKEN", "hunter2")
    monkeypatch.setenv("NAME", "acme")
    key = "k" * 32
    write(
        f"[host]\nname = '${{NAME}}'\nrequest_state_keys = ['{key}']\n"
        "[plugins.limits]\nwait = '2s'\ntoken = 'hunter3'\n"
        "[plugins.other]\nplugin = 'limits'\ntoken = '${TOKEN}'\n"
        "[plugins.off]\nplugin = 'limits'\nenabled = false\ntoken = 'hunter4'\n"
    )
    text = run("config", "show").stdout
    shown = tomllib.loads(text)
    assert shown == json.loads(run("config", "show", "--json").stdout)
    assert shown["host"]["name"] == "${NAME}"
    assert shown["host"]["path"] == "/mcp"
    assert shown["host"]["request_state_keys"] == ["**********"]
    assert shown["plugins"]["limits"] == {
        "enabled": True,
        "required": True,
        "limit": 10,
        "wait": 2.0,
        "token": "**********",
    }
    assert shown["plugins"]["other"]["token"] == "${TOKEN}"
    assert shown["plugins"]["off"]["token"] == "**********"
    assert not re.search("hunter|kkkk", text)


def test_config_schema(acme: Any, run: Run) -> None:
    """The schema knows the tables of everything installed, and further instances by their `plugin`."""
    acme.install("acme-broken", {"broken": "acme_broken:Plugin"}, modules={"acme_broken": "1 / 0"})
    result = run("config", "schema")
    assert "plugin 'broken'" in result.stderr
    validator = jsonschema.Draft202012Validator(json.loads(result.stdout))
    validator.check_schema(validator.schema)

    def faults(text: str) -> list[str]:
        return sorted(error.message for error in validator.iter_errors(tomllib.loads(text)))

    assert (
        faults(
            "[host]\ndrain_timeout = '10s'\n[providers.a]\npython = 'm:o'\n"
            "[plugins.limits]\nlimit = 3\nwait = '2s'\nenabled = true\n[plugins.mine]\nplugin = 'limits'\nlimit = 4\n"
        )
        == []
    )
    assert faults("[plugins.limits]\nlimt = 3\n") == ["Additional properties are not allowed ('limt' was unexpected)"]
    assert faults("[plugins.mine]\nplugin = 'limits'\nlimit = 'x'\n") == ["'x' is not of type 'integer'"]
    assert faults("[plugins.mine]\nlimit = 3\n") == ["'plugin' is a required property"]
    assert len(faults("[host]\nlisen = 'x'\ndrain_timeout = '10 weeks'\n[hots]\n")) == 3


# ---------------------------------------------------------------------------------------------------------------------
# chain, ctl, new, serve, run
# ---------------------------------------------------------------------------------------------------------------------


def test_chain_without_host(acme: Any, run: Run) -> None:
    """Without a host the chain is composed from the config: by phase, not by the file's order."""
    write("[plugins.limits]\nmatch = { tool = 'a*' }\n[plugins.watch]\n")
    result = run("chain")
    assert "No host is running" in result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines == [
        ["PHASE", "INSTANCE", "PLUGIN", "MATCH"],
        ["OBSERVE", "watch", "watch"],
        ["GUARD", "limits", "limits", "tool=a*"],
    ]
    layers = json.loads(run("chain", "--json", "--method", "prompts/get").stdout)
    assert [layer["instance"] for layer in layers] == ["watch"]


def test_ctl_without_host(run: Run) -> None:
    """`ctl` needs a running host, and says how to start one."""
    path = write("")
    result = run("ctl", "cache", "clear")
    assert result.exit_code == 1
    assert f"no running host serves {path}; start one with: plughost serve --config {path}" in result.stderr


def test_new(run: Run) -> None:
    """`new` writes a package and says what comes next."""
    result = run("new", "sea-shanty")
    assert result.stdout == "made sea-shanty; next: pip install -e sea-shanty && plughost plugins check sea-shanty\n"
    assert Path("sea-shanty/pyproject.toml").is_file()
    again = run("new", "sea-shanty")
    assert (again.exit_code, "exists" in again.stderr) == (1, True)


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Notes how serving was asked for, instead of serving."""
    from plughost import _serve

    asked: list[Any] = []

    def note(*arguments: Any, **options: Any) -> int:
        asked.append((arguments, options))
        return 3

    monkeypatch.setattr(_serve, "serve", note)
    monkeypatch.setattr(_serve, "run_command", note)
    return asked


def test_serve(run: Run, serving: list[Any]) -> None:
    """`serve` hands its options on, and exits with the code of serving."""
    path = write("")
    assert run("serve", "--watch", "--workers", "2", "--trace-plugins").exit_code == 3
    assert serving == [((path,), {"stdio": False, "watch": True, "workers": 2, "trace": True})]


def test_stdio_with_workers(run: Run, serving: list[Any]) -> None:
    """One client on stdio and several workers exclude each other."""
    write("")
    result = run("serve", "--stdio", "--workers", "2")
    assert (result.exit_code, serving) == (2, [])
    assert "cannot be combined with --workers" in result.stderr


@pytest.mark.parametrize("separator", [["--"], []])
def test_run(run: Run, serving: list[Any], separator: list[str]) -> None:
    """`run` takes the rest of the line as the command, options and all."""
    assert (
        run("run", "--with", "errors", "--with", "./mine.py:P", *separator, "npx", "-y", "server", "--http").exit_code
        == 3
    )
    assert serving == [((["npx", "-y", "server", "--http"],), {"plugins": ["errors", "./mine.py:P"], "listen": None})]


@pytest.mark.parametrize(
    ("options", "listen"), [(["--http"], "127.0.0.1:8000"), (["--listen", "127.0.0.1:9000"], "127.0.0.1:9000")]
)
def test_run_over_http(run: Run, serving: list[Any], options: list[str], listen: str) -> None:
    """`--http` serves where `serve` does, `--listen` elsewhere."""
    assert run("run", *options, "server").exit_code == 3
    assert serving == [((["server"],), {"plugins": [], "listen": listen})]


def test_run_without_command(run: Run) -> None:
    """`run` without a command is a usage error."""
    assert run("run", "--http").exit_code == 2


def test_unexpected_errors_are_not_hidden() -> None:
    """Only the host's own errors become messages; a bug keeps its traceback."""

    @cli.command("buggy")
    def buggy() -> None:
        raise ZeroDivisionError

    try:
        assert isinstance(CliRunner().invoke(cli, ["buggy"]).exception, ZeroDivisionError)
    finally:
        del cli.commands["buggy"]
