"""An attacker over HTTP, against a host with every guard: every requirement is tried at least once."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from asgi_wire import MODERN, headers_for, request
from composed.target import BROKEN, CHILD, NOTES, SHELL, UPSTREAM, config
from plughost import PlughostError, create_host
from plughost_docs.security import REQUIREMENTS
from plughost_testing.services import HostProcess, Program, Stack
from signing import Signer, jwks

LIMIT = 10.0
SECRET = "argument-that-is-nobodys-business"


@dataclass
class Issuer:
    """An authorization server's keys, and a count of what else is fetched from its port."""

    url: str
    key: Signer
    fetched: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    key = Signer("key-1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.fetched.append(self.path)
            metadata = {"issuer": found.url, "jwks_uri": f"{found.url}/jwks"}
            body = jwks(key) if self.path == "/jwks" else json.dumps(metadata).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Issuer(f"http://127.0.0.1:{server.server_port}", key)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()


@dataclass
class Target:
    """The host under attack."""

    host: HostProcess
    upstream: Program
    issuer: Issuer
    record: Path

    def token(self, who: str = "alice", *, key: Signer | None = None, header: Any = None, **changes: Any) -> str:
        """A token that is right, unless something is changed."""
        signer = key or self.issuer.key
        claims = signer.claims(time.time(), sub=who, iss=self.issuer.url, aud=self.host.url)
        claims |= {"roles": ["editor"], "tenant": "acme", "scope": ""}
        claims |= changes
        return signer.sign({name: value for name, value in claims.items() if value is not None}, header)

    def post(
        self, body: Any, token: str | None = "", headers: Mapping[str, str] | None = None, query: str = ""
    ) -> httpx2.Response:
        """One POST to the endpoint, with alice's token unless another or none is given."""
        own = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        if isinstance(body, dict) and "params" in body:
            own |= {name: value for name, value in headers_for(body).items() if name != "host"}
        if token is not None:
            own["authorization"] = f"Bearer {token or self.token()}"
        own |= headers or {}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx2.post(self.host.url + query, content=content, headers=own, timeout=LIMIT)

    def call(self, tool: str, token: str | None = "", **arguments: Any) -> dict[str, Any]:
        """A tool call, and the message that answers it."""
        return answer(self.post(request("tools/call", {"name": tool, "arguments": arguments}), token))

    def tools(self, token: str = "") -> set[str]:
        return {tool["name"] for tool in answer(self.post(request("tools/list"), token))["result"]["tools"]}


def answer(response: httpx2.Response) -> dict[str, Any]:
    """The JSON-RPC message of a response, whether JSON or a stream."""
    if response.headers["content-type"].startswith("text/event-stream"):
        found = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
        return next(message for message in found if "result" in message or "error" in message)
    message: dict[str, Any] = response.json()
    return message


@pytest.fixture(scope="module")
def target(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "upstream.py").write_text(UPSTREAM, "utf-8")
    record = folder / "record"
    with Stack() as stack:
        program = (str(folder / "upstream.py"), "{port}", str(record), f"{issuer.url}/schema")
        upstream = stack.start(Program(sys.executable, *program))
        host = HostProcess(files={"notes_server.py": NOTES, "broken.py": BROKEN, "child.py": CHILD})
        host.configure(config(issuer=issuer.url, resource=host.url, upstream=upstream.url, port=host.port))
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("DATABASE_PASSWORD", "of-the-host-alone")
            yield Target(stack.start(host), upstream, issuer, record)


def code(message: Mapping[str, Any]) -> int | None:
    """The error's code, if it is one."""
    found: int | None = message.get("error", {}).get("code")
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Without credentials, and with forged ones
# ---------------------------------------------------------------------------------------------------------------------


def test_a_caller_without_a_token_learns_where_to_get_one(target: Target) -> None:
    """A 401 names the metadata, which names the issuer (A1)."""
    response = target.post(request("tools/list"), token=None)
    assert response.status_code == 401
    challenge = response.headers["www-authenticate"]
    where = challenge.partition('resource_metadata="')[2].partition('"')[0]
    metadata = httpx2.get(where, timeout=LIMIT).json()
    assert (metadata["resource"], metadata["authorization_servers"]) == (target.host.url, [target.issuer.url])


def forgeries(target: Target) -> dict[str, str]:
    right, stranger = target.token(), Signer("key-1")
    head, body, signature = right.split(".")
    now = int(time.time())
    none = Signer("key-1").sign({}, {"alg": "ES256"}).split(".")[0]
    return {
        "another audience (A3)": target.token(aud="https://other.example/mcp"),
        "another issuer (A6)": target.token(iss="https://evil.example"),
        "nearly the issuer (A6)": target.token(iss=target.issuer.url + "/"),
        "another's key (A7)": target.token(key=stranger),
        "an unknown key (A7)": target.token(key=Signer("key-2")),
        "expired (A7)": target.token(exp=now - 60),
        "not yet valid (A7)": target.token(nbf=now + 600),
        "no expiry (A7)": target.token(exp=None),
        "an ID token (A7)": target.token(header={"typ": "JWT"}),
        "a changed body (A7)": f"{head}.{body[:-4]}AAAA.{signature}",
        "no signature (A7)": f"{none}.{body}.",
        "nonsense": "nonsense",
        "a key of the token's own choice (S1)": target.token(header={"jku": f"{target.issuer.url}/evil", "kid": "x"}),
    }


def test_a_forged_token_is_no_token(target: Target) -> None:
    """Wrong audience (A3), issuer (A6), key, time, type or signature: 401 (A7); nothing it names is fetched (S1)."""
    assert "result" in target.call("count", name="right")
    before = target.issuer.fetched.count("/jwks")
    for what, token in forgeries(target).items():
        assert target.post(request("tools/list"), token).status_code == 401, what
    assert "/evil" not in target.issuer.fetched
    assert target.issuer.fetched.count("/jwks") <= before + 2


def test_a_token_in_the_url_is_refused(target: Target) -> None:
    """It would stand in logs (A5)."""
    assert target.post(request("tools/list"), None, query=f"?access_token={target.token()}").status_code in {400, 401}


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"host": "evil.example"}, {"host": "evil.example:8000"}]
)
def test_a_page_elsewhere_gets_nothing(target: Target, headers: dict[str, str]) -> None:
    """A foreign origin, or a name that leads here, is refused before anything else (T1)."""
    assert target.post(request("tools/list"), headers=headers).status_code in {403, 421}


