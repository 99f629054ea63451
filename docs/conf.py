"""The documentation site: Markdown in, HTML out, nothing fetched."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "Plughost"
author = "the Plughost authors"
extensions = ["myst_parser", "plughost_docs.sphinx_extension"]
exclude_patterns = ["_build", "examples", "plughost_docs"]
html_theme = "furo"
html_title = "Plughost"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
