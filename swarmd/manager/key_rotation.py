"""Data-key rotation while a manager works: the new key seals at once, what the old ones sealed follows, then they go.

Each step leaves everything readable with the keys in the file, so a crash needs no repair: the next life finds more
than one key and goes on. See storage/DESIGN.md.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import trio

from swarmd.errors import SwarmError, Unavailable
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.storage.log_contract import LogStorage, Resealed
from swarmd.storage.log_writer import Done
from swarmd.storage.sealing import Sealer
from swarmd.transport.connection import Call
from swarmd.wire.raft_status import KeyRotated, RotateKey

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_S: Final = 60.0
"""After a try that failed: a snapshot meanwhile may have removed what does not open, or there is room again."""
ANSWER_S_MAX: Final = 10.0
"""How long an operator's call waits for the old keys to go."""


class Writer(Protocol):
    """The thread that writes the log; see `storage.LogWriter`."""

    def call(self, work: Callable[[LogStorage], None], done: Done) -> None: ...


class InThread(Protocol):
    """Runs blocking work."""

    async def __call__(self, work: Callable[[], T]) -> T: ...


class KeyRotation:
    """Finishes rotations, whoever began them: an operator, the count of blobs, or an earlier life.

    Args:
        sealer: of the log and the snapshots.
        writer: of the log; sealing anew queues behind the commits, a step of about 2 ms at a time.
        reseal_snapshots: returns when no snapshot file names an old key. Raises `StorageDamaged`, `StorageFailed`.
    """

    def __init__(
        self,
        sealer: Sealer,
        writer: Writer,
        reseal_snapshots: Callable[[], Awaitable[None]],
        *,
        node_id: str = "",
        in_thread: InThread | None = None,
    ) -> None:
        self._sealer = sealer
        self._writer = writer
        self._reseal_snapshots = reseal_snapshots
        self._node_id = node_id
        self._in_thread: InThread = _in_a_thread if in_thread is None else in_thread
        self._switched = trio.Event()
        self._finished = trio.Event()
        self._problem = ""

    # -- what is asked -------------------------------------------------------------------------------------------

    async def rotate_data_key(self) -> int:
        """Seal with a new key from now on; its id. What older keys sealed is sealed anew in the background (`run`).

        The key is durable when this returns. Raises `StorageFailed`, and then the present one goes on sealing.
        `Cancelled` may leave it rotated.
        """
        return await self._in_thread(self._sealer.rotate)

    async def until_finished(self) -> None:
        """Return once only one key is left."""
        while self._sealer.old_keys:
            await self._finished.wait()

    async def handle(self, call: Call, request: RotateKey) -> KeyRotated:
        """Handler of `raft.rotate_key`. Answers when the old keys are gone, or after 10 s with those that are left."""
        try:
            key = await self.rotate_data_key()
        except StorageFailed as error:
            raise Unavailable(f"the new data key cannot be stored, the present one goes on: {error}") from error
        with trio.move_on_after(ANSWER_S_MAX):
            await self.until_finished()
        left = tuple(sorted(self._sealer.old_keys))
        return KeyRotated(node_id=self._node_id, key=key, old_keys=left, problem=self._problem if left else "")

    # -- the work ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Finish what was begun, now and whenever it begins, until cancelled. Then every blob is still readable."""
        token = trio.lowlevel.current_trio_token()
        self._sealer.when_switched(partial(_ring, token, self._note_switch))
        while True:
            self._switched = trio.Event()
            retry_s = await self._try_to_finish() if self._sealer.old_keys else float("inf")
            with trio.move_on_after(retry_s):
                await self._switched.wait()

    def _note_switch(self) -> None:
        self._switched.set()

    async def _try_to_finish(self) -> float:
        """Seconds until it must be tried again; infinity if all is done."""
        try:
            await self._finish()
        except (StorageDamaged, StorageFailed, SwarmError) as error:
            self._problem = str(error)
            log.warning("data keys: old ones are still needed, next try in %.0f s: %s", RETRY_S, error)
            return RETRY_S
        self._problem = ""
        finished, self._finished = self._finished, trio.Event()
        finished.set()
        return float("inf")

    async def _finish(self) -> None:
        """Seal everything anew and let the old keys go. Another switch meanwhile makes no difference to these."""
        current, old = self._sealer.current_key, self._sealer.old_keys
        log.info("data key %d seals from now on; sealing anew what %s sealed", current, _named(old))
        changed = 0
        while step := await self._reseal_log():  # the last round changes nothing, which proves that nothing is left
            changed += step
        await self._reseal_snapshots()
        await self._in_thread(partial(self._sealer.forget, old))
        log.info(
            "data %s deleted: %d rows of the log and all snapshots were sealed anew with key %d",
            _named(old),
            changed,
            current,
        )

    async def _reseal_log(self) -> int:
        """One round through the log; how many blobs were sealed anew."""
        changed, after = 0, 0
        while True:
            began = trio.current_time()
            step = await self._in_writer(lambda store, after=after: store.reseal(after))  # type: ignore[misc]
            changed += step.changed
            if step.after is None:
                return changed
            after = step.after
            # Leave the disk to the commits for as long as they were kept from it.
            await trio.sleep(trio.current_time() - began)

    async def _in_writer(self, work: Callable[[LogStorage], Resealed]) -> Resealed:
        """Do `work` in the log's thread, behind what is queued there. A row that does not open ends only this."""
        outcome: list[Resealed | StorageDamaged] = []
        ended = trio.Event()
        failure: list[BaseException] = []

        def job(store: LogStorage) -> None:
            try:
                outcome.append(work(store))
            except StorageDamaged as error:
                outcome.append(error)

        def done(error: BaseException | None) -> None:
            if error is not None:
                failure.append(error)
            ended.set()

        self._writer.call(job, done)
        await ended.wait()
        if failure:
            raise StorageFailed(f"the log cannot be written: {failure[0]}") from failure[0]
        if isinstance(outcome[0], StorageDamaged):
            raise outcome[0]
        return outcome[0]


def _named(keys: frozenset[int]) -> str:
    return f"key{'' if len(keys) == 1 else 's'} {', '.join(map(str, sorted(keys)))}"


def _ring(token: trio.lowlevel.TrioToken, call: Callable[[], Any]) -> None:
    """From whichever thread switched."""
    try:
        token.run_sync_soon(call)
    except trio.RunFinishedError:
        return  # the next life sees more than one key


async def _in_a_thread(work: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(work)
