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
from swarmd.orchestrator.facts import evicts, has_ended, nature_of
from swarmd.orchestrator.global_services import is_global, reconcile_node, reconcile_slot
from swarmd.orchestrator.slot_pass import is_blocked_by_old
from swarmd.orchestrator.update import is_updating
from swarmd.state.command import Table
from swarmd.state.watch import Event, Route

log = logging.getLogger(__name__)

ACTOR: Final = "leader:orchestrator"


_NODE: Final = "node "
_AT: Final = " on node "


class OrchestratorLoop:
    """One instance per reign.

    Keys are services; nodes, for the slots of all global services there; and the slots of these. A node among thousands
    that changes, or a task on it, costs no look at a whole service with a task on each.
    """

    name: str = "service"
    routes: tuple[Route, ...] = (Route(Table.SERVICE), Route(Table.TASK), Route(Table.NODE))

    def __init__(self, store: Store, *, now: Callable[[], float], rng: random.Random) -> None:
        self._store = store
        self._loop = KeyedLoop(store, self, now=now, rng=rng)
        self._global: dict[str, None] = {}
        """Ids of global services and jobs."""
        self._paused_by: dict[str, str] = {}
        """Service id -> the task whose end paused its update, so that it is logged once."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Reconcile until cancelled. Raises `Unavailable` (in a group) once this manager does not lead."""
        await self._loop.run(task_status=task_status)

    def all_keys(self) -> Iterable[str]:
        """Every service, and those that are gone but still have tasks. Their passes look at all nodes."""
        state = self._store.state
        self._global = dict.fromkeys(service.id for service in state.services() if is_global(service))
        keys = dict.fromkeys(service.id for service in state.services())
        keys.update(dict.fromkeys(task.service_id for task in state.tasks() if task.service_id))
        return keys

    def keys_of(self, event: Event) -> Iterable[str]:
        """What a service, a task or a node that changed gives reason to look at."""
        match event.new or event.old:
            case Service(id=id) as service:
                if event.new is not None and is_global(service):
                    self._global[id] = None
                else:
                    self._global.pop(id, None)
                return (id,)
            case Task(service_id=service_id) as task if service_id and _matters(event):
                return self._keys_of_task(task)
            case Node(id=id):
                return self._keys_of_node(event, id)
            case _:
                return ()

    def _keys_of_task(self, task: Task) -> Iterable[str]:
        """Its service; of a global one only its slot, unless an update waits for what became of the task."""
        service = self._store.state.service(task.service_id)
        if service is None or not task.node_id or not is_global(service):
            return (task.service_id,)
        slot = f"{task.service_id}{_AT}{task.node_id}"
        return (task.service_id, slot) if is_updating(service) else (slot,)

    def _keys_of_node(self, event: Event, id: str) -> Iterable[str]:
        """The services with tasks on a node that became fit or unfit; of global ones the slots there, and those whole
        whose task there is of an older spec: its turn may have come."""
        keys: dict[str, None] = {}
        old, new = event.old, event.new
        if _condition(old) != _condition(new):
            state = self._store.state
            for task in state.tasks_of_node(id):
                if task.service_id and task.service_id not in keys:
                    service = state.service(task.service_id)
                    if service is None or not is_global(service) or task.spec_version != service.spec_version:
                        keys[task.service_id] = None
        if self._global and _qualities(old) != _qualities(new):
            keys[f"{_NODE}{id}"] = None
        return keys

    async def look(self, key: str) -> float | None:
        """Reconcile one service, the slots on one node, or one slot."""
        if key.startswith(_NODE):
            node_id, services = key.removeprefix(_NODE), tuple(self._global)
            wake_at, _ = await self._store.update(
                lambda tx: reconcile_node(tx, services, node_id), actor=ACTOR, fenced=True
            )
            return wake_at
        service_id, is_slot, node_id = key.partition(_AT)
        if is_slot:
            wake_at, _ = await self._store.update(
                lambda tx: reconcile_slot(tx, service_id, node_id), actor=ACTOR, fenced=True
            )
            return wake_at
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
        or (new.status.unplaced is not old.status.unplaced and is_blocked_by_old(new))
    )


def _condition(node: object) -> tuple[object, ...]:
    """What of a node matters to the tasks on it: whether it evicts, may have new ones, can still be heard of."""
    if not isinstance(node, Node):
        return ()
    return node.spec.availability, evicts(node), node.status.state is NodeState.DOWN


def _qualities(node: object) -> tuple[object, ...]:
    """What of a node decides whether it has a task of a global service."""
    if not isinstance(node, Node):
        return ()
    return nature_of(node), node.status.state, node.spec.membership
