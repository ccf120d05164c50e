"""Gives up the tasks of nodes that stay DOWN: an alarm for each such node."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Final

import trio

from swarmd.manager.loops.keyed import KeyedLoop
from swarmd.manager.proposer import Store
from swarmd.model import Node, NodeState
from swarmd.orchestrator.lost_nodes import give_up_tasks
from swarmd.state.command import Table
from swarmd.state.watch import Event, Route

ACTOR: Final = "leader:lost-nodes"


class LostNodesLoop:
    """One instance per reign."""

    name: str = "lost node"
    routes: tuple[Route, ...] = (Route(Table.NODE),)

    def __init__(self, store: Store, *, now: Callable[[], float], rng: random.Random) -> None:
        self._store = store
        self._loop = KeyedLoop(store, self, now=now, rng=rng)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch DOWN nodes until cancelled. Raises `Unavailable` (in a group) once this manager does not lead."""
        await self._loop.run(task_status=task_status)

    def all_keys(self) -> Iterable[str]:
        """Every node that is DOWN."""
        return [node.id for node in self._store.state.nodes() if _is_down(node)]

    def keys_of(self, event: Event) -> Iterable[str]:
        """A node that is DOWN, or was."""
        return (event.id,) if _is_down(event.new) or _is_down(event.old) else ()

    async def look(self, key: str) -> float | None:
        """Give up what one node's tasks hold, if it is time."""
        wake_at, _ = await self._store.update(lambda tx: give_up_tasks(tx, key), actor=ACTOR, fenced=True)
        return wake_at


def _is_down(node: object) -> bool:
    return isinstance(node, Node) and node.status.state is NodeState.DOWN