# ---------------------------------------------------------------------------------------------------------------------
# Messages that are not what they say
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers", [{"mcp-protocol-version": "2025-11-25"}, {"mcp-method": "tools/list"}, {"mcp-name": "drop"}]
)
def test_headers_that_lie_are_refused(target: Target, headers: dict[str, str]) -> None:
    """What the body says decides, and what contradicts it is refused before any policy (T2, T3, T4)."""
    response = target.post(request("tools/call", {"name": "count", "arguments": {"name": "x"}}), headers=headers)
    assert response.status_code == 400
    assert code(response.json()) == (-32600 if "mcp-protocol-version" in headers else -32020)


def test_unknown_versions_and_methods_have_their_codes(target: Target) -> None:
    """-32022 with what is supported, -32601 (T5); own codes stay in their range (T6)."""
    message = request("tools/list")
    message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2099-01-01"
    unknown = target.post(message, headers={"mcp-protocol-version": "2099-01-01"}).json()
    assert code(unknown) == -32022
    assert MODERN in unknown["error"]["data"]["supported"]
    assert code(answer(target.post(request("tools/destroy")))) == -32601
    refused = [code(target.call("guarded")), code(target.call("linger", name="code"))]
    assert all(found is not None and (-32020 < found <= -32000 or found == -32603) for found in refused)


def test_monsters_are_turned_away(target: Target) -> None:
    """A body that is too large is 413, one that is too deep 400 (T10); hostile arguments are named to the model."""
    assert target.post(b'{"x":"' + b"x" * 70_000 + b'"}').status_code == 413
    assert target.post(b"[" * 30_000).status_code == 400
    result = target.call("count", name={"not": "a string"})["result"]
    assert result["isError"] is True
    assert "/name" in result["content"][0]["text"]


# ---------------------------------------------------------------------------------------------------------------------
# With a token of one's own
# ---------------------------------------------------------------------------------------------------------------------


def test_what_is_hidden_is_like_what_is_missing(target: Target) -> None:
    """`drop` is not listed, and calling it is answered as an unknown tool is (A8, A9); its hints help nobody (A10)."""
    assert "drop" not in target.tools()
    scoped = target.token(scope="notes:delete notes:admin")
    hidden, missing = target.call("drop", scoped, folder="x"), target.call("dorp", scoped, folder="x")
    for message, name in ((hidden, "drop"), (missing, "dorp")):
        error = message["error"]
        error["data"] = {key: value for key, value in error["data"].items() if key not in {"timestamp", "requestId"}}
        error |= json.loads(json.dumps(error).replace(name, "NAME"))
    assert hidden["error"] == missing["error"]
    assert "result" in target.call("drop", target.token(roles=["admin"], scope="notes:delete notes:admin"), folder="x")


