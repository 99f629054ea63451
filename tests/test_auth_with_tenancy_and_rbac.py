"""Who calls, whose he is and what he may: three plugins that each trust what the one before found out."""

from __future__ import annotations

from typing import Any

import pytest
from asgi_wire import LegacySession, Reply, fetch, post, request
from plughost import ErrorCode, Host, HostConfig
from plughost_testing import ScriptedProvider, make_host

pytestmark = pytest.mark.anyio

TOKENS: dict[str, dict[str, Any]] = {
    "ada": {"token": "ada-in-acme-0123456789", "tenant": "acme", "roles": ["editor"]},
    "ada-elsewhere": {"token": "ada-in-globex-0123456789", "subject": "ada", "tenant": "globex", "roles": ["editor"]},
    "bob": {"token": "bob-in-acme-0123456789", "tenant": "acme"},
    "guest": {"token": "guest-nowhere-0123456789", "roles": ["editor"]},
}
PLUGINS: dict[str, dict[str, Any]] = {
    "tenancy": {
        "path": "/t",
        "tenants": {"acme": {"providers": ["acme"]}, "globex": {"providers": ["globex"]}},
    },
    "rbac": {"roles": {"editor": {"permissions": ["execute:tools"]}}},
    "auth": {"tokens": TOKENS},
}
LIST = request("tools/list")


def bearer(who: str) -> dict[str, str]:
    return {"authorization": f"Bearer {TOKENS[who]['token']}"}


def host(order: list[str]) -> Host:
    tables = {name: PLUGINS[name] for name in order}
    config = HostConfig.model_validate({"host": {"control": False}, "plugins": tables})
    return make_host(providers=[ScriptedProvider(it, tools=[f"of_{it}"]) for it in ("acme", "globex")], config=config)


def tools(reply: Reply) -> list[str]:
    return [entry["name"] for entry in reply.message["result"]["tools"]]


class Session(LegacySession):
    """A session of somebody with a token."""

    def __init__(self, app: Any, who: str) -> None:
        super().__init__(app)
        self.who = who

    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, **bearer(self.who)}


@pytest.mark.parametrize("order", [["auth", "tenancy", "rbac"], ["tenancy", "rbac", "auth"]])
async def test_each_sees_what_tenant_and_roles_leave(order: list[str]) -> None:
    """A8: whatever the order in the config; at the endpoint, and at the path of one's own tenant."""
    async with host(order) as running:
        for path in ("/mcp", "/t/acme/mcp"):
            assert tools(await post(running.app, LIST, bearer("ada"), path=path)) == ["of_acme"]
            assert tools(await post(running.app, LIST, bearer("bob"), path=path)) == []
        assert tools(await post(running.app, LIST, bearer("ada-elsewhere"))) == ["of_globex"]
        foreign = await post(running.app, LIST, bearer("ada"), path="/t/globex/mcp")
        assert foreign.message["error"]["data"]["reason"] == "not_a_member"
        nowhere = await post(running.app, LIST, bearer("guest"))
        assert nowhere.message["error"]["code"] == ErrorCode.TENANT_REQUIRED


@pytest.mark.parametrize("order", [["auth", "tenancy", "rbac"], ["tenancy", "rbac", "auth"]])
async def test_no_path_leads_around_authentication(order: list[str]) -> None:
    """A1: a tenant in the path changes nothing: 401 without a token."""
    async with host(order) as running:
        for path in ("/mcp", "/t/acme/mcp", "/t/acme/mcp/", "/t//mcp"):
            reply = await post(running.app, LIST, path=path)
            assert reply.status in (401, 404), path
            assert b"of_acme" not in reply.body


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_one_user_in_two_tenants_has_two_sessions(method: str) -> None:
    """H1: a subject's token of another tenant finds no session, where it finds none that is missing."""
    async with host(["auth", "tenancy", "rbac"]) as running:
        session = Session(running.app, "ada")
        await session.open()
        other = Session(running.app, "ada-elsewhere")
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}' if method == "POST" else b""
        other.session_id = session.session_id
        foreign = await fetch(running.app, body, other.headers, method=method)
        other.session_id = "f" * 32
        missing = await fetch(running.app, body, other.headers, method=method)
        assert (foreign.status, foreign.headers, foreign.body) == (missing.status, missing.headers, missing.body)
        assert foreign.status == 404
        assert "result" in await session.ask("tools/list")
