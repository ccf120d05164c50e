"""Turns out tasks whose nodes changed under them: dirty nodes through `orchestrator.enforcer`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Final

import trio

from swarmd.manager.loops.keyed import KeyedLoop
from swarmd.manager.proposer import Store
from swarmd.model import Node, Task, TaskState
from swarmd.orchestrator.enforcer import enforce
from swarmd.orchestrator.facts import nature_of
from swarmd.state.command import Table
from swarmd.state.watch import Event, Route

ACTOR: Final = "leader:enforcer"
ON_ITS_WAY_S: Final = 30.0
"""How long before it was written an assignment may have been decided, by nodes as they were then."""


class EnforcerLoop:
    """One instance per reign."""

    name: str = "constraints of node"
    routes: tuple[Route, ...] = (Route(Table.NODE), Route(Table.TASK))

    def __init__(self, store: Store, *, now: Callable[[], float], rng: random.Random) -> None:
        self._store = store
        self._loop = KeyedLoop(store, self, now=now, rng=rng)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Enforce until cancelled. Raises `Unavailable` (in a group) once this manager does not lead."""
        await self._loop.run(task_status=task_status)

    def all_keys(self) -> Iterable[str]:
        """Every node."""
        return [node.id for node in self._store.state.nodes()]

    def keys_of(self, event: Event) -> Iterable[str]:
        """A node that is not what it was, and one that changed while a task was on its way there. One that joins has no
        tasks yet."""
        match event.old, event.new:
            case Node() as old, Node(id=id) as new if nature_of(old) != nature_of(new):
                return (id,)
            case before, Task() as task if task.status.state is TaskState.ASSIGNED and not _was_assigned(before):
                node = self._store.state.node(task.node_id)
                is_news = node is not None and node.meta.updated_at > task.status.at - ON_ITS_WAY_S
                return (task.node_id,) if is_news else ()
            case _:
                return ()

    async def look(self, key: str) -> float | None:
        """Enforce on one node."""
        wake_at, _ = await self._store.update(lambda tx: enforce(tx, key), actor=ACTOR, fenced=True)
        return wake_at


def _was_assigned(task: object) -> bool:
    return isinstance(task, Task) and task.status.state >= TaskState.ASSIGNED