def test_a_token_without_roles_sees_nothing(target: Target) -> None:
    """Deny by default (A9)."""
    assert target.tools(target.token(roles=[])) == set()


def test_missing_scopes_are_named_all_at_once(target: Target) -> None:
    """One challenge with every scope that the call needs (A2)."""
    body = request("tools/call", {"name": "drop", "arguments": {"folder": "x"}})
    response = target.post(body, target.token(roles=["admin"]))
    assert response.status_code == 403
    assert {"notes:delete", "notes:admin"} <= set(
        response.headers["www-authenticate"].partition('scope="')[2].partition('"')[0].split()
    )


def test_another_tenants_and_callers_answers_are_out_of_reach(target: Target) -> None:
    """The same arguments are answered anew for another caller and another tenant (K2), and kept for oneself."""

    def kept(**changes: Any) -> Any:
        return target.call("kept", target.token(**changes), name="shared")["result"]["structuredContent"]["result"]

    assert [kept(), kept(), kept(who="bob"), kept(tenant="other"), kept()] == [1, 1, 2, 3, 1]


def test_only_what_the_operator_named_is_kept(target: Target) -> None:
    """Another tool runs each time (K1), and a failure is never kept (K3)."""
    counted = [target.call("count", name="each")["result"]["structuredContent"]["result"] for _ in range(2)]
    assert counted == [1, 2]
    assert all(target.call("fail", name="fails")["result"]["isError"] for _ in range(2))
    assert target.call("count", name="fails")["result"]["structuredContent"]["result"] == 3


def test_another_state_than_ones_own_is_refused(target: Target) -> None:
    """State that was forged, is another caller's, or belongs to another request is worth nothing (H2)."""
    can: dict[str, Any] = {"_meta": {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}}

    def ask(name: str, state: str | None = None, token: str = "") -> dict[str, Any]:
        params: dict[str, Any] = {"name": "ask", "arguments": {"name": name}, **can}
        if state is not None:
            params |= {"requestState": state, "inputResponses": {"sure": {"action": "accept", "content": {"ok": True}}}}
        return answer(target.post(request("tools/call", params), token))

    first, second = ask("state"), ask("state")
    assert first["result"]["resultType"] == "input_required"
    assert target.call("count", name="state")["result"]["structuredContent"]["result"] == 3, "a question is kept (H3)"
    state = second["result"]["requestState"]
    assert "asked about" not in state
    attempts = {
        "forged": ask("state", "asked about state"),
        "altered": ask("state", state[:-4] + ("AAAA" if state[-4:] != "AAAA" else "BBBB")),
        "for another request": ask("other", state),
        "of another caller": ask("state", state, target.token("bob")),
        "in another tenant": ask("state", state, target.token(tenant="other")),
    }
    assert [what for what, attempt in attempts.items() if "error" not in attempt] == []
    assert ask("state", state)["result"]["content"][0]["text"] == "state is confirmed"


def test_a_question_is_answered_anew_for_each(target: Target) -> None:
    """What asks back is neither kept nor shared, though the operator named it (H3)."""
    calls = [target.call("ask", name="anew") for _ in range(2)]
    assert all("result" not in call or call["result"]["resultType"] == "input_required" for call in calls)
    assert target.call("count", name="anew")["result"]["structuredContent"]["result"] == 3


def test_calls_of_an_unnamed_tool_are_not_merged(target: Target) -> None:
    """Five at once run five times (K5); what one was handed is not what another changes (K4)."""
    with ThreadPoolExecutor(5) as pool:
        messages = list(pool.map(lambda _: target.call("count", name="merged"), range(5)))
    assert sorted(message["result"]["structuredContent"]["result"] for message in messages) == [1, 2, 3, 4, 5]
    first = target.call("kept", name="copies")["result"]
    first["structuredContent"]["result"] = "changed"
    assert target.call("kept", name="copies")["result"]["structuredContent"]["result"] == 1


def test_refused_calls_use_up_no_other_limit(target: Target) -> None:
    """Who runs into the limit of a second goes on within that of a day (G4)."""
    passed = refused = 0
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        message = target.call("metered")
        if "result" in message:
            passed += 1
        elif message["error"]["data"]["retryAfterMs"] < 60_000:
            refused += 1
        else:
            break
    assert (passed, code(message)) == (4, -32010)
    assert refused > 0


