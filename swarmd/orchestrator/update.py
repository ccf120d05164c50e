"""Rolling updates, first form: slot by slot, stop-first, one at a time, paused by the first new task that fails.

Everything is read from the tasks: which slots are outdated, whether one is being moved, and whether the update failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from swarmd.model import RestartCondition, Service, Task, TaskState
from swarmd.orchestrator.facts import ended_at, ended_by_itself, has_ended
from swarmd.orchestrator.slots import Slot, slots_of

MONITOR_S: Final = 5.0
"""A new task that ends this soon after it started fails the update (SwarmKit's default)."""


class UpdateProgress(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How far a service's tasks are from its spec. `paused_by` is the new task whose end stopped the update."""

    slots: int
    outdated: int
    paused_by: str = ""


class Turn(msgspec.Struct, frozen=True, gc=False):
    """Which slot is moved to the new template now, if any; or which task's end paused the update."""

    slot: int = 0
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


def next_turn(slots: Sequence[Slot], service: Service) -> Turn:
    """Whose turn it is. Nobody's while a moved slot has not come up, or once a new task failed.

    Slots that do not run go first: they have nothing to lose.
    """
    outdated = outdated_slots(slots, service)
    if not outdated:
        return Turn()
    if failed := _failure(slots, service):
        return Turn(paused_by=failed.id)
    numbers = {slot.number for slot in outdated}
    if any(_is_coming_up(slot) for slot in slots if slot.number not in numbers):
        return Turn()
    return Turn(slot=min(outdated, key=lambda s: (s.is_running, s.number)).number)


def update_progress(service: Service, tasks: Iterable[Task]) -> UpdateProgress:
    """What a user is told of a service's update. `tasks` are all of the service's, in order of creation."""
    slots = [slot for slot in slots_of(tasks).values() if slot.is_occupied]
    outdated = len(outdated_slots(slots, service))
    paused_by = next_turn(slots, service).paused_by if outdated else ""
    return UpdateProgress(slots=len(slots), outdated=outdated, paused_by=paused_by)


def _is_coming_up(slot: Slot) -> bool:
    """Whether a task that replaced another has not started yet. A new slot holds up nobody: it may wait for the room
    that the update is about to make."""
    task = slot.representative
    return task is not None and len(slot.tasks) > 1 and task.status.state < TaskState.RUNNING


def _failure(slots: Iterable[Slot], service: Service) -> Task | None:
    """The first new task that ended by itself before it came up, or within `MONITOR_S` after.

    To complete is no failure where the policy says that it is enough to have run once.
    """
    new = [task for slot in slots for task in slot.tasks if task.spec_version == service.spec_version]
    for task in new:
        if ended_by_itself(task) and not _is_done(task) and not _surely_ran_long(task, new):
            return task
    return None


def _is_done(task: Task) -> bool:
    return task.status.state is TaskState.COMPLETE and task.spec.restart.condition is not RestartCondition.ANY


def _surely_ran_long(task: Task, new: Iterable[Task]) -> bool:
    """The next slot was moved only once this task ran, so its creation says how long at least."""
    latest = ended_at(task) - MONITOR_S
    return any(task.meta.created_at < other.meta.created_at <= latest and other.slot != task.slot for other in new)
