"""`StoreURL` alone."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from plughost import PluginConfig
from plughost_redis import StoreURL
from pydantic import ValidationError


class Config(PluginConfig):
    url: StoreURL = StoreURL("memory://")


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "redis://localhost",
        "redis://user:secret@localhost:6379/1",
        "rediss://localhost:6379/0?ssl_ca_certs=/etc/ca.pem",
        "valkey://[::1]:6379",
        "valkeys://localhost?db=3&client_name=gateway",
        "unix:///run/redis.sock?db=1",
        "redis://localhost?timeout=0.25",
    ],
)
def test_is_accepted(url: str) -> None:
    """Each of these is where state can be kept."""
    assert Config.model_validate({"url": url}).url == StoreURL(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://localhost", "'http' is none of memory://, redis://"),
        ("redis://", "needs a host"),
        ("redis:///0", "needs a host"),
        ("redis://localhost/notes", "no number of a database"),
        ("redis://localhost:many", "no port"),
        ("unix://", "needs the path"),
        ("redis://localhost?socket_timeout=9", "'socket_timeout' is unknown"),
        ("redis://localhost?timeout=soon", "number of seconds"),
        ("redis://localhost?timeout=0", "number of seconds"),
        ("redis://localhost?timeout=nan", "number of seconds"),
    ],
)
def test_is_refused(url: str, why: str) -> None:
    """Anything else is refused with a remedy, and nothing falls back to memory."""
    with pytest.raises(ValidationError, match="url") as caught:
        Config.model_validate({"url": url})
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://u:hunter2@localhost/x", "redis://u:hunter2", "redis://u:hunter2\u2100@localhost"]
)
def test_refusal_holds_no_password(url: str) -> None:
    """G6: a URL that is refused is not repeated with its password, nor with what stands where a port should."""
    with pytest.raises(ValueError, match="is no") as caught:
        StoreURL(url)
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize("url", ["redis://u:hunter2@localhost", "redis://:hunter2@localhost/0", "unix://u:hunter2@/s"])
def test_the_client_gets_the_password(url: str) -> None:
    """Nobody else does (G6)."""
    assert "hunter2" in StoreURL(url).for_client()
    assert "hunter2" not in str(StoreURL(url))


@pytest.mark.parametrize(
    ("url", "client"),
    [
        ("valkey://u:p@h:1/2", "redis://u:p@h:1/2"),
        ("valkeys://h", "rediss://h"),
        ("redis://h?timeout=0.2&db=1", "redis://h?db=1"),
        ("redis://h?timeout=0.2", "redis://h"),
    ],
)
def test_words_of_the_client(url: str, client: str) -> None:
    """The client gets the schemes that it knows, and no option that is ours."""
    assert StoreURL(url).for_client() == client


def test_import_is_light() -> None:
    """The client is not imported with the library: a memory store does without."""
    code = "import plughost_redis, sys, json; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert "redis" not in json.loads(out)
    assert "mcp" not in json.loads(out)
