"""The README's example runs, on two real `plughost serve`; its tables hold what there is."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest
from plughost_bus import BusConfig, BusPlugin, WebhookConfig
from plughost_testing.services import HostProcess, Redis, Stack
from pydantic_core import PydanticUndefined
from readmes import Readme

README = Readme(__file__)


@pytest.mark.services
def test_two_minutes(stack: Stack) -> None:
    """A client of one host hears what happened on the other."""
    server, client = README.blocks("python")
    config = tomllib.loads(README.blocks("toml")[0].replace("redis://localhost:6379/0", stack.start(Redis()).url))
    del config["host"]["listen"]
    first, second = (stack.start(HostProcess(config, files={"notes_server.py": server})) for _ in range(2))
    program = first.folder / "client.py"
    program.write_text(client.replace(":8000", f":{first.port}").replace(":8001", f":{second.port}"), "utf-8")
    done = subprocess.run([sys.executable, str(program)], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == README.blocks("console")[2].partition("client.py\n")[2]


def test_the_webhook_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table shown is one that the plugin takes."""
    text = README.blocks("toml")[1].replace("${OPS_WEBHOOK_SECRET}", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    config = BusConfig.model_validate(tomllib.loads(text)["plugins"]["bus"])
    assert config.webhooks["ops"].events == ("provider.*", "breaker.*")


@pytest.mark.parametrize(("heading", "model"), [("`[plugins.bus]`", BusConfig), ("`[plugins.bus.w", WebhookConfig)])
def test_keys_are_listed(heading: str, model: type[BusConfig | WebhookConfig]) -> None:
    """Each key of the config has a row, with its default."""
    section = README.text.partition(f"\n{heading}")[2].partition("\n\n## ")[0].partition("\n\n`[")[0]
    found = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", section, re.MULTILINE)
    rows = {name: (kind, text) for name, kind, text in found}
    assert rows.keys() == model.model_fields.keys()
    for name, field in model.model_fields.items():
        kind, text = rows[name]
        if text == "required":
            assert field.is_required()
            continue
        default = field.get_default(call_default_factory=True)
        assert default is not PydanticUndefined
        made = model.model_validate({**_required(model), name: tomllib.loads(f"a = {text.strip('`')}")["a"]})
        assert getattr(made, name) == default, (name, kind)


def _required(model: type[BusConfig | WebhookConfig]) -> dict[str, object]:
    if model is BusConfig:
        return {}
    return {"url": "https://a.example", "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}


def test_operations_are_listed() -> None:
    """Each operation has a row."""
    rows = re.findall(r"^\| `([\w-]+)", README.text.partition("## Operations")[2].partition("## ")[0], re.MULTILINE)
    plugin = BusPlugin(BusConfig())
    assert rows[1:] == [operation.name for operation in plugin.plughost_operations()]
