"""Sphinx hooks: fill the generated pages, and refuse a site with a broken link inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphinx.errors import ExtensionError

from plughost_docs import fill
from plughost_docs.links import broken_links

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def _fill(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = fill(source[0])


def _check_links(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.name == "html" and (broken := broken_links(Path(app.outdir))):
        raise ExtensionError("broken links in the site:\n  " + "\n  ".join(broken))


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", _fill)
    app.connect("build-finished", _check_links)
    return {"parallel_read_safe": True}
