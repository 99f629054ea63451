"""Which plugins are installed, and the import of one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from plughost import MCPPlugin, PluginError, PluginTable
from plughost._discovery import (
    PluginSource,
    commands,
    discover,
    find_source,
    host_version,
    load_class,
    load_file,
    resolve,
    satisfies,
)

PLUGIN = """
from plughost import MCPPlugin

class Plugin(MCPPlugin):
    pass
"""


def test_discovery_imports_nothing(site: Any) -> None:
    """An installed plugin is described by its metadata alone; its module is not imported."""
    site.install(
        "acme-limits",
        {"limits": "acme_limits:Plugin"},
        modules={"acme_limits": "raise RuntimeError('imported')"},
        version="2.1",
        summary="Limits of Acme.",
    )
    assert discover()["limits"] == PluginSource(
        name="limits",
        value="acme_limits:Plugin",
        distribution="acme-limits",
        version="2.1",
        summary="Limits of Acme.",
        location=str(site.folder / "acme_limits.py"),
    )
    assert "acme_limits" not in sys.modules


def test_location_of_a_missing_module(site: Any) -> None:
    """A plugin whose module is gone is located by its distribution."""
    site.install("acme", {"acme-gone": "acme_gone.sub:Plugin"})
    assert discover()["acme-gone"].location == str(site.folder)


def test_one_name_of_two_distributions(site: Any) -> None:
    """A name that two distributions claim is a fault that names both; neither is taken by chance."""
    site.install("first", {"twin": "first:Plugin"})
    site.install("second", {"twin": "second:Plugin"})
    source = discover()["twin"]
    assert source.status == "failed"
    assert {"first", "second"} <= set(source.reason.replace(":", "").split())
    with pytest.raises(PluginError, match=r"two distributions .*Uninstall one of them: pip uninstall"):
        load_class(source)


def test_one_distribution_twice(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution that is on the path twice counts once: the first one, as with every import."""
    site.install("acme", {"acme": "acme:Plugin"}, version="1.0")
    other = type(site)(tmp_path / "other")
    other.folder.mkdir()
    monkeypatch.syspath_prepend(other.folder)
    other.install("acme", {"acme": "acme:Plugin"}, version="2.0")
    source = discover()["acme"]
    assert (source.status, source.version) == ("available", "2.0")


@pytest.mark.parametrize("requirement", ["plughost>=99", "Plughost[fast] (>=0.0.1,<0.0.2)", "plughost!=0.1.*,<99"])
def test_host_of_another_version(site: Any, requirement: str) -> None:
    """A plugin that bounds the host otherwise is incompatible, and is not imported."""
    site.install("acme", {"acme-api": "acme_api:Plugin"}, modules={"acme_api": PLUGIN}, requires=["click", requirement])
    source = discover()["acme-api"]
    assert source.status == "incompatible"
    assert f"and {host_version()} is installed" in source.reason
    with pytest.raises(PluginError, match=r"needs plughost .*pip install --upgrade plughost acme"):
        load_class(source)
    assert "acme_api" not in sys.modules


@pytest.mark.parametrize(
    "requirement",
    ["plughost", "plughost>=0.1,<0.2", "plughost~=0.1.0", "plughost-errors>=99", "plughost>=99; extra == 'new'"],
)
def test_host_that_fits(site: Any, requirement: str) -> None:
    """A plugin whose bounds the host fits is available; what an environment marker restricts is not judged."""
    site.install("acme", {"acme-fit": "acme_fit:Plugin"}, requires=[requirement])
    assert discover()["acme-fit"].status == "available"


