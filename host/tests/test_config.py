"""The configuration: references, units, defaults, and every fault at once."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plughost import ConfigError, Duration, MCPPlugin, PluginConfig, PluginTable, Size, load_config
from plughost._config import HostConfig, parse_plugin_config
from plughost._document import find_config, read_document
from pydantic import BaseModel, Field, SecretStr, TypeAdapter

DURATION: TypeAdapter[float] = TypeAdapter(Duration)
SIZE: TypeAdapter[int] = TypeAdapter(Size)


class Inner(BaseModel):
    depth: int = 1


class Settings(PluginConfig):
    limit: int
    token: SecretStr = SecretStr("")
    inner: Inner = Inner()


class Plugin(MCPPlugin[Settings]):
    pass


def faults_of(document: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(document)
    return [str(fault) for fault in caught.value.faults]


# ---------------------------------------------------------------------------------------------------------------------
# The file
# ---------------------------------------------------------------------------------------------------------------------


def test_default_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`./plughost.toml` is read first, then `[tool.plughost]` of `./pyproject.toml`; without either there is none."""
    monkeypatch.chdir(tmp_path)
    assert find_config() is None
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text("[tool.ruff]\nline-length = 120\n")
    assert find_config() is None
    pyproject.write_text("[tool.plughost.host]\nname = 'from pyproject'\n")
    assert find_config() == pyproject
    assert load_config(pyproject).host.name == "from pyproject"
    (tmp_path / "plughost.toml").write_text("")
    assert find_config() == tmp_path / "plughost.toml"


def test_given_file_is_missing(tmp_path: Path) -> None:
    """A config file that was named and does not exist is an error that says what to do."""
    with pytest.raises(ConfigError, match=r"(?s)nowhere\.toml.*no such file; create it"):
        load_config(str(tmp_path / "nowhere.toml"))
    with pytest.raises(ConfigError, match="no such file"):
        find_config(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[host\n", "is not valid TOML: .*line 1"),
        (b"a = " + b"[" * 10_000, "is not valid TOML"),
        (b"name = '\xff'\n", "is not UTF-8"),
    ],
)
def test_broken_toml(tmp_path: Path, content: bytes, message: str) -> None:
    """Text that is not TOML is refused with the file and the place."""
    path = tmp_path / "plughost.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_unreadable_file(tmp_path: Path) -> None:
    """A file that cannot be read is refused with the system's reason."""
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_document(tmp_path)


@pytest.mark.parametrize("content", ["tool = 3", "[tool]\nplughost = 3"])
def test_pyproject_without_table(tmp_path: Path, content: str) -> None:
    """`tool.plughost` that is not a table is refused."""
    path = tmp_path / "pyproject.toml"
    path.write_text(content)
    with pytest.raises(ConfigError, match="is 3, not a table"):
        load_config(path)


def test_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config comes from a path, a mapping or a `HostConfig`; relative paths start at its file, or here."""
    path = tmp_path / "plughost.toml"
    path.write_text("[host]\nname = 'acme'\n")
    config = load_config(path)
    assert config.host.name == "acme"
    assert config.folder == tmp_path
    assert load_config(config) is config
    monkeypatch.chdir(tmp_path)
    assert load_config({"host": {"name": "acme"}}).folder == tmp_path


# ---------------------------------------------------------------------------------------------------------------------
# References
# ---------------------------------------------------------------------------------------------------------------------


def test_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`${ENV}` and `${file:PATH}` stand for secrets anywhere in a string, at any depth; paths start at the file."""
    monkeypatch.setenv("NAME", "acme")
    (tmp_path / "token").write_text("s3cret\n")
    path = tmp_path / "plughost.toml"
    path.write_text(
        "[host]\nname = '${NAME}-host'\n"
        "[providers.a]\ncommand = ['run', '--token=${file:token}']\n"
        "[plugins.b]\nheaders = { Authorization = ['Bearer ${file:token}'] }\n"
    )
    config = load_config(path)
    assert config.host.name == "acme-host"
    assert config.providers["a"].command == ("run", "--token=s3cret")
    assert config.plugins["b"].own == {"headers": {"Authorization": ["Bearer s3cret"]}}


