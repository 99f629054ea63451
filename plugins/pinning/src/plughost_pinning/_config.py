"""The keys of `[plugins.pinning]`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from plughost import GuardConfig

PinnedKind = Literal["tools", "prompts", "resources", "resourceTemplates", "instructions"]


class PinningConfig(GuardConfig):
    """What is pinned, where, and what is trusted."""

    file: Path = Path("plughost-pins.toml")
    """The lock file, relative to the config. Commit it: its diff is the review."""
    first_use: Literal["trust", "quarantine"] = "trust"
    """What happens to a provider that the file does not know: what it lists and looks honest is pinned, or nothing."""
    kinds: tuple[PinnedKind, ...] = ("tools", "prompts", "resources", "resourceTemplates", "instructions")
    """What is pinned. Leave out `resources` where they are data that comes and goes."""
    results: Literal["off", "warn", "block"] = "warn"
    """What happens to a result that gives orders to the model: nothing, a warning, or a refusal."""
