"""The scheduler's own picture of nodes and tasks, fed by events, and its placement pass (performance-scheduler 3)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from swarmd.model import Node, Task


class Placement(msgspec.Struct, frozen=True, gc=False):
    """`task_id` goes to `node_id`; `base` is the task's version the decision was based on."""

    task_id: str
    base: int
    node_id: str


class Unplaced(msgspec.Struct, frozen=True, gc=False):
    """Why a task stays PENDING: a bounded summary, written only when it changes."""

    task_id: str
    explanation: str


class Scheduler:
    """One instance per reign, rebuilt from the state when it begins."""

    def __init__(self, nodes: Iterable[Node], tasks: Iterable[Task]) -> None:
        raise NotImplementedError

    def node_changed(self, node: Node) -> None:
        raise NotImplementedError

    def node_removed(self, node_id: str) -> None:
        raise NotImplementedError

    def task_changed(self, task: Task, now: float) -> None:
        """Also counts failures (FAILED, REJECTED) against (node, service, spec version)."""
        raise NotImplementedError

    def task_removed(self, task_id: str) -> None:
        raise NotImplementedError

    @property
    def has_work(self) -> bool:
        """Whether a pass could place something that the last one could not."""
        raise NotImplementedError

    def place(self, now: float, *, limit: int) -> tuple[list[Placement], list[Unplaced]]:
        """Decide at most `limit` tasks; what is placed is charged at once and its own echo changes nothing."""
        raise NotImplementedError

    def refused(self, task_id: str) -> None:
        """The decision could not be written: give its charge back and queue the task again."""
        raise NotImplementedError