def test_missing_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reference to nothing is a fault with its field and a remedy."""
    monkeypatch.delenv("NOBODY_SETS_THIS", raising=False)
    first, second = faults_of(
        {"host": {"name": "${NOBODY_SETS_THIS}"}, "plugins": {"a": {"keys": ["${file:/nowhere/key}"]}}}
    )
    assert first == (
        "host.name: environment variable NOBODY_SETS_THIS is not set; set it, or write $${NOBODY_SETS_THIS}"
    )
    assert second.startswith("plugins.a.keys.0: ${file:/nowhere/key} cannot be read")


@given(st.text())
def test_escaped_dollars(text: str) -> None:
    """A text whose dollar signs are doubled stands for itself."""
    assert load_config({"host": {"name": text.replace("$", "$$")}}).host.name == text


@given(st.text(string.ascii_letters + "$ {}:"), st.text(string.ascii_letters + "${}"))
def test_references_are_not_replaced_twice(before: str, value: str) -> None:
    """What a reference stands for is taken as it is, whatever it looks like."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HELD", value)
        name = load_config({"host": {"name": before.replace("$", "$$") + "${HELD}"}}).host.name
    assert name == before + value


# ---------------------------------------------------------------------------------------------------------------------
# Units
# ---------------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400)]))
def test_durations(number: int, unit: tuple[str, float]) -> None:
    """A duration is a number of seconds, or a text with a unit."""
    name, seconds = unit
    assert DURATION.validate_python(f"{number}{name}") == pytest.approx(number * seconds)
    assert DURATION.validate_python(f" {number} {name}") == pytest.approx(number * seconds)
    assert DURATION.validate_python(number) == number
    assert DURATION.validate_python(str(number)) == number  # as it comes from ${ENV}


@given(st.integers(1, 10**6), st.sampled_from([("B", 1), ("KiB", 2**10), ("MiB", 2**20), ("GiB", 2**30)]))
def test_sizes(number: int, unit: tuple[str, int]) -> None:
    """A size is a number of bytes, or a text with a unit."""
    assert SIZE.validate_python(f"{number}{unit[0]}") == number * unit[1]


@pytest.mark.parametrize("value", ["ten seconds", "-1s", "1 week", -1, float("inf"), float("nan"), ""])
def test_bad_durations(value: object) -> None:
    """What is no duration is refused; so are negative and endless ones."""
    faults = faults_of({"host": {"drain_timeout": value}})
    assert [fault.split(":")[0] for fault in faults] == ["host.drain_timeout"]


def test_schema_of_units() -> None:
    """The JSON Schema lets an editor accept both notations, and references."""
    options = HostConfig.model_json_schema()["$defs"]["HostSettings"]["properties"]["drain_timeout"]["anyOf"]
    assert [option["type"] for option in options] == ["number", "string"]


# ---------------------------------------------------------------------------------------------------------------------
# Faults
# ---------------------------------------------------------------------------------------------------------------------


def test_every_fault_at_once(tmp_path: Path) -> None:
    """The refusal names the file and every fault in it, each with table and field."""
    path = tmp_path / "plughost.toml"
    path.write_text(
        "[host]\nlisen = 'x'\npath = 'mcp'\n[providers.a]\n[plugins.b]\nenabled = 'maybe'\n[plugins.'c d']\n[hots]\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path} is refused (6 faults):")
    assert sorted(fault.where for fault in caught.value.faults) == [
        "host.lisen",
        "host.path",
        "hots",
        "plugins.b.enabled",
        "plugins.c d",
        "providers.a",
    ]


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"hots": {}}, "hots: unknown key; did you mean 'host'?"),
        ({"source": "x"}, "source: unknown key; known keys: host, plugins, providers"),
        ({"host": {"lisen": "x"}}, "host.lisen: unknown key; did you mean 'listen'?"),
        ({"host": {"colour": "x"}}, "host.colour: unknown key; known keys: allowed_hosts, "),
        ({"plugins": {"a": {"match": {"tol": "x"}}}}, "plugins.a.match.tol: unknown key; did you mean 'tool'?"),
        (
            {"providers": {"a": {"python": "m:o", "prefx": "x"}}},
            "providers.a: unknown key 'prefx' for a python provider; did you mean 'prefix'?",
        ),
    ],
)
def test_unknown_keys(document: dict[str, Any], fault: str) -> None:
    """An unknown key is a fault with a suggestion, never ignored (G2)."""
    assert faults_of(document)[0].startswith(fault)


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({}, "needs exactly one of python, command, url; it has none"),
        ({"python": "m:o", "url": "http://x"}, "it has python and url"),
        ({"command": []}, "command is empty"),
    ],
)
def test_provider_sources(table: dict[str, Any], fault: str) -> None:
    """A provider has exactly one of `python`, `command` and `url`."""
    assert fault in faults_of({"providers": {"a": table}})[0]


