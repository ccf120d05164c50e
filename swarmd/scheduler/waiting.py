"""Tasks that wait for a node, in groups that are placed together.

A group is ready (worth a try) or parked (its last try failed, and nothing that matters has changed since).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import MutableMapping
from itertools import islice

import msgspec

from swarmd.model import Task
from swarmd.scheduler.profile import Profile

GroupKey = tuple[str, int, Profile]
"""(service id, spec version, profile). Tasks without a service merge whatever their version."""


class WaitingTask(msgspec.Struct, gc=False):
    """One task that wants a node. While `is_decided` it is in nobody's queue: its assignment is being written."""

    id: str
    version: int
    err: str
    group: GroupKey
    is_decided: bool = False


class Group:
    """Equal waiting tasks, oldest first. `untold` are those whose stored explanation is not the group's."""

    __slots__ = ("explanation", "tasks", "untold")

    def __init__(self) -> None:
        self.tasks: dict[str, WaitingTask] = {}
        self.untold: dict[str, WaitingTask] = {}
        self.explanation = ""

    def explain(self, explanation: str) -> None:
        """Its last try failed because of `explanation`."""
        if explanation != self.explanation:
            self.explanation = explanation
            self.untold = {id: waiting for id, waiting in self.tasks.items() if waiting.err != explanation}

    def take_untold(self, limit: int) -> list[WaitingTask]:
        """Up to `limit` tasks to be told the explanation now."""
        told: list[WaitingTask] = []
        for waiting in list(islice(self.untold.values(), limit)):
            del self.untold[waiting.id]
            if waiting.err != self.explanation:
                waiting.err = self.explanation
                told.append(waiting)
        return told


class WaitingTasks:
    """All waiting tasks, and their groups in the order in which they are tried."""

    def __init__(self) -> None:
        self._tasks: dict[str, WaitingTask] = {}
        # Ordered: taking the first of a plain dict walks over all that were deleted before it.
        self._bound: OrderedDict[GroupKey, Group] = OrderedDict()
        """Ready groups of tasks that have only one node to go to: those come first."""
        self._free: OrderedDict[GroupKey, Group] = OrderedDict()
        self._parked: dict[GroupKey, Group] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def has_ready(self) -> bool:
        """Whether some group is worth a try."""
        return bool(self._bound or self._free)

    def first(self) -> tuple[GroupKey, Group] | None:
        """The ready group that is to be tried next."""
        return next(iter((self._bound or self._free).items()), None)

    @property
    def has_parked(self) -> bool:
        """Whether some group failed its last try."""
        return bool(self._parked)

    def find(self, id: str) -> WaitingTask | None:
        """The task, if it waits."""
        return self._tasks.get(id)

    def put(self, task: Task, key: GroupKey) -> None:
        """A task waits, or still waits at a new version."""
        waiting = self._tasks.get(task.id)
        if waiting is None:
            waiting = self._tasks[task.id] = WaitingTask(task.id, task.meta.version, task.status.err, key)
            self._enqueue(waiting)
            return
        waiting.version = task.meta.version
        if waiting.err != task.status.err:
            self._untell(waiting, task.status.err)

    def undo(self, id: str) -> None:
        """The decision on the task (a node, or an explanation) was not written: it is to be taken again."""
        waiting = self._tasks.get(id)
        if waiting is None:
            return
        if waiting.is_decided:
            waiting.is_decided = False
            self._enqueue(waiting)
        else:
            self._untell(waiting, "")

    def drop(self, id: str) -> WaitingTask | None:
        """The task waits no more."""
        waiting = self._tasks.pop(id, None)
        if waiting is None or waiting.is_decided:
            return waiting
        both: tuple[MutableMapping[GroupKey, Group], ...] = (self._queue(waiting.group), self._parked)
        for groups in both:
            group = groups.get(waiting.group)
            if group is not None and id in group.tasks:
                del group.tasks[id]
                group.untold.pop(id, None)
                if not group.tasks:
                    del groups[waiting.group]
        return waiting

    def close(self, key: GroupKey) -> None:
        """All tasks of the ready group are decided."""
        del self._queue(key)[key]

    def postpone(self, key: GroupKey) -> None:
        """The ready group is to be tried after the others."""
        self._queue(key).move_to_end(key)

    def park(self, key: GroupKey) -> None:
        """The group fits nowhere for now."""
        self._parked[key] = self._queue(key).pop(key)

    def unpark_all(self) -> None:
        """Something changed: every parked group is worth a try."""
        for key, group in self._parked.items():
            self._queue(key)[key] = group
        self._parked.clear()

    def _queue(self, key: GroupKey) -> OrderedDict[GroupKey, Group]:
        return self._bound if key[2].node_id else self._free

    def _untell(self, waiting: WaitingTask, err: str) -> None:
        """The task's stored explanation is `err`."""
        waiting.err = err
        group = self._parked.get(waiting.group)
        if group is not None and err != group.explanation and not waiting.is_decided:
            group.untold[waiting.id] = waiting
            self._queue(waiting.group)[waiting.group] = self._parked.pop(waiting.group)

    def _enqueue(self, waiting: WaitingTask) -> None:
        queue = self._queue(waiting.group)
        group = queue.get(waiting.group)
        if group is None:
            group = self._parked.pop(waiting.group) if waiting.group in self._parked else Group()
            queue[waiting.group] = group
        group.tasks[waiting.id] = waiting
        group.untold[waiting.id] = waiting
