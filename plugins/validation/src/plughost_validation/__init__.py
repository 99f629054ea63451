"""Validation: arguments and results against their schemas, URIs against allow-lists, all within limits.

    [plugins.validation]

The library is `jsonschema-rs`: compiled validators, a hundred times as fast as `jsonschema`, and all of the drafts that
servers use. What it does not bound is counted before it runs (`_work.py`), since nothing can interrupt it.
"""

from __future__ import annotations

from plughost_validation._config import ArgumentLimits, Limits, ResultLimits, ValidationConfig
from plughost_validation._plugin import META, ValidationPlugin

__all__ = ["META", "ArgumentLimits", "Limits", "ResultLimits", "ValidationConfig", "ValidationPlugin"]
