"""What Elasticsearch and Kibana need to know of these logs: an index template, and saved objects."""

from __future__ import annotations

import json
from typing import Any

from plughost_logs._line import ECS_VERSION, put

KEYWORD, TEXT, LONG, DATE, IP = "keyword", "match_only_text", "long", "date", "ip"

FIELDS = {
    "@timestamp": DATE,
    "message": TEXT,
    "ecs.version": KEYWORD,
    "service.name": KEYWORD,
    "service.version": KEYWORD,
    "service.type": KEYWORD,
    "host.hostname": KEYWORD,
    "log.level": KEYWORD,
    "log.logger": KEYWORD,
    "log.origin.file.name": KEYWORD,
    "log.origin.file.line": LONG,
    "log.origin.function": KEYWORD,
    "process.pid": LONG,
    "process.thread.name": KEYWORD,
    "trace.id": KEYWORD,
    "span.id": KEYWORD,
    "user.id": KEYWORD,
    "organization.id": KEYWORD,
    "client.ip": IP,
    "error.type": KEYWORD,
    "error.message": TEXT,
    "error.code": KEYWORD,
    "error.stack_trace": "wildcard",
    "event.kind": KEYWORD,
    "event.category": KEYWORD,
    "event.type": KEYWORD,
    "event.dataset": KEYWORD,
    "event.action": KEYWORD,
    "event.outcome": KEYWORD,
    "event.duration": LONG,
}
"""Fields of the Elastic Common Schema that a line may have, with their types there."""

OWN_FIELDS = {
    "mcp.method.name": KEYWORD,
    "mcp.request.id": KEYWORD,
    "mcp.session.id": KEYWORD,
    "mcp.protocol.version": KEYWORD,
    "mcp.target": KEYWORD,
    "plughost.provider": KEYWORD,
}
"""Fields that the schema does not have; their names follow the OpenTelemetry conventions for MCP."""

PATTERN = "logs-plughost.*"
VIEW = "plughost-logs"


def index_template() -> dict[str, Any]:
    """The body of `PUT _index_template/plughost-logs`: a data stream with the type of each field."""
    properties: dict[str, Any] = {}
    for name, kind in {**FIELDS, **OWN_FIELDS}.items():
        extra = {"ignore_above": 1024} if kind == KEYWORD else {}
        put(properties, name.replace(".", ".properties."), {"type": kind, **extra})
    labels = {"labels": {"path_match": "labels.*", "mapping": {"type": KEYWORD, "ignore_above": 1024}}}
    return {
        "index_patterns": [PATTERN],
        "data_stream": {},
        "priority": 200,
        "_meta": {"description": "Logs of Plughost", "ecs_version": ECS_VERSION},
        "template": {"mappings": {"dynamic_templates": [labels], "properties": properties}},
    }


def saved_objects() -> list[dict[str, Any]]:
    """A data view and searches, one object for each line of a file that Kibana imports."""
    view = {
        "type": "index-pattern",
        "id": VIEW,
        "attributes": {"title": PATTERN, "name": "Plughost logs", "timeFieldName": "@timestamp"},
        "references": [],
    }
    call = ["mcp.method.name", "mcp.target", "event.outcome", "event.duration", "plughost.provider", "trace.id"]
    return [
        view,
        _search("plughost-calls", "Plughost: requests", 'event.dataset: "plughost.calls"', call),
        _search(
            "plughost-failures",
            "Plughost: failed requests",
            'event.dataset: "plughost.calls" and event.outcome: "failure"',
            [*call, "error.code"],
        ),
        _search(
            "plughost-problems",
            "Plughost: warnings and errors",
            'log.level: ("warning" or "error" or "critical")',
            ["log.level", "log.logger", "message", "error.type", "trace.id"],
        ),
    ]


def _search(name: str, title: str, query: str, columns: list[str]) -> dict[str, Any]:
    index = "kibanaSavedObjectMeta.searchSourceJSON.index"
    source = {"query": {"language": "kuery", "query": query}, "filter": [], "indexRefName": index}
    return {
        "type": "search",
        "id": name,
        "attributes": {
            "title": title,
            "columns": columns,
            "sort": [["@timestamp", "desc"]],
            "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps(source)},
        },
        "references": [{"name": index, "type": "index-pattern", "id": VIEW}],
    }
