"""A service's tasks by slot, and which slots a scale-down gives up (reference orchestration 2.3, 2.5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from swarmd.model import Task, TaskState
from swarmd.orchestrator.facts import FindNode, evicts, has_ended
from swarmd.orchestrator.restart import may_restart


class Slot:
    """One slot, its tasks in order of creation: a number, or in a global service a node (the number is 0 then)."""

    __slots__ = ("leaving", "node_id", "number", "tasks", "wanted")

    def __init__(self, number: int, node_id: str = "") -> None:
        self.number = number
        self.node_id = node_id
        self.tasks: list[Task] = []
        """All but those that are leaving."""
        self.wanted: list[Task] = []
        """Those of `tasks` that are meant to run: one, except in states that nobody should have made."""
        self.leaving: list[Task] = []
        """Wanted REMOVE: they count for nothing, but may still be running."""

    def add(self, task: Task) -> None:
        """A task younger than all others."""
        desired = task.desired_state
        if desired >= TaskState.REMOVE:
            self.leaving.append(task)
            return
        self.tasks.append(task)
        if desired <= TaskState.COMPLETE:
            self.wanted.append(task)

    def replace(self, task: Task) -> None:
        """`task` is the present version of one of this slot's, which may have left."""
        tasks = [*self.leaving, *(task if other.id == task.id else other for other in self.tasks)]
        self.tasks, self.wanted, self.leaving = [], [], []
        for other in tasks:
            self.add(other)

    @property
    def key(self) -> str:
        """By which its service's update status knows it."""
        return self.node_id or str(self.number)

    @property
    def representative(self) -> Task | None:
        """The task that stands for the slot: the newest wanted one, else the newest."""
        if self.wanted:
            return self.wanted[-1]
        return self.tasks[-1] if self.tasks else None

    @property
    def is_running(self) -> bool:
        """Whether a wanted task was seen running."""
        return any(task.status.state is TaskState.RUNNING for task in self.wanted)

    @property
    def is_occupied(self) -> bool:
        """Whether the slot counts as a replica: something is wanted in it, or what ended in it is to stay ended."""
        if self.wanted:
            return True
        return bool(self.tasks) and not may_restart(self.tasks[-1], self.tasks[:-1])

    def earlier_than(self, task: Task) -> list[Task]:
        """What was created before `task`; all there is if it is not among them yet."""
        before = []
        for other in self.tasks:
            if other.id == task.id:
                break
            before.append(other)
        return before


def slots_of(tasks: Iterable[Task]) -> dict[int, Slot]:
    """The slots, by number. `tasks` are in order of creation."""
    slots: dict[int, Slot] = {}
    for task in tasks:
        slot = slots.get(task.slot)
        if slot is None:
            slot = slots[task.slot] = Slot(task.slot)
        slot.add(task)
    return slots


def slots_by_node(tasks: Iterable[Task]) -> dict[str, Slot]:
    """The slots of a global service, by node. `tasks` are in order of creation."""
    slots: dict[str, Slot] = {}
    for task in tasks:
        slot = slots.get(task.node_id)
        if slot is None:
            slot = slots[task.node_id] = Slot(task.slot, task.node_id)
        slot.add(task)
    return slots


def free_numbers(taken: Iterable[int], count: int) -> list[int]:
    """The `count` smallest slot numbers from 1 that are not taken."""
    used = set(taken)
    numbers: list[int] = []
    candidate = 1
    while len(numbers) < count:
        if candidate not in used:
            numbers.append(candidate)
        candidate += 1
    return numbers


def choose_kept(slots: Sequence[Slot], replicas: int, find_node: FindNode) -> tuple[list[Slot], list[Slot]]:
    """(kept, given up): slots in flux go first, then the highest copies on the most crowded nodes, then those not
    running, then high numbers.

    A slot is in flux unless exactly one task is wanted in it, and that one has a node, has not ended and may stay.
    """
    if len(slots) <= replicas:
        return list(slots), []
    copies: Counter[str] = Counter()
    ranked: list[tuple[bool, int, bool, int, Slot]] = []
    for slot in sorted(slots, key=lambda s: (not s.is_running, s.number)):
        wanted = slot.wanted
        copy = 0
        if len(wanted) == 1 and _is_settled(wanted[0], find_node):
            copies[wanted[0].node_id] += 1
            copy = copies[wanted[0].node_id]
        ranked.append((copy == 0, copy, not slot.is_running, slot.number, slot))
    ranked.sort(key=lambda rank: rank[:4])
    ordered = [slot for *_, slot in ranked]
    return ordered[:replicas], ordered[replicas:]


def _is_settled(task: Task, find_node: FindNode) -> bool:
    return bool(task.node_id) and not has_ended(task) and not evicts(find_node(task.node_id))
