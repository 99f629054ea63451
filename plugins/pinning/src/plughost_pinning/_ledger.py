"""Which definitions are approved: what providers list, held against what the lock file says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from plughost import same_json

from plughost_pinning import _lockfile
from plughost_pinning._lockfile import LockFileError, Pins, UnwritableError
from plughost_pinning._pin import Key, Pin, changed_arguments, changed_fields, pin
from plughost_pinning._scan import MOST_CHARACTERS, TOO_MUCH, Finding, scan
from plughost_pinning._shadow import shadows

logger = logging.getLogger("plughost.pinning")

MOST_TOGETHER = 8 * 2**20
"""Characters of new and changed definitions that are looked at together: a second. Nothing else runs meanwhile."""

State = Literal["approved", "new", "changed", "renamed", "unreadable"]


@dataclass(slots=True)
class Entry:
    """One definition that a provider lists now, and what is thought of it."""

    key: Key
    definition: Mapping[str, Any]
    pin: Pin | None
    """`None` if it has no canonical text."""
    findings: list[Finding]
    """What is suspicious about it by itself."""
    beside: list[Finding]
    """What is suspicious about it beside others."""
    state: State = "approved"
    why: str = ""
    """For everybody: nothing of what the definition says is in it."""
    arguments: tuple[str, ...] = ()
    """Arguments that came (`+`) and went (`-`), for operators."""

    @property
    def suspicious(self) -> bool:
        return any(finding.severity == "high" for finding in (*self.findings, *self.beside))


class Ledger:
    """The entries of all providers, and the pins in the file.

    With `trust` everything that a provider lists when it is seen for the first time is approved, if there is nothing
    suspicious about it (trust on first use). Should the file fail, nothing is approved until it can be read (P3); while
    it cannot be written, nothing more is.
    """

    def __init__(self, path: Path, *, trust: bool) -> None:
        self.path = path
        self.trust = trust
        self.entries: dict[Key, Entry] = {}
        self.approved: set[Key] = set()
        self.missing: set[Key] = set()
        """Pins of providers that are up and do not list them any more."""
        self.fault = ""
        """Why the file cannot be used."""
        self.unwritable = ""
        """Why what should be trusted at first use is not."""
        self.pins = Pins()
        self._up: frozenset[str] = frozenset()
        self._stamp: tuple[int, int, int] | None = None
        self._was_there = False
        self.look()

    def look(self) -> bool:
        """Read the file if it changed since. Says whether it did."""
        fault, found = "", None
        try:
            now = _lockfile.stamp(self.path)
            if now == self._stamp and not self.fault and (now is not None or not self._was_there):
                return False
            found = _lockfile.read(self.path)
            self._stamp = now
            if found is None and self._was_there:
                fault = f"{self.path} is gone; restore it, or restart to begin anew"
        except LockFileError as error:
            self._stamp, fault = None, str(error)
        changed = fault != self.fault or (not fault and found != self.pins)
        self.fault = fault
        if not fault:
            self._was_there |= found is not None
            self.pins = found or Pins()
        if changed:
            self._judge()
        return changed

    def take(self, listed: Iterable[tuple[Key, Mapping[str, Any]]], up: Iterable[str]) -> None:
        """Know what all providers list now; those that are `up` list all they have."""
        entries: dict[Key, Entry] = {}
        left = MOST_TOGETHER
        for key, definition in listed:
            known = self.entries.get(key)
            if known is None or known.pin is None or not same_json(known.definition, definition):
                known = _entry(key, definition)
                left -= _size(known)
                known.findings = scan(definition) if left >= 0 else [TOO_MUCH]
            entries[key] = known
        beside = shadows({key[1:]: item.definition for key, item in entries.items() if key.kind == "tools"})
        for key, item in entries.items():
            item.beside = beside.get(key[1:], []) if key.kind == "tools" else []
        self.entries, self._up = entries, frozenset(up)
        self._judge()

    def accepts(self, key: Key, definition: Mapping[str, Any]) -> bool:
        """Whether this very definition is the one that was approved."""
        approved = self.pins.pins.get(key)
        try:
            return not self.fault and approved is not None and pin(key.kind, definition).sha256 == approved.sha256
        except ValueError:
            return False

    def approve(self, wanted: Mapping[Key, str | None], *, prune: bool = False) -> tuple[list[Key], list[Key]]:
        """Pin entries as they are listed now, each only if it has the digest that its reviewer saw, if that is known.

        With `prune` pins of what is listed no more go. Says what was approved, and what went.

        Raises:
            LockFileError: The file cannot be read or written; nothing has changed.
        """
        fresh = {
            key: item.pin
            for key, seen in wanted.items()
            if (item := self.entries[key]).pin is not None and seen in (None, item.pin.sha256)
        }
        gone = sorted(self.missing) if prune else []

        def merge(pins: Pins) -> Pins:
            kept = {key: value for key, value in pins.pins.items() if key not in gone}
            return Pins({**kept, **fresh}, pins.providers | {key.provider for key in fresh})

        self._change(merge)
        return sorted(fresh), gone

    @property
    def held(self) -> list[Entry]:
        """What is quarantined."""
        return [item for item in self.entries.values() if item.key not in self.approved]

    def _change(self, work: Callable[[Pins], Pins]) -> None:
        self.pins = _lockfile.change(self.path, work)
        self._stamp, self._was_there, self.fault = _lockfile.stamp(self.path), True, ""
        self._judge()

    def _judge(self) -> None:
        """Compare all entries with all pins; trust those of providers seen for the first time."""
        self.missing = {key for key in self.pins.pins if key.provider in self._up and key not in self.entries}
        unseen = {key.provider for key in self.entries} & self._up - self.pins.providers
        self.unwritable = ""
        if self.trust and not self.fault and unseen:
            try:
                self._trust(unseen)
            except UnwritableError as error:
                self.unwritable = f"{error}: nothing new of {', '.join(sorted(unseen))} is trusted"
            except LockFileError as error:
                self.fault = str(error)
        for item in self.entries.values():
            item.state, item.why = self._verdict(item)
            item.arguments = _arguments(self.pins.pins.get(item.key), item.pin)
        self.approved = {key for key, item in self.entries.items() if item.state == "approved"}

    def _trust(self, providers: set[str]) -> None:
        """Approve what is not suspicious of providers that nobody knew, unless another process was first.

        Raises:
            LockFileError: The file cannot be read or written.
        """
        trusted = {
            key: item.pin
            for key, item in self.entries.items()
            if key.provider in providers and item.pin is not None and not item.suspicious
        }

        def merge(pins: Pins) -> Pins:
            mine = {key: value for key, value in trusted.items() if key.provider not in pins.providers}
            return Pins({**pins.pins, **mine}, pins.providers | providers)

        self.pins = _lockfile.change(self.path, merge)
        self._stamp, self._was_there = _lockfile.stamp(self.path), True
        logger.info(
            "trusted %d definitions of %s at first use; %s has them", len(trusted), sorted(providers), self.path
        )

    def _verdict(self, item: Entry) -> tuple[State, str]:
        if self.fault:
            return "unreadable", "the lock file cannot be used"
        if item.pin is None:
            return "unreadable", "its definition is not JSON that can be pinned"
        before = self.pins.pins.get(item.key)
        if before is not None:
            if before.sha256 == item.pin.sha256:
                return "approved", ""
            return "changed", ", ".join(changed_fields(before, item.pin))
        for key in self.missing:
            if key[:2] == item.key[:2] and _renamed(item, key, self.pins.pins[key]):
                return "renamed", f"{key.name!r} has this name now"
        return "new", "nobody approved it yet"


def _entry(key: Key, definition: Mapping[str, Any]) -> Entry:
    try:
        made = pin(key.kind, definition)
    except ValueError:
        made = None
    return Entry(key, definition, made, [], [])


def _size(entry: Entry) -> int:
    """About the characters of a definition; of one that is none, the most."""
    return MOST_CHARACTERS if entry.pin is None else len(repr(entry.definition))


def _renamed(item: Entry, before: Key, approved: Pin) -> bool:
    """Whether an entry is, but for its name, the one that was approved under another."""
    field = "uri" if "uri" in item.definition else "uriTemplate" if "uriTemplate" in item.definition else "name"
    try:
        return pin(before.kind, {**item.definition, field: before.name}).sha256 == approved.sha256
    except ValueError:
        return False


def _arguments(before: Pin | None, now: Pin | None) -> tuple[str, ...]:
    return changed_arguments(before, now) if before is not None and now is not None else ()
