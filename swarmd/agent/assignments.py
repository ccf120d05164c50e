"""Reading the assignments stream: pages become whole sets, changes must follow one another. Pure
(reference dispatch-agent-executor 2.1).
"""

from __future__ import annotations

import msgspec

from swarmd.model import Task
from swarmd.wire.dispatch import AssignmentsMessage


class AssignmentsGap(Exception):
    """A message is missing: what follows cannot be applied. Open the stream again."""


class CompleteSet(msgspec.Struct, frozen=True, kw_only=True):
    """All that this node should run; whatever else it runs is to be removed."""

    tasks: tuple[Task, ...]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks to add or update, and tasks to remove."""

    tasks: tuple[Task, ...]
    removed: tuple[str, ...]


class AssignmentsReader:
    """One stream's reader. A new stream needs a new one."""

    def __init__(self) -> None:
        self._reference: str | None = None
        self._pages: list[Task] = []
        self._is_paging = False

    def read(self, message: AssignmentsMessage) -> CompleteSet | Change | None:
        """What to do now; None in the middle of a paged set. Raises `AssignmentsGap`, and then for ever."""
        if message.complete:
            return self._read_page(message)
        if self._is_paging or self._reference is None or message.applies_to != self._reference:
            reference, self._reference = self._reference, None
            raise AssignmentsGap(f"a change to {message.applies_to!r} came at {reference!r}")
        self._reference = message.results_in
        return Change(tasks=message.tasks, removed=message.removed_tasks)

    def _read_page(self, message: AssignmentsMessage) -> CompleteSet | None:
        self._pages.extend(message.tasks)
        self._is_paging = message.more
        if message.more:
            return None
        tasks, self._pages = tuple(self._pages), []
        self._reference = message.results_in
        return CompleteSet(tasks=tasks)
