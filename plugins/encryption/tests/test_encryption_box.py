"""Envelopes, the key ring and the data keys, without a host."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from plughost import KeyGoneError, SealError, SecretBox
from plughost_encryption import Box, Master, _box
from plughost_encryption._box import HEAD, OVERHEAD
from plughost_encryption._data_keys import DataKeys

MASTERS = [Master(f"{number} - a key that is long and odd enough") for number in range(4)]
TENANTS = st.sampled_from([None, "acme", "evil"])
NOW = 1_000_000.0


def box(*masters: Master, path: Path | None = None, now: Callable[[], float] = lambda: NOW) -> Box:
    return Box(masters or MASTERS[:1], now=now, data_keys=None if path is None else DataKeys(path))


@contextmanager
def boxes(path: Path, count: int = 2) -> Iterator[list[Box]]:
    made = [box(path=path) for _ in range(count)]
    try:
        yield made
    finally:
        for item in made:
            item.close()


OPEN = box()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=40), TENANTS)
def test_what_is_sealed_comes_back(plaintext: bytes, context: bytes, tenant: str | None) -> None:
    """Any bytes, for any place; never twice the same, and longer by a fixed overhead."""
    sealed = OPEN.seal(plaintext, context=context, tenant=tenant)
    assert OPEN.unseal(sealed, context=context) == plaintext
    assert sealed != OPEN.seal(plaintext, context=context, tenant=tenant)
    assert len(sealed) == len(plaintext) + OVERHEAD == len(plaintext) + 53


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(1, 255))
def test_whatever_is_altered_is_refused(plaintext: bytes, position: int, change: int) -> None:
    """Version, key id, salt, nonce, text and tag: one byte changed anywhere, and nothing is handed out."""
    sealed = bytearray(OPEN.seal(plaintext, context=b"place"))
    sealed[position % len(sealed)] ^= change
    with pytest.raises(SealError):
        OPEN.unseal(bytes(sealed), context=b"place")


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=120))
def test_what_was_never_sealed_is_refused(noise: bytes) -> None:
    """Any other bytes, cut ones too."""
    sealed = OPEN.seal(b"text", context=b"place")
    for data in (noise, b"\x01" + noise, sealed[: len(noise) % len(sealed)], sealed + noise + b"?"):
        with pytest.raises(SealError):
            OPEN.unseal(data, context=b"place")


def test_what_was_sealed_for_one_place_is_refused_at_another() -> None:
    """The context is authenticated, also where it could run into what stands before it."""
    sealed = OPEN.seal(b"text", context=b"place")
    for context in (b"", b"Place", b"places", sealed[:HEAD] + b"place"):
        with pytest.raises(SealError, match="altered, or sealed for another context"):
            OPEN.unseal(sealed, context=context)


def test_it_has_the_shape_that_the_host_shares() -> None:
    """A box is a `SecretBox`, and a closed one seals nothing."""
    closed = box()
    assert isinstance(closed, SecretBox)
    sealed = closed.seal(b"text", context=b"")
    closed.close()
    with pytest.raises(SealError, match="closed"):
        closed.seal(b"", context=b"")
    with pytest.raises(SealError, match="closed"):
        closed.unseal(sealed, context=b"")


def test_no_key_sees_too_many_nonces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A derived key is given up before random nonces could meet; all it sealed is read still."""
    monkeypatch.setattr(_box, "MOST", 3)
    item = box()
    sealed = [item.seal(b"%d" % number, context=b"") for number in range(10)]
    assert [len({data[:HEAD] for data in sealed[at : at + 3]}) for at in (0, 3, 6)] == [1, 1, 1]
    assert len({data[:HEAD] for data in sealed}) == 4
    assert [item.unseal(data, context=b"") for data in sealed] == [b"%d" % number for number in range(10)]


