"""The log on a disk that refuses at any write or sync: nothing acknowledged is lost, and the kind of refusal is told.

SQLite's calls to the disk go through a file system of ours that fails from the n-th on; and a real small one fills up.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import apsw
import pytest

from swarmd.raft import HardState, SnapshotMeta
from swarmd.storage import database
from swarmd.storage.errors import StorageFailed, StorageFull
from swarmd.storage.log_store import LogStore, StoredLog
from swarmd.storage.reserve import SpaceReserve
from swarmd.storage.snapshot_store import SnapshotStore
from tests.unit.storage.test_log_store import batch_of, load, sealer_of

FULL, FAILED_WRITE, FAILED_SYNC = apsw.SQLITE_FULL, apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_FSYNC


class Refusals:
    """Which call is the first to fail, and how. Every later one of its kind fails too, as on a disk."""

    def __init__(self) -> None:
        self.code = 0
        self.after = 0
        self.calls = 0

    def begin(self, code: int, after: int) -> None:
        self.code, self.after, self.calls = code, after, 0

    def end(self) -> None:
        self.code = 0

    def consider(self, *codes: int) -> None:
        if self.code in codes:
            self.calls += 1
            if self.calls > self.after:
                error = apsw.FullError("refused") if self.code == FULL else apsw.IOError("refused")
                error.extendedresult = self.code
                raise error


class RefusingFile(apsw.VFSFile):
    def __init__(self, refusals: Refusals, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._refusals = refusals

    def xWrite(self, data: bytes, offset: int) -> None:
        self._refusals.consider(FULL, FAILED_WRITE)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._refusals.consider(FAILED_SYNC)
        super().xSync(flags)


class RefusingDisk(apsw.VFS):
    def __init__(self, refusals: Refusals) -> None:
        super().__init__("refusing", "")
        self._refusals = refusals

    def xOpen(self, name: Any, flags: list[int]) -> RefusingFile:
        return RefusingFile(self._refusals, name, flags)


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> Iterator[Refusals]:
    refusals = Refusals()
    disk = RefusingDisk(refusals)
    connect = apsw.Connection
    monkeypatch.setattr(database.apsw, "Connection", lambda path: connect(path, vfs="refusing"))
    yield refusals
    monkeypatch.undo()
    disk.unregister()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "raft" / "raft.db"


Step = Callable[[LogStore], None]
STEPS: tuple[Step, ...] = (
    lambda store: store.write(batch_of(4, 1, 1, state=HardState(term=1, voted_for=7), body=bytes(9000))),
    lambda store: store.write(batch_of(6, 2, state=HardState(term=2), body=bytes(9000))),
    lambda store: store.write(batch_of(5, 3, 3, body=bytes(20000))),
    lambda store: store.record_snapshot(SnapshotMeta(index=4, term=1), keep_from=5),
    lambda store: store._checkpoint(),
    lambda store: store.write(batch_of(7, 3, 3, body=bytes(9000))),
    lambda store: store.close(),
)


def states(path: Path) -> list[StoredLog]:
    """What a restart finds before the first step, and after each, on a disk that takes everything."""
    store = LogStore.open(path, sealer_of())
    store.write(batch_of(1, 1, 1, 1))
    found = [store.load()]
    for step in STEPS[:-1]:
        step(store)
        found.append(store.load())
    store.close()
    return [*found, load(path)]


@pytest.mark.parametrize(
    ("code", "kind"), [(FULL, StorageFull), (FAILED_WRITE, StorageFailed), (FAILED_SYNC, StorageFailed)]
)
def test_whichever_call_the_disk_refuses_what_was_acknowledged_is_there_after_a_fresh_open(
    path: Path, refusals: Refusals, code: int, kind: type[StorageFailed]
) -> None:
    expected = states(path.parent / "healthy" / "raft.db")
    steps_refused = set()
    for after in count():
        file = path.parent / str(after) / "raft.db"
        store = LogStore.open(file, sealer_of())
        store.write(batch_of(1, 1, 1, 1))
        refusals.begin(code, after)
        number, error = take_steps(store)
        refusals.end()
        close(store)
        if error is None:
            assert load(file) == expected[-1]
            break
        steps_refused.add(number)
        assert type(error) is kind
        # What was refused is there whole or not at all.
        assert load(file) in (expected[number], expected[number + 1])
    assert steps_refused == set(range(len(STEPS)))


def take_steps(store: LogStore) -> tuple[int, StorageFailed | None]:
    """Which step was refused, and with what; the store then refuses everything but to be closed."""
    for number, step in enumerate(STEPS):
        try:
            step(store)
        except StorageFailed as error:
            for another in (STEPS[0], STEPS[3]) if step is not STEPS[-1] else ():
                with pytest.raises(StorageFailed, match="not used any more"):
                    another(store)
            return number, error
    return len(STEPS), None


def close(store: LogStore) -> None:
    """A checkpoint that does not fit leaves the write-ahead log; the file is free for the next open."""
    with suppress(StorageFailed):
        store.close()


def test_a_disk_that_refuses_again_is_found_out_before_the_log_is_trusted(path: Path, refusals: Refusals) -> None:
    states(path)
    for code in (FULL, FAILED_WRITE, FAILED_SYNC):
        store = LogStore.open(path, sealer_of())
        before = store.load()
        refusals.begin(code, 0)
        with pytest.raises(StorageFailed):
            store.settle()
        refusals.end()
        close(store)
        assert load(path) == before


# -- a real one, small -----------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "small", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(disk: Path) -> Path:
    """Somebody else's file that leaves nothing."""
    path = disk / "somebody-elses"
    with path.open("ab", buffering=0) as file:
        for size in (1 << 16, 4096):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return path


def write_until_refused(store: LogStore) -> int:
    """The last index that was acknowledged."""
    for last in count(1):
        try:
            store.write(batch_of(last + 1, 1, body=bytes(30_000)))
        except StorageFull:
            return last
    raise AssertionError("unreachable")


@pytest.mark.needs_root
def test_a_full_disk_is_told_apart_and_the_reserve_is_enough_to_come_back(small_disk: Path) -> None:
    path = small_disk / "raft" / "raft.db"
    store = LogStore.open(path, sealer_of())
    reserve = SpaceReserve(path.parent, 1 << 20)
    reserve.make()
    store.write(batch_of(1, 1))
    filler = fill(small_disk)
    acknowledged = write_until_refused(store)
    close(store)

    assert reserve.release()
    again = LogStore.open(path, sealer_of())
    assert again.load().entries[-1].index == acknowledged
    again.write(batch_of(acknowledged + 1, 2, state=HardState(term=2)))
    again.close()

    filler.unlink()
    reserve.make()
    assert load(path).entries[-1].index == acknowledged + 1


@pytest.mark.needs_root
def test_a_snapshot_that_does_not_fit_leaves_no_trace(small_disk: Path) -> None:
    store = SnapshotStore(small_disk / "raft", sealer_of())
    older = SnapshotMeta(index=3, term=1)
    store.save(older, [b"small"])
    with pytest.raises(StorageFull):
        store.save(SnapshotMeta(index=9, term=1), [bytes(1 << 20)] * 6)
    assert [file.name for file in (small_disk / "raft").iterdir()] == ["snapshot-3-1"]
    assert list(store.read(older)) == [b"small"]
