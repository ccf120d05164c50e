"""The audit trail's file: sealed, bounded, chained; damage is noticed, told, and costs no more than it must."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from swarmd.storage import audit_store
from swarmd.storage.audit_store import AuditStore, Part, open_or_begin
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.storage.sealing import Sealer
from swarmd.wire.audit import DAMAGED, AuditRecord, first_broken


def record(index: int, *, actor: str = "operator@visible-text") -> AuditRecord:
    return AuditRecord(index=index, at=float(index), actor=actor, result="applied")


def sealer(*keys: int, current: int = 1) -> Sealer:
    return Sealer({key: bytes([key]) * 32 for key in keys or (1,)}, current, b"context")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "raft" / "audit.db"


@pytest.fixture
def store(path: Path) -> Iterator[AuditStore]:
    store = AuditStore.open(path, sealer())
    yield store
    store.close()


def everything(store: AuditStore, part: Part = Part.LOG) -> list[AuditRecord]:
    found: list[AuditRecord] = []
    after = 0
    while rows := store.read(part, after=after):
        found += [row.record for row in rows]
        after = rows[-1].sequence
    return found


def write(store: AuditStore, *indexes: int, notes: tuple[AuditRecord, ...] = (), durably: bool = False) -> None:
    store.write([record(index) for index in indexes], notes, max(indexes, default=0), durably=durably)


def alter(path: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute(statement, values).rowcount > 0


def test_what_was_written_is_there_after_reopening_private_and_sealed(path: Path, store: AuditStore) -> None:
    note = AuditRecord(index=0, at=9.0, actor="node:w", result="refused", what="node.list")
    write(store, 3, 5, notes=(note,), durably=True)
    write(store, 8)
    store.write([], [], 20, durably=False)
    before = everything(store)
    store.close()
    again = AuditStore.open(path, sealer())
    assert everything(again) == before
    assert [r.index for r in before] == [3, 5, 8]
    assert everything(again, Part.OWN) == [note]
    assert again.index == 20
    write(again, 21)
    assert first_broken(everything(again)) is None
    again.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"visible-text" not in path.read_bytes()


def test_the_position_never_goes_back(store: AuditStore) -> None:
    write(store, 7)
    store.write([], [], 3, durably=False)
    assert store.index == 7


def test_pages_go_both_ways(store: AuditStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_store, "STEP_ROWS", 2)
    write(store, 1, 2, 3, 4, 5)
    assert [row.record.index for row in store.read(Part.LOG)] == [1, 2]
    assert [row.record.index for row in store.read(Part.LOG, after=2)] == [3, 4]
    assert [row.record.index for row in store.read_back(Part.LOG)] == [5, 4]
    assert [row.record.index for row in store.read_back(Part.LOG, before=2)] == [1]
    assert store.read_back(Part.LOG, before=1) == ()


def test_the_oldest_are_dropped_beyond_the_number(path: Path) -> None:
    store = AuditStore.open(path, sealer(), records_max=4, notes_max=2)
    for index in range(1, 8):
        write(store, index, notes=(record(0, actor=f"a{index}"),))
    assert [r.index for r in everything(store)] == [4, 5, 6, 7]
    assert [r.actor for r in everything(store, Part.OWN)] == ["a6", "a7"]
    store.close()
    again = AuditStore.open(path, sealer(), records_max=4, notes_max=2)
    write(again, 8)
    assert [r.index for r in everything(again)] == [5, 6, 7, 8]
    assert first_broken(everything(again)) is None
    again.close()


def test_the_oldest_are_dropped_beyond_the_bytes_and_the_newest_stays(path: Path) -> None:
    store = AuditStore.open(path, sealer(), bytes_max=600)
    for index in range(1, 10):
        write(store, index)
    kept = [r.index for r in everything(store)]
    assert 1 < len(kept) < 5
    assert kept[-1] == 9
    store.write([record(10, actor="x" * 5000)], (), 10, durably=False)
    assert [r.index for r in everything(store)] == [10]
    store.close()


def test_sealing_anew_leaves_nothing_of_the_old_key(path: Path, store: AuditStore) -> None:
    write(store, *range(1, 600), notes=(record(0),))
    before = everything(store)
    store.close()
    both = AuditStore.open(path, sealer(1, 2, current=2))
    for part in Part:
        after: int | None = 0
        while after is not None:
            after = both.reseal(part, after=after)
    both.close()
    new = AuditStore.open(path, sealer(2, current=2))
    assert everything(new) == before
    assert len(everything(new, Part.OWN)) == 1
    new.close()


def test_a_changed_row_is_told_in_its_place_and_breaks_the_chain(path: Path, store: AuditStore) -> None:
    write(store, 1, 2, 3)
    store.close()
    alter(path, "UPDATE record SET sealed = zeroblob(80) WHERE sequence = 2")
    again = AuditStore.open(path, sealer())
    assert [r.result for r in everything(again)] == ["applied", DAMAGED, "applied"]
    assert first_broken(everything(again)) is not None
    again.close()


def test_exchanged_rows_do_not_open(path: Path, store: AuditStore) -> None:
    write(store, 1, 2, 3)
    store.close()
    alter(path, "UPDATE record SET sealed = (SELECT sealed FROM record WHERE sequence = 1) WHERE sequence = 2")
    again = AuditStore.open(path, sealer())
    assert everything(again)[1].result == DAMAGED
    again.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM record WHERE sequence = 3",
        "DELETE FROM mark",
        "UPDATE mark SET sealed = zeroblob(60)",
        "UPDATE record SET sealed = zeroblob(60) WHERE sequence = 3",
        "DELETE FROM record",
    ],
)
def test_an_end_that_is_not_what_was_written_is_damage(path: Path, store: AuditStore, statement: str) -> None:
    write(store, 1, 2, 3)
    store.close()
    alter(path, statement)
    with pytest.raises(StorageDamaged):
        AuditStore.open(path, sealer())


def test_another_managers_key_is_damage(path: Path, store: AuditStore) -> None:
    write(store, 1)
    store.close()
    with pytest.raises(StorageDamaged):
        AuditStore.open(path, Sealer({1: b"\x01" * 32}, 1, b"another context"))


def test_a_damaged_file_is_kept_aside_and_begun_anew(path: Path, store: AuditStore, caplog: Any) -> None:
    write(store, 1)
    store.close()
    path.write_bytes(b"no database at all" * 100)
    new, moved = open_or_begin(path, sealer())
    assert moved == "audit.db.damaged-1"
    assert (path.parent / moved).read_bytes().startswith(b"no database")
    assert new.index == 0
    write(new, 4)
    new.close()
    assert len([r for r in caplog.records if r.levelname == "ERROR"]) == 1
    again, moved = open_or_begin(path, sealer())
    assert (again.index, moved) == (4, "")
    again.close()


def test_a_newer_format_is_left_alone(path: Path, store: AuditStore) -> None:
    store.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageFailed):
        open_or_begin(path, sealer())
    assert [p.name for p in path.parent.iterdir() if "damaged" in p.name] == []