@pytest.mark.parametrize(
    ("version", "specifier", "expected"),
    [
        ("0.1.0", "", True),
        ("0.1.0", ">=0.1,<0.2", True),
        ("0.1.0", "==0.1", True),
        ("0.1.0", "===0.1.0", True),
        ("0.1.5", "==0.1.*", True),
        ("0.10.5", "==0.1.*", False),
        ("0.1.5", "!=0.1.*", False),
        ("0.1.5", "!=0.1.4", True),
        ("0.2.0", "<0.2", False),
        ("0.2.0", "<=0.2", True),
        ("0.10", ">0.9", True),
        ("1.4.5", "~=1.4.2", True),
        ("1.5.0", "~=1.4.2", False),
        ("2.0", "~=1.4", False),
        ("1.0", ">= 0.9, != 1.0.1 , < 2", True),
        ("0.2.0rc1", ">=0.2", True),
        ("0.2.0.dev3+local", "<0.2", False),
    ],
)
def test_versions(version: str, specifier: str, expected: bool) -> None:  # noqa: FBT001 - a row of the table
    """Comparison clauses mean what installers take them for; a pre-release counts as the release it leads to."""
    assert satisfies(version, specifier) is expected


# ---------------------------------------------------------------------------------------------------------------------
# From a name to a source
# ---------------------------------------------------------------------------------------------------------------------


def test_names(tmp_path: Path) -> None:
    """An instance is of the plugin that its table names, or else of the one with its own name."""
    sources = {"limits": PluginSource("limits", "acme:Plugin", "acme")}
    assert resolve("limits", PluginTable(), sources, tmp_path) is sources["limits"]
    assert resolve("mine", PluginTable(plugin="limits"), sources, tmp_path) is sources["limits"]


def test_unknown_plugin(tmp_path: Path) -> None:
    """An unknown plugin is an error with the instance, a suggestion and what is installed (G2)."""
    sources = {"limits": PluginSource("limits", "acme:Plugin", "acme")}
    with pytest.raises(PluginError) as caught:
        resolve("mine", PluginTable(plugin="limit"), sources, tmp_path)
    assert str(caught.value) == (
        "plugin 'mine': no installed distribution has a plugin 'limit'; did you mean 'limits'? "
        "Installed plugins: limits"
    )


