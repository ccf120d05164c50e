"""The gate NEW -> PENDING: a task passes once everything it needs besides a node is set aside, and what its service
depends on has come far enough.

What is set aside is written in the transaction that lets the task through (reference orchestration 8.2).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from swarmd.allocator.dependencies import waits_for
from swarmd.allocator.ports import is_settled, with_ports
from swarmd.errors import AlreadyExists, ResourceExhausted
from swarmd.model import Service, Task, TaskState, TaskStatus
from swarmd.state.transaction import Transaction

PASSED = "pending task scheduling"


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """What became of tasks at the gate: how many passed; those that must wait, with the names of services whose
    progress may let them through (none: their own service's ports must become free)."""

    passed: int = 0
    waiting: tuple[str, ...] = ()


def is_new(task: Task) -> bool:
    """Whether the task waits at the gate. One that is wanted no more never passes: the reaper deletes it."""
    return task.status.state < TaskState.PENDING and task.desired_state <= TaskState.COMPLETE


def admit(tx: Transaction, task_ids: Iterable[str]) -> Admitted:
    """Let those of the tasks through that still wait at the gate and may pass; tell the others why not."""
    status = TaskStatus(state=TaskState.PENDING, at=tx.now, message=PASSED)
    gates: dict[str, _Gate] = {}
    passed, waiting = 0, []
    for id in task_ids:
        task = tx.task(id, unchecked=True)
        if task is None or not is_new(task):
            continue
        gate = gates.get(task.service_id)
        if gate is None:
            gate = gates[task.service_id] = _gate_of(tx, task.service_id)
        if gate.reason:
            waiting.append(id)
            _tell(tx, task, gate.reason)
            continue
        passed += 1
        if gate.service is not None and gate.service.endpoint is not None:
            tx.update(replace(task, endpoint=gate.service.endpoint, status=status))
        else:
            tx.advance(id, status)
    return Admitted(passed, tuple(waiting))


class _Gate(msgspec.Struct, frozen=True, gc=False):
    service: Service | None
    reason: str = ""


def _gate_of(tx: Transaction, service_id: str) -> _Gate:
    """What stands in the way of all tasks of a service. Its ports are set aside now if they were not."""
    service = tx.service(service_id, unchecked=True) if service_id else None
    if service is None:
        return _Gate(None)
    if not is_settled(service):
        try:
            service = with_ports(tx, service)
        except (AlreadyExists, ResourceExhausted) as error:
            return _Gate(service, str(error))
        tx.update(service)
    return _Gate(service, waits_for(tx, service))


def _tell(tx: Transaction, task: Task, reason: str) -> None:
    if task.status.err != reason:
        tx.advance(task.id, replace(task.status, err=reason, at=tx.now))
