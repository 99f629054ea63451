"""The generated reference holds all that the code has."""

from __future__ import annotations

import re
import tomllib

import click
import plughost as public
import pytest
from plughost import ErrorCode, EventType, HostSettings, PluginTable, ProviderTable, spelling
from plughost import commands as for_commands
from plughost._cli import cli
from plughost._documented import field_docs
from plughost.hookspecs import hook_names
from plughost_docs import (
    GENERATORS,
    MARKER,
    api,
    catalogue,
    commands,
    comments,
    config,
    errors,
    events,
    fill,
    hooks,
    markdown,
)

from docs.examples import EXAMPLES, REPOSITORY

DOCS = REPOSITORY / "docs"


def test_each_hook_has_a_heading_with_its_exact_signature() -> None:
    """The page shows what `hookspecs.py` declares: names, arguments, types."""
    page = hooks.section()
    assert "## `plughost_providers(config: HostConfig) -> Iterable[Provider]`" in page
    assert [name for name in hook_names() if f"({name})=\n\n## `{name}(" not in page] == []


def test_each_hook_has_an_example() -> None:
    """No hook is shown without a file, and no file is left without a hook."""
    assert {path.stem for path in (EXAMPLES / "hooks").glob("*.py")} == set(hook_names())


@pytest.mark.parametrize("model", [HostSettings, ProviderTable, PluginTable])
def test_each_key_of_the_configuration_is_listed_with_its_meaning(model: type[HostSettings]) -> None:
    """A row gives key, value, default and meaning; no field is left without a description."""
    page = config.section()
    assert field_docs(model).keys() == model.model_fields.keys()
    for name in model.model_fields:
        assert f"| `{name}` | " in page


def test_each_shipped_plugin_has_its_keys() -> None:
    """Every plugin of the workspace but the template has a heading."""
    page = config.section()
    folders = {
        path.parent.name
        for path in REPOSITORY.glob("plugins/*/pyproject.toml")
        if "plughost.plugins" in tomllib.loads(path.read_text("utf-8"))["project"].get("entry-points", {})
    }
    assert {entry.name for entry in config.shipped_plugins()} == folders
    assert [name for name in folders if f"## Plugin `{name}`" not in page] == []


def test_types_are_spelled_as_a_person_writes_them() -> None:
    """Durations, sizes, secrets and lists have words of their own."""
    rows = config.model_table(HostSettings)
    assert "| `drain_timeout` | duration | `30` |" in rows
    assert "| `max_body` | size | `4194304` |" in rows
    assert "| `request_state_keys` | list of secret |  |" in rows


def test_each_command_has_a_heading() -> None:
    """Commands of groups stand under their full path."""
    page = commands.section()
    for name, command in cli.commands.items():
        assert f"## `plughost {name}`" in page
        for child in command.commands if isinstance(command, click.Group) else ():
            assert f"### `plughost {name} {child}`" in page


def test_a_command_of_another_package_says_whose_it_is() -> None:
    """What the testing kit adds stands among the others."""
    assert "### `plughost dev`\n\nFrom `plughost-testing`.\n" in commands.section()


def test_the_catalogue_holds_every_package() -> None:
    """Each member of the workspace but the template has a part, with what its `pyproject.toml` says."""
    page = catalogue.section()
    documents = [tomllib.loads(path.read_text("utf-8")) for path in (REPOSITORY / "plugins").glob("*/pyproject.toml")]
    documents.append(tomllib.loads((REPOSITORY / "host/pyproject.toml").read_text("utf-8")))
    for project in (document["project"] for document in documents):
        _, found, part = page.partition(f"## `{project['name']}`\n\n{project['description']}\n")
        part = part.partition("\n## ")[0]
        assert found
        wanted = [project["version"], *project["dependencies"], *project.get("optional-dependencies", {})]
        groups = project.get("entry-points", {}).values()
        wanted += [f"{name} = {value}" for group in groups for name, value in group.items()]
        assert [text for text in wanted if not all(bit in part for bit in text.split(","))] == []


def test_the_catalogue_names_hooks_and_phases() -> None:
    """A plugin's part says what it contributes and where its middleware stands."""
    page = catalogue.section()
    assert "| phases of `errors` | OBSERVE |" in page
    assert "| hooks of `errors` | [`plughost_middleware`](hooks.md#plughost_middleware) |" in page
    loaded = [entry.load() for entry in config.shipped_plugins()]
    with_middleware = [kind for kind in loaded if hasattr(kind, "plughost_middleware")]
    assert [kind for kind in with_middleware if not catalogue.phases_of(kind)] == []


def test_each_error_code_is_listed() -> None:
    """Every code of the host stands in the table of what a client may see, too."""
    own, _, everything = errors.section().partition("## All that a client may see")
    for code in ErrorCode:
        assert f"| {code.value} | `{code.name.lower()}` |" in own
        assert f"| {code.value} |" in everything


def test_each_event_type_is_listed() -> None:
    """Every member of the vocabulary has a row."""
    page = events.section()
    assert [member for member in EventType if f"| `{member.value}` |" not in page] == []


def test_a_member_without_a_comment_is_refused() -> None:
    """An enumeration that the page cannot describe fails the build."""
    with pytest.raises(LookupError, match="Outcome has members without"):
        comments.member_comments(public.Outcome)


def test_all_public_names_are_listed() -> None:
    """The page has a heading for each name of `plughost.__all__` and of the public modules, and no other."""
    headings = [line[5:-1] for line in api.section().splitlines() if line.startswith("### `")]
    assert sorted(headings) == sorted([*public.__all__, *for_commands.__all__, *spelling.__all__])


def test_plugins_use_what_is_public() -> None:
    """No package imports a private module of the host, but the testing kit, whose `plughost dev` is part of it."""
    packages = ("plugins/*", "plugin_template")
    sources = [file for package in packages for file in REPOSITORY.glob(f"{package}/src/**/*.py")]
    private = re.compile(r"^\s*(?:from|import) plughost\._", re.MULTILINE)
    found = [str(file.relative_to(REPOSITORY)) for file in sources if private.search(file.read_text("utf-8"))]
    assert [file for file in found if not file.startswith("plugins/testing/")] == []


def test_a_docstrings_raises_section_becomes_a_list() -> None:
    """Markdown readers see one item per error."""

    def fails() -> None:
        """Do it.

        Raises:
            ValueError: It cannot be done.
        """

    assert markdown.docstring(fails) == "Do it.\n\nRaises:\n\n- `ValueError`: It cannot be done."


def test_every_generator_has_its_page() -> None:
    """Nothing is generated that no page asks for."""
    asked = [name for page in (DOCS / "reference").glob("*.md") for name in MARKER.findall(page.read_text("utf-8"))]
    assert sorted(asked) == sorted(GENERATORS)


def test_a_marker_is_replaced_by_what_it_asks_for() -> None:
    """The rest of the page stays as it is."""
    filled = fill("# Hooks\n\n<!-- generated: hooks -->\n")
    assert filled == f"# Hooks\n\n{hooks.section()}\n"
