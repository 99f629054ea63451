"""Servers that others wrote answer through the host as they answer alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pytest
from serving import free_port, serving

from real.comparison import differences
from real.hosting import run, served
from real.servers import SERVERS, Server, everything_over_http
from real.talk import CLIENTS, Conversation, Target

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


class Subject:
    """A server in its folder, with what each client saw of it alone."""

    def __init__(self, name: str, folder: Path) -> None:
        self.server: Server = SERVERS[name]
        self.folder = folder
        self.steps = self.server.steps(folder)
        self._direct: dict[str, Conversation] = {}

    @cached_property
    def command(self) -> tuple[str, ...]:
        return self.server.command(self.folder)

    def direct(self, client: str) -> Conversation:
        if client not in self._direct:
            self._direct[client] = self.hold(client, self.command)
        return self._direct[client]

    def hold(self, client: str, target: Target) -> Conversation:
        """The client's conversation with the target, from the state that every conversation starts from."""
        self.server.lay(self.folder)
        return CLIENTS[client](target, self.steps)


@pytest.fixture(scope="module", params=SERVERS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """One of the stdio servers."""
    return Subject(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def url(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the host that fronts it."""
    with served(f"command = {json.dumps(subject.command)}", tmp_path_factory.mktemp("host")) as address:
        yield address


@pytest.mark.parametrize("client", CLIENTS)
def test_the_server_does_its_work(subject: Subject, client: str) -> None:
    """Alone, the server answers each step with what the step expects: the yardstick measures something."""
    for step, outcome in zip(subject.steps, subject.direct(client).outcomes, strict=True):
        assert step.says in json.dumps(outcome, ensure_ascii=False), step


@pytest.mark.parametrize("client", CLIENTS)
def test_serve_answers_as_the_server_does(subject: Subject, url: str, client: str) -> None:
    """Over Streamable HTTP, `plughost serve` hands on every list, result, error and progress of a stdio server."""
    direct, through = subject.direct(client), subject.hold(client, url)
    lost = list(differences(subject.steps, direct, through))
    assert not lost, "\n".join(lost)
    assert through.protocol_version == client.split()[1]


@pytest.mark.parametrize("client", ["Python 2026-07-28", "TypeScript 2025-11-25"])
def test_run_answers_as_the_server_does(subject: Subject, client: str) -> None:
    """From stdio to stdio, `plughost run` drops into the place of the server's own command.

    Every client starts a host of its own here, so one of each family and of each revision has to do.
    """
    direct, through = subject.direct(client), subject.hold(client, run(subject.command))
    lost = list(differences(subject.steps, direct, through))
    assert not lost, "\n".join(lost)
    assert through.protocol_version == client.split()[1]


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The reference everything server over Streamable HTTP."""
    port = free_port()
    command = everything_over_http(port)
    with serving(command, port, log=tmp_path_factory.mktemp("remote") / "server.log") as url:
        yield url


@pytest.fixture(scope="module")
def fronted(remote: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the host that fronts it."""
    with served(f'url = "{remote}"', tmp_path_factory.mktemp("host")) as url:
        yield url


@pytest.mark.parametrize("client", CLIENTS)
def test_serve_answers_as_an_http_server_does(remote: str, fronted: str, client: str) -> None:
    """`plughost serve` hands on every list, result, error and progress of a Streamable HTTP server."""
    steps = SERVERS["everything"].steps(Path())
    direct, through = CLIENTS[client](remote, steps), CLIENTS[client](fronted, steps)
    lost = list(differences(steps, direct, through))
    assert not lost, "\n".join(lost)
    assert through.protocol_version == client.split()[1]
