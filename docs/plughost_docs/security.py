"""The security reference: each requirement beside the tests whose docstring carries its id."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from plughost_docs.markdown import table

REQUIREMENTS: Mapping[str, str] = {
    "T1": "A bad `Origin` is answered 403; the default bind is 127.0.0.1; another address demands `allowed_hosts`.",
    "T2": "An `MCP-Protocol-Version` header that differs from the body's `_meta` is answered 400, -32020.",
    "T3": "`Mcp-Method`, `Mcp-Name` or `Mcp-Param-*` unlike the body are answered 400, -32020, before any policy.",
    "T4": "The body is the truth; no policy decides on headers alone.",
    "T5": "Unknown version: -32022 with the supported list; missing capability: -32021; unknown method: -32601.",
    "T6": "Plughost's own error codes stay in -32000…-32019.",
    "T7": "A client that closes the response stream cancels the call, upstream too; nothing is sent after.",
    "T8": "The maximum time of a call holds even while progress notifications arrive.",
    "T9": "On 2026-07-28 the host never sends a JSON-RPC request to the client.",
    "T10": "A request body over the size limit is answered 413 before parsing; the depth of JSON is bounded.",
    "A1": "Protected resource metadata is served; a 401 names it, and the scopes where they are known.",
    "A2": "A 403 `insufficient_scope` names every scope that is needed in one challenge.",
    "A3": "A token for another resource is answered 401.",
    "A4": "The client's token is never sent upstream; upstream credentials come from the configuration.",
    "A5": "A token in the query string is refused.",
    "A6": "The issuer is compared exactly; keys are kept by issuer.",
    "A7": "Forged, expired, early or mistyped tokens are answered 401; keys are fetched in no storm, kept for a time.",
    "H1": "A session id is no authentication: a session is bound to the credential that opened it; others miss it.",
    "G2": "An unknown plugin or provider name, or a fault of the configuration, stops the start with a message.",
    "G3": "There are no default secrets, and placeholder secrets are refused.",
    "G5": "One upstream's failure never removes another's tools.",
    "G7": "A plugin's unhandled exception reaches the client as a generic error with a request id; the log has more.",
    "S1": "A URL that a document names is https and leads to public addresses, at dial time; no redirect is followed.",
    "L1": "stdio commands are argument lists without a shell; the child's environment is an allow-list.",
    "L2": "The process group of a stdio server is killed on stop, crash and host exit: no orphan after 1,000 cycles.",
}
"""Id → requirement, of those that the packages here implement."""

_ID = re.compile(rf"\b(?:{'|'.join(sorted(REQUIREMENTS, key=len, reverse=True))})\b")


def test_files(root: Path) -> Iterator[Path]:
    """Every test module of the repository."""
    for pattern in ("host/tests", "plugins/*/tests", "tests"):
        for folder in sorted(root.glob(pattern)):
            yield from sorted(folder.rglob("test_*.py"))


def covering_tests(root: Path) -> dict[str, list[tuple[str, str, str]]]:
    """For each id, the tests that carry it: file, name, and the fact they state."""
    found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for path in test_files(root):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                fact = " ".join((ast.get_docstring(node) or "").split())
                for identifier in sorted(set(_ID.findall(fact))):
                    found[identifier].append((path.relative_to(root).as_posix(), node.name, fact))
    return found


def section(root: Path) -> str:
    """One heading per id, with its tests.

    Raises:
        LookupError: An id has no test.
    """
    tests = covering_tests(root)
    if missing := [identifier for identifier in REQUIREMENTS if not tests.get(identifier)]:
        raise LookupError(f"no test carries these security ids in its docstring: {', '.join(missing)}")
    return "\n".join(
        f"## {identifier}\n\n{requirement}\n\n"
        + table(("test", "states"), ((f"`{path}` `{name}`", fact) for path, name, fact in tests[identifier]))
        for identifier, requirement in REQUIREMENTS.items()
    )
