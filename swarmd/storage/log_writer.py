"""The thread that writes the log: a queue in, callbacks out (performance-raft, rule 7). See DESIGN.md."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

import msgspec
import trio

from swarmd.errors import ResourceExhausted
from swarmd.storage.errors import StorageFailed, StorageFull
from swarmd.storage.log_contract import LogBatch, LogStorage

log = logging.getLogger(__name__)

QUEUED_MAX: Final = 4096
"""Jobs submitted and not called back. The driver keeps one batch in flight, so this is a defect's net, not a limit it
should ever meet."""
CLOSE_S_MAX: Final = 10.0
IDLE_S: Final = 0.05
"""A pause of this length is taken for a chance to do housekeeping."""

Done = Callable[[BaseException | None], None]


class _Job(msgspec.Struct, frozen=True):
    work: Callable[[LogStorage], None]
    done: Done


class LogWriter:
    """The one thread that writes a `LogStore`. Who called `start` must call `aclose`.

    `submit` never blocks; batches are written in order, none merged, and `done` is called in the Trio thread after each
    one, with None or the error. After an error nothing more is written, and every later job is answered with
    `StorageFailed`. `done` must not raise.
    """

    def __init__(self, store: LogStorage) -> None:
        self._store = store
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._queued = 0
        self._is_closing = False
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self.on_failure: Callable[[BaseException], None] = lambda error: None
        """Told in the Trio thread of what failed in housekeeping: no `done` would hear of it before the next job."""

    def start(self) -> None:
        """Start the thread; must be called inside Trio, once."""
        if self._thread is not None:
            raise RuntimeError("the log writer was started before")
        self._token = trio.lowlevel.current_trio_token()
        self._ended = trio.Event()
        # A daemon thread, so that a disk that never answers cannot hold up the end of the process.
        self._thread = threading.Thread(target=self._work, name="log-writer", daemon=True)
        self._thread.start()

    def submit(self, batch: LogBatch, done: Done) -> None:
        """Queue a batch. Raises `ResourceExhausted` beyond `QUEUED_MAX` unanswered jobs; then nothing was queued."""
        self._queue(lambda store: store.write(batch), done)

    def call(self, work: Callable[[LogStorage], None], done: Done) -> None:
        """Queue other work on the store (snapshot bookkeeping), in order with the batches. Limits as for `submit`."""
        self._queue(work, done)

    async def aclose(self) -> None:
        """Write what is queued, close the store, end the thread. Shielded and bounded (10 s).

        When it returns, every job has been called back, unless the disk did not answer in time: that is logged, and
        the thread is left to itself.
        """
        if self._thread is None:
            self._store.close()
            return
        if not self._is_closing:
            self._is_closing = True
            self._jobs.put(None)
        with trio.move_on_after(CLOSE_S_MAX, shield=True) as bound:
            await self._ended.wait()
        if bound.cancelled_caught:
            log.error("the log was not closed within %.0f s: the disk does not answer", CLOSE_S_MAX)
        else:
            # It has said its last word and needs microseconds to end.
            self._thread.join()

    def _queue(self, work: Callable[[LogStorage], None], done: Done) -> None:
        if self._is_closing:
            raise RuntimeError("the log writer is closed")
        if self._queued >= QUEUED_MAX:
            raise ResourceExhausted(f"{QUEUED_MAX} writes wait for the disk")
        self._queued += 1
        self._jobs.put(_Job(work, done))

    # -- in the thread ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        self._keep_house(lambda store: store.prepare())
        while (job := self._next_job()) is not None:
            self._tell(self._called_back, job.done, self._run(job.work))
        self._run(lambda store: store.close(), even_after_failure=True)
        self._tell(self._ended.set)

    def _next_job(self) -> _Job | None:
        try:
            return self._jobs.get(timeout=IDLE_S)
        except Empty:
            self._keep_house(lambda store: store.tidy())
            return self._jobs.get()

    def _keep_house(self, work: Callable[[LogStorage], None]) -> None:
        error = self._run(work)
        if error is not None:
            self._tell(self.on_failure, error)

    def _run(self, work: Callable[[LogStorage], None], *, even_after_failure: bool = False) -> BaseException | None:
        if self._failure is not None and not even_after_failure:
            kind = StorageFull if isinstance(self._failure, StorageFull) else StorageFailed
            error = kind(f"nothing is written any more after: {self._failure}")
            error.__cause__ = self._failure
            return error
        try:
            work(self._store)
        except BaseException as error:  # noqa: BLE001 - it travels on, to `done` in the Trio thread
            if self._failure is None:
                log.error("the log stops: %s", error)
                self._failure = error
            return error
        return None

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._token.run_sync_soon(function, *arguments)
        except trio.RunFinishedError:
            # Trio is gone without `aclose`: nobody is left to hear it, and what was written stays written.
            return

    # -- in the Trio thread ----------------------------------------------------------------------------------------

    def _called_back(self, done: Done, error: BaseException | None) -> None:
        self._queued -= 1
        done(error)
