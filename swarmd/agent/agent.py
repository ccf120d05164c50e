"""The agent: adopts and runs this node's tasks, and keeps a session with the dispatcher.

Two ways to end: cancelling `run` stops the daemon's side only, as a restart does; `leave` ends the tasks as well.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Final

import trio

from swarmd.agent.connector import Connector
from swarmd.agent.ledger import Ledger, RunBlocking, TaskRecords, in_one_thread
from swarmd.agent.link import LinkProvider
from swarmd.agent.reporter import Reporter
from swarmd.agent.session import Observer
from swarmd.agent.worker import Worker
from swarmd.executor import Executor
from swarmd.model import Node

log = logging.getLogger(__name__)

STOP_BUDGET_S: Final = 4.0
"""For the last statuses (2 s) and the goodbye (1 s) when the daemon stops."""


class Agent:
    """This node as a worker. `run` once; `task_store` is the caller's to close.

    `on_node` and `on_root_ca` are called synchronously when the dispatcher's word on them changes (and at first),
    `on_revoked` at each word of it.
    `rng` gives jitter, `now` the instants in statuses (epoch seconds).
    """

    def __init__(
        self,
        executor: Executor,
        task_store: TaskRecords,
        links: LinkProvider,
        *,
        now: Callable[[], float],
        rng: random.Random,
        on_node: Callable[[Node], None] = lambda _node: None,
        on_root_ca: Callable[[bytes], None] = lambda _root: None,
        on_revoked: Callable[[tuple[str, ...]], None] = lambda _fingerprints: None,
        run_blocking: RunBlocking | None = None,
    ) -> None:
        self._executor = executor
        ledger = Ledger(task_store, in_one_thread() if run_blocking is None else run_blocking)
        self._reporter = Reporter(ledger, rng=rng)
        self._worker = Worker(executor, ledger, self._reporter, now=now, rng=rng)
        observer = Observer(links, on_node, on_root_ca, on_revoked)
        self._connector = Connector(links, executor, self._worker, self._reporter, observer, rng=rng)

    @property
    def state(self) -> str:
        """`connected`, `connecting: REASON`, or `stopped`."""
        return self._connector.state

    def certificate_changed(self) -> None:
        """Take the session over to a new connection, which shows this node's present certificate. Never waits."""
        self._connector.reconnect()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Adopt the stored tasks (then `started`), and serve until cancelled.

        `Cancelled` leaves every task running. Statuses are flushed and a goodbye that announces a return is said
        first, within 4 s; the link stays usable for that because everything that uses it is shielded.
        """
        async with trio.open_nursery() as nursery:
            life = trio.CancelScope()
            await nursery.start(self._live, life)
            # Only now: a start that is cancelled must end what it started.
            life.shield = True
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(STOP_BUDGET_S, shield=True) as parting:
                    await self._reporter.save()
                    await self._connector.stop(leaving=False)
                if parting.cancelled_caught:
                    log.warning("the dispatcher was not told that this node stops")
                life.cancel()

    async def leave(self) -> None:
        """Stop and remove every task, flush, say that this node leaves; from then on no session is sought.

        Call it while `run` runs. Returns when no task is left, however long that takes: the caller sets a limit.
        `Cancelled` leaves the node without new assignments and its remaining tasks being removed.
        """
        await self._worker.remove_all()
        await self._connector.stop(leaving=True)

    async def _live(
        self, life: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with life:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._reporter.run)
                await nursery.start(self._executor.run)
                await nursery.start(self._worker.run)
                nursery.start_soon(self._connector.run)
                task_status.started()
