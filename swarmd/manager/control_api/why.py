"""Why a task or a service is not as it should be: what was last said of it, and what every node would say now.

Served by any manager, from its state after a read index: all of it is in the state, and nothing of it is the leader's
alone.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from swarmd.errors import Invalid, NotFound
from swarmd.manager.control_api.access import Access
from swarmd.manager.control_api.node_verdicts import verdicts
from swarmd.manager.control_api.service_views import has_given_up, present_slots, service_view
from swarmd.model import Service, Task, TaskState
from swarmd.orchestrator.revision import is_job
from swarmd.orchestrator.slots import Slot
from swarmd.state.store import State
from swarmd.transport.connection import Call, UnaryHandler
from swarmd.wire.control import GetObject, ServiceView
from swarmd.wire.methods import SERVICE_WHY, TASK_WHY, Method
from swarmd.wire.orchestration import ServiceWhy, TaskWhy

NODES_MAX: Final = 200
"""Nodes whose verdicts one reply holds; the others are counted."""
TASKS_MAX: Final = 50
"""Tasks of a service that one reply explains; the others are counted."""


class WhyHandlers:
    """Serves `task.why` and `service.why`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def handlers(self) -> dict[Method[Any, Any], UnaryHandler]:
        return {TASK_WHY: self.task, SERVICE_WHY: self.service}

    async def task(self, call: Call, request: GetObject) -> TaskWhy:
        """Raises `Invalid` for an empty id, `NotFound`."""
        if not request.id:
            raise Invalid("a task's id is missing", field="$.id")
        state = await self._access.read(call)
        task = state.task(request.id)
        if task is None:
            raise NotFound(f"task {request.id} not found")
        return with_nodes(state, explained(task))

    async def service(self, call: Call, request: GetObject) -> ServiceWhy:
        """Raises `Invalid` for an empty id, `NotFound`."""
        if not request.id:
            raise Invalid("a service's id is missing", field="$.id")
        state = await self._access.read(call)
        service = state.service(request.id)
        if service is None:
            raise NotFound(f"service {request.id} not found")
        return service_why(state, service)


def service_why(state: State, service: Service) -> ServiceWhy:
    """The service's state in a line, and the tasks that hold it up."""
    slots = present_slots(state, service)
    held = [explained(task) for slot in slots if (task := _holding(slot)) is not None]
    held.sort(key=lambda why: (why.task.status.state >= TaskState.ASSIGNED, why.task.slot, why.task.node_id))
    view = service_view(state, service)
    shown = [with_nodes(state, held[0]), *held[1:TASKS_MAX]] if held else []
    return ServiceWhy(
        service=view, reason=_reason_of(view), tasks=tuple(shown), tasks_left_out=max(0, len(held) - TASKS_MAX)
    )


def explained(task: Task) -> TaskWhy:
    """What the task's record says of it."""
    status, node = task.status, "" if task.node_id else " and has no node"
    said = status.err or status.message
    state = f"is {status.state.name}{node if status.state < TaskState.ASSIGNED else ''}"
    if task.desired_state > TaskState.COMPLETE and status.state <= TaskState.RUNNING:
        state += f" and is to stop ({task.desired_state.name})"
    if status.container is not None and status.container.exit_code is not None and status.state > TaskState.RUNNING:
        state += f" with exit code {status.container.exit_code}"
    return TaskWhy(task=task, reason=f"{state}: {said}" if said else state, unplaced=status.unplaced)


def with_nodes(state: State, why: TaskWhy) -> TaskWhy:
    """Also what every node says now, if the task waits for one."""
    task = why.task
    if task.status.state >= TaskState.ASSIGNED or task.desired_state > TaskState.COMPLETE:
        return why
    said = sorted(verdicts(state, task), key=lambda one: (one.filter != "", one.filter, one.node_name))
    return replace(why, nodes=tuple(said[:NODES_MAX]), nodes_left_out=max(0, len(said) - NODES_MAX))


def _holding(slot: Slot) -> Task | None:
    """The slot's task that is not what it should be, if there is one: it does not run yet, or failed for good."""
    task = slot.representative
    if task is None or task.status.state is TaskState.RUNNING:
        return None
    if task.status.state is TaskState.COMPLETE:
        return None
    if task.desired_state <= TaskState.COMPLETE or has_given_up(slot):
        return task
    return None


def _reason_of(view: ServiceView) -> str:
    """How far it is, and what its update says."""
    service = view.service
    if is_job(service.spec):
        parts = [f"{view.completed} of {view.desired} completed, {view.running} running"]
    else:
        parts = [f"{view.running} of {view.desired} running"]
    if view.outdated:
        parts.append(f"{view.outdated} not as the spec says yet")
    if view.failed:
        parts.append(f"{view.failed} failed for good")
    status = service.update_status
    if status is not None and status.message:
        parts.append(status.message)
    return "; ".join(parts)
