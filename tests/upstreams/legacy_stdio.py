"""A stdio MCP server of revision 2025-11-25 with the standard library only: it starts quickly and does what it is told.

Arguments: `--mute` never answers `server/discover`, `--shy` exits at it, `--slow SECONDS` starts late, `--deaf`
ignores the end of stdin and SIGTERM, `--brood` starts a child of its own, `--fail` exits at once, `--sloppy` lists what
the specification does not allow.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

ids = count(1)
waiting: dict[Any, asyncio.Future[Any]] = {}
running: dict[Any, asyncio.Task[None]] = {}
state: dict[str, Any] = {"calls": 0, "level": None, "extra": []}
client: dict[str, Any] = {}
subscribed: set[str] = set()

TOOLS = [
    "echo",
    "count",
    "env",
    "ask",
    "ask_twice",
    "ask_url",
    "url_first",
    "sample",
    "roots",
    "log",
    "progress",
    "hang",
    "client",
]
SLOPPY: dict[str, list[Any]] = {
    "tools": [
        {"name": "untyped", "inputSchema": {"properties": {}}},
        {"name": "wrong", "inputSchema": {"type": "array"}},
        {"name": "bare"},
        {"name": 7, "inputSchema": {"type": "object"}},
        {"inputSchema": {"type": "object"}},
        "a tool",
    ],
    "prompts": [{"name": None}, {"name": "odd", "arguments": [{"required": True}]}],
    "resources": [{"uri": "test://nameless"}],
}


def write(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


async def ask(method: str, params: dict[str, Any]) -> Any:
    number = f"server-{next(ids)}"
    waiting[number] = asyncio.get_running_loop().create_future()
    write({"id": number, "method": method, "params": params})
    return await waiting[number]


def notify(method: str, params: dict[str, Any]) -> None:
    write({"method": method, "params": params})


def text(value: object, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": value if isinstance(value, str) else json.dumps(value)}], **more}


def form(message: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    return {"mode": "form", "message": message, "requestedSchema": schema}


class RefusedError(Exception):
    def __init__(self, code: int, message: str, data: Any = None) -> None:
        self.error = {"code": code, "message": message, **({"data": data} if data is not None else {})}


async def call_tool(name: str, arguments: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    state["calls"] += 1
    if name == "echo":
        return text(arguments.get("text", ""), _meta={"vendor/seen": meta}, vendorField=7)
    if name == "count":
        return text(str(state["calls"]), structuredContent={"calls": state["calls"], "pid": os.getpid()})
    if name == "env":
        return text(dict(os.environ))
    if name == "client":
        return text(client)
    if name == "ask":
        return text(await ask("elicitation/create", form("Who?")))
    if name == "ask_twice":
        first = await ask("elicitation/create", form("First?"))
        second = await ask("elicitation/create", form("Second?"))
        return text([first, second])
    if name == "ask_url":
        return text(
            await ask(
                "elicitation/create",
                {"mode": "url", "message": "Go", "url": "https://x.example", "elicitationId": "e1"},
            )
        )
    if name == "url_first":
        if state["calls"] < 2:
            raise RefusedError(
                -32042,
                "open it",
                {"elicitations": [{"mode": "url", "message": "Go", "url": "https://x.example", "elicitationId": "e1"}]},
            )
        return text("welcome")
    if name == "sample":
        message = {"role": "user", "content": {"type": "text", "text": "hi"}}
        return text(await ask("sampling/createMessage", {"messages": [message], "maxTokens": 5}))
    if name == "roots":
        return text(await ask("roots/list", {}))
    if name == "log":
        for level in ("debug", "info", "error"):
            notify("notifications/message", {"level": level, "data": f"{level}!"})
        return text("logged")
    if name == "progress":
        for step in (1, 2, 3):
            notify("notifications/progress", {"progressToken": meta.get("progressToken"), "progress": step, "total": 3})
        return text("done")
    if name == "hang":
        notify("notifications/message", {"level": "error", "data": "hanging"})
        try:
            while True:
                await asyncio.sleep(0.01)
                if meta.get("progressToken") is not None:
                    notify("notifications/progress", {"progressToken": meta["progressToken"], "progress": 1})
        except asyncio.CancelledError:
            Path(arguments["mark"]).write_text("cancelled")  # noqa: ASYNC240 - it is the last thing it does
            raise
    raise RefusedError(-32602, f"Unknown tool: {name}")


async def serve(method: str, params: dict[str, Any]) -> dict[str, Any]:
    meta = params.get("_meta") or {}
    if method == "initialize":
        client.update(params)
        capabilities = {"tools": {"listChanged": True}, "resources": {"subscribe": True}, "prompts": {}, "logging": {}}
        info = {"name": "legacy", "version": "1"}
        return {
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities,
            "serverInfo": info,
            "instructions": "Be kind.",
        }
    if method == "ping":
        return {}
    if method == "logging/setLevel":
        state["level"] = params["level"]
        return {}
    if method == "tools/list":
        names = [*TOOLS, *state["extra"]]
        start = int(params.get("cursor", 0))
        tools = [
            {"name": name, "inputSchema": {"type": "object", "$defs": {}}, "execution": {}}
            for name in names[start : start + 5]
        ]
        return {"tools": tools, **({"nextCursor": str(start + 5)} if start + 5 < len(names) else {})}
    if method == "resources/list":
        return {"resources": [{"uri": "test://a", "name": "a"}]}
    if method == "resources/read":
        if params["uri"] != "test://a":
            raise RefusedError(-32002, "Resource not found", {"uri": params["uri"]})
        return {"contents": [{"uri": "test://a", "text": "A"}]}
    if method == "resources/subscribe":
        subscribed.add(params["uri"])
        return {}
    if method == "resources/unsubscribe":
        subscribed.discard(params["uri"])
        return {}
    if method == "prompts/list":
        return {"prompts": [{"name": "greet"}]}
    if method == "prompts/get":
        return {"messages": [{"role": "user", "content": {"type": "text", "text": f"Greet {params.get('arguments')}"}}]}
    if method == "vendor/double":
        return {"value": params["value"] * 2}
    if method == "vendor/add_tool":
        state["extra"].append(params["name"])
        notify("notifications/tools/list_changed", {})
        return {}
    if method == "vendor/touch":
        for uri in subscribed:
            notify("notifications/resources/updated", {"uri": uri})
        return {"subscribed": sorted(subscribed)}
    if method == "vendor/level":
        return {"level": state["level"]}
    if method == "vendor/die":
        os._exit(3)
    if method == "tools/call":
        return await call_tool(params["name"], params.get("arguments") or {}, meta)
    raise RefusedError(-32601, "Method not found", method)


def spoil(method: str, result: dict[str, Any]) -> dict[str, Any]:
    kind = method.removesuffix("/list")
    return {**result, kind: [*SLOPPY[kind], *result[kind]], "ttlMs": "soon"} if kind in SLOPPY else result


async def answer(message: dict[str, Any]) -> None:
    method = message["method"]
    try:
        result = await serve(method, message.get("params") or {})
        if "--sloppy" in sys.argv and "cursor" not in (message.get("params") or {}):
            result = spoil(method, result)
        write({"id": message["id"], "result": result})
    except RefusedError as refused:
        write({"id": message["id"], "error": refused.error})
    finally:
        running.pop(message["id"], None)


def take(message: dict[str, Any]) -> None:
    if "method" not in message:
        outcome = message.get("result", message.get("error"))
        waiting[message["id"]].set_result(outcome)
    elif message["method"] == "notifications/cancelled":
        if (task := running.get(message["params"]["requestId"])) is not None:
            task.cancel()
    elif message["method"] == "notifications/roots/list_changed":
        sys.stderr.write("roots changed\n")
    elif "id" in message:
        if message["method"] == "server/discover" and "--mute" in sys.argv:
            return
        if message["method"] == "server/discover" and "--shy" in sys.argv:
            os._exit(4)
        running[message["id"]] = asyncio.create_task(answer(message))


async def main() -> None:
    if "--fail" in sys.argv:
        sys.stderr.write("no licence found\n")
        sys.exit(5)
    if "--slow" in sys.argv:
        await asyncio.sleep(float(sys.argv[sys.argv.index("--slow") + 1]))
    if "--brood" in sys.argv:
        subprocess.Popen(["sleep", "600"])  # noqa: ASYNC220 - nothing else runs yet
    if "--deaf" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stderr.write("started\n")
    reader = asyncio.StreamReader(limit=2**26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        take(json.loads(line))
    if "--deaf" in sys.argv:
        await asyncio.Event().wait()


asyncio.run(main())
