"""What the documentation site takes from the code: the reference pages, written anew by each build.

A page asks for its generated part with a comment, `<!-- generated: hooks -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from plughost_docs import api, catalogue, commands, config, errors, events, hooks, security

ROOT = Path(__file__).parents[2]
MARKER = re.compile(r"^<!-- generated: ([a-z-]+) -->$", re.MULTILINE)

GENERATORS: Mapping[str, Callable[[], str]] = {
    "api": api.section,
    "catalogue": catalogue.section,
    "commands": commands.section,
    "config": config.section,
    "errors": errors.section,
    "events": events.section,
    "hooks": hooks.section,
    "security": lambda: security.section(ROOT),
}


def fill(text: str) -> str:
    """The page with each marker replaced by what it asks for."""
    return MARKER.sub(lambda marker: GENERATORS[marker[1]](), text)
