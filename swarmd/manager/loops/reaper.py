"""Deletes task records that are done with: dirty services through `orchestrator.reap`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Final

import trio

from swarmd.manager.loops.keyed import KeyedLoop
from swarmd.manager.proposer import Store
from swarmd.model import Cluster, Task, TaskState
from swarmd.orchestrator import reap
from swarmd.orchestrator.facts import has_ended
from swarmd.orchestrator.history import is_stray, reap_stray
from swarmd.state.command import Table
from swarmd.state.watch import Event, Route

ACTOR: Final = "leader:reaper"
GATHER_S: Final = 0.25
"""From a service's first event to its pass (SwarmKit `reaperBatchingInterval`)."""

_TASK: Final = "task "


class ReaperLoop:
    """One instance per reign."""

    name: str = "history of service"
    routes: tuple[Route, ...] = (Route(Table.TASK), Route(Table.CLUSTER))

    def __init__(self, store: Store, *, now: Callable[[], float], rng: random.Random) -> None:
        self._store = store
        self._now = now
        self._loop = KeyedLoop(store, self, now=now, rng=rng, delay_s=GATHER_S)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Reap until cancelled. Raises `Unavailable` (in a group) once this manager does not lead."""
        await self._loop.run(task_status=task_status)

    def all_keys(self) -> Iterable[str]:
        """Every service that has tasks, itself there or not; orphans that have none."""
        keys = dict.fromkeys(task.service_id for task in self._store.state.tasks() if task.service_id)
        keys.update(dict.fromkeys(f"{_TASK}{task.id}" for task in self._store.state.tasks() if is_stray(task)))
        return keys

    def keys_of(self, event: Event) -> Iterable[str]:
        """The service of a task whose record, or its predecessor's, may be done with; all if the limit changed."""
        match event.new:
            case Cluster():
                return self.all_keys()
            case Task(service_id=service_id) if service_id and _matters(event.old, event.new):
                return (service_id,)
            case Task(id=id) as task if is_stray(task):
                return (f"{_TASK}{id}",)
            case _:
                return ()

    async def look(self, key: str) -> float | None:
        """Reap one service, or one task that belongs to none."""
        if key.startswith(_TASK):
            id = key.removeprefix(_TASK)
            await self._store.update(lambda tx: reap_stray(tx, id), actor=ACTOR, fenced=True)
            return None
        has_more, _ = await self._store.update(lambda tx: reap(tx, key), actor=ACTOR, fenced=True)
        return self._now() if has_more else None


def _matters(old: object, new: Task) -> bool:
    return (
        not isinstance(old, Task)
        or old.desired_state != new.desired_state
        or has_ended(old) != has_ended(new)
        or old.status.state < TaskState.RUNNING <= new.status.state
    )