def test_a_caller_without_a_tenant_is_refused(target: Target) -> None:
    """Whatever its roles."""
    assert code(target.call("count", target.token(tenant=None), name="x")) == -32018


def test_a_session_of_another_is_a_missing_session(target: Target) -> None:
    """With its id, and another's token, the answer is that of an id which does not exist (H1)."""
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}},
    }
    plain = {"accept": "application/json, text/event-stream", "content-type": "application/json"}

    def legacy(body: Any, who: str, session: str | None) -> httpx2.Response:
        own = {**plain, "authorization": f"Bearer {target.token(who)}", "mcp-protocol-version": "2025-11-25"}
        if session is not None:
            own["mcp-session-id"] = session
        return httpx2.post(target.host.url, json=body, headers=own, timeout=LIMIT)

    session = legacy(hello, "alice", None).headers["mcp-session-id"]
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    assert legacy(ping, "alice", session).status_code == 200
    stolen, missing = legacy(ping, "bob", session), legacy(ping, "bob", "0" * 32)
    assert (stolen.status_code, stolen.json()) == (missing.status_code, missing.json())
    assert stolen.status_code == 404


def test_hanging_on_ends_at_the_limit(target: Target) -> None:
    """Progress extends nothing (T8), and the stream holds no request of the host's (T9)."""
    body = request("tools/call", {"name": "linger", "arguments": {"name": "limit"}, "_meta": {"progressToken": "p"}})
    begin = time.monotonic()
    response = target.post(body)
    assert time.monotonic() - begin < LIMIT / 2
    messages = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
    assert code(messages[-1]) == -32012
    assert [message for message in messages if "method" in message and "id" in message] == []


def test_hanging_up_ends_the_call(target: Target) -> None:
    """The server's work is cancelled when its client is gone (T7)."""

    async def vanish() -> None:
        body = request("tools/call", {"name": "linger", "arguments": {"name": "gone"}, "_meta": {"progressToken": "p"}})
        headers = {name: value for name, value in headers_for(body).items() if name != "host"}
        headers["authorization"] = f"Bearer {target.token()}"
        async with (
            httpx2.AsyncClient(timeout=LIMIT) as http,
            http.stream("POST", target.host.url, json=body, headers=headers) as response,
        ):
            async for _ in response.aiter_lines():
                return

    asyncio.run(vanish())
    ended, deadline = target.host.folder / "ended-gone", time.monotonic() + LIMIT
    while not ended.exists():
        assert time.monotonic() < deadline, "the call goes on without its client"
        time.sleep(0.02)


def test_a_guard_that_breaks_lets_nobody_through(target: Target) -> None:
    """The call is refused (G1), with a generic error and a request id: what it raised stays in the log (G7)."""
    message = target.call("guarded")
    assert code(message) == -32603
    assert "secret-of-the-guard" not in json.dumps(message)
    assert message["error"]["data"]["requestId"]


# ---------------------------------------------------------------------------------------------------------------------
# From the other side: a server that is not what it was
# ---------------------------------------------------------------------------------------------------------------------


def test_a_tool_with_hidden_instructions_is_not_offered(target: Target) -> None:
    """Characters that nobody sees, and words for the model, are found in its description (P4)."""
    assert "archive_weather" not in target.tools()
    assert code(target.call("archive_weather")) is not None


def test_a_schema_that_leads_elsewhere_is_not_followed(target: Target) -> None:
    """The tool is refused, others go on, and nothing is fetched (P6, S1)."""
    message = target.call("archive_far", q="x")
    assert "error" in message or message["result"].get("isError") is True
    assert "/schema" not in target.issuer.fetched


def test_output_that_breaks_its_promise_does_not_arrive(target: Target) -> None:
    """Structured output is held against the schema of its tool (P6)."""
    message = target.call("archive_lies")
    assert "many" not in json.dumps(message)
    assert "error" in message or message["result"].get("isError") is True


def test_the_clients_token_goes_no_further(target: Target) -> None:
    """The upstream has the host's own credential, and never saw a client's (A4)."""
    token = target.token("mallory")
    assert "result" in target.call("archive_lookup", token)
    record = target.record.read_text("utf-8")
    assert "host-own-credential" in record
    assert token not in record
    assert token.split(".")[2] not in record


