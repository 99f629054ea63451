"""`plughost rbac explain`, on a config alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from plughost._errors import PlughostError
from plughost_rbac.cli import rbac

CONFIG = """
[providers.notes]
python = "no_such_module:mcp"

[providers.files]
python = "no_such_module:mcp"
prefix = "f_"

[plugins.rbac.principals]
ada = "editor"

[plugins.rbac.groups]
Staff = "editor"

[plugins.rbac.roles.editor]
permissions = "read:resources"

[[plugins.rbac.roles.editor.rules]]
allow = "execute:tools"
provider = "notes"
tool = "add_*"
arguments = { folder = "open/*", count = { max = 3 } }
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "plughost.toml"
    path.write_text(CONFIG)
    return path


def explain(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(rbac, ["explain", "--config", str(config), *arguments])


def test_the_rule_that_decides_is_named(config: Path) -> None:
    """With its place in the config; exit code 0."""
    found = explain(config, "ada", "add_note", "--arg", "folder=open/1", "--arg", "count=3")
    assert found.exit_code == 0
    assert found.output == (
        "'ada' may call the tool 'add_note' of 'notes'\n"
        "  roles.editor.rules[0]: allow execute:tools, provider notes, tool add_*, "
        "arguments folder=open/* count=max=3.0\n"
        "  roles: editor\n"
    )


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        (["ada", "add_note", "--arg", "folder=open/1", "--arg", "count=4"], "refused"),
        (["ada", "f_add_note"], "hidden"),
        (["ada", "add_note", "--provider", "files"], "hidden"),
        (["bob", "add_note"], "hidden"),
        (["bob", "add_note", "--role", "Staff", "--arg", "folder=open/1", "--arg", "count=4"], "refused"),
        (["", "add_note"], "refused"),
        (["ada", "x/y", "--kind", "method", "--provider", "notes"], "hidden"),
    ],
)
def test_what_is_not_allowed_has_exit_code_1(config: Path, arguments: list[str], outcome: str) -> None:
    """And says why."""
    found = explain(config, *arguments, "--json")
    answer = json.loads(found.output)
    assert (found.exit_code, answer["outcome"]) == (1, outcome)
    assert answer["because"]


@pytest.mark.parametrize("kind", ["resource", "method"])
def test_some_targets_are_of_the_provider_that_is_named(config: Path, kind: str) -> None:
    """URIs and methods have no prefix to tell by, and rules may go by provider."""
    found = explain(config, "ada", "note://1", "--kind", kind, "--provider", "notes")
    assert found.exit_code == (0 if kind == "resource" else 1)
    found = explain(config, "ada", "note://1", "--kind", kind)
    assert isinstance(found.exception, PlughostError)
    assert "could be of notes, files; name one with --provider" in str(found.exception)


def test_the_policy_file_is_read(tmp_path: Path) -> None:
    """Relative to the config."""
    (tmp_path / "policy.toml").write_text('[roles.authenticated]\npermissions = "execute:tools"\n')
    config = tmp_path / "plughost.toml"
    config.write_text('[providers.notes]\npython = "a:b"\n[plugins.guard]\nplugin = "rbac"\npolicy = "policy.toml"\n')
    assert explain(config, "ada", "add").exit_code == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[plugins.errors]\n", "enables no such rbac plugin"),
        ("[plugins.rbac]\n[plugins.two]\nplugin = 'rbac'\n", "enables rbac, two; choose one with --plugin"),
        ("[plugins.rbac.roles.a]\ninherits = 'b'\n", "names the role 'b', which does not exist"),
    ],
)
def test_what_cannot_be_explained_says_why(tmp_path: Path, text: str, message: str) -> None:
    """A config without rbac, with several, or with a fault."""
    config = tmp_path / "plughost.toml"
    config.write_text(text)
    found = explain(config, "ada", "add")
    assert isinstance(found.exception, PlughostError)
    assert message in str(found.exception)


def test_an_argument_needs_a_value(config: Path) -> None:
    """NAME=VALUE."""
    assert "write NAME=VALUE" in str(explain(config, "ada", "add_note", "--arg", "folder").exception)
