"""The configurations that pages show are valid with what is installed."""

from __future__ import annotations

import json
import re
import shutil
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from textwrap import dedent

import pytest

from docs.examples import EXAMPLES, REPOSITORY, plughost

HOSTS = [path for path in EXAMPLES.rglob("*.toml") if path.parent.name != "client"]
CONFIGS = sorted(path.relative_to(EXAMPLES).as_posix() for path in HOSTS)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_is_valid(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`plughost config check` accepts it, the plugins' own keys too."""
    monkeypatch.setenv("STATE_KEY", "k" * 32)
    monkeypatch.setenv("STATE_KEY_BEFORE", "b" * 32)
    folder = shutil.copytree((EXAMPLES / name).parent, tmp_path / "copy")
    (folder / "secrets").mkdir()
    for secret in ("search-token", "ring-1", "ring-2"):
        (folder / "secrets" / secret).write_text(b64encode(sha256(secret.encode()).digest()).decode())
    assert ": ok (" in plughost("config", "check", "--config", str(folder / Path(name).name))


def test_the_configuration_of_the_deployment_is_valid(tmp_path: Path) -> None:
    """What the ConfigMap holds is accepted, with the secret where the pod mounts it."""
    text = (EXAMPLES / "container/kubernetes.yaml").read_text("utf-8")
    [config] = re.findall(r"plughost\.toml: \|\n(.*?)^---$", text, re.MULTILINE | re.DOTALL)
    assert "mountPath: /run/secrets/plughost }" in text
    (tmp_path / "state-key").write_text("k" * 32)
    mounted = dedent(config).replace("/run/secrets/plughost", str(tmp_path))
    (tmp_path / "plughost.toml").write_text(mounted)
    assert ": ok (" in plughost("config", "check", "--config", str(tmp_path / "plughost.toml"))


def test_the_image_has_what_both_configurations_enable() -> None:
    """Every package that the Dockerfile installs is one of these, and no plugin of its configurations is missing."""
    folder = EXAMPLES / "container"
    dockerfile = (folder / "Dockerfile").read_text("utf-8")
    packages = set(re.findall(r"\bplughost-[a-z-]+", dockerfile.split("COPY")[0]))
    assert packages <= {f"plughost-{path.parent.name}" for path in (REPOSITORY / "plugins").glob("*/pyproject.toml")}
    for name in ("plughost.toml", "kubernetes.yaml"):
        enabled = re.findall(r"^ *\[plugins\.([a-z-]+)\]", (folder / name).read_text("utf-8"), re.MULTILINE)
        assert {f"plughost-{plugin}" for plugin in enabled} <= packages


def test_the_commands_of_the_image_exist() -> None:
    """What the container runs, and how its health is asked, are commands of the command line."""
    dockerfile = (EXAMPLES / "container/Dockerfile").read_text("utf-8")
    for found in re.findall(r"(?:^CMD|timeout=5s CMD) (\[.*\])$", dockerfile, re.MULTILINE):
        command = next(word for word in json.loads(found) if word != "plughost")
        assert "--config FILE" in plughost(command, "--help")