def test_processes_share_a_ring_and_no_derived_key() -> None:
    """Each draws its own salt, so that they need not count together."""
    one, other = box(), box()
    sealed = one.seal(b"text", context=b"")
    assert other.unseal(sealed, context=b"") == b"text"
    assert sealed[:HEAD] != other.seal(b"text", context=b"")[:HEAD]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tenants and salts come and go; memory is bounded, and nothing is lost."""
    monkeypatch.setattr(_box, "REMEMBERED", 5)
    item = box()
    sealed = [item.seal(b"text", context=b"", tenant=f"t{number}") for number in range(20)]
    assert {item.unseal(data, context=b"") for data in sealed} == {b"text"}
    assert (len(item._sealing), len(item._unsealing)) == (5, 5)


class Rotation(RuleBasedStateMachine):
    """The ring: the first key seals, all unseal, and what another one sealed is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.ring = MASTERS[:1]
        self.box = box()
        self.sealed: list[tuple[Master, bytes, bytes]] = []

    @rule(order=st.permutations(MASTERS), count=st.integers(1, 3))
    def rotate(self, order: list[Master], count: int) -> None:
        self.ring = order[:count]
        self.box.use(self.ring)

    @rule(text=st.binary(max_size=10), tenant=TENANTS)
    def seal(self, text: bytes, tenant: str | None) -> None:
        sealed = self.box.seal(text, context=b"place", tenant=tenant)
        assert sealed[1:9] == self.ring[0].id
        self.sealed.append((self.ring[0], text, sealed))

    @rule()
    def unseal_all(self) -> None:
        for master, text, sealed in self.sealed:
            if master in self.ring:
                assert self.box.unseal(sealed, context=b"place") == text
            else:
                with pytest.raises(KeyGoneError):
                    self.box.unseal(sealed, context=b"place")


Rotation.TestCase.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
TestRotation = Rotation.TestCase


class Erasure(RuleBasedStateMachine):
    """Two processes on one file of data keys: what a dropped key sealed is unreadable in both, the rest is not."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name, "keys.db")
        self.processes = [box(path=self.path), box(path=self.path)]
        self.rings = [MASTERS[:1], MASTERS[:1]]
        self.sealed: dict[str | None, list[bytes]] = {}
        self.erased: list[bytes] = []

    def teardown(self) -> None:
        for process in self.processes:
            process.close()
        self.folder.cleanup()

    @rule(who=st.integers(0, 1), tenant=TENANTS)
    def seal(self, who: int, tenant: str | None) -> None:
        sealed = self.processes[who].seal(repr(tenant).encode(), context=b"place", tenant=tenant)
        self.sealed.setdefault(tenant, []).append(sealed)

    @rule(who=st.integers(0, 1), tenant=st.sampled_from(["acme", "evil"]))
    def drop(self, who: int, tenant: str) -> None:
        gone = self.sealed.pop(tenant, [])
        assert self.processes[who].drop(tenant) == bool(gone)
        self.erased += gone

    @rule(newest=st.integers(0, 3))
    def rotate(self, newest: int) -> None:
        """First every process learns the new key, then it goes to the front, then the old one leaves."""
        old, new = self.rings[0][0], MASTERS[newest]
        if old is not new:
            for ring in ([old, new], [new, old], [new]):
                for process in self.processes:
                    process.use(ring)
            self.rings = [[new], [new]]

    @rule()
    def restart(self) -> None:
        self.processes[1].close()
        self.processes[1] = box(*self.rings[1], path=self.path)

    @precondition(lambda self: self.sealed or self.erased)
    @rule(who=st.integers(0, 1))
    def read_all(self, who: int) -> None:
        process = self.processes[who]
        for tenant, messages in self.sealed.items():
            for sealed in messages:
                assert process.unseal(sealed, context=b"place") == repr(tenant).encode()
        for sealed in self.erased:
            with pytest.raises(KeyGoneError):
                process.unseal(sealed, context=b"place")


Erasure.TestCase.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)
TestErasure = Erasure.TestCase


def test_a_dropped_tenant_may_come_back(tmp_path: Path) -> None:
    """It gets another key; what it had stays unreadable."""
    with boxes(tmp_path / "keys.db") as (one, other):
        old = one.seal(b"old", context=b"", tenant="acme")
        assert other.unseal(old, context=b"") == b"old"
        assert other.drop("acme")
        assert not other.drop("acme")
        new = one.seal(b"new", context=b"", tenant="acme")
        assert other.unseal(new, context=b"") == b"new"
        with pytest.raises(KeyGoneError, match="its tenant was dropped"):
            one.unseal(old, context=b"")


def test_the_file_holds_no_key_that_opens_anything(tmp_path: Path) -> None:
    """It is its owner's, and without the ring it is worth nothing; a dropped row is overwritten."""
    path = tmp_path / "keys.db"
    with boxes(path, 1) as (item,):
        item.seal(b"text", context=b"", tenant="acme")
        assert item.data_keys is not None
        key_id, key = item.data_keys.of("acme", NOW)
        raw = path.read_bytes()
        assert key not in raw
        assert key_id in raw
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        item.drop("acme")
        assert key_id not in path.read_bytes()