def test_a_tool_that_changes_after_it_was_seen_is_quarantined(target: Target) -> None:
    """The rug pull: from the next list on it is gone, and a call is refused (P1, P2); other tools stay (G5)."""
    assert "archive_search" in target.tools()
    target.call("archive_search", turn=True)
    deadline = time.monotonic() + LIMIT
    while "archive_search" in target.tools():
        assert time.monotonic() < deadline, "the changed tool is still offered"
        time.sleep(0.05)
    assert code(target.call("archive_search")) in {-32017, -32602}
    assert "count" in target.tools()


def test_spoiled_pins_close_the_host(target: Target) -> None:
    """Where the lock file cannot be read nothing is offered and nothing called, until it can (P3)."""
    pins = target.host.folder / "plughost-pins.toml"
    good = pins.read_text("utf-8")
    try:
        pins.write_text(good[:-9], "utf-8")
        assert (target.tools(), code(target.call("count", name="pins"))) == (set(), -32017)
    finally:
        pins.write_text(good, "utf-8")
    assert "result" in target.call("count", name="pins")


def test_a_child_sees_nothing_of_the_host_and_no_shell(target: Target) -> None:
    """Its arguments are as they were given, and the host's own environment stays its own (L1)."""
    seen = target.call("surroundings")["result"]["structuredContent"]
    assert seen["arguments"] == [SHELL]
    assert seen["environment"]["GIVEN"] == "on purpose"
    assert "of-the-host-alone" not in json.dumps(seen)
    assert not (target.host.folder / "owned").exists()


@pytest.mark.parametrize("end", [HostProcess.kill, HostProcess.stop], ids=["crash", "stop"])
def test_nothing_that_was_started_outlives_the_host(target: Target, end: Callable[[HostProcess], None]) -> None:
    """A child, and its own child that refuses to end, are gone after a crash and after a stop (L2)."""
    processes = [psutil.Process(pid) for pid in target.call("spawn")["result"]["structuredContent"]["result"]]
    end(target.host)
    assert psutil.wait_procs(processes, LIMIT)[1] == []
    target.host.start()


# ---------------------------------------------------------------------------------------------------------------------
# Afterwards
# ---------------------------------------------------------------------------------------------------------------------


def test_nothing_that_was_sent_is_in_the_log_or_the_audit(target: Target, tmp_path: Path) -> None:
    """Neither arguments nor results nor tokens (G6); and the audit's chain holds until a row is changed (G8)."""
    token = target.token("eve")
    target.call("count", token, name=SECRET)
    target.host.stop()
    folder = target.host.folder
    for file in ("host.log", "events.db", "events.db-wal"):
        held = (folder / file).read_bytes() if (folder / file).exists() else b""
        assert SECRET.encode() not in held
        assert token.split(".")[2].encode() not in held
    for file in ("events.db", "plughost.toml"):
        shutil.copy(folder / file, tmp_path)
    target.host.start()
    verify = [sys.executable, "-m", "plughost", "events", "verify", "--config", str(tmp_path / "plughost.toml")]
    assert subprocess.run(verify, check=False, capture_output=True).returncode == 0
    with closing(sqlite3.connect(tmp_path / "events.db")) as database, database:
        forged = database.execute(
            "UPDATE plughost_events SET data = CAST(replace(CAST(data AS TEXT), 'eve', 'bob') AS BLOB)"
            " WHERE instr(data, CAST('eve' AS BLOB))"
        )
        assert forged.rowcount > 0
    assert subprocess.run(verify, check=False, capture_output=True).returncode != 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"plugins": {"rbca": {}}}, "rbca"),
        ({"plugins": {"auth": {"tokens": {"a": {"token": "changeme"}}}}}, "token"),
        ({"providers": {"a": {"python": "notes_server:mcp"}, "b": {"python": "notes_server:mcp"}}}, "count"),
    ],
    ids=["a misspelt guard", "a placeholder for a secret", "two servers with one name"],
)
async def test_a_host_that_would_be_open_does_not_start(
    change: dict[str, Any], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown plugin (G2), a placeholder secret (G3), a tool of two providers (P5): one message names it."""
    (tmp_path / "notes_server.py").write_text(NOTES, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PlughostError, match=named):
        async with create_host({"host": {"control": False}, **change}):
            pass


def test_every_requirement_is_tried() -> None:
    """The id of each stands in the docstring of one of the tests above."""
    tried = " ".join(test.__doc__ or "" for name, test in globals().items() if name.startswith("test_"))
    assert [each for each in REQUIREMENTS if not re.search(rf"\b{each}\b", tried)] == []
