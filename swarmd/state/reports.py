"""How an observed status merges into a task: the greater of two observations is the truth, whatever their order."""

from __future__ import annotations

from msgspec.structs import replace

from swarmd.model import Task, TaskStatus


def merged_status(task: Task | None, node_id: str, status: TaskStatus, at: float) -> TaskStatus | None:
    """The task's status after `status` was reported by `node_id` ("" for a manager), stamped `at`; None if it changes
    nothing.

    Nothing changes for a task that is gone or on another node, for a lower state, and for a report that says what is
    already known. An equal state with another message, error or container is news.
    """
    if task is None or (node_id and task.node_id != node_id):
        return None
    known = task.status
    if status.state < known.state or (
        status.state == known.state
        and status.message == known.message
        and status.err == known.err
        and status.container == known.container
    ):
        return None
    return replace(status, applied_at=at)
