"""The gate NEW -> PENDING: a task passes once everything it needs besides a node is set aside.

Today a task needs nothing: no networks, no published ports (reference orchestration 8.1). What is set aside later is
decided here, and written in the transaction that lets the task through.
"""

from __future__ import annotations

from collections.abc import Iterable

from swarmd.model import Task, TaskState, TaskStatus
from swarmd.state.transaction import Transaction


def is_new(task: Task) -> bool:
    """Whether the task waits at the gate. One that is wanted no more never passes: the reaper deletes it."""
    return task.status.state < TaskState.PENDING and task.desired_state <= TaskState.COMPLETE


def admit(tx: Transaction, task_ids: Iterable[str]) -> int:
    """Let those of the tasks through that still wait at the gate; how many those were."""
    status = TaskStatus(state=TaskState.PENDING, at=tx.now, message="pending task scheduling")
    admitted = 0
    for id in task_ids:
        task = tx.task(id, unchecked=True)
        if task is not None and is_new(task):
            tx.advance(id, status)
            admitted += 1
    return admitted
