"""Lets new tasks through the gate in batches: what arrived while one batch was written is the next.

Those that must wait (for ports, for another service) are looked at again when a service changes, or a task of one that
they wait for comes up, ends or goes.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

import trio

from swarmd.allocator import admit, is_new
from swarmd.errors import Conflict, ResourceExhausted
from swarmd.manager.loops.feed import Feed
from swarmd.manager.proposer import Store
from swarmd.model import Service, Task, TaskState
from swarmd.state.batch import CHANGES_MAX
from swarmd.state.command import Table
from swarmd.state.keys import fold
from swarmd.state.watch import Event, Route

log = logging.getLogger(__name__)

ACTOR: Final = "leader:allocator"
RETRY_S: Final = 0.1


class AllocatorLoop:
    """One instance per reign."""

    def __init__(self, store: Store, *, now: Callable[[], float], rng: random.Random) -> None:
        self._store = store
        self._rng = rng
        self._new: dict[str, None] = {}
        self._waiting: dict[str, None] = {}
        """Tasks that were told why they wait."""
        self._awaited: set[str] = set()
        """Names (folded) of services that some of these depend on."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Admit tasks until cancelled. Raises `Unavailable` once this manager does not lead."""
        with Feed(self._store.state, (Route(Table.TASK), Route(Table.SERVICE))) as feed:
            self._note(None)
            task_status.started()
            while True:
                if not self._new:
                    self._note(await feed.next())
                    continue
                await self._admit(list(islice(self._new, CHANGES_MAX)))
                self._note(feed.take())

    async def _admit(self, batch: Sequence[str]) -> None:
        try:
            admitted, _ = await self._store.update(lambda tx: admit(tx, batch), actor=ACTOR, fenced=True)
        except (Conflict, ResourceExhausted) as error:
            log.debug("admitting %d tasks: %s", len(batch), error)
            await trio.sleep(RETRY_S * (1 + self._rng.random()))
            return
        for id in batch:
            self._new.pop(id, None)
        for id in admitted.waiting:
            self._wait(id)

    def _wait(self, task_id: str) -> None:
        self._waiting[task_id] = None
        task = self._store.state.task(task_id)
        service = self._store.state.service(task.service_id) if task is not None else None
        if service is not None:
            self._awaited.update(fold(dependency.service) for dependency in service.spec.depends_on)

    def _note(self, events: Sequence[Event] | None) -> None:
        """Remember the tasks that wait at the gate. None: look at all tasks."""
        if events is None:
            self._waiting.clear()
            self._new.update(dict.fromkeys(task.id for task in self._store.state.tasks() if is_new(task)))
            return
        for event in events:
            if isinstance(event.new, Task) and event.id not in self._waiting and is_new(event.new):
                self._new[event.id] = None
        if self._waiting and any(self._may_help(event) for event in events):
            self._new.update(self._waiting)
            self._waiting.clear()
            self._awaited.clear()

    def _may_help(self, event: Event) -> bool:
        """Whether it can let a task through that had to wait."""
        match event.new or event.old:
            case Service():
                return True
            case Task() as task:
                return fold(task.service_name) in self._awaited and (
                    event.new is None or task.status.state >= TaskState.RUNNING
                )
            case _:
                return False
