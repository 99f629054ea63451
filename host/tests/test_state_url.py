"""`StateURL`: the type of config fields that say where a plugin keeps its state."""

from __future__ import annotations

from pathlib import Path

import pytest
from plughost import PluginConfig, StateURL
from pydantic import ValidationError


class ShelfURL(StateURL):
    schemes = ("memory", "sqlite", "shelf")
    example = "'shelf://localhost'"


class OtherURL(StateURL):
    schemes = ("memory", "shelf")
    example = "'shelf://localhost'"


class Config(PluginConfig):
    url: ShelfURL = ShelfURL("memory://")


PASSWORDS = [
    "shelf://ada:hunter2@host/books",
    "shelf://:hunter2@host",
    "shelf://ada:hun:ter2@hunter2@[::1]:80,other:81/books",
    "shelf://ada:hunter2@/socket",
    "shelf://host/books?user=ada&password=hunter2&mode=x",
    "shelf://host?ssl_password=hunter2",
    "shelf://host?sslPassword=hunter2",
]


@pytest.mark.parametrize("url", PASSWORDS)
def test_a_password_is_shown_nowhere(url: str) -> None:
    """G6: text, repr and dumps of a config hold no password; who asks for it gets it."""
    config = Config.model_validate({"url": url})
    for text in (str(config), repr(config), str(config.url), config.model_dump_json(), str(config.model_dump())):
        assert "hunter2" not in text
        assert "***" in text
    assert config.url.reveal() == url


@pytest.mark.parametrize(
    "url", ["shelf://ada@host/books", "shelf://[::1]:80", "shelf://host:80/a:b?mode=x", "memory://"]
)
def test_what_is_no_password_is_shown(url: str) -> None:
    """Operators see where the state is."""
    assert str(ShelfURL(url)) == url


@pytest.mark.parametrize(
    "url",
    ["shelf://ada:12#3@host", "shelf://ada:12/3@host", "shelf://ada:12?3@host", "shelf://ada:1/2#3", "shelf://:1/@h"],
)
def test_a_password_that_ends_the_host_is_refused(url: str) -> None:
    """G6: where the password ends would be a guess, and a part of it would be shown; the remedy is to escape it."""
    with pytest.raises(ValueError, match=r"write '#', '/', '\?' and '@' in a password as %23, %2F, %3F and %40$"):
        ShelfURL(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://localhost", "'http' is none of memory://, sqlite://, shelf://; write for example 'shelf://localhost'"),
        ("localhost:80", "'' is none of"),
        ("ada:hunter2@localhost", "'' is none of"),
        ("", "'' is none of"),
        ("memory://here", "takes nothing after it"),
        ("memory:", "is none of"),
        ("sqlite://", "names no file; write for example"),
        ("sqlite:///", "names no file"),
        ("sqlite:///books/", "names no file"),
        ("sqlite:///books.db?mode=ro", "names no file"),
        ("sqlite://ada:hunter2@books.db", "names no file"),
        (7, "a URL is text; write for example 'shelf://localhost'"),
    ],
)
def test_anything_else_is_refused(url: object, why: str) -> None:
    """With a remedy, and without what may be a password; nothing falls back to memory."""
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"url": url})
    (fault,) = caught.value.errors()
    assert why in fault["msg"]
    assert "hunter2" not in fault["msg"]


def test_a_changed_password_is_a_change() -> None:
    """Configs that differ in the password alone are different, so that a reload applies it."""
    assert ShelfURL("shelf://:a@h") != ShelfURL("shelf://:b@h")
    assert len({ShelfURL("shelf://:a@h"), ShelfURL("shelf://:a@h"), ShelfURL("shelf://:b@h")}) == 2
    assert ShelfURL("shelf://h") != OtherURL("shelf://h")


@pytest.mark.parametrize(("url", "file"), [("sqlite:///books.db", "config/books.db"), (" sqlite:////b.db ", "/b.db")])
def test_a_file_stands_beside_the_config(url: str, file: str) -> None:
    """Three slashes are relative to the config file, four absolute; blanks around a URL are nobody's."""
    assert Config.model_validate({"url": url}).url.file(Path("config")) == Path(file)


def test_only_memory_is_memory() -> None:
    """A file or a server survives the plugin."""
    assert [url.is_memory for url in map(ShelfURL, ("memory://", "sqlite:///memory", "shelf://memory"))] == [
        True,
        False,
        False,
    ]


def test_schema() -> None:
    """Editors see a string that begins with a scheme, or is taken from the environment."""
    schema = Config.model_json_schema()["properties"]["url"]
    assert schema["type"] == "string"
    assert schema["pattern"] == r"^(memory|sqlite|shelf)://|\$\{"
