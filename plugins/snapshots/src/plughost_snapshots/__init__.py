"""Snapshots for Plughost: the state of an aggregate without a full replay."""

from __future__ import annotations

from plughost_snapshots._config import SnapshotsConfig
from plughost_snapshots._plugin import SnapshotsPlugin
from plughost_snapshots._reconstruct import Reconstruction
from plughost_snapshots._snapshots import Snapshots

__all__ = ["Reconstruction", "Snapshots", "SnapshotsConfig", "SnapshotsPlugin"]