@pytest.mark.parametrize("listen", ["8000", "localhost:", "localhost:http", "localhost:70000", ":8000"])
def test_bad_listen_address(listen: str) -> None:
    """`listen` is HOST:PORT."""
    assert f"listen = {listen!r} is not HOST:PORT" in faults_of({"host": {"listen": listen}})[0]


def test_listen_beyond_loopback() -> None:
    """An address that other machines reach demands `allowed_hosts` (T1)."""
    assert "allowed_hosts must name the Host headers" in faults_of({"host": {"listen": "0.0.0.0:80"}})[0]
    config = load_config({"host": {"listen": "[::]:80", "allowed_hosts": ["mcp.example.com"]}})
    assert config.host.address == ("::", 80)


@pytest.mark.parametrize("key", ["short", "changeme"])
def test_weak_request_state_keys(key: str) -> None:
    """A key that seals request state has 32 bytes at least (H2)."""
    fault = faults_of({"host": {"request_state_keys": [key]}})[0]
    assert "at least 32 bytes" in fault
    assert key not in fault


class Choosing(PluginConfig):
    """Fields that take several types, or a list."""

    limit: Annotated[Duration, Field(gt=0)] | Literal["none"] = 1.0
    names: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("limit", "1x", "write a number, or for example '500ms', '10s', '2m'; or: Input should be 'none'"),
        ("limit", 0, "Input should be greater than 0; or: Input should be 'none'"),
        ("names", "echo", "write a list, in [brackets]"),
    ],
)
def test_a_fault_stands_at_its_key_and_says_what_to_write(key: str, value: Any, fault: str) -> None:
    """Also where a field takes one of several types, whose validators nobody needs to know."""

    class Mine(MCPPlugin[Choosing]):
        pass

    with pytest.raises(ConfigError) as caught:
        parse_plugin_config(Mine, PluginTable.model_validate({key: value}), "mine")
    assert [str(fault) for fault in caught.value.faults] == [f"plugins.mine.{key}: {fault}"]


def test_faults_of_plugin_keys() -> None:
    """Faults in a plugin's own keys name table and field, suggest, and hold no value (G6)."""
    table = PluginTable.model_validate({"limt": 1, "token": ["hunter2"], "inner": {"dept": 2}, "enabeld": False})
    with pytest.raises(ConfigError) as caught:
        parse_plugin_config(Plugin, table, "mine")
    assert {str(fault) for fault in caught.value.faults} == {
        "plugins.mine.limit: Field required",
        "plugins.mine.limt: unknown key; did you mean 'limit'?",
        "plugins.mine.enabeld: unknown key; did you mean 'enabled'?",
        "plugins.mine.token: Input should be a valid string",
    }
    assert "hunter2" not in str(caught.value)


def test_placeholder_secret() -> None:
    """A secret that nobody chose is refused (G3)."""
    with pytest.raises(ConfigError, match=r"plugins\.mine: token holds a placeholder, not a secret"):
        parse_plugin_config(Plugin, PluginTable.model_validate({"limit": 1, "token": "ChangeMe"}), "mine")


def test_plugin_keys() -> None:
    """The plugin's own keys make its config; the common ones stay with the table."""
    table = PluginTable.model_validate({"limit": "3", "enabled": False, "match": {"tool": "a*"}})
    assert parse_plugin_config(Plugin, table, "mine") == Settings(limit=3)
    assert table.match is not None
    assert table.match.tool == "a*"


# ---------------------------------------------------------------------------------------------------------------------
# The upstream plugin
# ---------------------------------------------------------------------------------------------------------------------


def test_upstream_is_implied() -> None:
    """A provider with `command` or `url` brings an instance of the upstream plugin."""
    assert list(load_config({"providers": {"a": {"url": "http://x"}}}).instances) == ["upstream"]
    assert not load_config({"providers": {"a": {"python": "m:o"}}}).instances


@pytest.mark.parametrize("table", [{"upstream": {"enabled": False}}, {"mine": {"plugin": "upstream"}}])
def test_upstream_is_named(table: dict[str, Any]) -> None:
    """An instance of the upstream plugin in the file, whatever its name, is the only one."""
    config = load_config({"providers": {"a": {"command": ["x"]}}, "plugins": table})
    assert list(config.instances) == list(table)
