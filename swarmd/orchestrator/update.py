"""Rolling updates, first form: so many slots at a time, stop-first, paused by the first new task that fails.

Everything is read from the tasks: which slots are outdated, which are being moved or ran too briefly to count as moved,
and whether the update failed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from swarmd.model import RestartCondition, Service, Task, TaskState
from swarmd.orchestrator.facts import ended_by_itself, has_ended, reported_at
from swarmd.orchestrator.restart import may_restart
from swarmd.orchestrator.slots import Slot, slots_of

MONITOR_S: Final = 5.0
"""A new task that ends this soon after it started fails the update (SwarmKit's default)."""


class UpdateProgress(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How far a service's tasks are from its spec. `paused_by` is the new task whose end stopped the update."""

    slots: int
    outdated: int
    paused_by: str = ""


class Turn(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which slots are moved to the new template now; when the next may be, if nothing changes until then; or which
    task's end paused the update."""

    slots: tuple[int, ...] = ()
    wake_at: float | None = None
    paused_by: str = ""


def is_outdated(task: Task, service: Service) -> bool:
    """Whether the task differs from the service's template in more than the replica limit per node, which says where
    tasks go and not what they are."""
    template = service.spec.task
    if service.spec_version and task.spec_version == service.spec_version:
        return False
    if task.spec == template:
        return False
    placement = msgspec.structs.replace(task.spec.placement, max_replicas=template.placement.max_replicas)
    return msgspec.structs.replace(task.spec, placement=placement) != template


def outdated_slots(slots: Iterable[Slot], service: Service) -> list[Slot]:
    """Slots to be moved: an outdated task, or one too many on its node for the template's limit."""
    limit = service.spec.task.placement.max_replicas
    copies: Counter[str] = Counter()
    found: list[Slot] = []
    for slot in sorted(slots, key=lambda s: s.number):
        task = slot.representative
        if task is None:
            continue
        if is_outdated(task, service):
            found.append(slot)
        elif limit and task.node_id and not has_ended(task):
            copies[task.node_id] += 1
            if copies[task.node_id] > limit:
                found.append(slot)
    return found


def next_turn(slots: Sequence[Slot], service: Service, now: float) -> Turn:
    """Whose turn it is. Nobody's once a new task failed, and while as many slots as may be are being moved: a slot is
    until its new task has run for the update delay.

    Slots that do not run go first: they have nothing to lose.
    """
    outdated = outdated_slots(slots, service)
    if not outdated:
        return Turn()
    if failed := _failure(slots, service):
        return Turn(paused_by=failed.id)
    config, numbers = service.spec.update, {slot.number for slot in outdated}
    settled = (_settled_at(slot, config.delay_s) for slot in slots if slot.number not in numbers)
    moving = [at for at in settled if at > now]
    room = config.parallelism - len(moving) if config.parallelism else len(outdated)
    queue = sorted(outdated, key=lambda s: (s.is_running, s.number))
    return Turn(
        slots=tuple(slot.number for slot in queue[: max(room, 0)]),
        wake_at=min((at for at in moving if at < math.inf), default=None) if room < len(queue) else None,
    )


def update_progress(service: Service, tasks: Iterable[Task]) -> UpdateProgress:
    """What a user is told of a service's update. `tasks` are all of the service's, in order of creation."""
    slots = [slot for slot in slots_of(tasks).values() if slot.is_occupied]
    outdated = len(outdated_slots(slots, service))
    failed = _failure(slots, service) if outdated else None
    return UpdateProgress(slots=len(slots), outdated=outdated, paused_by=failed.id if failed else "")


def _settled_at(slot: Slot, delay_s: float) -> float:
    """When a task that replaced another has run for the delay; never, as far as is known, before it comes up.

    A new slot holds up nobody: it may wait for the room that the update is about to make.
    """
    task = slot.representative
    if task is None or len(slot.tasks) < 2:
        return 0.0
    if has_ended(task) and not may_restart(task, slot.earlier_than(task)):
        return 0.0
    return reported_at(task) + delay_s if task.status.state is TaskState.RUNNING else math.inf


def _failure(slots: Iterable[Slot], service: Service) -> Task | None:
    """The first new task that ended by itself before it came up, or within `MONITOR_S` after.

    To complete is no failure where the policy says that it is enough to have run once.
    """
    for slot in slots:
        for task in slot.tasks:
            is_new = task.spec_version == service.spec_version
            if is_new and ended_by_itself(task) and not _is_done(task) and not _ran_long(task):
                return task
    return None


def _is_done(task: Task) -> bool:
    return task.status.state is TaskState.COMPLETE and task.spec.restart.condition is not RestartCondition.ANY


def _ran_long(task: Task) -> bool:
    status = task.status
    return status.running_at > 0 and status.at - status.running_at > MONITOR_S
