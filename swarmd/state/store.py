"""The replicated state: tables, indexes, watchers, digest. One instance per manager, changed only by `apply`.

A read is the live tables: synchronous code cannot be interleaved, so a view must not survive an `await`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from swarmd.model import Cluster, Node, RemovedNode, Service, StoredObject, Task
from swarmd.raft import SnapshotMeta
from swarmd.state.command import Command, Outcome, Table
from swarmd.state.transaction import Transaction
from swarmd.state.watch import Route, Subscription

T = TypeVar("T")


class State:
    """Everything that was agreed, up to `index`."""

    def __init__(self) -> None:
        raise NotImplementedError

    index: int
    """Raft index of the last applied entry (noop and config entries count)."""
    digest: bytes
    """Running SHA-256 over (entry index, body, verdict): equal on all members at equal `index`."""

    # -- reads ------------------------------------------------------------------------------------------------
    def node(self, id: str) -> Node | None:
        raise NotImplementedError

    def service(self, id: str) -> Service | None:
        raise NotImplementedError

    def task(self, id: str) -> Task | None:
        raise NotImplementedError

    def cluster(self) -> Cluster | None:
        raise NotImplementedError

    def removed_node(self, id: str) -> RemovedNode | None:
        raise NotImplementedError

    def nodes(self) -> Iterator[Node]:
        raise NotImplementedError

    def services(self) -> Iterator[Service]:
        raise NotImplementedError

    def tasks(self) -> Iterator[Task]:
        raise NotImplementedError

    def service_by_name(self, name: str) -> Service | None:
        """Case-insensitive."""
        raise NotImplementedError

    def nodes_by_hostname(self, hostname: str) -> tuple[Node, ...]:
        raise NotImplementedError

    def tasks_of_service(self, service_id: str) -> tuple[Task, ...]:
        """In order of creation."""
        raise NotImplementedError

    def tasks_of_node(self, node_id: str) -> tuple[Task, ...]:
        raise NotImplementedError

    def tasks_of_slot(self, service_id: str, slot: int) -> tuple[Task, ...]:
        raise NotImplementedError

    def by_id_prefix(self, table: Table, prefix: str) -> tuple[StoredObject, ...]:
        raise NotImplementedError

    # -- changes -----------------------------------------------------------------------------------------------
    def begin(self, now: float, rng: random.Random) -> Transaction:
        """A transaction on the state as it is; see `Transaction`."""
        raise NotImplementedError

    def apply(self, index: int, term: int, body: bytes, command: Command | None = None) -> Outcome:
        """Apply a DATA entry. The proposer passes the `command` it encoded, so that it is not decoded again.

        All preconditions are judged first, then everything changes, then watchers are told. `index` must be the next
        one. Raises `Invalid` if the body is no command this version knows.
        """
        raise NotImplementedError

    def skip(self, index: int, body: bytes) -> None:
        """A noop or config entry passed."""
        raise NotImplementedError

    # -- watchers ------------------------------------------------------------------------------------------------
    def subscribe(self, routes: Iterable[Route], *, wake: Callable[[], None], events_max: int = 10_000) -> Subscription:
        """Events of the routes from now on. `wake` is called when the queue turns non-empty (or overflows)."""
        raise NotImplementedError

    # -- snapshots ------------------------------------------------------------------------------------------------
    def capture(self) -> Any:
        """A cheap immutable picture (dict copies) to encode later, outside the loop's hot path; see `state.snapshot`."""
        raise NotImplementedError

    def restore(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        """Become what the chunks say (all or nothing). Every subscription is told `gone`. Raises `Invalid`."""
        raise NotImplementedError
