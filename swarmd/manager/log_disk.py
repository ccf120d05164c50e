"""One disk batch in flight; what arrives meanwhile is the next (performance-raft, rule 1).

Sits between the driver, which thinks in entries, and `storage.LogWriter`, which writes runs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from swarmd.raft import Entry, HardState, SnapshotMeta
from swarmd.storage.log_store import LogBatch, LogWriter
from swarmd.wire.raft_codec import EntryRun, decode_run, encode_runs

RUNS_REMEMBERED_MAX: Final = 64
"""Encoded runs kept for the next follower or for the disk: more than one pump's worth is never looked up again."""


class LogDisk:
    """The log on its way to the disk.

    `on_failure` is called once if a write fails; nothing is reported durable after that.
    """

    def __init__(self, writer: LogWriter, on_failure: Callable[[BaseException], None]) -> None:
        self._writer = writer
        writer.on_failure = self._fail
        self._on_failure = on_failure
        self._hard_state: HardState | None = None
        self._runs: list[EntryRun] = []
        self._waiting: list[Callable[[], None]] = []
        self._in_flight: list[Callable[[], None]] | None = None
        self._is_stopped = False
        self._ticks = 0
        self._remembered: OrderedDict[tuple[int, int, int], tuple[Sequence[Entry], tuple[EntryRun, ...]]] = (
            OrderedDict()
        )

    @property
    def is_busy(self) -> bool:
        """Whether a batch is being written."""
        return self._in_flight is not None

    @property
    def ticks_waited(self) -> int:
        """For how many ticks the present batch has been under way."""
        return self._ticks

    def tick(self) -> None:
        """Time passed."""
        self._ticks = self._ticks + 1 if self.is_busy else 0

    def stop(self) -> None:
        """Ask the writer for nothing more, and report nothing durable any more."""
        self._is_stopped = True
        self._waiting.clear()
        self._runs.clear()

    def remember(self, entries: Sequence[Entry], runs: tuple[EntryRun, ...]) -> None:
        """Keep the bytes that `entries` arrived in, so that they are written verbatim."""
        if runs:
            self._keep(entries, runs)

    def runs_of(self, entries: Sequence[Entry]) -> tuple[EntryRun, ...]:
        """`entries` as runs, encoded at most once for the disk and all followers."""
        known, runs = self._remembered.get(_key(entries), ((), ()))
        # Mostly the same objects, so it costs next to nothing. What a stranger sent and the log did not take differs.
        if known != entries:
            runs = encode_runs(entries)
            self._keep(entries, runs)
        return runs

    def _keep(self, entries: Sequence[Entry], runs: tuple[EntryRun, ...]) -> None:
        self._remembered[_key(entries)] = entries, runs
        if len(self._remembered) > RUNS_REMEMBERED_MAX:
            self._remembered.popitem(last=False)

    def write(self, hard_state: HardState | None, runs: tuple[EntryRun, ...], durable: Callable[[], None]) -> None:
        """Queue; `durable` is called in the Trio thread once it (and all before it) is on the disk."""
        if self._is_stopped:
            return
        if hard_state is not None:
            self._hard_state = hard_state
        if runs:
            self._overwrite(runs[0].first)
            self._runs.extend(runs)
        self._waiting.append(durable)
        self._flush()

    def _overwrite(self, first: int) -> None:
        """Cut what the log overwrote from the queue, so that a batch stays contiguous; the store cuts the disk."""
        while self._runs and self._runs[-1].first >= first:
            self._runs.pop()
        if self._runs and self._runs[-1].last >= first:
            kept = [entry for entry in decode_run(self._runs.pop()) if entry.index < first]
            self._runs.extend(encode_runs(kept))

    def _flush(self) -> None:
        if self._in_flight is not None or not self._waiting:
            return
        batch = LogBatch(hard_state=self._hard_state, runs=tuple(self._runs))
        self._in_flight, self._waiting = self._waiting, []
        self._hard_state, self._runs, self._ticks = None, [], 0
        if batch.hard_state is None and not batch.runs:
            self._written(None)
        else:
            self._writer.submit(batch, self._written)

    def _written(self, error: BaseException | None) -> None:
        done, self._in_flight = self._in_flight or [], None
        if error is not None:
            self._fail(error)
        if self._is_stopped:
            return
        for durable in done:
            durable()
        self._flush()

    def _fail(self, error: BaseException) -> None:
        if not self._is_stopped:
            self.stop()
            self._on_failure(error)

    def record_snapshot(self, meta: SnapshotMeta, *, keep_from: int, done: Callable[[], None] | None = None) -> None:
        """Remember a durable snapshot and drop the log before `keep_from`, in order with the batches.

        Batches still queued here are written later, and start at or before what the disk then lacks.
        """

        def finished(error: BaseException | None) -> None:
            if error is not None:
                self._fail(error)
            elif done is not None and not self._is_stopped:
                done()

        if not self._is_stopped:
            self._writer.call(lambda store: store.record_snapshot(meta, keep_from=keep_from), finished)

    def replace_by(self, meta: SnapshotMeta) -> None:
        """A snapshot from the leader takes the whole log's place, what is still queued included."""
        self._runs.clear()
        self._remembered.clear()
        self.record_snapshot(meta, keep_from=meta.index + 1)


def _key(entries: Sequence[Entry]) -> tuple[int, int, int]:
    return entries[0].index, entries[-1].index, entries[-1].term
