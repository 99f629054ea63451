"""Links inside the built site: each leads to a file, and its fragment to an element of it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if value and key == "id":
                self.ids.add(value)
            elif value and key in {"href", "src"}:
                self.targets.append(value)


def broken_links(site: Path) -> list[str]:
    """`page: target` for each link of the site that leads nowhere in it."""
    pages = {path.resolve(): _Page(path.read_text("utf-8")) for path in site.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        for target in page.targets:
            url = urlsplit(target)
            if url.scheme or url.netloc:
                continue
            reached = (path.parent / unquote(url.path)).resolve() if url.path else path
            missing = not reached.exists() or (
                url.fragment and reached in pages and unquote(url.fragment) not in pages[reached].ids
            )
            if missing:
                broken.append(f"{path.relative_to(site.resolve())}: {target}")
    return broken