def test_well_known_plugin(tmp_path: Path) -> None:
    """A plugin of the project that is not installed is an error with the pip command."""
    with pytest.raises(PluginError, match=r"Install it: pip install plughost-rate-limit$"):
        find_source("rate-limit", {}, tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# From a source to a class
# ---------------------------------------------------------------------------------------------------------------------


def test_class(site: Any) -> None:
    """The entry point's class is imported, also one inside another."""
    site.install(
        "acme",
        {"acme-class": "acme_class:Plugin", "acme-nested": "acme_class : Outer.Inner [extra]"},
        modules={"acme_class": PLUGIN + "class Outer:\n    Inner = Plugin\n"},
    )
    found = discover()
    assert issubclass(load_class(found["acme-class"]), MCPPlugin)
    assert load_class(found["acme-nested"]) is load_class(found["acme-class"])


@pytest.mark.parametrize(
    ("value", "source", "message"),
    [
        ("acme_bad:Plugin", "import nothing_like_it", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("acme_bad:Plugin", "raise SystemExit(3)", "SystemExit: 3"),
        ("acme_bad:Plugin", "def broken(:", "SyntaxError"),
        ("acme_bad:Missing", PLUGIN, "its module has no 'Missing'"),
        ("acme_missing:Plugin", PLUGIN, "ModuleNotFoundError: No module named 'acme_missing'"),
        ("acme_bad", PLUGIN, "it names a module and no class"),
        ("acme_bad:Plugn", PLUGIN, "its module has no 'Plugn'; did you mean 'Plugin'?"),
        ("not a reference", PLUGIN, "cannot be imported"),
        ("acme_bad:MCPPlugin.register", PLUGIN, "is not a subclass of plughost.MCPPlugin"),
        ("acme_bad:Other", "class Other: pass", "Other is not a subclass of plughost.MCPPlugin"),
    ],
)
def test_broken_plugin(site: Any, value: str, source: str, message: str) -> None:
    """A plugin that cannot be imported is an error with instance, entry point, distribution, cause and remedy."""
    site.install("acme", {"bad": value}, modules={"acme_bad": source}, version="1.2")
    with pytest.raises(PluginError, match=message) as caught:
        load_class(discover()["bad"], instance="mine")
    assert f"plugin 'mine' (entry point bad = {value} of acme 1.2): " in str(caught.value)
    assert caught.value.remedy


# ---------------------------------------------------------------------------------------------------------------------
# Plugins that are one file
# ---------------------------------------------------------------------------------------------------------------------


def test_one_file(tmp_path: Path) -> None:
    """`./file.py:Class` is a class in a file, relative to the config's folder; its module is nobody else's."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(PLUGIN)
    first = resolve("mine", PluginTable(plugin="./mine.py:Plugin"), {}, tmp_path / "a")
    assert (first.name, first.location) == ("./mine.py:Plugin", str(tmp_path / "a" / "mine.py"))
    second = resolve("mine", PluginTable(plugin="./mine.py:Plugin"), {}, tmp_path / "b")
    assert load_class(first) is not load_class(second)
    assert load_class(first).__module__ in sys.modules
    assert "mine" not in sys.modules


def test_edited_file(tmp_path: Path) -> None:
    """The same text is the same class; a changed one is another class, however quickly it changed."""
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN + "VALUE = 1\n")
    first = load_file("mine.py:Plugin", tmp_path)
    assert load_file("./mine.py:Plugin", tmp_path) is first
    path.write_text(PLUGIN + "VALUE = 2\n")
    second = load_file("mine.py:Plugin", tmp_path)
    assert second is not first
    assert sys.modules[second.__module__].VALUE == 2


def test_file_with_models(tmp_path: Path) -> None:
    """A one-file plugin may postpone its annotations, and its config is found all the same."""
    tmp_path.joinpath("mine.py").write_text(
        "from __future__ import annotations\n"
        "from plughost import MCPPlugin, PluginConfig\n"
        "class Settings(PluginConfig):\n    items: list[Item] = []\n"
        "class Item(PluginConfig):\n    name: str\n"
        "class Plugin(MCPPlugin[Settings]):\n    pass\n"
    )
    kind = load_file("mine.py:Plugin", tmp_path)
    assert kind.config_type.model_validate({"items": [{"name": "x"}]}).model_dump() == {"items": [{"name": "x"}]}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("missing.py:Plugin", r"there is no file /.*/missing\.py\. Correct its path"),
        ("broken.py:Plugin", r"ZeroDivisionError: division by zero \(/.*/broken\.py:1\)"),
        ("mine.py:Missing", "its module has no 'Missing'"),
        ("mine.py:", "it names a module and no class"),
        ("mine.py:sys", "sys is not a subclass"),
    ],
)
def test_broken_file(tmp_path: Path, reference: str, message: str) -> None:
    """A file that cannot be imported is an error with the file and the cause, and leaves no module behind."""
    tmp_path.joinpath("mine.py").write_text("import sys\n" + PLUGIN)
    tmp_path.joinpath("broken.py").write_text("1 / 0")
    before = {name for name in sys.modules if name.startswith("plughost_file_")}
    with pytest.raises(PluginError, match=message) as caught:
        load_class(find_source(reference, {}, tmp_path), instance="mine")
    assert f"plugin 'mine' ({tmp_path / reference})" in str(caught.value)
    after = {name for name in sys.modules if name.startswith("plughost_file_")}
    assert after - before <= {name for name in after if reference.startswith("mine")}


def test_commands(site: Any) -> None:
    """Commands of other distributions are found without importing them."""
    site.install("acme", commands={"acme": "acme_command:main"})
    assert commands()["acme"].value == "acme_command:main"


def test_metadata_that_is_gone(site: Any) -> None:
    """What an interrupted uninstall leaves behind does not hide the other plugins."""
    site.install("good", {"good": "good:Plugin"})
    site.install("gone", {"gone": "gone:Plugin"})
    site.folder.joinpath("gone-1.0.dist-info", "METADATA").unlink()
    found = discover()
    assert found["good"].status == "available"
    assert found["gone"].status == "failed"
    assert found["gone"].remedy == "Reinstall it"
