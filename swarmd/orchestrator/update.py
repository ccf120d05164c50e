"""Rolling updates: which slots take their turn, which failed, and what the update's status is then
(reference orchestration 4).

Which slots are outdated and which are being moved is read from the tasks. Only what their records cannot keep is in the
service's update status: that the update runs or is paused, since when, how many slots it had to move, which failed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from swarmd.model import (
    FailureAction,
    RestartCondition,
    Service,
    Task,
    TaskState,
    UpdateConfig,
    UpdateState,
    UpdateStatus,
)
from swarmd.orchestrator.dirty import outdated_slots
from swarmd.orchestrator.facts import FindNode, ended_by_itself, has_ended, reported_at
from swarmd.orchestrator.restart import may_restart
from swarmd.orchestrator.slots import Slot, slots_of

RUNNING: Final = frozenset({UpdateState.UPDATING, UpdateState.ROLLBACK_STARTED})
PAUSED: Final = frozenset({UpdateState.PAUSED, UpdateState.ROLLBACK_PAUSED})
ROLLING_BACK: Final = frozenset({UpdateState.ROLLBACK_STARTED, UpdateState.ROLLBACK_PAUSED})


class UpdateProgress(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How far a service's tasks are from its spec. `paused_by` is the new task whose end stopped the update."""

    slots: int
    outdated: int
    paused_by: str = ""


