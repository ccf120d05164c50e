"""What one node should run, as the messages that tell it (reference dispatch-agent-executor 2). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from swarmd.model import Task, TaskState
from swarmd.state.watch import Event
from swarmd.wire.dispatch import AssignmentsMessage

TASKS_PER_MESSAGE_MAX: Final = 500
TASK_BYTES_PER_MESSAGE_MAX: Final = 1 << 20
"""An estimate is held to this, far below the frame's 4 MiB."""
_TASK_BYTES: Final = 600
"""A task without its environment, arguments and labels, encoded, rounded up."""


class AssignmentSet:
    """One stream's view of a node's tasks, and what it has yet to tell."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._known: dict[str, Task] = {}
        self._untold: dict[str, Task | None] = {}
        self._sequence = 0

    @property
    def untold(self) -> int:
        """How many changes wait to be told."""
        return len(self._untold)

    def complete(self, tasks: Iterable[Task]) -> list[AssignmentsMessage]:
        """Begin (again) with these tasks of the node: the whole set in pages, at least one.

        Every page has an empty `applies_to` and the same `results_in`; all but the last have `more`.
        """
        self._known = {task.id: _as_told(task) for task in tasks if task.status.state >= TaskState.ASSIGNED}
        self._untold.clear()
        name = self._next_name()
        pages: list[tuple[Task, ...]] = list(_pages(self._known.values())) or [()]
        last = len(pages) - 1
        return [
            AssignmentsMessage(results_in=name, complete=True, more=number < last, tasks=page)
            for number, page in enumerate(pages)
        ]

    def observe(self, event: Event) -> None:
        """A task of this node changed: remember what the node must hear of it.

        Status traffic is the node's own and is not echoed, but a task is told again while it is only ASSIGNED: the node
        has not taken it up yet.
        """
        task = event.new
        if not isinstance(task, Task) or task.node_id != self._node_id:
            if self._known.pop(event.id, None) is not None:
                self._untold[event.id] = None
            return
        if task.status.state < TaskState.ASSIGNED:
            return
        known, task = self._known.get(task.id), _as_told(task)
        self._known[task.id] = task
        if known is None or task.status.state is TaskState.ASSIGNED or _is_ordered_differently(known, task):
            self._untold[task.id] = task

    def changes(self) -> list[AssignmentsMessage]:
        """Everything untold, each message applying to the one before it."""
        removed = tuple(id for id, task in self._untold.items() if task is None)
        # What is untold may be older than what is known: the newest is told.
        pages = list(_pages(self._known[id] for id, task in self._untold.items() if task is not None))
        self._untold.clear()
        if removed and not pages:
            pages.append(())
        messages = []
        for page in pages:
            applies_to = str(self._sequence)
            messages.append(
                AssignmentsMessage(
                    results_in=self._next_name(), applies_to=applies_to, tasks=page, removed_tasks=removed
                )
            )
            removed = ()
        return messages

    def _next_name(self) -> str:
        self._sequence += 1
        return str(self._sequence)


def _as_told(task: Task) -> Task:
    """Without what is no concern of nodes: an older one would refuse a field that it does not know."""
    return msgspec.structs.replace(task, failures=0) if task.failures else task


def _is_ordered_differently(known: Task, task: Task) -> bool:
    return msgspec.structs.replace(known, status=task.status, meta=task.meta) != task


def _pages(tasks: Iterable[Task]) -> Iterator[tuple[Task, ...]]:
    page: list[Task] = []
    size = 0
    for task in tasks:
        weight = _weight(task)
        if page and (len(page) == TASKS_PER_MESSAGE_MAX or size + weight > TASK_BYTES_PER_MESSAGE_MAX):
            yield tuple(page)
            page, size = [], 0
        page.append(task)
        size += weight
    if page:
        yield tuple(page)


def _weight(task: Task) -> int:
    container = task.spec.container
    texts: list[str] = [*container.env, *container.args, *container.command]
    for labels in (task.labels, container.labels):
        texts.extend(labels.keys())
        texts.extend(labels.values())
    return _TASK_BYTES + sum(4 + len(text) for text in texts)
