"""Statuses on their way out: first into the local store, then, in batches, to whoever leads.

A status that is overtaken on the way is never sent; one that could not be sent is kept until a session can.
"""

from __future__ import annotations

import logging
import random
from typing import Final

import trio

from swarmd.agent.ledger import Ledger
from swarmd.agent.link import DispatcherLink
from swarmd.errors import SwarmError
from swarmd.model import TaskStatus
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.wire.dispatch import ReportedStatus, UpdateStatusRequest

log = logging.getLogger(__name__)

BATCH_MAX: Final = 1000
"""Statuses in one call."""
COALESCE_S: Final = 0.05
RETRY_DELAY_MIN_S: Final = 0.2
RETRY_DELAY_MAX_S: Final = 8.0
SEND_TIMEOUT_S: Final = 10.0
"""The dispatcher answers once the batch is committed."""
FLUSH_BUDGET_S: Final = 2.0


class Reporter:
    """The two maps of statuses that are not saved yet, and not sent yet. Each holds at most one per task."""

    def __init__(self, ledger: Ledger, *, rng: random.Random) -> None:
        self._ledger = ledger
        self._rng = rng
        self._unsaved: dict[str, TaskStatus] = {}
        self._in_save: dict[str, TaskStatus] = {}
        self._unsent: dict[str, TaskStatus] = {}
        self._saving = trio.Event()
        self._sending = trio.Event()
        self._save_lock = trio.Lock()

    def report(self, task_id: str, status: TaskStatus) -> None:
        """Save this status and then send it."""
        self._unsaved[task_id] = status
        self._saving.set()

    def resend(self, statuses: dict[str, TaskStatus]) -> None:
        """Send these too, unless something newer is on its way: the dispatcher may have lost what it had."""
        for task_id, status in statuses.items():
            if task_id not in self._unsaved and task_id not in self._in_save:
                self._unsent.setdefault(task_id, status)
        self._sending.set()

    def forget(self, task_id: str) -> None:
        """The task is gone here and nobody asks for its status any more."""
        self._unsaved.pop(task_id, None)
        self._unsent.pop(task_id, None)

    async def run(self) -> None:
        """Save statuses as they come, many in one commit, until cancelled."""
        while True:
            await self._saving.wait()
            await self.save()

    async def save(self) -> None:
        """Save what is not saved yet. A disk that refuses is logged: the manager is told all the same."""
        async with self._save_lock:
            self._saving = trio.Event()
            batch, self._unsaved = self._unsaved, {}
            self._in_save, is_done = batch, False
            try:
                await self._ledger.put_status(tuple(batch.items()))
                is_done = True
            except (StorageFailed, StorageDamaged) as error:
                log.error("statuses of %d tasks are not saved: %s", len(batch), error)
                is_done = True
            finally:
                self._in_save = {}
                if not is_done:
                    self._unsaved = batch | self._unsaved
            self._unsent |= batch
            self._sending.set()

    async def send(self, link: DispatcherLink, session_id: str) -> None:
        """Send statuses over this session until cancelled. Errors are retried: the session's other loops judge it."""
        failures = 0
        while True:
            if not self._unsent:
                self._sending = trio.Event()
                await self._sending.wait()
            await trio.sleep(COALESCE_S)
            try:
                await self._send_batch(link, session_id)
            except (SwarmError, trio.TooSlowError) as error:
                failures += 1
                log.info("reporting statuses failed: %s", error)
                await trio.sleep(self._retry_delay_s(failures))
            else:
                failures = 0

    async def flush(self, link: DispatcherLink, session_id: str) -> None:
        """Save and send everything that is left, within 2 s; what does not get through is reported after a restart."""
        with trio.move_on_after(FLUSH_BUDGET_S):
            await self.save()
            try:
                while self._unsent:
                    await self._send_batch(link, session_id)
            except (SwarmError, trio.TooSlowError) as error:
                log.info("statuses of %d tasks are not reported: %s", len(self._unsent), error)

    async def _send_batch(self, link: DispatcherLink, session_id: str) -> None:
        batch = dict(list(self._unsent.items())[:BATCH_MAX])
        if not batch:
            return
        for task_id in batch:
            del self._unsent[task_id]
        request = UpdateStatusRequest(
            session_id=session_id,
            updates=tuple(ReportedStatus(task_id=task_id, status=status) for task_id, status in batch.items()),
        )
        sent = False
        try:
            with trio.fail_after(SEND_TIMEOUT_S):
                reply = await link.update_status(request)
            sent = True
        finally:
            if not sent:
                self._unsent = batch | self._unsent
        if reply.refused:
            log.warning("not this node's tasks, says the dispatcher: %s", ", ".join(reply.refused))

    def _retry_delay_s(self, failures: int) -> float:
        delay_s = min(RETRY_DELAY_MIN_S * 2.0 ** min(failures - 1, 10), RETRY_DELAY_MAX_S)
        return delay_s * self._rng.uniform(0.5, 1.0)
