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
    "A8": "Lists and calls are decided by one function: what may not be called is not seen; hidden is like missing.",
    "A9": "Deny by default with rbac; rules decide on the provider and its own name, after TRANSFORM.",
    "A10": "Tool annotations never raise a privilege.",
    "H1": "A session id is no authentication: a session is bound to the credential that opened it; others miss it.",
    "H2": "`requestState` is sealed, bound to principal, request and time; its keys are shared and rotated.",
    "H3": "What carries `requestState` or `inputResponses` is never cached or shared.",
    "K1": "Kept by default are lists and reads, by `ttlMs` and `cacheScope`; a tool only if the operator names it.",
    "K2": "A key holds tenant, principal, provider and canonical arguments; private entries never cross principals.",
    "K3": "Errors, `isError` and `input_required` are never kept; what a policy filtered becomes private.",
    "K4": "A kept value cannot be changed through what was handed out.",
    "K5": "Only calls of named tools are shared; a leader that leaves harms no follower, and none runs twice.",
    "P1": "Pins are SHA-256 over canonical JSON of the whole tool, prompt or resource.",
    "P2": "What is changed, added, removed or renamed is quarantined until it is approved.",
    "P3": "A pin store that cannot be read blocks; it is never open.",
    "P4": "Every text of a schema, and results, are scanned for hidden characters and instructions.",
    "P5": "The same name from two providers is an error.",
    "P6": "Structured output is held against its schema; no `$ref` is fetched; schemas are bounded in size and time.",
    "G1": "A guard that raises or hangs refuses, unless its `fail_mode` is `open`; then it is counted.",
    "G2": "An unknown plugin or provider name, or a fault of the configuration, stops the start with a message.",
    "G3": "There are no default secrets, and placeholder secrets are refused.",
    "G4": "A limit over several buckets takes from all or from none.",
    "G5": "One upstream's failure never removes another's tools.",
    "G6": "Logs, audit and errors hold no arguments, results or tokens unless the operator names fields.",
    "G7": "A plugin's unhandled exception reaches the client as a generic error with a request id; the log has more.",
    "G8": "Audit entries are hash-chained; one that was altered is found.",
    "S1": "A URL that a document names is https and leads to public addresses, at dial time; no redirect is followed.",
    "L1": "stdio commands are argument lists without a shell; the child's environment is an allow-list.",
    "L2": "The process group of a stdio server is killed on stop, crash and host exit: no orphan after 1,000 cycles.",
}
"""Id → requirement."""

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
