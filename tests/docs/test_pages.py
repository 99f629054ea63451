"""The hand-written pages show what was run, and lead where they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from plughost_docs.links import broken_links

from docs.examples import EXAMPLES, REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
INCLUDED = re.compile(r"\{literalinclude\} /(\S+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_on_pages_is_included_from_files(page: Path) -> None:
    """No page holds Python or TOML of its own, which no test would run."""
    assert re.findall(r"^```(?:python|toml)$", page.read_text("utf-8"), re.MULTILINE) == []


@pytest.mark.parametrize("page", [*PAGES, REPOSITORY / "README.md"], ids=lambda page: page.stem)
def test_links_of_a_page_lead_to_files(page: Path) -> None:
    """Relative links hold in the repository too, not only on the site."""
    broken = [target for target in LINK.findall(page.read_text("utf-8")) if not (page.parent / target).exists()]
    assert broken == []


def test_every_example_is_shown() -> None:
    """Each file under examples/ is on a page, or is started by a config that is."""
    shown = {path for page in PAGES for path in INCLUDED.findall(page.read_text("utf-8"))}
    texts = "".join((DOCS / path).read_text("utf-8") for path in shown)
    files = [path.relative_to(DOCS).as_posix() for path in EXAMPLES.rglob("*") if path.is_file()]
    own = [name for name in files if "__pycache__" not in name and "examples/hooks/" not in name]
    assert [name for name in own if name not in shown and Path(name).stem not in texts] == []


def site(folder: Path, body: str) -> Path:
    (folder / "other.html").write_text('<p id="here">', "utf-8")
    (folder / "index.html").write_text(body, "utf-8")
    return folder


@pytest.mark.parametrize("target", ["other.html", "other.html#here", "https://example.com/x", "mailto:a@example.com"])
def test_a_link_that_leads_somewhere_passes(tmp_path: Path, target: str) -> None:
    """Files, elements of them, and what is outside the site are fine."""
    assert broken_links(site(tmp_path, f'<a href="{target}">')) == []


@pytest.mark.parametrize("target", ["gone.html", "other.html#gone", "#gone"])
def test_a_broken_link_is_named(tmp_path: Path, target: str) -> None:
    """The page and the target are in the list that fails the build."""
    assert broken_links(site(tmp_path, f'<a href="{target}">')) == [f"index.html: {target}"]
