"""Keeps each service's tasks as its spec says: dirty services through `orchestrator.reconcile_service`."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from typing import Final

import trio

from swarmd.manager.loops.keyed import KeyedLoop
from swarmd.manager.proposer import Store
from swarmd.model import Node, NodeState, Service, Task, TaskState
from swarmd.orchestrator import reconcile
from swarmd.orchestrator.facts import evicts, has_ended
from swarmd.state.command import Table
from swarmd.state.watch import Event, Route

log = logging.getLogger(__name__)

ACTOR: Final = "leader:orchestrator"


class OrchestratorLoop:
    """One instance per reign."""

    name: str = "service"
    routes: tuple[Route, ...] = (Route(Table.SERVICE), Route(Table.TASK), Route(Table.NODE))

    def __init__(self, store: Store, *, now: Callable[[], float], rng: random.Random) -> None:
        self._store = store
        self._loop = KeyedLoop(store, self, now=now, rng=rng)
        self._paused_by: dict[str, str] = {}
        """Service id -> the task whose end paused its update, so that it is logged once."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Reconcile until cancelled. Raises `Unavailable` (in a group) once this manager does not lead."""
        await self._loop.run(task_status=task_status)

    def all_keys(self) -> Iterable[str]:
        """Every service, and those that are gone but still have tasks."""
        state = self._store.state
        keys = dict.fromkeys(service.id for service in state.services())
        keys.update(dict.fromkeys(task.service_id for task in state.tasks() if task.service_id))
        return keys

    def keys_of(self, event: Event) -> Iterable[str]:
        """The service itself, a task's, or those with tasks on a node that became fit or unfit."""
        match event.new or event.old:
            case Service(id=id):
                return (id,)
            case Task(service_id=service_id) if service_id and _matters(event):
                return (service_id,)
            case Node(id=id) if _condition(event.old) != _condition(event.new):
                tasks = self._store.state.tasks_of_node(id)
                return dict.fromkeys(task.service_id for task in tasks if task.service_id)
            case _:
                return ()

    async def look(self, key: str) -> float | None:
        """Reconcile one service."""
        reconciled, _ = await self._store.update(lambda tx: reconcile(tx, key), actor=ACTOR, fenced=True)
        self._tell_of_pause(key, reconciled.paused_by)
        return reconciled.wake_at

    def _tell_of_pause(self, service_id: str, paused_by: str) -> None:
        if not paused_by:
            self._paused_by.pop(service_id, None)
        elif paused_by != self._paused_by.get(service_id):
            self._paused_by[service_id] = paused_by
            log.warning("update of service %s paused: task %s of the new spec failed", service_id, paused_by)


def _matters(event: Event) -> bool:
    """Whether a task's change can change what its service needs. Steps of a start do not."""
    old, new = event.old, event.new
    if not isinstance(old, Task) or not isinstance(new, Task):
        return True
    return (
        old.desired_state != new.desired_state
        or old.node_id != new.node_id
        or has_ended(old) != has_ended(new)
        or old.status.state < TaskState.RUNNING <= new.status.state
    )


def _condition(node: object) -> tuple[bool, bool]:
    """What of a node matters: whether it evicts, whether its tasks can still be heard of."""
    if not isinstance(node, Node):
        return True, True
    return evicts(node), node.status.state is NodeState.DOWN
