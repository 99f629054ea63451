"""Pinning for Plughost: a tool that changes is quarantined until it is approved, and texts are scanned for poison."""

from __future__ import annotations

from plughost_pinning._config import PinningConfig
from plughost_pinning._plugin import PinningPlugin
from plughost_pinning._scan import Finding, scan

__all__ = ["Finding", "PinningConfig", "PinningPlugin", "scan"]
