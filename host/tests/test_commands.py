"""What commands of plugins are made of. `plughost health` and `plughost pins` are tested with a host that runs."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from plughost import PlughostError
from plughost.commands import NoHostError, config_option, instances_of, json_option, need_config, operate, print_json

CONFIG = """
[plugins.shelf]
enabled = false
[plugins.upstairs]
plugin = "shelf"
[plugins.downstairs]
plugin = "shelf"
[plugins.cellar]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "plughost.toml").write_text(CONFIG, "utf-8")
    return tmp_path / "plughost.toml"


def test_instances_are_those_that_are_enabled(config: Path) -> None:
    """By the name of the table, or by what `plugin` names, in the order of the file."""
    assert instances_of("shelf", config) == ["upstairs", "downstairs"]
    assert instances_of("cellar", config) == ["cellar"]


def test_no_instance_is_an_error_with_a_remedy(config: Path) -> None:
    with pytest.raises(PlughostError, match=r"enables no attic plugin; add \[plugins.attic\]"):
        instances_of("attic", config)


def test_without_a_host_nobody_answers(config: Path) -> None:
    """So that a command can go on without one."""
    with pytest.raises(NoHostError, match="no running host serves"):
        operate(config, "cellar", "show")


def test_options_are_those_of_the_other_commands(config: Path) -> None:
    """`--config` and `--json`, under the names that every command has them."""

    @click.command()
    @config_option
    @json_option
    def shelf(given: str | None, *, as_json: bool) -> None:
        print_json({"path": need_config(given).name, "json": as_json})

    result = CliRunner().invoke(shelf, ["--config", str(config), "--json"])
    assert result.output == '{\n  "path": "plughost.toml",\n  "json": true\n}\n'
