"""`plughost new`: the plugin template, renamed. Offline.

The template is the package in `plugin_template/`; its files are linked into `_plugin_template/`, and a build of the
distribution puts their contents there.
"""

from __future__ import annotations

import keyword
import re
from pathlib import Path

import plughost
from plughost._errors import PlughostError

SOURCE = Path(__file__).with_name("_plugin_template")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")


def template_files() -> list[Path]:
    """The files of the template, relative to `SOURCE`; installers leave compiled ones beside them."""
    files = (path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(path.relative_to(SOURCE) for path in files)


def render(name: str, target: Path) -> Path:
    """Write the package of a new plugin into `target`, a folder that is empty or does not exist; returns it.

    `name` becomes the entry point; with it come the distribution `plughost-NAME`, the package and the class.

    Raises:
        PlughostError: The name cannot be used, or the folder is in use; nothing is written.
    """
    words = _words_for(name)
    pattern = re.compile("|".join(map(re.escape, words)))

    def rename(text: str) -> str:
        return pattern.sub(lambda match: words[match[0]], text)

    try:
        _refuse_used(target)
        for path in template_files():
            place = target / rename(path.as_posix())
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(rename((SOURCE / path).read_text("utf-8")), "utf-8")
    except OSError as error:
        raise PlughostError(f"cannot write the plugin into {str(target)!r}: {error}") from error
    return target


def _words_for(name: str) -> dict[str, str]:
    """What stands in the template → what stands in the new package."""
    if not _NAME.match(name):
        raise PlughostError(
            f"{name!r} cannot be the name of a plugin; use lower-case letters, digits and single '-', letter first"
        )
    if name.startswith("plughost-"):
        raise PlughostError(f"the distribution of {name!r} would be 'plughost-{name}'; leave out the 'plughost-'")
    title = "".join(part.capitalize() for part in name.split("-"))
    if title in plughost.__all__ or keyword.iskeyword(title):
        raise PlughostError(f"{name!r} makes a class {title!r}, and that name is taken; choose another")
    return {"plugin-template": name, "plugin_template": name.replace("-", "_"), "PluginTemplate": title}


def _refuse_used(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists():
        raise PlughostError(f"{str(target)!r} exists and is not an empty folder; choose another, or remove it")
