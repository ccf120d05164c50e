"""What one task's or node's record says, in words. No decisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from swarmd.model import Availability, Node, NodeState, Task, TaskState

FindNode = Callable[[str], Node | None]

ENFORCED_MESSAGE: Final = "task rejected by constraint enforcer"
"""Status message of a task that the leader turned out (see `enforcer`); no node says so."""

_ENDED_BY_ITSELF = (TaskState.COMPLETE, TaskState.FAILED, TaskState.REJECTED)


def is_wanted(task: Task) -> bool:
    """Whether the task is meant to run: held back (READY) or released (RUNNING, or COMPLETE if it is a job's)."""
    return task.desired_state <= TaskState.COMPLETE


def is_held(task: Task) -> bool:
    """Whether the task is wanted, but must not start yet."""
    return task.desired_state < TaskState.RUNNING


def has_ended(task: Task) -> bool:
    """Whether the task was seen to stop, whatever the reason."""
    return task.status.state.is_terminal


def ended_by_itself(task: Task) -> bool:
    """Whether the task stopped of its own accord, rather than on request, with its node, or for the node's sake."""
    return task.status.state in _ENDED_BY_ITSELF and not was_turned_out(task)


def was_turned_out(task: Task) -> bool:
    """Whether the leader rejected the task because its node changed. It may still be stopping there, unseen: its state
    is beyond what its node can report."""
    return task.status.state is TaskState.REJECTED and task.status.message == ENFORCED_MESSAGE


def reported_at(task: Task) -> float:
    """When what was last observed of the task was reported, by the leader's clock if it stamped the report."""
    return task.status.applied_at or task.status.at


def never_runs(task: Task) -> bool:
    """Whether the task has no node and is wanted no more."""
    return task.status.state < TaskState.ASSIGNED and not is_wanted(task)


def may_be_running(task: Task, find_node: FindNode) -> bool:
    """Whether waiting for the task to stop makes sense: it has a node that can still be heard of."""
    if not TaskState.ASSIGNED <= task.status.state <= TaskState.RUNNING:
        return False
    node = find_node(task.node_id)
    return node is not None and node.status.state is not NodeState.DOWN


def evicts(node: Node | None) -> bool:
    """Whether tasks on the node are to be replaced: it is gone, DOWN or DRAIN. UNKNOWN, DISCONNECTED and PAUSE keep
    them (reference orchestration 2.1)."""
    return node is None or node.status.state is NodeState.DOWN or node.spec.availability is Availability.DRAIN


def nature_of(node: Node) -> tuple[object, ...]:
    """All of a node that constraints, platforms and reservations are judged by, and whether tasks are kept away."""
    description = node.description
    return (
        node.spec.availability,
        node.spec.labels,
        node.role,
        node.status.addr,
        description.hostname,
        description.platform,
        description.resources,
        description.engine_labels,
    )