@pytest.mark.parametrize("harm", ["wrapped", "swapped"])
def test_an_altered_data_key_is_refused(tmp_path: Path, harm: str) -> None:
    """Neither altered keys nor one tenant's in the place of another's."""
    path = tmp_path / "keys.db"
    with boxes(path, 1) as (item,):
        sealed = item.seal(b"text", context=b"", tenant="acme")
        item.seal(b"text", context=b"", tenant="evil")
        with closing(sqlite3.connect(path)) as database, database:
            if harm == "wrapped":
                database.execute("UPDATE data_key SET wrapped = zeroblob(60)")
            else:
                (theirs,) = database.execute("SELECT wrapped FROM data_key WHERE tenant = 'evil'").fetchone()
                database.execute("UPDATE data_key SET wrapped = ? WHERE tenant = 'acme'", (theirs,))
        with pytest.raises(SealError, match="was altered"):
            item.unseal(sealed, context=b"")
        with pytest.raises(SealError, match="was altered"):
            item.seal(b"more", context=b"", tenant="acme")


def test_a_ring_that_cannot_open_the_data_keys_is_refused(tmp_path: Path) -> None:
    """Nobody loses them by taking the old key out too early; the message names the key."""
    with boxes(tmp_path / "keys.db", 1) as (item,):
        sealed = item.seal(b"text", context=b"", tenant="acme")
        with pytest.raises(SealError, match=f"{MASTERS[0].id.hex()}, which is not in the ring; put it back"):
            item.use([MASTERS[1]])
        assert item.unseal(sealed, context=b"") == b"text"


def test_data_keys_can_be_taken_up_later(tmp_path: Path) -> None:
    """What the ring sealed without them is read with them."""
    before = box()
    sealed = before.seal(b"text", context=b"", tenant="acme")
    with pytest.raises(SealError, match="set data_keys"):
        before.drop("acme")
    with boxes(tmp_path / "keys.db", 1) as (item,):
        assert item.unseal(sealed, context=b"") == b"text"


@pytest.mark.parametrize("what", ["noise", "folder", "format"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, what: str) -> None:
    """What cannot be read is not made anew: it would be the end of all that was sealed."""
    path = tmp_path / "keys.db"
    if what == "noise":
        path.write_bytes(b"no database" * 500)
    elif what == "folder":
        path.mkdir()
    else:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version = 2")
    with pytest.raises(SealError, match=r"keys\.db (cannot be used|has format 2, and not 1)"):
        DataKeys(path)


def test_a_file_that_breaks_stops_everything(tmp_path: Path) -> None:
    """While it cannot be read nobody knows who was dropped: nothing is sealed or unsealed."""
    path = tmp_path / "keys.db"
    with boxes(path, 1) as (item,):
        sealed = item.seal(b"text", context=b"", tenant="acme")
        path.write_bytes(b"no database" * 500)
        with pytest.raises(SealError, match="cannot be used"):
            item.unseal(sealed, context=b"")
        with pytest.raises(SealError, match="cannot be used"):
            item.seal(b"", context=b"", tenant="new")


def test_a_tenant_that_no_text_can_hold_is_refused(tmp_path: Path) -> None:
    """Claims are JSON, which has lone surrogates; they are no reason to fall over."""
    with boxes(tmp_path / "keys.db", 1) as (item,), pytest.raises(SealError):
        item.seal(b"", context=b"", tenant="\ud800")


def test_threads_seal_and_unseal_while_the_ring_turns(tmp_path: Path) -> None:
    """No read fails, whoever reads, while keys are rotated."""
    failures: list[BaseException] = []

    def work(item: Box, other: Box) -> None:
        try:
            for number in range(60):
                text = b"%d" % number
                assert other.unseal(item.seal(text, context=b"", tenant=f"t{number % 3}"), context=b"") == text
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    with boxes(tmp_path / "keys.db") as (one, other):
        threads: list[Any] = [threading.Thread(target=work, args=pair) for pair in ((one, other), (other, one)) * 2]
        for thread in threads:
            thread.start()
        for turn in range(6):
            for item in (one, other):
                item.use([MASTERS[turn % 2], MASTERS[1 - turn % 2]])
        for thread in threads:
            thread.join()
    assert failures == []
