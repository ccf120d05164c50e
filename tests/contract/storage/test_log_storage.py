"""What every log that survives must do: `LogStore` on a disk and `MemoryLogStore`, against a list."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from swarmd.raft import Configuration, Entry, EntryKind, HardState, Member, SnapshotMeta
from swarmd.storage.errors import StorageFailed, StorageFull
from swarmd.storage.log_contract import LogBatch, LogIdentity, LogStorage, StoredLog
from swarmd.storage.log_store import LogStore
from swarmd.storage.memory import MemoryLogStore
from swarmd.storage.sealing import Sealer, sealing_context
from swarmd.wire.raft_codec import encode_runs

IDENTITY = LogIdentity(swarm_id="swarm", node_id="node", member_id=7, incarnation=b"i" * 16)


def make_sealer() -> Sealer:
    return Sealer({1: b"k" * 32}, 1, sealing_context("swarm", 7))


def entries_of(first: int, *terms: int) -> tuple[Entry, ...]:
    return tuple(
        Entry(index, term, EntryKind.DATA, f"{index} in {term}".encode()) for index, term in enumerate(terms, first)
    )


def batch_of(first: int, *terms: int) -> LogBatch:
    return LogBatch(runs=encode_runs(entries_of(first, *terms)))


def meta_of(index: int, term: int) -> SnapshotMeta:
    member = Member(member_id=7, node_id="node", addresses=("10.0.0.1:4242",), is_voter=True)
    return SnapshotMeta(index=index, term=term, configuration=Configuration(members=(member,), removed=(3,)))


class Bench:
    """A log on its disk: opened, closed, and opened again as after a crash."""

    store: LogStorage

    def reopen(self) -> LogStorage:
        """Close and open."""
        raise NotImplementedError

    def crash(self) -> LogStorage:
        """Open what a kill at this moment would have left."""
        raise NotImplementedError

    def discard(self) -> None:
        """Clean up."""


class DiskBench(Bench):
    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp())
        self._lives = 0
        self.store = LogStore.open(self._path, make_sealer())

    @property
    def _path(self) -> Path:
        return self._directory / str(self._lives) / "raft.db"

    def reopen(self) -> LogStorage:
        self.store.close()
        self.store = LogStore.open(self._path, make_sealer())
        return self.store

    def crash(self) -> LogStorage:
        before, old = self._path.parent, self.store
        self._lives += 1
        shutil.copytree(before, self._path.parent)
        old.close()
        self.store = LogStore.open(self._path, make_sealer())
        return self.store

    def discard(self) -> None:
        self.store.close()
        shutil.rmtree(self._directory)


class MemoryBench(Bench):
    def __init__(self) -> None:
        self.store = self._memory = MemoryLogStore()

    def reopen(self) -> LogStorage:
        self._memory.close()
        return self._memory.reopen()

    def crash(self) -> LogStorage:
        return self._memory.reopen()


@pytest.fixture(params=[DiskBench, MemoryBench])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = request.param()
    yield made
    made.discard()


def test_a_new_log_is_empty(bench: Bench) -> None:
    assert bench.store.load() == StoredLog()


def test_the_identity_is_given_once(bench: Bench) -> None:
    bench.store.initialise(IDENTITY)
    bench.store.initialise(IDENTITY)
    other = LogIdentity(swarm_id="swarm", node_id="node", member_id=8, incarnation=b"i" * 16)
    with pytest.raises(ValueError):
        bench.store.initialise(other)
    assert bench.reopen().load().identity == IDENTITY


def test_hard_state_and_entries_become_durable_together(bench: Bench) -> None:
    state = HardState(term=3, voted_for=7, commit=2)
    bench.store.write(LogBatch(hard_state=state, runs=batch_of(1, 1, 1, 3).runs))
    assert bench.crash().load() == StoredLog(hard_state=state, entries=entries_of(1, 1, 1, 3))


def test_a_batch_without_hard_state_keeps_the_last_one(bench: Bench) -> None:
    bench.store.write(LogBatch(hard_state=HardState(term=2, voted_for=1)))
    bench.store.write(batch_of(1, 2))
    bench.store.write(LogBatch())
    assert bench.reopen().load().hard_state == HardState(term=2, voted_for=1)


@pytest.mark.parametrize("first", [1, 2, 3, 4, 5, 6, 7])
def test_an_overwrite_replaces_everything_from_its_first_entry_on(bench: Bench, first: int) -> None:
    bench.store.write(batch_of(1, 1, 1, 1))
    bench.store.write(batch_of(4, 1, 1, 1))
    bench.store.write(batch_of(first, 2))
    kept = entries_of(1, 1, 1, 1, 1, 1, 1)[: first - 1]
    assert bench.crash().load().entries == (*kept, *entries_of(first, 2))


def test_a_gap_is_the_callers_defect_and_leaves_the_log_usable(bench: Bench) -> None:
    bench.store.write(batch_of(1, 1))
    runs = batch_of(2, 1).runs
    for wrong in (batch_of(3, 1), LogBatch(runs=(*runs, *batch_of(4, 1).runs))):
        with pytest.raises(ValueError):
            bench.store.write(wrong)
    bench.store.write(batch_of(2, 1))
    assert bench.reopen().load().entries == entries_of(1, 1, 1)


# A batch may be written after a snapshot that was recorded while it queued.


def test_a_late_batch_that_the_snapshot_covers_is_left_out(bench: Bench) -> None:
    bench.store.write(batch_of(1, 1, 1, 1))
    bench.store.record_snapshot(meta_of(9, 1), keep_from=1)
    bench.store.write(LogBatch(hard_state=HardState(term=1), runs=batch_of(4, 1, 1, 1).runs))
    assert bench.crash().load() == StoredLog(hard_state=HardState(term=1), snapshot=meta_of(9, 1))


def test_a_late_batch_that_reaches_beyond_the_snapshot_is_kept(bench: Bench) -> None:
    bench.store.write(batch_of(1, 1, 1, 1))
    bench.store.record_snapshot(meta_of(5, 2), keep_from=1)
    bench.store.write(batch_of(4, 1, 2, 2, 2))
    bench.store.write(batch_of(8, 3))
    assert bench.crash().load().entries == entries_of(5, 2, 2, 2, 3)


@pytest.mark.parametrize("stale", [batch_of(4, 1, 1, 1, 1), batch_of(4, 1, 1, 2), batch_of(6, 2)])
def test_a_late_batch_that_contradicts_the_snapshot_is_left_out(bench: Bench, stale: LogBatch) -> None:
    bench.store.write(batch_of(1, 1, 1, 1))
    bench.store.record_snapshot(meta_of(5, 3), keep_from=1)
    bench.store.write(stale)
    assert bench.reopen().load().entries == ()
    bench.store.write(batch_of(6, 3))
    assert bench.crash().load().entries == entries_of(6, 3)


def test_a_snapshot_drops_runs_wholly_below_what_is_kept(bench: Bench) -> None:
    for first in range(1, 11):
        bench.store.write(batch_of(first, 1))
    bench.store.record_snapshot(meta_of(8, 1), keep_from=5)
    found = bench.reopen().load()
    assert found.snapshot == meta_of(8, 1)
    assert found.entries == entries_of(1, *[1] * 10)[4:]


def test_a_run_that_is_partly_kept_stays_whole(bench: Bench) -> None:
    bench.store.write(batch_of(1, 1, 1, 1, 1))
    bench.store.record_snapshot(meta_of(3, 1), keep_from=3)
    assert bench.reopen().load().entries == entries_of(1, 1, 1, 1, 1)


def test_no_entry_above_the_snapshot_is_dropped_whatever_is_asked(bench: Bench) -> None:
    for first in range(1, 6):
        bench.store.write(batch_of(first, 1))
    bench.store.record_snapshot(meta_of(3, 1), keep_from=100)
    assert bench.crash().load().entries == entries_of(4, 1, 1)


def test_a_snapshot_beyond_the_log_replaces_it(bench: Bench) -> None:
    bench.store.write(LogBatch(hard_state=HardState(term=4), runs=batch_of(1, 1, 1).runs))
    bench.store.record_snapshot(meta_of(50, 4), keep_from=40)
    assert bench.reopen().load() == StoredLog(hard_state=HardState(term=4), snapshot=meta_of(50, 4))
    bench.store.write(batch_of(51, 4))
    assert bench.reopen().load().entries == entries_of(51, 4)


def test_a_snapshot_of_another_term_than_the_log_replaces_it(bench: Bench) -> None:
    bench.store.write(batch_of(1, 1, 1, 1, 1))
    bench.store.record_snapshot(meta_of(3, 2), keep_from=1)
    assert bench.reopen().load() == StoredLog(snapshot=meta_of(3, 2))


def test_an_older_snapshot_that_finishes_late_changes_nothing(bench: Bench) -> None:
    bench.store.write(batch_of(1, *[1] * 10))
    bench.store.record_snapshot(meta_of(9, 1), keep_from=10)
    bench.store.record_snapshot(meta_of(5, 1), keep_from=6)
    assert bench.reopen().load().snapshot == meta_of(9, 1)


def test_the_same_snapshot_again_keeps_the_entries_after_it(bench: Bench) -> None:
    bench.store.write(batch_of(1, 1, 1))
    bench.store.record_snapshot(meta_of(2, 1), keep_from=3)
    bench.store.write(batch_of(3, 1))
    bench.store.record_snapshot(meta_of(2, 1), keep_from=3)
    assert bench.reopen().load() == StoredLog(snapshot=meta_of(2, 1), entries=entries_of(3, 1))


def test_a_snapshot_at_the_last_entry_leaves_an_empty_log_that_goes_on(bench: Bench) -> None:
    bench.store.write(batch_of(1, 1, 1))
    bench.store.record_snapshot(meta_of(2, 1), keep_from=3)
    assert bench.crash().load().entries == ()
    bench.store.write(batch_of(3, 2))
    assert bench.crash().load().entries == entries_of(3, 2)


def test_a_closed_log_can_be_closed_again(bench: Bench) -> None:
    bench.store.close()
    bench.store.close()


# -- failure of the disk -------------------------------------------------------------------------------------------


class SmallDiskBench(DiskBench):
    """On a file system of 2 MiB that somebody else may fill."""

    def __init__(self) -> None:
        self._root = Path(tempfile.mkdtemp())
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "small", self._root], check=True)
        self._directory = self._root / "node"
        self._directory.mkdir()
        self._lives = 0
        self.store = LogStore.open(self._path, make_sealer())

    def fill_up(self) -> None:
        with (self._root / "somebody-elses").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)) == 4096:
                pass

    def make_room(self) -> None:
        (self._root / "somebody-elses").unlink()

    def discard(self) -> None:
        super().discard()
        subprocess.run(["umount", self._root], check=True)
        self._root.rmdir()


class FullMemoryBench(MemoryBench):
    """A disk in memory that refuses when it is told to."""

    def fill_up(self) -> None:
        self._memory.fail_with(StorageFull("no space left on device"))

    def make_room(self) -> None:
        """What `reopen` does to it."""


@pytest.fixture(params=[FullMemoryBench, pytest.param(SmallDiskBench, marks=pytest.mark.needs_root)])
def small_bench(request: pytest.FixtureRequest) -> Iterator[SmallDiskBench | FullMemoryBench]:
    made = request.param()
    yield made
    made.discard()


def write_until_refused(store: LogStorage, last: int) -> int:
    """The last index that was acknowledged: what is in the page at hand already may still fit."""
    while True:
        try:
            store.write(batch_of(last + 1, *[1] * 50))
        except StorageFull:
            return last
        last += 50


def test_a_full_disk_refuses_loses_nothing_and_stays_refusing_until_reopened(
    small_bench: SmallDiskBench | FullMemoryBench,
) -> None:
    bench = small_bench
    bench.store.write(batch_of(1, 1))
    bench.fill_up()
    last = write_until_refused(bench.store, 1)
    bench.make_room()
    with pytest.raises(StorageFailed):
        bench.store.write(batch_of(last + 1, 1))
    with pytest.raises(StorageFailed):
        bench.store.record_snapshot(meta_of(1, 1), keep_from=1)
    assert bench.reopen().load().entries == entries_of(1, *[1] * last)
    bench.store.write(batch_of(last + 1, 2))
    assert bench.reopen().load().entries[-1].index == last + 1


# -- against a list ------------------------------------------------------------------------------------------------


class LogMachine(RuleBasedStateMachine):
    """Any order of writes, overwrites, snapshots, restarts and crashes; the model is a dict of entries."""

    make_bench: Callable[[], Bench]

    @initialize()
    def begin(self) -> None:
        self.bench = type(self).make_bench()
        self.entries: dict[int, Entry] = {}
        self.dropped_below = 1
        self.last = 0
        self.term = 1
        self.hard_state = HardState()
        self.snapshot = SnapshotMeta()

    @rule(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3), newer=st.booleans(), back=st.integers(0, 6))
    def write(self, sizes: list[int], newer: bool, back: int) -> None:
        self.term += newer
        first = max(self.last + 1 - back, self.snapshot.index + 1)
        self.term = max(self.term, self.entries[first - 1].term if first - 1 in self.entries else 1)
        fresh = tuple(
            Entry(first + i, self.term + (i >= sizes[0]), EntryKind(i % 3), b"%d" % i) for i in range(sum(sizes))
        )
        self.hard_state = HardState(term=self.term + 1, commit=self.snapshot.index)
        self.bench.store.write(LogBatch(hard_state=self.hard_state, runs=encode_runs(fresh)))
        self.term += 1
        self.entries = {i: e for i, e in self.entries.items() if i < first} | {e.index: e for e in fresh}
        self.last = fresh[-1].index

    @rule(vote=st.integers(0, 9))
    def vote(self, vote: int) -> None:
        self.hard_state = HardState(term=self.term, voted_for=vote)
        self.bench.store.write(LogBatch(hard_state=self.hard_state))

    @precondition(lambda self: self.last > self.snapshot.index)
    @rule(back=st.integers(0, 5), keep=st.integers(0, 8))
    def take_snapshot(self, back: int, keep: int) -> None:
        index = max(self.last - back, self.snapshot.index + 1)
        self.snapshot = meta_of(index, self.entries[index].term)
        self.bench.store.record_snapshot(self.snapshot, keep_from=index + 1 - keep)
        self.dropped_below = max(self.dropped_below, index + 1 - keep)

    @rule(ahead=st.integers(1, 5))
    def install_snapshot(self, ahead: int) -> None:
        self.last += ahead
        self.term += 1
        self.snapshot = meta_of(self.last, self.term)
        self.bench.store.record_snapshot(self.snapshot, keep_from=1)
        self.entries = {}
        self.dropped_below = self.last + 1

    @rule()
    def restart(self) -> None:
        self.bench.reopen()

    @rule()
    def crash(self) -> None:
        self.bench.crash()

    @rule()
    def tidy(self) -> None:
        self.bench.store.tidy()

    @invariant()
    def holds_what_was_acknowledged(self) -> None:
        found = self.bench.store.load()
        assert (found.hard_state, found.snapshot) == (self.hard_state, self.snapshot)
        # How far a run reaches below what had to be kept is the store's own affair.
        assert {e.index: e for e in found.entries if e.index >= self.dropped_below} == {
            index: entry for index, entry in self.entries.items() if index >= self.dropped_below
        }
        assert all(entry == self.entries[entry.index] for entry in found.entries)

    def teardown(self) -> None:
        self.bench.discard()


class DiskMachine(LogMachine):
    make_bench = DiskBench


class MemoryMachine(LogMachine):
    make_bench = MemoryBench


TestLogStoreAgainstAList = DiskMachine.TestCase
TestLogStoreAgainstAList.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestMemoryLogStoreAgainstAList = MemoryMachine.TestCase
TestMemoryLogStoreAgainstAList.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
