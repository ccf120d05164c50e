"""The log on a real disk: files, damage, kill -9, a full disk. What any log must do is in tests/contract/storage."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from swarmd.errors import FailedPrecondition
from swarmd.raft import Entry, EntryKind, HardState, SnapshotMeta
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.storage.log_contract import LogBatch, LogIdentity, StoredLog
from swarmd.storage.log_store import SCHEMA_VERSION, WAL_PAGE_BYTES, WAL_PAGES_MAX, LogStore
from swarmd.storage.sealing import Sealer, sealing_context
from swarmd.wire.raft_codec import encode_runs

IDENTITY = LogIdentity(swarm_id="swarm", node_id="node", member_id=7, incarnation=b"i" * 16)


def sealer_of(member_id: int = 7) -> Sealer:
    return Sealer({1: b"k" * 32}, 1, sealing_context("swarm", member_id))


def batch_of(first: int, *terms: int, state: HardState | None = None, body: bytes = b"body") -> LogBatch:
    entries = [Entry(index, term, EntryKind.DATA, body) for index, term in enumerate(terms, first)]
    return LogBatch(hard_state=state, runs=encode_runs(entries))


def fill(path: Path) -> StoredLog:
    """A log with everything in it, closed."""
    store = LogStore.open(path, sealer_of())
    store.initialise(IDENTITY)
    store.write(batch_of(1, 1, 1, 1, state=HardState(term=1, voted_for=7)))
    store.record_snapshot(SnapshotMeta(index=2, term=1), keep_from=1)
    store.write(batch_of(4, 1, 2, 2, state=HardState(term=2), body=bytes(1500)))
    store.write(batch_of(7, 2))
    found = store.load()
    store.close()
    return found


def load(path: Path) -> StoredLog:
    store = LogStore.open(path, sealer_of())
    try:
        return store.load()
    finally:
        store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "raft" / "raft.db"


# -- files ---------------------------------------------------------------------------------------------------------


def test_nobody_else_may_read_the_files(path: Path) -> None:
    old = os.umask(0)
    try:
        store = LogStore.open(path, sealer_of())
        store.write(batch_of(1, 1))
    finally:
        os.umask(old)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"raft.db": 0o600, "raft.db-wal": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store.close()


def test_no_body_is_in_the_files_in_clear(path: Path) -> None:
    store = LogStore.open(path, sealer_of())
    store.write(batch_of(1, 1, body=b"a secret of the swarm"))
    assert b"secret" not in b"".join(file.read_bytes() for file in path.parent.iterdir())
    store.close()
    assert b"secret" not in path.read_bytes()


def test_the_identity_is_readable_before_there_is_a_sealer(path: Path) -> None:
    assert LogStore.read_identity(path) is None
    store = LogStore.open(path, sealer_of())
    store.close()
    assert LogStore.read_identity(path) is None
    fill(path)
    assert LogStore.read_identity(path) == IDENTITY


def test_a_write_ahead_log_of_full_size_is_overwritten_in_place_and_survives(path: Path) -> None:
    store = LogStore.open(path, sealer_of())
    store.prepare()
    wal = Path(f"{path}-wal")
    assert wal.stat().st_size == WAL_PAGES_MAX * WAL_PAGE_BYTES
    store.write(batch_of(1, 1))
    assert wal.stat().st_size == WAL_PAGES_MAX * WAL_PAGE_BYTES
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())
    Path(f"{copy}-wal").write_bytes(wal.read_bytes())
    assert len(load(copy).entries) == 1
    store.close()


def test_the_write_ahead_log_does_not_grow_without_end(path: Path) -> None:
    store = LogStore.open(path, sealer_of())
    body = bytes(1 << 20)
    for index in range(1, 40):
        store.write(batch_of(index, 1, body=body))
        store.record_snapshot(SnapshotMeta(index=index, term=1), keep_from=index + 1)
    assert Path(f"{path}-wal").stat().st_size < (WAL_PAGES_MAX + 600) * WAL_PAGE_BYTES
    store.close()
    assert path.stat().st_size < 8 << 20


def test_what_an_earlier_life_left_in_the_write_ahead_log_is_written_anew_and_not_only_read(path: Path) -> None:
    """After a failed sync the page cache shows what the disk lacks: frames that are only believed leave a hole."""
    store = LogStore.open(path, sealer_of())
    store.write(batch_of(1, 1, 1, 1, state=HardState(term=1)))
    copy = path.with_name("killed.db")
    copy.write_bytes(path.read_bytes())
    Path(f"{copy}-wal").write_bytes(Path(f"{path}-wal").read_bytes())
    store.close()
    killed = LogStore.open(copy, sealer_of())
    killed.settle()
    alone = path.with_name("without-its-wal.db")
    alone.write_bytes(copy.read_bytes())
    assert load(alone) == killed.load()
    assert len(killed.load().entries) == 3
    killed.write(batch_of(4, 1))
    killed.close()
    assert len(load(copy).entries) == 4


def test_a_second_opening_is_refused(path: Path) -> None:
    store = LogStore.open(path, sealer_of())
    with pytest.raises(StorageFailed, match="locked"):
        LogStore.open(path, sealer_of())
    store.close()


# -- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"not a database at all, not even nearly" * 40, b"SQLite format 3\0" + bytes(500)])
def test_a_file_that_is_no_database_is_damage_and_stays(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    for read in (LogStore.read_identity, load):
        with pytest.raises(StorageDamaged):
            read(path)
    assert path.read_bytes() == content


def test_a_database_of_somebody_else_is_damage(path: Path) -> None:
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE run (first, last, term, sealed)")
    db.commit()
    db.close()
    with pytest.raises(StorageDamaged):
        load(path)


def test_a_log_of_a_newer_version_is_left_alone(path: Path) -> None:
    fill(path)
    edit(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(FailedPrecondition, match="newer swarmd"):
        load(path)


def test_the_log_of_another_member_is_damage(path: Path) -> None:
    fill(path)
    with pytest.raises(StorageDamaged):
        LogStore.open(path, sealer_of(member_id=8))


def load_with_identity(path: Path) -> StoredLog:
    """What a start does."""
    LogStore.read_identity(path)
    return load(path)


def edit(path: Path, statement: str, *values: object) -> None:
    db = sqlite3.connect(path)
    db.execute(statement, values)
    db.commit()
    db.close()


def rows(path: Path, table: str) -> list[dict[str, object]]:
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    found = [dict(row) for row in db.execute(f"SELECT * FROM {table} ORDER BY 1")]
    db.close()
    return found


def changed(value: object) -> object:
    if isinstance(value, int):
        return value + 1
    assert isinstance(value, bytes)
    middle = len(value) // 2
    return value[:middle] + bytes([value[middle] ^ 4]) + value[middle + 1 :]


@pytest.mark.parametrize("table", ["run", "record"])
def test_a_changed_value_in_any_row_is_damage(path: Path, table: str) -> None:
    fill(path)
    original = path.read_bytes()
    for row in rows(path, table):
        key = next(iter(row))
        for column in [name for name, value in row.items() if value is not None]:
            path.write_bytes(original)
            target = 1000 if column == key else changed(row[column])
            edit(path, f"UPDATE {table} SET {column} = ? WHERE {key} = ?", target, row[key])
            with pytest.raises(StorageDamaged):
                load_with_identity(path)


@pytest.mark.parametrize(
    ("table", "key"), [("run", 4), ("run", 5), ("run", 7), ("record", 1), ("record", 2), ("record", 3)]
)
def test_a_vanished_row_is_damage(path: Path, table: str, key: int) -> None:
    fill(path)
    edit(path, f"DELETE FROM {table} WHERE {next(iter(rows(path, table)[0]))} = ?", key)
    with pytest.raises(StorageDamaged):
        load_with_identity(path)


def test_a_row_put_back_from_an_earlier_time_is_damage(path: Path) -> None:
    store = LogStore.open(path, sealer_of())
    store.write(batch_of(1, 1, 1))
    store.close()
    old = rows(path, "run")[0]["sealed"]
    store = LogStore.open(path, sealer_of())
    store.write(batch_of(1, 2, 2))
    store.close()
    edit(path, "UPDATE run SET sealed = ?", old)
    with pytest.raises(StorageDamaged):
        load(path)


def test_a_changed_byte_anywhere_in_the_file_never_changes_what_is_loaded(path: Path) -> None:
    found = fill(path)
    original = path.read_bytes()
    dice = random.Random(1)
    outcomes = {"damaged": 0, "harmless": 0}
    for position in [*range(0, 100, 4), *dice.sample(range(100, len(original)), 175)]:
        content = bytearray(original)
        content[position] ^= 1 << dice.randrange(8)
        path.write_bytes(content)
        try:
            assert load_with_identity(path) == found
            outcomes["harmless"] += 1
        except (StorageDamaged, FailedPrecondition):
            outcomes["damaged"] += 1
        for companion in path.parent.glob("raft.db-*"):
            companion.unlink()
    assert outcomes["damaged"] > 20


def test_damage_found_while_overwriting_stops_the_store(path: Path) -> None:
    fill(path)
    edit(path, "UPDATE run SET sealed = zeroblob(200) WHERE first = 5")
    store = LogStore.open(path, sealer_of())
    with pytest.raises(StorageDamaged):
        store.write(batch_of(6, 3))
    with pytest.raises(StorageFailed):
        store.write(batch_of(8, 3))
    store.close()


# -- kill -9, and a disk that refuses ------------------------------------------------------------------------------

PREAMBLE = """
import os, sys
from pathlib import Path
from swarmd.raft import Entry, EntryKind, HardState, SnapshotMeta
from swarmd.storage.errors import StorageFailed
from swarmd.storage.log_store import LogBatch, LogStore
from swarmd.storage.sealing import Sealer, sealing_context
from swarmd.wire.raft_codec import encode_runs

