"""Runs the official conformance suite against a URL and reads the checks that it made."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from installation import PINS, node, node_package

from conformance.checks import Checks, Run, collect

REVISIONS = {"2025-11-25": 30, "2026-07-28": 37}
"""Each protocol revision with the number of scenarios that it requires of a server."""

SCENARIO_LIMIT = 10
RUN_LIMIT = 100
_RESULTS = re.compile(r"server-(?P<scenario>.+)-\d{4}-\d\d-\d\dT[\d-]+Z")
_REQUIRED = re.compile(r"^server:\n(?P<names>(?:  - \S+\n)+)", re.MULTILINE)
_EXTENSION = re.compile(r"  - scenario: (\S+)\n    leg: server\n    reason: extension\n")


def run_suite(url: str, revision: str, output: Path) -> Run:
    """The checks that the suite makes for `revision` against the server at `url`; its files go into `output`.

    Scenarios of optional extensions are left out: the everything server does not serve them, so they say nothing.
    """
    ((name, version),) = PINS["conformance"].items()
    package = node_package(name, version)
    command = [str(node()), str(package / "dist" / "index.js"), "server", "--url", url, "--requirements", revision]
    output.mkdir(parents=True)
    with (output / "output.txt").open("wb") as log:
        # The exit code counts the extensions too, so it is not looked at: the checks are.
        subprocess.run(
            [*command, "--timeout", str(SCENARIO_LIMIT * 1000), "--output-dir", str(output)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=RUN_LIMIT,
            check=False,
        )
    requirements = (package / "requirements" / f"{revision}.yaml").read_text("utf-8")
    required = _REQUIRED.search(requirements)
    assert required, f"the suite's requirements for {revision} list no server scenarios"
    extensions = set(_EXTENSION.findall(requirements))
    scenarios = {name: checks for name, checks in _read(output).items() if name not in extensions}
    return Run(scenarios, tuple(required["names"].replace("  - ", "").split()))


def _read(output: Path) -> dict[str, Checks]:
    """The checks by scenario. A scenario that broke off wrote none, and is missing."""
    return {
        match["scenario"]: collect(json.loads(file.read_text("utf-8")))
        for file in sorted(output.glob("*/checks.json"))
        if (match := _RESULTS.fullmatch(file.parent.name))
    }
