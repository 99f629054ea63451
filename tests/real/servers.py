"""The servers: how each is started, what it finds, and what a client asks it.

A server's folder is laid anew before each conversation, so that each starts from the same state.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from installation import PINS, node, node_package, python_environment

from real.talk import Step

UNKNOWN_TOOL = Step("tools/call", {"name": "no-such-tool", "arguments": {}}, says="no-such-tool")


@dataclass(frozen=True, slots=True)
class Server:
    """One server, all of it as functions of the folder that it works in."""

    command: Callable[[Path], tuple[str, ...]]
    steps: Callable[[Path], tuple[Step, ...]]
    contents: Callable[[Path], None] = lambda _: None
    """Fills the empty folder."""

    def lay(self, folder: Path) -> None:
        """Put the folder into the state that every conversation starts from."""
        # The folder itself stays: a running server may hold it.
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.contents(folder)


def _call(tool: str, says: str, **arguments: object) -> Step:
    return Step("tools/call", {"name": tool, "arguments": arguments}, says)


def _python(name: str) -> Path:
    """The program of a server from PyPI."""
    requirements: list[str] = PINS["servers"]["python"][name]
    return python_environment(*requirements) / "bin" / requirements[0].partition("==")[0]


def _node(name: str) -> tuple[str, str]:
    """The command of a server from npm."""
    package = f"@modelcontextprotocol/server-{name}"
    return str(node()), str(node_package(package, PINS["servers"]["node"][package]) / "dist" / "index.js")


def _with(**variables: str) -> tuple[str, ...]:
    """Goes in front of a command whose server reads the environment: the host hands a child little of its own."""
    return "env", *(f"{name}={value}" for name, value in variables.items())


def _time(_: Path) -> tuple[Step, ...]:
    zones = {"source_timezone": "UTC", "target_timezone": "Asia/Tokyo"}
    return (
        Step("tools/list", says="convert_time"),
        _call("convert_time", "T21:30:00+09:00", **zones, time="12:30"),
        _call("convert_time", "+9.0h", **zones, time="00:00"),
        _call("convert_time", "Invalid time format", **zones, time="half past"),
        _call("get_current_time", "Invalid timezone", timezone="Atlantis/Capital"),
        UNKNOWN_TOOL,
    )


DATES = {"GIT_AUTHOR_DATE": "1767323045 +0000", "GIT_COMMITTER_DATE": "1767323045 +0000"}
"""Commits made twice at these dates get the same hash."""


def _repository(folder: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=folder, env={**os.environ, **DATES}, check=True, capture_output=True)

    git("init", "--initial-branch=main")
    git("config", "user.name", "Ada")
    git("config", "user.email", "ada@example.org")
    (folder / "poem.txt").write_text("one\ntwo\n", "utf-8")
    git("add", "poem.txt")
    git("commit", "--message", "Begin the poem")
    (folder / "poem.txt").write_text("one\ntwo\nthree\n", "utf-8")


def _git(folder: Path) -> tuple[Step, ...]:
    here = {"repo_path": str(folder)}
    return (
        Step("tools/list", says="git_diff_unstaged"),
        _call("git_status", "modified:   poem.txt", **here),
        _call("git_diff_unstaged", "+three", **here, context_lines=1),
        _call("git_add", "staged", **here, files=["poem.txt"]),
        _call("git_commit", "committed", **here, message="Go on"),
        _call("git_log", "Go on", **here, max_count=5),
        _call("git_show", "+three", **here, revision="HEAD"),
        _call("git_show", "no-such-revision", **here, revision="no-such-revision"),
        _call("git_status", "outside", repo_path=str(folder.parent)),
        UNKNOWN_TOOL,
    )


def _sqlite(_: Path) -> tuple[Step, ...]:
    return (
        Step("tools/list", says="read_query"),
        _call("create_table", "created", query="CREATE TABLE moons (name TEXT, km INTEGER)"),
        _call("write_query", "affected_rows", query="INSERT INTO moons VALUES ('Io', 3643), ('Europa', 3122)"),
        _call("read_query", "Europa", query="SELECT name FROM moons ORDER BY km"),
        _call("describe_table", "INTEGER", table_name="moons"),
        _call("read_query", "Only SELECT", query="DROP TABLE moons"),
        Step("prompts/list", says="mcp-demo"),
        Step("prompts/get", {"name": "mcp-demo", "arguments": {"topic": "Jupiter"}}, says="Jupiter"),
        Step("resources/list", says="memo://insights"),
        Step("resources/read", {"uri": "memo://insights"}, says="No business insights"),
        Step("resources/read", {"uri": "memo://elsewhere"}, says="error"),
    )


def _testkit(_: Path) -> tuple[Step, ...]:
    return (
        Step("tools/list", says="conversion_rgb_to_hex"),
        _call("math_factorial", "2432902008176640000", n=20),
        _call("math_divide", "zero", a=1, b=0),
        _call("collection_group_by", "fruit", key="kind", items=[{"kind": "fruit", "name": "fig"}, {"kind": "nut"}]),
        _call("string_reverse", "desserts", text="stressed"),
        _call("echo_types", "null"),
        _call("echo_empty", "content"),
        _call("echo_nested", "level", depth=20),
        _call("echo_large", "ABCDEFGH", size_kb=256),
        _call("echo_error", "on purpose", message="on purpose"),
        _call("echo_schema", "isError", str_param=1),
        UNKNOWN_TOOL,
    )


def _files(folder: Path) -> None:
    (folder / "notes").mkdir()
    (folder / "notes" / "first.txt").write_text("one\ntwo\nthree\n", "utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")


def _filesystem(folder: Path) -> tuple[Step, ...]:
    first = str(folder / "notes" / "first.txt")
    return (
        Step("tools/list", says="read_text_file"),
        _call("list_allowed_directories", str(folder)),
        _call("directory_tree", "first.txt", path=str(folder)),
        _call("read_text_file", "two", path=first, head=2),
        _call("edit_file", "+zwei", path=first, edits=[{"oldText": "two", "newText": "zwei"}]),
        _call("read_text_file", "zwei", path=first),
        _call("write_file", "Successfully wrote", path=str(folder / "new.txt"), content="größer ☃"),
        _call("search_files", "new.txt", path=str(folder), pattern="new*"),
        _call("read_media_file", "image/png", path=str(folder / "picture.png")),
        _call("read_text_file", "Access denied", path="/etc/passwd"),
        _call("read_text_file", "isError", path=17),
        UNKNOWN_TOOL,
    )


def _memory(_: Path) -> tuple[Step, ...]:
    ada = {"name": "Ada", "entityType": "person", "observations": ["wrote the first program"]}
    engine = {"name": "Engine", "entityType": "machine", "observations": []}
    return (
        Step("tools/list", says="create_entities"),
        _call("create_entities", "Engine", entities=[ada, engine]),
        _call("create_relations", "programs", relations=[{"from": "Ada", "to": "Engine", "relationType": "programs"}]),
        _call("add_observations", "liked maths", observations=[{"entityName": "Ada", "contents": ["liked maths"]}]),
        _call("search_nodes", "first program", query="maths"),
        _call("add_observations", "not found", observations=[{"entityName": "Nobody", "contents": ["was here"]}]),
        _call("open_nodes", "isError", names="Ada"),
        Step("resources/list", says="knowledge-graph"),
        Step("resources/read", {"uri": "memory://knowledge-graph"}, says="liked maths"),
        Step("resources/read", {"uri": "memory://elsewhere"}, says="error"),
        UNKNOWN_TOOL,
    )


def _everything(_: Path) -> tuple[Step, ...]:
    document = "demo://resource/static/document/features.md"
    completable = {"type": "ref/prompt", "name": "completable-prompt"}
    department = {"name": "department", "value": "E"}
    return (
        Step("tools/list", says="get-sum"),
        _call("echo", "Echo: größer ☃", message="größer ☃"),
        _call("get-sum", "is 42", a=40, b=2),
        _call("get-sum", "isError", a="forty", b=2),
        _call("get-structured-content", "structuredContent", location="Chicago"),
        _call("get-annotated-message", "annotations", messageType="error", includeImage=True),
        _call("get-resource-links", "resource_link", count=2),
        _call("trigger-sampling-request", "a sampled word", prompt="Say a word", maxTokens=10),
        _call("trigger-elicitation-request", "Ada"),
        _call("get-roots-list", "file:///workspace"),
        Step(
            "tools/call",
            {"name": "trigger-long-running-operation", "arguments": {"duration": 0.3, "steps": 3}},
            says='"progress": 2',
            progress=True,
        ),
        Step("prompts/list", says="args-prompt"),
        Step("prompts/get", {"name": "args-prompt", "arguments": {"city": "Oslo"}}, says="weather in Oslo"),
        Step("prompts/get", {"name": "args-prompt", "arguments": {}}, says="error"),
        Step("resources/list", says="features.md"),
        Step("resources/templates/list", says="demo://resource/dynamic/text/{resourceId}"),
        Step("resources/read", {"uri": document}, says="Everything Server"),
        Step("resources/read", {"uri": "demo://elsewhere"}, says="error"),
        Step(
            "completion/complete",
            {"ref": completable, "argument": department},
            says="Engineering",
        ),
        UNKNOWN_TOOL,
    )


SERVERS: Mapping[str, Server] = {
    "time": Server(lambda _: (str(_python("time")), "--local-timezone=UTC"), _time),
    "git": Server(
        lambda folder: (*_with(**DATES), str(_python("git")), "--repository", str(folder)), _git, _repository
    ),
    "sqlite": Server(lambda folder: (str(_python("sqlite")), "--db-path", str(folder / "moons.db")), _sqlite),
    "testkit": Server(lambda _: (str(_python("testkit")),), _testkit),
    "filesystem": Server(lambda folder: (*_node("filesystem"), str(folder)), _filesystem, _files),
    "memory": Server(lambda folder: (*_with(MEMORY_FILE_PATH=str(folder / "graph.jsonl")), *_node("memory")), _memory),
    "everything": Server(lambda _: (*_node("everything"), "stdio"), _everything),
}
"""Python and Node, servers of both protocol eras."""


def everything_over_http(port: int) -> tuple[str, ...]:
    """The command of the reference everything server on Streamable HTTP."""
    return *_with(PORT=str(port)), *_node("everything"), "streamableHttp"
