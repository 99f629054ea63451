"""One conversation of a client with a server, and the two families of clients that can hold it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from installation import PINS, node, node_package
from mcp import Client, MCPError, StdioServerParameters
from mcp_types import (
    CreateMessageResult,
    ElicitResult,
    ListRootsResult,
    PromptReference,
    ResourceTemplateReference,
)
from pydantic import BaseModel, TypeAdapter

Target = str | tuple[str, ...]
"""The URL of a Streamable HTTP server, or the command of a stdio server."""

LIMIT = 60
ANSWERS: Mapping[str, dict[str, Any]] = {
    "sampling/createMessage": {
        "model": "fixed",
        "role": "assistant",
        "content": {"type": "text", "text": "a sampled word"},
    },
    "elicitation/create": {"action": "accept", "content": {"name": "Ada"}},
    "roots/list": {"roots": [{"uri": "file:///workspace", "name": "workspace"}]},
}
"""What every client answers when a server asks it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One request, and a piece of the right answer."""

    method: str
    params: Mapping[str, Any] = field(default_factory=dict)
    says: str = ""
    progress: bool = False
    """Whether the client asks for progress, which then is part of the outcome."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a client saw: the negotiated revision, and for each step its result or error and its progress."""

    protocol_version: str
    outcomes: list[dict[str, Any]]


def python_sdk(mode: str, target: Target, steps: Sequence[Step]) -> Conversation:
    """Held by the official Python SDK's client; `mode` as it calls the eras, `auto` or `legacy`."""
    return anyio.run(_python_sdk, mode, target, steps)


async def _python_sdk(mode: str, target: Target, steps: Sequence[Step]) -> Conversation:
    server = target if isinstance(target, str) else StdioServerParameters(command=target[0], args=list(target[1:]))
    client = Client(
        server,
        mode=mode,
        cache=None,
        sampling_callback=_answering("sampling/createMessage", CreateMessageResult),
        elicitation_callback=_answering("elicitation/create", ElicitResult),
        list_roots_callback=_answering("roots/list", ListRootsResult),
    )
    with anyio.fail_after(LIMIT):
        async with client:
            return Conversation(client.protocol_version, [await _take(client, step) for step in steps])


async def _take(client: Client, step: Step) -> dict[str, Any]:
    seen: list[dict[str, Any]] = []

    async def progress(value: float, total: float | None, message: str | None) -> None:
        seen.append({"progress": value, "total": total, "message": message})

    params = dict(step.params)
    if step.progress:
        params["progress_callback"] = progress
    if "ref" in params:
        params["ref"] = TypeAdapter(PromptReference | ResourceTemplateReference).validate_python(params["ref"])
    calls: Mapping[str, Callable[..., Awaitable[BaseModel]]] = {
        "tools/list": client.list_tools,
        "tools/call": client.call_tool,
        "prompts/list": client.list_prompts,
        "prompts/get": client.get_prompt,
        "resources/list": client.list_resources,
        "resources/templates/list": client.list_resource_templates,
        "resources/read": client.read_resource,
        "completion/complete": client.complete,
    }
    try:
        result = await calls[step.method](**params)
    except MCPError as error:
        return {"error": error.error.model_dump(mode="json", exclude_none=True), "progress": seen}
    return {"result": result.model_dump(mode="json", by_alias=True, exclude_none=True), "progress": seen}


def _answering(method: str, model: type[BaseModel]) -> Any:
    async def answer(*_: Any) -> BaseModel:
        return model.model_validate(ANSWERS[method])

    return answer


def typescript_sdk(package: str, mode: str, target: Target, steps: Sequence[Step]) -> Conversation:
    """Held by a TypeScript SDK's client, in a Node process of its own."""
    folder = node_package(package, PINS["clients"]["node"][package])
    talk = {
        "package": package,
        "folder": str(folder),
        "mode": mode,
        "url" if isinstance(target, str) else "command": target,
        "answers": ANSWERS,
        "steps": [{"method": step.method, "params": step.params, "progress": step.progress} for step in steps],
    }
    done = subprocess.run(
        [str(node()), str(Path(__file__).with_name("client.mjs"))],
        input=json.dumps(talk),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the client of {package} failed with {done.returncode}: {done.stderr[-4000:]}")
    return Conversation(**json.loads(done.stdout))


CLIENTS: Mapping[str, Callable[[Target, Sequence[Step]], Conversation]] = {
    "Python 2026-07-28": partial(python_sdk, "auto"),
    "Python 2025-11-25": partial(python_sdk, "legacy"),
    "TypeScript 2026-07-28": partial(typescript_sdk, "@modelcontextprotocol/client", "auto"),
    "TypeScript 2025-11-25": partial(typescript_sdk, "@modelcontextprotocol/sdk", "legacy"),
}
"""Each client that holds conversations, by its family and the newest revision that it speaks."""
