"""Jobs: tasks that run to their end, so many times, so many at a time (reference orchestration 3.3, 11.1).

What became of a slot is read from its tasks of the present iteration, so a new leader knows what the last one knew, and
a slot that gave up stays given up until the next iteration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum, auto

import msgspec

from swarmd.model import ReplicatedJob, Service, Task, TaskState
from swarmd.orchestrator.facts import has_ended
from swarmd.orchestrator.replicated import Reconciled
from swarmd.orchestrator.restart import may_restart
from swarmd.orchestrator.slot_pass import SlotPass
from swarmd.orchestrator.slots import Slot, slots_by_node, slots_of
from swarmd.orchestrator.start_rate import StartQueue
from swarmd.state.transaction import Transaction


class JobSlot(Enum):
    """What became of one slot."""

    EMPTY = auto()
    """Nothing is wanted in it, and something should be."""
    ACTIVE = auto()
    """A task of it runs or is to run."""
    COMPLETED = auto()
    FAILED = auto()
    """Its last task did not complete, and the restart policy lets nothing take its place."""


class JobProgress(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How far a job's iteration is, in slots. `total` is how many are to complete: of a global job, as many as have
    tasks; `running` are those seen running, `active` these and those that are to run."""

    iteration: int = 0
    total: int = 0
    completed: int = 0
    failed: int = 0
    active: int = 0
    running: int = 0


def iteration_of(service: Service) -> int:
    """The iteration that the job is at."""
    return service.job_status.job_iteration if service.job_status is not None else 0


def standing_of(slot: Slot) -> JobSlot:
    """What became of the slot, whose tasks are all of one iteration."""
    if is_completed(slot):
        return JobSlot.COMPLETED
    if slot.wanted:
        return JobSlot.ACTIVE
    if slot.tasks and not may_restart(slot.tasks[-1], slot.tasks[:-1]):
        return JobSlot.FAILED
    return JobSlot.EMPTY


def is_completed(slot: Slot) -> bool:
    """Whether a task of it has; one may after it was asked to go."""
    return any(has_completed(task) for task in slot.tasks)


def has_completed(task: Task) -> bool:
    """Whether the task came to a good end."""
    return task.status.state is TaskState.COMPLETE


def job_progress(service: Service, tasks: Iterable[Task]) -> JobProgress:
    """What a user is told of a job. `tasks` are all of the service's, in order of creation."""
    iteration, mode = iteration_of(service), service.spec.mode
    mine = [task for task in tasks if task.job_iteration == iteration]
    slots: list[Slot] = list((slots_of(mine) if isinstance(mode, ReplicatedJob) else slots_by_node(mine)).values())
    slots = [slot for slot in slots if slot.tasks]
    counts = Counter(standing_of(slot) for slot in slots)
    return JobProgress(
        iteration=iteration,
        total=mode.total_completions if isinstance(mode, ReplicatedJob) else len(slots),
        completed=counts[JobSlot.COMPLETED],
        failed=counts[JobSlot.FAILED],
        active=counts[JobSlot.ACTIVE],
        running=sum(1 for slot in slots if slot.is_running),
    )


class ReplicatedJobPass:
    """What `reconcile_service` does for a replicated job. Made for one transaction."""

    def __init__(self, tx: Transaction, service: Service) -> None:
        mode = service.spec.mode
        assert isinstance(mode, ReplicatedJob)
        self._tx = tx
        self._service = service
        self._mode = mode
        self._work = job_work(tx, service)

    def run(self) -> Reconciled:
        """Do as much as one transaction should hold."""
        work, total = self._work, self._mode.total_completions
        iteration = iteration_of(self._service)
        completed: set[int] = set()
        others: list[Task] = []
        for task in self._tx.tasks_of_service(self._service.id, unchecked=True):
            if task.job_iteration == iteration and has_completed(task):  # most, at the end: nothing is done about them
                completed.add(task.slot)
            else:
                others.append(task)
        slots = slots_of(others)
        remove_old(work, slots.values(), iteration)
        work.remove(slot for slot in slots.values() if not 1 <= slot.number <= total)
        if not work.is_full:
            for number in sorted(slots):
                if number in completed:
                    stop_unfinished(work, slots[number])
                elif 1 <= number <= total:
                    work.tend((slots[number],), ())
            work.fill(self._vacant(slots, completed))
        return Reconciled(self._tx.now if work.is_full else work.wake_at)

    def _vacant(self, slots: dict[int, Slot], completed: set[int]) -> Iterator[Slot]:
        """The slots whose turn it is: the lowest, as many as may be active at a time beside those that are."""
        total = self._mode.total_completions
        taken = set(completed)
        active = 0
        for number, slot in slots.items():
            standing = standing_of(slot)
            if number not in completed and standing is not JobSlot.EMPTY:
                taken.add(number)
                active += standing is JobSlot.ACTIVE and number <= total
        room = (self._mode.max_concurrent or total) - active
        for number in range(1, total + 1):
            if room <= 0:
                return
            if number not in taken:
                room -= 1
                yield slots.get(number) or Slot(number)


def job_work(tx: Transaction, service: Service, starts: StartQueue | None = None) -> SlotPass:
    """How slots of the job's present iteration are changed. `starts` as for `SlotPass`."""
    return SlotPass(tx, service, goal=TaskState.COMPLETE, job_iteration=iteration_of(service), starts=starts)


def remove_old(work: SlotPass, slots: Iterable[Slot], iteration: int) -> None:
    """Give up what is of another iteration. If the pass is not full then, the slots hold nothing of that any more."""
    for slot in slots:
        work.withdraw(slot, [task for task in slot.tasks if task.job_iteration != iteration], TaskState.REMOVE)


def stop_unfinished(work: SlotPass, slot: Slot) -> None:
    """See to a slot that has completed: what runs in it all the same is stopped."""
    work.withdraw(slot, [task for task in slot.wanted if not has_ended(task)], TaskState.SHUTDOWN)
