"""The replicated state: tables, indexes, watchers, digest. One instance per manager, changed only by `apply`.

A read is the live tables: synchronous code cannot be interleaved, so a view must not survive an `await`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from swarmd.errors import Internal
from swarmd.model import Cluster, Node, RemovedNode, Service, StoredObject, Task
from swarmd.raft import SnapshotMeta
from swarmd.state import digest as digests
from swarmd.state.command import Command, CommandId, IdempotencyKey, Outcome, Table, Verdict, decode_command
from swarmd.state.finding import find
from swarmd.state.history import History
from swarmd.state.indexes import Index
from swarmd.state.judge import Plan
from swarmd.state.keys import fold, slot_key
from swarmd.state.results import RESULTS_MAX, Results
from swarmd.state.selection import Selection
from swarmd.state.selectors import By
from swarmd.state.snapshot import Capture, Contents, SnapshotReader, capture
from swarmd.state.tables import Rows, Tables
from swarmd.state.tap import Tap
from swarmd.state.transaction import Transaction
from swarmd.state.watch import EVENTS_MAX, Route, Router, Subscription
from swarmd.state.watcher import Watcher

O = TypeVar("O", bound=StoredObject)  # noqa: E741

_APPLIED: Final = Verdict.APPLIED


class State:
    """Everything that was agreed, up to `index`.

    Args:
        results_max: idempotent requests remembered. Part of what replicas must agree on: only tests choose another.
    """

    def __init__(self, *, results_max: int = RESULTS_MAX) -> None:
        self._tables = Tables()
        self._results_max = results_max
        self._results = Results(results_max=results_max)
        self._router = Router()
        self._history = History()
        self.digest = digests.START
        """Running SHA-256 over (entry index, body, verdict): equal on all members at equal `index`."""
        self.tap: Tap | None = None

    @property
    def index(self) -> int:
        """Raft index of the last applied entry (noop and config entries count)."""
        return self._tables.index

    @property
    def hash_every(self) -> int:
        """Entries from one full hash to the next, as `digest.hash_every` has it."""
        objects = sum(len(rows.objects) for rows in self._tables.by_table.values())
        return digests.hash_every(objects, len(self._results))

    # -- reads ------------------------------------------------------------------------------------------------
    def get(self, type_: type[O], id: str) -> O | None:
        """The object of this kind with this id, if there is one."""
        return self._tables.rows_of(type_).objects.get(id)

    def find(self, type_: type[O], by: By) -> tuple[O, ...]:
        """What a selector finds, each object once, in no promised order: `find(Task, BySlot(service_id, 3))`.

        Raises `Invalid` if the table is not searched in this way. `state.finding` says what takes how long.
        """
        return find(self._tables, type_, by)

    def node(self, id: str) -> Node | None:
        """The node with this id, if there is one."""
        return self._tables.nodes.objects.get(id)

    def service(self, id: str) -> Service | None:
        """The service with this id, if there is one."""
        return self._tables.services.objects.get(id)

    def task(self, id: str) -> Task | None:
        """The task with this id, if there is one."""
        return self._tables.tasks.objects.get(id)

    def cluster(self) -> Cluster | None:
        """The one cluster object; None before the swarm was bootstrapped."""
        return next(iter(self._tables.clusters.objects.values()), None)

    def removed_node(self, id: str) -> RemovedNode | None:
        """The record of a removed node, if it is kept still."""
        return self._tables.removed_nodes.objects.get(id)

    def nodes(self) -> Iterator[Node]:
        """All nodes, in order of creation."""
        return iter(self._tables.nodes.objects.values())

    @property
    def node_count(self) -> int:
        """How many nodes there are, those that wait to be let in included."""
        return len(self._tables.nodes.objects)

    def services(self) -> Iterator[Service]:
        """All services, in order of creation."""
        return iter(self._tables.services.objects.values())

    def tasks(self) -> Iterator[Task]:
        """All tasks, in order of creation."""
        return iter(self._tables.tasks.objects.values())

    def removed_nodes(self) -> Iterator[RemovedNode]:
        """All records of removed nodes, in order of removal."""
        return iter(self._tables.removed_nodes.objects.values())

    def service_by_name(self, name: str) -> Service | None:
        """Case-insensitive."""
        tables = self._tables
        held = tables.service_names.holders.get(fold(name))
        return None if held is None else tables.services.objects[next(iter(held))]

    def nodes_by_hostname(self, hostname: str) -> tuple[Node, ...]:
        """Case-insensitive; several nodes may have one name."""
        tables = self._tables
        held = tables.hostnames.holders.get(fold(hostname))
        return () if held is None else tuple([tables.nodes.objects[id] for id in held])

    def tasks_of_service(self, service_id: str) -> tuple[Task, ...]:
        """In order of creation."""
        return self._holders(self._tables.tasks, self._tables.tasks_by_service, service_id)

    def tasks_of_node(self, node_id: str) -> tuple[Task, ...]:
        """The tasks assigned to a node, in no promised order."""
        return self._holders(self._tables.tasks, self._tables.tasks_by_node, node_id)

    def tasks_of_slot(self, service_id: str, slot: int, node_id: str = "") -> tuple[Task, ...]:
        """In order of creation. `node_id` is for slot 0, of which each node has its own."""
        return self._holders(self._tables.tasks, self._tables.tasks_by_slot, slot_key(service_id, slot, node_id))

    def by_id_prefix(self, table: Table, prefix: str) -> tuple[StoredObject, ...]:
        """In order of creation. Walks the table (4 ms for 100,000), unless `prefix` is a whole id."""
        objects = self._tables.by_table[table].objects
        if prefix in objects:
            return (objects[prefix],)
        return tuple([object for id, object in objects.items() if id.startswith(prefix)])

    # -- idempotent requests -----------------------------------------------------------------------------------
    def known_result(self, key: IdempotencyKey, actor: str) -> Outcome | None:
        """What a command with `key` would get without acting (DUPLICATE, KEY_MISUSED, KEY_GONE); None: it would act."""
        return self._results.judge(key, actor, self.index)

    def find_command(self, id: CommandId) -> Outcome | None:
        """What became of a command that carried a key, when its place in the log is compacted; None: unknown."""
        return self._results.find(id)

    # -- changes -----------------------------------------------------------------------------------------------
    def begin(self, now: float, rng: random.Random) -> Transaction:
        """A transaction on the state as it is; see `Transaction`."""
        return Transaction(self._tables, now, rng)

    def apply(self, index: int, term: int, body: bytes, command: Command | None = None) -> Outcome:
        """Apply a DATA entry. The proposer passes the `command` it encoded, so that it is not decoded again.

        All preconditions are judged first, then everything changes, then watchers are told. `index` must be the next
        one. Raises `Invalid` if the body is no command this version knows; then nothing has changed.
        """
        if index != self._tables.index + 1:
            self._check_next(index)
        if command is None:
            command = decode_command(body)
        plan = Plan(self._tables, index)
        outcome = self._judge(command, plan, index, term)
        verdict = outcome.verdict
        self._tables.index = index
        self.digest = digests.extend(self.digest, index, verdict, body)
        if verdict is _APPLIED:
            plan.carry_out()
            if command.key is not None:
                self._results.remember(command, outcome)
            if writes := plan.writes.values():
                self._history.record(index, command.at, len(body), writes)
            router = self._router
            if router.is_listened_to:
                for rows, old, new in writes:
                    router.publish(rows.table, old, new, index, command.at)
                router.wake()
        if self.tap is not None:
            self.tap.applied(index, command, outcome, plan.writes.values() if verdict is _APPLIED else (), len(body))
        return outcome

    def skip(self, index: int, body: bytes) -> None:
        """A noop or config entry passed."""
        self._check_next(index)
        self._tables.index = index
        self.digest = digests.extend(self.digest, index, digests.SKIPPED, body)

    # -- watchers ------------------------------------------------------------------------------------------------
    def subscribe(
        self, routes: Iterable[Route], *, wake: Callable[[], None], events_max: int = EVENTS_MAX
    ) -> Subscription:
        """Events of the routes from now on. `wake` is called when the queue turns non-empty (or overflows).

        It is called after the whole entry is queued, must not raise and must not apply. Raises `Invalid` for a route
        by a field that events are not routed by.
        """
        return self._router.subscribe(routes, wake, events_max)

    def watch(self, selection: Selection, *, after: int, wake: Callable[[], None]) -> Watcher:
        """What entries after `after` (at most `index`) did and do, as far as it fits; see `state.watcher`.

        `wake` is called as with `subscribe`. Raises `Gone` if the history does not reach back so far.
        """
        if after > self.index:
            raise Internal(f"version {after} is not applied yet")
        return Watcher(
            self._router, self._history, selection, index=lambda: self._tables.index, position=after, wake=wake
        )

    # -- snapshots ------------------------------------------------------------------------------------------------
    def capture(self) -> Capture:
        """A cheap immutable picture (dict copies) to encode later, in slices; see `state.snapshot`."""
        return capture(self._tables, self._results, self.digest)

    def restore(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        """Become what the chunks say (all or nothing). Every subscription is told `gone`. Raises `Invalid`.

        Takes about 10 us an object at a stretch; `SnapshotReader` and `adopt` do the same in slices.
        """
        reader = SnapshotReader()
        for chunk in chunks:
            reader.feed(chunk)
        self.adopt(reader.finish(meta))

    def adopt(self, contents: Contents) -> None:
        """Become what a snapshot holds, at once. The contents belong to the state afterwards."""
        before = self.index
        self._tables = contents.tables
        self._results = Results(contents.results.copy(), contents.results.horizon, results_max=self._results_max)
        self.digest = contents.digest
        self._history.begin_at(self.index)
        self._router.cut_off_all()
        if self.tap is not None:
            self.tap.restored(before, self.index)

    def state_hash(self) -> bytes:
        """SHA-256 of all content: equal on members of equal `index`, whatever the order of their dicts.

        Takes about 10 us an object at a stretch; `digest.hash_slices(state.capture())` does the same in slices.
        """
        return digests.run_through(digests.hash_slices(self.capture()))

    # -- inside ----------------------------------------------------------------------------------------------------
    def _judge(self, command: Command, plan: Plan, index: int, term: int) -> Outcome:
        if command.term and command.term != term:
            reason = f"it was made for term {command.term} and landed in term {term}"
            return Outcome(verdict=Verdict.WRONG_TERM, index=index, reason=reason)
        if command.key is not None and (known := self._results.judge(command.key, command.actor, index)) is not None:
            return known
        if (refusal := plan.judge(command)) is not None:
            return Outcome(verdict=Verdict.CONFLICT, index=index, reason=refusal.reason, object_id=refusal.about)
        return Outcome(verdict=_APPLIED, index=index, object_id=plan.first_id)

    def _check_next(self, index: int) -> None:
        if index != self._tables.index + 1:
            raise Internal(f"entry {index} cannot be applied after entry {self._tables.index}")

    def _holders(self, rows: Rows[O], index: Index[O], key: str) -> tuple[O, ...]:
        held = index.holders.get(key)
        if held is None:
            return ()
        objects = rows.objects
        return tuple([objects[id] for id in held])
