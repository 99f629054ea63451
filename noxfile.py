"""Every check of the project. `nox` runs what a contributor wants; `nox --list` names the rest."""

from __future__ import annotations

import os
import platform
import shutil
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests"]

RUNNING = ".".join(platform.python_version_tuple()[:2])
PYTHONS = sorted({"3.11", "3.13", RUNNING})
"""The oldest and the newest supported, and the contributor's own: one of them is always there."""

PROJECT = nox.project.load_toml("pyproject.toml")
MEMBERS: list[str] = PROJECT["tool"]["uv"]["workspace"]["members"]
TEST_TOOLS = [tool for tool in PROJECT["dependency-groups"]["dev"] if tool.startswith(("pytest", "hypothesis"))]
BARE = ("plugins/testing/tests", "tests/benchmarks")
"""Folders whose modules import one another by their bare names."""
SIDE_BY_SIDE = ("--numprocesses=2", "--dist=worksteal")
"""Two tests at a time: they wait for processes as much as they compute."""
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith("__main__") and "_plugin_template" not in module.name:
        importlib.import_module(module.name)
"""
FAST = "not real and not conformance and not services"


def distribution(member: str) -> str:
    """The name under which a member of the workspace is published."""
    name: str = tomllib.loads(Path(member, "pyproject.toml").read_text("utf-8"))["project"]["name"]
    return name


def extras(member: str) -> str:
    """All that can be asked for besides, as pip writes it."""
    project = tomllib.loads(Path(member, "pyproject.toml").read_text("utf-8"))["project"]
    names = project.get("optional-dependencies", {})
    return f"[{','.join(names)}]" if names else ""


def sync(session: nox.Session, *groups: str, only: str = "") -> None:
    """Install all packages of the workspace, editable and as locked, or `only` one; with these dependency groups."""
    session.run_install(
        "uv",
        "sync",
        "--quiet",
        "--locked",
        f"--package={only}" if only else "--all-packages",
        "--no-default-groups",
        *(f"--group={group}" for group in groups),
        f"--python={session.virtualenv.location}",
        env={"UV_PROJECT_ENVIRONMENT": session.virtualenv.location},
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Style and likely bugs."""
    sync(session, "dev")
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check", "--diff")


@nox.session
def types(session: nox.Session) -> None:
    """Types, strictly: sources, tests, docs and this file."""
    sync(session, "dev", "docs")
    sources = [f"{member}/src" for member in MEMBERS]
    tests = [f"{member}/tests" for member in MEMBERS if any(Path(member, "tests").rglob("*.py"))]

    def check(*paths: str, bases: tuple[str, ...] = ()) -> None:
        # With bases of their own, the many modules called `conftest` are told apart by their folders.
        env = {"MYPYPATH": os.pathsep.join([*sources, "tests", "docs", *bases])}
        session.run("mypy", "--explicit-package-bases", *paths, env=env)

    together = [folder for folder in tests if folder not in BARE]
    check(
        *sources, *together, "tests", "docs", "conftest.py", "noxfile.py", *(f"--exclude=^{folder}/" for folder in BARE)
    )
    for folder in BARE:
        check(folder, bases=(folder,))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Unit and integration tests, all packages in one environment."""
    sync(session, "dev", "docs")
    session.run("pytest", *SIDE_BY_SIDE, "-m", FAST, *session.posargs)


@nox.session
def isolated(session: nox.Session) -> None:
    """Import every module of each package alone: what it does not declare is missed. `lowest` runs the tests."""
    for member in MEMBERS:
        name = distribution(member)
        sync(session, only=name)
        session.run("python", "-c", IMPORT_ALL, name.replace("-", "_"))


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """The host and all plugins with the oldest versions that they allow together, installed as users install them."""
    wheels = session.create_tmp()
    session.run_install("uv", "build", "--quiet", "--wheel", "--all-packages", f"--out-dir={wheels}")
    packages = [f"./{member}{extras(member)}" for member in MEMBERS]
    session.install(
        "--exact", "--no-sources", "--resolution=lowest-direct", f"--find-links={wheels}", *packages, *TEST_TOOLS
    )
    session.run("pytest", *SIDE_BY_SIDE, "-m", FAST, *(f"{member}/tests" for member in MEMBERS), *session.posargs)


@nox.session
def real(session: nox.Session) -> None:
    """Against servers and clients that others wrote, installed from the registries."""
    sync(session, "dev")
    session.run("pytest", *SIDE_BY_SIDE, "-m", "real", *session.posargs)


@nox.session
def services(session: nox.Session) -> None:
    """On real servers, the examples of the READMEs too: needs redis-server, postgresql, prometheus and nginx."""
    sync(session, "dev")
    codes = (0, 5) if session.posargs else (0,)  # a choice of tests may be all of one kind
    session.run("pytest", *SIDE_BY_SIDE, "-m", "services and not alone", *session.posargs, success_codes=codes)
    session.run("pytest", "-m", "services and alone", *session.posargs, success_codes=codes)


@nox.session
def conformance(session: nox.Session) -> None:
    """The official conformance suite, direct and through the host; prints the scores."""
    sync(session, "dev")
    session.run("pytest", "-m", "conformance", "--capture=no", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks; `nox -s bench -- --quick` for a look."""
    sync(session, "dev")
    session.run("python", "tests/benchmarks/run.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site, in docs/_build/html. A warning, or a broken link inside, is an error."""
    sync(session, "docs")
    session.run(
        "sphinx-build", "--fail-on-warning", "--keep-going", "--fresh-env", "docs", "docs/_build/html", *session.posargs
    )


@nox.session
def wheels(session: nox.Session) -> None:
    """Wheels of the host and of all plugins, in dist/; they install from there."""
    shutil.rmtree("dist", ignore_errors=True)
    names = [distribution(member) for member in MEMBERS if member != "plugin_template"]
    for name in names:
        session.run("uv", "build", "--quiet", "--wheel", f"--package={name}", "--out-dir=dist")
    session.install("--reinstall", "--find-links=dist", *names)
    session.run("plughost", "plugins", "list")