store = LogStore.open(Path(sys.argv[1]), Sealer({1: b"k" * 32}, 1, sealing_context("swarm", 7)))
found = store.load()
last = found.entries[-1].index if found.entries else found.snapshot.index

def batch(first, size):
    entries = [Entry(first + i, 1, EntryKind.DATA, b"%d" % (first + i) * 50) for i in range(size)]
    return LogBatch(hard_state=HardState(term=1, commit=first), runs=encode_runs(entries))
"""

WRITE_UNTIL_KILLED = (
    PREAMBLE
    + """
store.prepare()
while True:
    store.write(batch(last + 1, 1 + last % 7))
    last += 1 + last % 7
    os.write(1, b"%d\\n" % last)
    if last % 5 == 0:
        store.record_snapshot(SnapshotMeta(index=last - 2, term=1), keep_from=last - 20)
"""
)

WRITE_UNTIL_FULL = (
    PREAMBLE
    + """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    while True:
        store.write(batch(last + 1, 3))
        last += 3
        os.write(1, b"%d\\n" % last)
except StorageFailed as error:
    os.write(1, b"refused\\n")
try:
    store.write(batch(last + 1, 1))
except StorageFailed:
    os.write(1, b"refused again\\n")
os._exit(0)
"""
)


def check_acknowledged(path: Path, last: int) -> None:
    found = load(path)
    assert found.entries[-1].index >= last
    assert found.hard_state.term == 1
    assert all(entry.body == b"%d" % entry.index * 50 for entry in found.entries)
    assert found.snapshot.index <= last


def test_what_was_acknowledged_survives_kill_9(path: Path) -> None:
    for lines in (3, 40, 120):
        with subprocess.Popen([sys.executable, "-c", WRITE_UNTIL_KILLED, path], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            read = b"".join(writer.stdout.readline() for _ in range(lines))
            writer.send_signal(signal.SIGKILL)
            # What is still in the pipe was acknowledged too.
            read += writer.stdout.read()
        check_acknowledged(path, int(read.split()[-1]))


def test_a_full_disk_loses_nothing_acknowledged(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WRITE_UNTIL_FULL, path], stdout=subprocess.PIPE, check=True)
    *acknowledged, refused, again = done.stdout.split(b"\n")[:-1]
    assert (refused, again) == (b"refused", b"refused again")
    assert len(acknowledged) > 5
    check_acknowledged(path, int(acknowledged[-1]))
    store = LogStore.open(path, sealer_of())
    store.write(batch_of(int(acknowledged[-1]) + 1, 1))
    store.close()
