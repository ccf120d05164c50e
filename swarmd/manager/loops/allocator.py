"""Lets new tasks through the gate in batches: what arrived while one batch was written is the next."""

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
from swarmd.model import Task
from swarmd.state.batch import CHANGES_MAX
from swarmd.state.command import Table
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

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Admit tasks until cancelled. Raises `Unavailable` once this manager does not lead."""
        with Feed(self._store.state, (Route(Table.TASK),)) as feed:
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
            await self._store.update(lambda tx: admit(tx, batch), actor=ACTOR, fenced=True)
        except (Conflict, ResourceExhausted) as error:
            log.debug("admitting %d tasks: %s", len(batch), error)
            await trio.sleep(RETRY_S * (1 + self._rng.random()))
        else:
            for id in batch:
                del self._new[id]

    def _note(self, events: Sequence[Event] | None) -> None:
        """Remember the tasks that wait at the gate. None: look at all tasks."""
        if events is None:
            self._new.update(dict.fromkeys(task.id for task in self._store.state.tasks() if is_new(task)))
            return
        for event in events:
            if isinstance(event.new, Task) and is_new(event.new):
                self._new[event.id] = None
