"""The README's example is a plugin that counts."""

from __future__ import annotations

import pytest
from plughost import MCPPlugin
from plughost_redis import StoreURL
from plughost_testing import Backend, HostFactory, ScriptedProvider, make_call, on_backends
from readmes import Readme

pytestmark = pytest.mark.anyio

README = Readme(__file__)


@on_backends("redis")
async def test_two_minutes(backend: Backend, host: HostFactory) -> None:
    """Calls of all replicas are counted together, and with the server away they pass uncounted."""
    names: dict[str, type[MCPPlugin]] = {}
    (code,) = README.blocks("python")
    exec(compile(code, "visits.py", "exec", dont_inherit=True), names)
    kind = names["Visits"]
    replicas = [
        await host(
            kind(kind.config_type.model_validate({"url": StoreURL(backend.url)}), name="visits"),
            providers=[ScriptedProvider("notes", tools=["add"])],
        )
        for _ in range(2)
    ]
    for replica in replicas:
        await replica.dispatch(make_call("tools/call", {"name": "add"}))
    assert backend.service is not None
    assert backend.service.ask("STRLEN plughost:visits:visits:calls") == ":1"  # type: ignore[attr-defined]  # a Redis
    assert backend.service.ask("INCR plughost:visits:visits:calls") == ":3"  # type: ignore[attr-defined]  # as above
    backend.service.kill()
    await replicas[0].dispatch(make_call("tools/call", {"name": "add"}))