class Turn(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which slots are moved to the new template now (their keys); when to look again if nothing changes until then."""

    slots: tuple[str, ...] = ()
    wake_at: float | None = None


class Course(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an update does next: `status` is to be stored, `turn` to be taken. `failed_by` is the task that halted it
    just now; with `rolls_back` the service is to get its previous spec back."""

    status: UpdateStatus | None = None
    turn: Turn = Turn()
    failed_by: str = ""
    rolls_back: bool = False


def is_updating(service: Service) -> bool:
    """Whether an update or a rollback of the service runs."""
    return service.update_status is not None and service.update_status.state in RUNNING


def config_of(service: Service) -> UpdateConfig:
    """The settings that hold now: those of a rollback from its start until it is over."""
    status = service.update_status
    is_rollback = status is not None and status.state in ROLLING_BACK
    return service.spec.rollback if is_rollback else service.spec.update


def steer(slots: Sequence[Slot], service: Service, now: float, find_node: FindNode) -> Course:
    """What the service's update does next. Without one nothing does, unless a slot is outdated: that begins one."""
    status = service.update_status
    if status is not None and status.state in PAUSED:
        return Course(status=status)
    outdated = outdated_slots(slots, service, find_node)
    if status is None or status.state not in RUNNING:
        given_up = status.failed if status is not None else ()
        if all(slot.key in given_up for slot in outdated):
            return Course(status=status)
        status = UpdateStatus(state=UpdateState.UPDATING, started_at=now, message="update in progress")
    status = replace(status, total=status.total or len(outdated))
    config = config_of(service)
    failures = {slot.key: task for slot in slots if (task := failure_in(slot, service, now)) is not None}
    if news := [key for key in failures if key not in status.failed]:
        status = replace(status, failed=(*status.failed, *news))
        ratio = len(status.failed) / max(status.total, 1)
        if ratio > config.max_failure_ratio and config.failure_action is not FailureAction.CONTINUE:
            return _halt(service, status, config, failures[news[-1]])
    queue = [slot for slot in outdated if slot.key not in status.failed]
    keys = {slot.key for slot in outdated}
    settled = [slot for slot in slots if slot.key not in keys]
    if not queue and (end_at := _ends_at(settled, status, config)) <= now:
        return Course(status=_completed(status, now))
    turn = next_turn(queue, settled, frozenset(status.failed), service, now)
    if not queue:
        turn = replace(turn, wake_at=_earlier(turn.wake_at, end_at))
    return Course(status=status, turn=turn)


def next_turn(
    queue: Sequence[Slot], others: Sequence[Slot], failed: frozenset[str], service: Service, now: float
) -> Turn:
    """Who of `queue` takes the turn: nobody while as many of `others` as may be are being moved. One is until its new
    task has run for the update delay.

    Slots that do not run go first: they have nothing to lose.
    """
    config = config_of(service)
    moving = [slot for slot in others if slot.key not in failed and settled_at(slot, config.delay_s) > now]
    room = config.parallelism - len(moving) if config.parallelism else len(queue)
    first = sorted(queue, key=lambda s: (s.is_running, s.number, s.node_id))[: max(room, 0)]
    wake_at = _times_out_at(moving, service)
    if len(first) < len(queue):
        wake_at = min([wake_at, *(settled_at(slot, config.delay_s) for slot in moving)])
    return Turn(slots=tuple([slot.key for slot in first]), wake_at=None if wake_at == math.inf else wake_at)


def failure_in(slot: Slot, service: Service, now: float) -> Task | None:
    """The slot's new task that failed: it ended by itself before it ran for the monitor time, or does not run in time.

    To complete is no failure where the policy says that it is enough to have run once. A lost node or an eviction is
    none of the template's. A slot that is new with the update may wait for room without limit.
    """
    config = config_of(service)
    for task in slot.tasks:
        if not _is_new(task, service):
            continue
        if ended_by_itself(task):
            if not _is_done(task) and not _ran_for(task, config.monitor_s):
                return task
        elif now >= _deadline(slot, task, service):
            return task
    return None


def _is_new(task: Task, service: Service) -> bool:
    """Whether the update made the task: it has the version of the spec, or one from before a change of its scale."""
    if task.spec_version == service.spec_version:
        return True
    status = service.update_status
    return status is not None and task.meta.created_at >= status.started_at and task.spec == service.spec.task


def update_progress(service: Service, tasks: Iterable[Task], find_node: FindNode = lambda _: None) -> UpdateProgress:
    """What a user is told of a service's update. `tasks` are all of the service's, in order of creation."""
    slots = [slot for slot in slots_of(tasks).values() if slot.is_occupied]
    outdated = len(outdated_slots(slots, service, find_node))
    failed = next((task for slot in slots if (task := failure_in(slot, service, -math.inf))), None)
    return UpdateProgress(slots=len(slots), outdated=outdated, paused_by=failed.id if failed and outdated else "")


# -- the status ------------------------------------------------------------------------------------------------------
def _halt(service: Service, status: UpdateStatus, config: UpdateConfig, task: Task) -> Course:
    """Too many failed: pause, or go back. A rollback is never rolled back."""
    why = f"due to failure or early termination of task {task.id}"
    if status.state is UpdateState.ROLLBACK_STARTED:
        paused = replace(status, state=UpdateState.ROLLBACK_PAUSED, message=f"rollback paused {why}")
        return Course(status=paused, failed_by=task.id)
    if config.failure_action is FailureAction.ROLLBACK and service.previous_spec is not None:
        back = replace(status, state=UpdateState.ROLLBACK_STARTED, message=f"update rolled back {why}")
        return Course(status=replace(back, total=0, failed=()), failed_by=task.id, rolls_back=True)
    if config.failure_action is FailureAction.ROLLBACK:
        why += "; there is no previous spec to roll back to"
    paused = replace(status, state=UpdateState.PAUSED, message=f"update paused {why}")
    return Course(status=paused, failed_by=task.id)


def _completed(status: UpdateStatus, now: float) -> UpdateStatus:
    is_rollback = status.state is UpdateState.ROLLBACK_STARTED
    state = UpdateState.ROLLBACK_COMPLETED if is_rollback else UpdateState.COMPLETED
    message = "rollback completed" if is_rollback else "update completed"
    if status.failed:
        message += f"; {len(status.failed)} of {status.total} slots failed"
    return replace(status, state=state, completed_at=now, message=message)


def _ends_at(slots: Iterable[Slot], status: UpdateStatus, config: UpdateConfig) -> float:
    """When every slot that was moved has run for as long as it is watched; those that failed are not waited for."""
    watched_s = max(config.delay_s, config.monitor_s)
    return max((settled_at(slot, watched_s) for slot in slots if slot.key not in status.failed), default=0.0)


# -- one slot --------------------------------------------------------------------------------------------------------
def settled_at(slot: Slot, seconds: float) -> float:
    """When a task that replaced another has run for so long; never, as far as is known, before it comes up.

    A new slot holds up nobody: it may wait for the room that the update is about to make.
    """
    task = slot.representative
    if task is None or len(slot.tasks) < 2:
        return 0.0
    if has_ended(task) and not may_restart(task, slot.earlier_than(task)):
        return 0.0
    return reported_at(task) + seconds if task.status.state is TaskState.RUNNING else math.inf


def _times_out_at(moving: Iterable[Slot], service: Service) -> float:
    return min((_deadline(slot, task, service) for slot in moving for task in slot.wanted), default=math.inf)


def _deadline(slot: Slot, task: Task, service: Service) -> float:
    """Until when the task, which an update put in another's place, must run."""
    timeout_s = config_of(service).progress_timeout_s
    if not timeout_s or len(slot.tasks) < 2 or task not in slot.wanted or not _is_new(task, service):
        return math.inf
    return task.meta.created_at + timeout_s if task.status.state < TaskState.RUNNING else math.inf


def _is_done(task: Task) -> bool:
    return task.status.state is TaskState.COMPLETE and task.spec.restart.condition is not RestartCondition.ANY


def _ran_for(task: Task, seconds: float) -> bool:
    """By its own node's clock, from start to end."""
    status = task.status
    return status.running_at > 0 and status.at - status.running_at > seconds


def _earlier(one: float | None, other: float) -> float | None:
    earlier = other if one is None else min(one, other)
    return None if earlier == math.inf else earlier
