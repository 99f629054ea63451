"""Real processes, and what can be done to them."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from mcp import Client
from plughost_testing import HostFactory
from plughost_testing.services import (
    HostProcess,
    Nginx,
    PostgreSQL,
    Program,
    Prometheus,
    Redis,
    Service,
    ServiceError,
    Stack,
)
from plughost_testing.services.service import wait_until

SERVER = """
from mcp.server.mcpserver import MCPServer

mcp = MCPServer("notes")

@mcp.tool()
def add(a: int, b: int) -> int:
    return a + b

if __name__ == "__main__":
    import sys
    mcp.run("streamable-http", port=int(sys.argv[1]))
"""


@pytest.fixture
def redis(stack: Stack) -> Redis:
    return stack.start(Redis())


@pytest.mark.services
class TestRedis:
    def test_answers(self, redis: Redis) -> None:
        """It listens on a port of its own."""
        assert redis.url == f"redis://127.0.0.1:{redis.port}/0"
        assert redis.ask("PING") == "+PONG"

    def test_survives_a_kill(self, redis: Redis) -> None:
        """Killed it is gone; restarted it has its port and its data."""
        redis.ask("SET key value")
        redis.kill()
        assert not redis.running
        with pytest.raises(OSError, match="refused"):
            redis.ask("PING")
        redis.restart()
        assert redis.ask("EXISTS key") == ":1"
        redis.clear()
        assert redis.ask("EXISTS key") == ":0"

    def test_freezes(self, redis: Redis) -> None:
        """Frozen it accepts connections and answers nothing; thawed it goes on."""
        redis.freeze()
        with pytest.raises(TimeoutError):
            redis.ask("PING", limit=0.2)
        redis.thaw()
        assert redis.ask("PING") == "+PONG"

    def test_errors_are_raised(self, redis: Redis) -> None:
        """An error that it answers is an exception."""
        with pytest.raises(ServiceError, match="NOSUCH"):
            redis.ask("NOSUCH")


@pytest.mark.services
def test_postgresql(stack: Stack) -> None:
    """It runs, also for root, has databases to give away, and keeps its data through a crash."""
    server = stack.start(PostgreSQL())
    first, second = server.new_database(), server.new_database()
    assert first != second
    database = first.rpartition("/")[2]
    server.query("CREATE TABLE t AS SELECT 42 AS n", database=database)
    server.kill()
    assert not server.ready()
    server.restart()
    assert server.query("SELECT n FROM t", database=database) == "42"
    with pytest.raises(ServiceError, match="syntax error"):
        server.query("SELEKT")


@pytest.mark.services
def test_prometheus(stack: Stack) -> None:
    """It scrapes its targets, and answers queries."""
    first = stack.start(Prometheus())
    second = stack.start(Prometheus([f"127.0.0.1:{first.port}"]))

    def scraped() -> bool:
        return [sample["value"][1] for sample in second.query('up{job="plughost"}')] == ["1"]

    assert wait_until(scraped, 20)


@pytest.mark.services
def test_nginx(stack: Stack) -> None:
    """It serves the site it is given, and what is wrong with the site is in the error."""
    nginx = stack.start(Nginx("server { listen 127.0.0.1:{port}; location / { return 200 hello; } }"))
    with urlopen(nginx.url) as answer:
        assert answer.read() == b"hello"
    nginx.restart()
    assert nginx.ready()
    with pytest.raises(ServiceError, match="unknown directive"):
        stack.start(Nginx("sever { listen {port}; }"))


@pytest.mark.anyio
async def test_host_and_upstream(stack: Stack, tmp_path: Path) -> None:
    """A host process serves a tool of an upstream process; both are the test's to restart."""
    program = tmp_path / "notes_server.py"
    program.write_text(SERVER, "utf-8")
    upstream = stack.start(Program(sys.executable, str(program), "{port}"))
    config = {"providers": {"notes": {"python": "notes_server:mcp", "prefix": "own_"}}}
    host = stack.start(HostProcess(config, files={"notes_server.py": SERVER}))
    for url, tool in ((upstream.url, "add"), (host.url, "own_add")):
        async with Client(url) as client:
            assert (await client.call_tool(tool, {"a": 1, "b": 2})).structured_content == {"result": 3}
    host.configure({"providers": {"notes": {"python": "notes_server:mcp", "prefix": "new_"}}})
    host.restart()
    async with Client(host.url) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["new_add"]


@pytest.mark.services
@pytest.mark.anyio
async def test_services_are_no_leak(stack: Stack, host: HostFactory) -> None:
    """A process of a stack that outlives a host is the stack's to stop, and no leak of the test."""
    await host()
    stack.start(Redis())


@pytest.mark.services
def test_nothing_is_left() -> None:
    """After the stack neither processes nor folders are there, also when one was killed or frozen."""
    with Stack() as stack:
        killed, frozen = stack.start(Redis()), stack.start(Redis())
        folders = [killed.folder, frozen.folder]
        killed.kill()
        frozen.freeze()
        pid = frozen.process.pid if frozen.process else 0
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)
    assert not any(folder.exists() for folder in folders)


class Missing(Service):
    package = "no-such-package"

    def command(self) -> list[str]:
        return [self.program("no-such-program")]


class Short(Service):
    def command(self) -> list[str]:
        return [sys.executable, "-c", "print('I give up'); raise SystemExit(3)"]


class Stubborn(Service):
    def command(self) -> list[str]:
        ignoring = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('up', 'w'); time.sleep(60)"
        return [sys.executable, "-c", ignoring]

    def ready(self) -> bool:
        return (self.folder / "up").exists()


def test_missing_program_names_its_package(stack: Stack) -> None:
    """What is not installed is an error that says how to install it."""
    with pytest.raises(ServiceError, match="'no-such-program' is not installed; on Debian: apt-get install no-such-pa"):
        stack.start(Missing())


def test_failed_start_shows_the_output(stack: Stack) -> None:
    """A process that ends before it is ready is an error with what it printed."""
    with pytest.raises(ServiceError, match="ended with 3 before it was ready: I give up"):
        stack.start(Short())


def test_stubborn_process_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not stop when it is asked to is killed, and the stack says so."""
    monkeypatch.setattr("plughost_testing.services.service.STOP_LIMIT", 0.2)
    stack = Stack()
    service = stack.start(Stubborn())
    with pytest.raises(ServiceError, match=r"<Stubborn on port .* did not stop"):
        stack.close()
    assert not service.running
    assert not service.folder.exists()
