"""A transaction under construction: reads that are remembered, writes that become one command."""

from __future__ import annotations

import random

from swarmd.model import Cluster, Node, RemovedNode, Service, StoredObject, Task, TaskStatus
from swarmd.state.command import Command, CommandId, IdempotencyKey, Table


class Transaction:
    """What `fn` sees inside `update(fn)`: the state as it is, with its own writes on top.

    Every object read is recorded with its version and every index lookup (name, slot, "tasks of a service") with its
    holders; all are judged again when the command is applied, so two transactions that touched the same things never
    both take effect. `unchecked=True` on a read says that the decision does not depend on it.
    """

    now: float
    rng: random.Random

    # -- reads, recorded -----------------------------------------------------------------------------------------
    def node(self, id: str, *, unchecked: bool = False) -> Node | None:
        raise NotImplementedError

    def service(self, id: str, *, unchecked: bool = False) -> Service | None:
        raise NotImplementedError

    def task(self, id: str, *, unchecked: bool = False) -> Task | None:
        raise NotImplementedError

    def cluster(self, *, unchecked: bool = False) -> Cluster | None:
        raise NotImplementedError

    def removed_node(self, id: str) -> RemovedNode | None:
        raise NotImplementedError

    def service_by_name(self, name: str) -> Service | None:
        raise NotImplementedError

    def tasks_of_service(self, service_id: str, *, unchecked: bool = False) -> tuple[Task, ...]:
        """Checked: claims the exact set of task ids (each task's version is claimed only when it is written)."""
        raise NotImplementedError

    def tasks_of_slot(self, service_id: str, slot: int, *, unchecked: bool = False) -> tuple[Task, ...]:
        raise NotImplementedError

    def tasks_of_node(self, node_id: str, *, unchecked: bool = False) -> tuple[Task, ...]:
        raise NotImplementedError

    def nodes(self) -> tuple[Node, ...]:
        """All nodes, unrecorded: a decision that depends on one reads it by id as well."""
        raise NotImplementedError

    # -- writes --------------------------------------------------------------------------------------------------
    def new_id(self) -> str:
        """A fresh object id."""
        raise NotImplementedError

    def create(self, object: StoredObject) -> None:
        """Raises `AlreadyExists` if the id or a unique name is taken in this view."""
        raise NotImplementedError

    def update(self, object: StoredObject) -> None:
        """Replace. Raises `NotFound` if it is not there. Based on the version this transaction sees."""
        raise NotImplementedError

    def remove(self, table: Table, id: str) -> None:
        """Raises `NotFound`."""
        raise NotImplementedError

    def assign(self, task_id: str, node_id: str, status: TaskStatus) -> None:
        """Compact assignment; all of one transaction share one `status`."""
        raise NotImplementedError

    def advance(self, task_id: str, status: TaskStatus) -> None:
        """Compact status change based on the version seen; all of one transaction share one `status`."""
        raise NotImplementedError

    def report(self, node_id: str, task_id: str, status: TaskStatus) -> None:
        """Compact observed status: merges monotonically at apply, conflicts with nobody."""
        raise NotImplementedError

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be written."""
        raise NotImplementedError

    def command(self, id: CommandId, *, actor: str, term: int = 0, key: IdempotencyKey | None = None) -> Command:
        """What was written and relied on, ready to be proposed."""
        raise NotImplementedError
