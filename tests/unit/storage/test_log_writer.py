"""The thread that writes the log."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from swarmd.errors import ResourceExhausted
from swarmd.raft import Entry, EntryKind
from swarmd.storage import log_writer
from swarmd.storage.errors import StorageFailed, StorageFull
from swarmd.storage.log_contract import LogBatch, LogStorage
from swarmd.storage.log_store import LogStore
from swarmd.storage.log_writer import LogWriter
from swarmd.storage.memory import InlineLogWriter, MemoryLogStore
from swarmd.storage.sealing import Sealer
from swarmd.wire.raft_codec import encode_runs

Writer = LogWriter | InlineLogWriter
BOTH = pytest.mark.parametrize("kind", [LogWriter, InlineLogWriter])


class GatedStore(MemoryLogStore):
    """A disk that answers only while its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.thread: threading.Thread | None = None
        self.tidied = threading.Event()

    def write(self, batch: LogBatch) -> None:
        self.gate.wait()
        self.thread = threading.current_thread()
        super().write(batch)

    def tidy(self) -> None:
        self.tidied.set()


class Answers:
    """What was called back, in order, and in which thread."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, BaseException | None]] = []
        self.threads: set[threading.Thread] = set()
        self._changed = trio.Event()

    def of(self, number: int):  # type: ignore[no-untyped-def]
        def done(error: BaseException | None) -> None:
            self.seen.append((number, error))
            self.threads.add(threading.current_thread())
            self._changed.set()

        return done

    async def wait(self, count: int) -> None:
        with trio.fail_after(10):
            while len(self.seen) < count:
                self._changed = trio.Event()
                await self._changed.wait()


def batch_of(index: int) -> LogBatch:
    return LogBatch(runs=encode_runs([Entry(index, 1, EntryKind.DATA, b"x")]))


@BOTH
async def test_batches_are_written_in_order_and_answered_in_the_trio_thread(kind: type[Writer]) -> None:
    store, answers = MemoryLogStore(), Answers()
    writer = kind(store)
    writer.start()
    for index in range(1, 101):
        writer.submit(batch_of(index), answers.of(index))
    assert answers.seen == []
    await answers.wait(100)
    assert answers.seen == [(index, None) for index in range(1, 101)]
    assert answers.threads == {threading.current_thread()}
    assert store.writes == 100
    await writer.aclose()


@BOTH
async def test_other_work_keeps_its_place_among_the_batches(kind: type[Writer]) -> None:
    store, answers = MemoryLogStore(), Answers()
    seen: list[int] = []

    def look(_: LogStorage) -> None:
        seen.append(store.writes)

    writer = kind(store)
    writer.start()
    writer.submit(batch_of(1), answers.of(1))
    writer.call(look, answers.of(2))
    writer.submit(batch_of(2), answers.of(3))
    await answers.wait(3)
    assert seen == [1]
    assert [number for number, _ in answers.seen] == [1, 2, 3]
    await writer.aclose()


@BOTH
@pytest.mark.parametrize("failure", [StorageFailed, StorageFull])
async def test_after_an_error_nothing_more_is_written(kind: type[Writer], failure: type[StorageFailed]) -> None:
    store, answers = MemoryLogStore(), Answers()
    full = failure("no space left on device")
    writer = kind(store)
    writer.start()
    writer.submit(batch_of(1), answers.of(1))
    await answers.wait(1)
    store.fail_with(full)
    writer.submit(batch_of(2), answers.of(2))
    await answers.wait(2)
    store.reopen()
    writer.submit(batch_of(2), answers.of(3))
    writer.call(lambda _: None, answers.of(4))
    await answers.wait(4)
    assert answers.seen[1] == (2, full)
    assert [type(error) for _, error in answers.seen[2:]] == [failure, failure]
    assert store.writes == 1
    await writer.aclose()


@BOTH
async def test_an_error_in_other_work_also_ends_all_writing(kind: type[Writer]) -> None:
    def defect(_: LogStorage) -> None:
        raise LookupError("a defect")

    store, answers = MemoryLogStore(), Answers()
    writer = kind(store)
    writer.start()
    writer.call(defect, answers.of(1))
    writer.submit(batch_of(1), answers.of(2))
    await answers.wait(2)
    assert [type(error) for _, error in answers.seen] == [LookupError, StorageFailed]
    assert store.writes == 0
    await writer.aclose()


@BOTH
async def test_closing_writes_what_is_queued_even_when_cancelled(kind: type[Writer]) -> None:
    store, answers = MemoryLogStore(), Answers()
    writer = kind(store)
    writer.start()
    for index in range(1, 51):
        writer.submit(batch_of(index), answers.of(index))
    with trio.CancelScope() as scope:
        scope.cancel()
        await writer.aclose()
    assert len(answers.seen) == 50
    assert len(store.reopen().load().entries) == 50


async def test_writing_happens_in_a_thread_of_its_own_and_submit_does_not_wait() -> None:
    store, answers = GatedStore(), Answers()
    writer = LogWriter(store)
    writer.start()
    writer.submit(batch_of(1), answers.of(1))
    writer.submit(batch_of(2), answers.of(2))
    assert answers.seen == []
    store.gate.set()
    await answers.wait(2)
    assert store.thread is not threading.current_thread()
    await writer.aclose()
    assert store.thread is not None
    assert not store.thread.is_alive()


async def test_an_idle_writer_tidies_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "IDLE_S", 0.001)
    store = GatedStore()
    writer = LogWriter(store)
    writer.start()
    await trio.to_thread.run_sync(store.tidied.wait, 10)
    assert store.tidied.is_set()
    await writer.aclose()


async def test_a_disk_that_refuses_in_an_idle_moment_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "IDLE_S", 0.001)
    store, told, heard = MemoryLogStore(), trio.Event(), []

    def refuse() -> None:
        raise StorageFull("no room for a checkpoint")

    def hear(error: BaseException) -> None:
        heard.append((type(error), threading.current_thread()))
        told.set()

    monkeypatch.setattr(store, "tidy", refuse)
    writer = LogWriter(store)
    writer.on_failure = hear
    writer.start()
    with trio.fail_after(10):
        await told.wait()
    assert heard == [(StorageFull, threading.current_thread())]
    await writer.aclose()


async def test_the_queue_is_bounded_and_refuses_without_queueing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "QUEUED_MAX", 2)
    store, answers = GatedStore(), Answers()
    writer = LogWriter(store)
    writer.start()
    writer.submit(batch_of(1), answers.of(1))
    writer.submit(batch_of(2), answers.of(2))
    with pytest.raises(ResourceExhausted):
        writer.submit(batch_of(3), answers.of(3))
    store.gate.set()
    await answers.wait(2)
    writer.submit(batch_of(3), answers.of(3))
    await answers.wait(3)
    await writer.aclose()


async def test_closing_gives_up_on_a_disk_that_does_not_answer(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store, answers = GatedStore(), Answers()
    writer = LogWriter(store)
    writer.start()
    writer.submit(batch_of(1), answers.of(1))
    began = trio.current_time()
    await writer.aclose()
    assert trio.current_time() - began == pytest.approx(log_writer.CLOSE_S_MAX)
    assert "does not answer" in caplog.text
    store.gate.set()


async def test_a_closed_writer_takes_nothing_and_closes_again() -> None:
    writer = LogWriter(MemoryLogStore())
    writer.start()
    await writer.aclose()
    await writer.aclose()
    with pytest.raises(RuntimeError):
        writer.submit(batch_of(1), lambda _: None)


async def test_a_writer_that_never_started_still_closes_its_store() -> None:
    store = MemoryLogStore()
    await LogWriter(store).aclose()
    with pytest.raises(StorageFailed):
        store.load()


async def test_the_real_log_is_written_and_closed(tmp_path: Path) -> None:
    sealer = Sealer({1: b"k" * 32}, 1, b"context")
    answers = Answers()
    writer = LogWriter(LogStore.open(tmp_path / "raft.db", sealer))
    writer.start()
    for index in range(1, 21):
        writer.submit(batch_of(index), answers.of(index))
    await writer.aclose()
    assert [error for _, error in answers.seen] == [None] * 20
    again = LogStore.open(tmp_path / "raft.db", sealer)
    assert len(again.load().entries) == 20
    again.close()
