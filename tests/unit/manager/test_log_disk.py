"""One batch in flight, order kept, overwritten entries cut, bytes encoded once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from swarmd.manager.log_disk import RUNS_REMEMBERED_MAX, LogDisk
from swarmd.raft import Entry, EntryKind, HardState, SnapshotMeta
from swarmd.storage.log_contract import LogBatch
from swarmd.wire.raft_codec import decode_run, encode_runs


class SlowWriter:
    """Holds every job until told to finish it."""

    def __init__(self) -> None:
        self.jobs: list[tuple[LogBatch | str, Callable[[BaseException | None], None]]] = []
        self.on_failure: Callable[[BaseException], None]

    def submit(self, batch: LogBatch, done: Callable[[BaseException | None], None]) -> None:
        self.jobs.append((batch, done))

    def call(self, work: Callable[[Any], None], done: Callable[[BaseException | None], None]) -> None:
        self.jobs.append(("call", done))

    def finish(self, error: BaseException | None = None) -> LogBatch | str:
        batch, done = self.jobs.pop(0)
        done(error)
        return batch


def entries(first: int, count: int, term: int = 1) -> tuple[Entry, ...]:
    return tuple(Entry(i, term, EntryKind.DATA, b"%d" % i) for i in range(first, first + count))


@pytest.fixture
def writer() -> SlowWriter:
    return SlowWriter()


@pytest.fixture
def disk(writer: SlowWriter) -> LogDisk:
    failures: list[BaseException] = []
    disk = LogDisk(writer, failures.append)  # type: ignore[arg-type]
    disk.failures = failures  # type: ignore[attr-defined]
    return disk


def written(batch: LogBatch | str) -> list[tuple[int, int]]:
    assert isinstance(batch, LogBatch)
    return [(entry.index, entry.term) for run in batch.runs for entry in decode_run(run)]


def test_what_arrives_during_a_write_becomes_one_next_batch(disk: LogDisk, writer: SlowWriter) -> None:
    durable: list[int] = []
    disk.write(None, encode_runs(entries(1, 2)), lambda: durable.append(1))
    assert disk.is_busy
    disk.write(HardState(term=1), encode_runs(entries(3, 1)), lambda: durable.append(2))
    disk.write(HardState(term=2), encode_runs(entries(4, 1)), lambda: durable.append(3))
    assert len(writer.jobs) == 1
    assert written(writer.finish()) == [(1, 1), (2, 1)]
    assert durable == [1]
    second = writer.finish()
    assert isinstance(second, LogBatch)
    assert second.hard_state == HardState(term=2)
    assert written(second) == [(3, 1), (4, 1)]
    assert durable == [1, 2, 3]
    assert not disk.is_busy


def test_a_write_of_nothing_still_waits_for_the_ones_before_it(disk: LogDisk, writer: SlowWriter) -> None:
    durable: list[str] = []
    disk.write(None, encode_runs(entries(1, 1)), lambda: durable.append("entry"))
    disk.write(None, (), lambda: durable.append("nothing"))
    assert durable == []
    writer.finish()
    assert durable == ["entry", "nothing"]


@pytest.mark.parametrize(
    ("first", "kept"), [(1, []), (2, [(1, 1)]), (4, [(1, 1), (2, 1), (3, 1)]), (5, [(1, 1), (2, 1), (3, 1), (4, 1)])]
)
def test_entries_that_the_log_overwrote_while_queued_are_not_written(
    disk: LogDisk, writer: SlowWriter, first: int, kept: list[tuple[int, int]]
) -> None:
    disk.write(HardState(term=1), (), lambda: None)
    disk.write(None, encode_runs(entries(1, 2)), lambda: None)
    disk.write(None, encode_runs(entries(3, 2)), lambda: None)
    disk.write(None, encode_runs(entries(first, 2, term=2)), lambda: None)
    writer.finish()
    assert written(writer.finish()) == [*kept, (first, 2), (first + 1, 2)]


def test_nothing_is_reported_durable_after_a_failed_write(disk: LogDisk, writer: SlowWriter) -> None:
    durable: list[int] = []
    disk.write(None, encode_runs(entries(1, 1)), lambda: durable.append(1))
    error = OSError("no space")
    writer.finish(error)
    assert durable == []
    assert disk.failures == [error]  # type: ignore[attr-defined]


def test_the_bytes_that_entries_arrived_in_are_written_verbatim(disk: LogDisk) -> None:
    runs = encode_runs(entries(1, 3))
    disk.remember(entries(1, 3), runs)
    assert disk.runs_of(entries(1, 3))[0] is runs[0]


def test_entries_for_several_followers_are_encoded_once(disk: LogDisk) -> None:
    assert disk.runs_of(entries(1, 3)) is disk.runs_of(entries(1, 3))


def test_only_a_few_encoded_runs_are_remembered(disk: LogDisk) -> None:
    first = disk.runs_of(entries(1, 1))
    for index in range(2, RUNS_REMEMBERED_MAX + 2):
        disk.runs_of(entries(index, 1))
    assert disk.runs_of(entries(1, 1)) is not first


def test_a_snapshot_from_the_leader_replaces_what_is_still_queued(disk: LogDisk, writer: SlowWriter) -> None:
    disk.write(HardState(term=1), (), lambda: None)
    disk.write(None, encode_runs(entries(1, 3)), lambda: None)
    disk.replace_by(SnapshotMeta(index=10, term=2))
    disk.write(None, encode_runs(entries(11, 1, term=2)), lambda: None)
    writer.finish()
    assert writer.finish() == "call"
    assert written(writer.finish()) == [(11, 2)]


def test_the_caller_hears_when_a_snapshot_is_recorded(disk: LogDisk, writer: SlowWriter) -> None:
    recorded: list[bool] = []
    disk.record_snapshot(SnapshotMeta(index=1, term=1), keep_from=1, done=lambda: recorded.append(True))
    assert recorded == []
    writer.finish()
    assert recorded == [True]


def test_what_fails_between_writes_is_told_and_told_once(disk: LogDisk, writer: SlowWriter) -> None:
    durable: list[int] = []
    disk.write(None, encode_runs(entries(1, 1)), lambda: durable.append(1))
    error = OSError("no space")
    writer.on_failure(error)
    writer.on_failure(OSError("still none"))
    writer.finish(OSError("not used any more"))
    assert durable == []
    assert disk.failures == [error]  # type: ignore[attr-defined]
