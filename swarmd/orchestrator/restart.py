"""When a stopped task is replaced, and when its replacement may start (reference orchestration 5).

Everything is read from the tasks of the slot, so a new leader goes on where the last one stopped: what ended by itself
under the same template is the record of attempts, the predecessor's spec gives the delay, and the task itself knows how
many failed in a row before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from swarmd.model import RestartCondition, Task, TaskSpec, TaskState
from swarmd.orchestrator.facts import FindNode, ended_by_itself, evicts, may_be_running, reported_at, was_turned_out

STOP_WAIT_S_MAX: Final = 60.0
"""How long a replacement waits for its predecessor to stop, from its creation on (SwarmKit `defaultOldTaskTimeout`)."""
BACK_OFF_S_MAX: Final = 300.0
"""The longest delay that repeated failures lead to, unless the policy's own is longer."""
BACK_OFF_S_MIN: Final = 1.0
"""What a policy's delay counts as at least once failures repeat: without a delay there would be nothing to double."""
HEALTHY_S: Final = 600.0
"""A task that ran for so long and then fails is the first of a new row."""


def may_restart(task: Task, earlier: Sequence[Task]) -> bool:
    """Whether the policy lets something replace `task`, which stopped or must leave its node.

    `earlier` are the slot's tasks before it, in order of creation. Only tasks that ended by themselves use up attempts:
    neither an eviction nor a lost node does.
    """
    policy = task.spec.restart
    if policy.condition is RestartCondition.NONE:
        return False
    if policy.condition is RestartCondition.ON_FAILURE and task.status.state is TaskState.COMPLETE:
        return False
    if not policy.max_attempts or not ended_by_itself(task):
        return True
    return _ends_in_window(task, earlier) < policy.max_attempts


def _ends_in_window(task: Task, earlier: Sequence[Task]) -> int:
    """How many of `earlier` ended by themselves, under the same template, in the window before the end of `task`.

    The window slides with the ends, and stands still while a restart is held for its delay: else a delay above the
    window, which repeated failures lead to by themselves, would lift the limit.
    """
    window_s, count, held_s, successor = task.spec.restart.window_s, 0, 0.0, task
    for other in reversed(earlier):
        if ended_by_itself(other) and other.spec == task.spec:
            if successor.spec == task.spec:
                held_s += back_off_s(other.spec.restart.delay_s, successor.failures)
            count += not window_s or reported_at(task) - reported_at(other) - held_s < window_s
        successor = other
    return count


def start_at(created_at: float, task: Task, predecessor: Task | None, find_node: FindNode) -> float:
    """The earliest start of `task` for the delay's sake: `created_at` plus what its predecessor's spec asks for.

    There is no delay after an update (another template), after a lost or evicting node, or after one that was asked to
    go. One that the leader turned out gets the time that it is given to stop, as its end will not be seen.
    """
    if predecessor is not None and was_turned_out(predecessor):
        return created_at + min(predecessor.spec.container.stop_grace_period_s, STOP_WAIT_S_MAX)
    if predecessor is None or predecessor.spec != task.spec or not ended_by_itself(predecessor):
        return created_at
    if evicts(find_node(predecessor.node_id)):
        return created_at
    return created_at + back_off_s(predecessor.spec.restart.delay_s, task.failures)


def failures_before(spec: TaskSpec, predecessor: Task | None) -> int:
    """How many tasks in a row failed before one of `spec` that takes the place of `predecessor`.

    Kept in the task, for the history limit may leave too few records to count. Another template, a good end, an
    eviction or ten minutes of running break the row.
    """
    if predecessor is None or predecessor.spec != spec or not ended_by_itself(predecessor):
        return 0
    status = predecessor.status
    if status.state is TaskState.COMPLETE:
        return 0
    is_first = status.running_at > 0 and status.at - status.running_at >= HEALTHY_S
    return 1 if is_first else predecessor.failures + 1


def back_off_s(delay_s: float, failures: int) -> float:
    """The delay before the start of a task, `failures` in a row before it: the policy's after the first, as with
    SwarmKit, then twice as long each time up to `BACK_OFF_S_MAX`."""
    if failures <= 1:
        return delay_s
    doubled: float = max(delay_s, BACK_OFF_S_MIN) * 2.0 ** min(failures - 1, 30)
    return max(delay_s, min(doubled, BACK_OFF_S_MAX))


def release_at(created_at: float, earliest: float, others: Sequence[Task], find_node: FindNode) -> float:
    """When a held task may be released if nothing changes until then: no sooner than `earliest`, and not while another
    of its slot may be running, unless that one takes longer than `STOP_WAIT_S_MAX`."""
    if any(may_be_running(other, find_node) for other in others):
        return max(earliest, created_at + STOP_WAIT_S_MAX)
    return earliest
