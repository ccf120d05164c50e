"""A transaction under construction: reads that are remembered, writes that become one command."""

from __future__ import annotations

import random
from typing import Any, Final, TypeVar, cast

from msgspec.structs import replace

from swarmd.errors import AlreadyExists, Conflict, FailedPrecondition, Internal, Invalid, NotFound
from swarmd.model import Cluster, Meta, Network, Node, RemovedNode, Service, StoredObject, Task, TaskStatus, new_id
from swarmd.state.command import (
    Advance,
    Assign,
    Change,
    Claim,
    Command,
    CommandId,
    Create,
    IdempotencyKey,
    Remove,
    Report,
    Require,
    Table,
    Update,
)
from swarmd.state.features import feature_needed, feature_of_index, feature_of_kind
from swarmd.state.finding import look_ups
from swarmd.state.indexes import AnyIndex, Index, SchedulableNodes, is_schedulable
from swarmd.state.keys import fold, request_key, slot_key
from swarmd.state.normal import normal
from swarmd.state.overlay import Intent, Overlay, PendingWrite
from swarmd.state.reports import merged_status
from swarmd.state.rules import broken_rule
from swarmd.state.selectors import By
from swarmd.state.tables import CLUSTER_KEY, EVERY, Rows, Tables

KEY_BYTES_MAX: Final = 64
"""Length of an idempotency key and of its request's hash."""
_COMPACT_BYTES: Final = 64
"""What an assignment, a status or a claim takes in an entry, about."""
_NOT_STAMPED: Final = Meta()
# Python 3.11 takes 0.1 us to find a member of an enumeration.
_CREATE, _UPDATE, _REMOVE = Intent.CREATE, Intent.UPDATE, Intent.REMOVE
_ASSIGN, _ADVANCE, _REPORT = Intent.ASSIGN, Intent.ADVANCE, Intent.REPORT

O = TypeVar("O", bound=StoredObject)  # noqa: E741


class Transaction:
    """What `fn` sees inside `update(fn)`: the state as it is, with its own writes on top.

    Every object read is recorded with its version and every index lookup (name, slot, "tasks of a service") with its
    holders; all are judged again when the command is applied, so two transactions that touched the same things never
    both take effect. `unchecked=True` on a read says that the decision does not depend on it.

    Must not be used once the state has moved on (after an `await`): that raises `Internal`.
    """

    __slots__ = ("_bytes", "_claims", "_index", "_overlay", "_reads", "_shared", "_tables", "now", "rng")

    def __init__(self, tables: Tables, now: float, rng: random.Random) -> None:
        self.now = float(now)
        self.rng = rng
        self._tables = tables
        self._index = tables.index
        self._overlay = Overlay()
        self._reads: dict[tuple[int, str], tuple[Table, int]] = {}
        self._claims: dict[tuple[str, str], Claim] = {}
        self._shared: tuple[TaskStatus, TaskStatus] | None = None
        self._bytes = 0

    # -- reads, recorded -----------------------------------------------------------------------------------------
    def node(self, id: str, *, unchecked: bool = False) -> Node | None:
        """The node as this transaction sees it, or None."""
        return self._read(self._tables.nodes, id, unchecked)

    def service(self, id: str, *, unchecked: bool = False) -> Service | None:
        """The service as this transaction sees it, or None."""
        return self._read(self._tables.services, id, unchecked)

    def task(self, id: str, *, unchecked: bool = False) -> Task | None:
        """The task as this transaction sees it, or None."""
        return self._read(self._tables.tasks, id, unchecked)

    def cluster(self, *, unchecked: bool = False) -> Cluster | None:
        """The one cluster object, or None before there is one."""
        tables = self._tables
        held = self._overlay.holders(tables.clusters, tables.only_cluster, CLUSTER_KEY)
        if held:
            return self._read(tables.clusters, held[0].id, unchecked)
        if not unchecked:
            self._claim(tables.only_cluster, CLUSTER_KEY)
        return None

    def removed_node(self, id: str) -> RemovedNode | None:
        """The record of a removed node, or None."""
        return self._read(self._tables.removed_nodes, id, unchecked=False)

    def get(self, type_: type[O], id: str, *, unchecked: bool = False) -> O | None:
        """The object as this transaction sees it, or None. Raises `FailedPrecondition` as `create` does, if checked."""
        rows = self._tables.rows_of(type_)
        if not unchecked:
            self._require_feature(feature_of_kind(type_), rows)
        return self._read(rows, id, unchecked)

    def find(self, type_: type[O], by: By, *, unchecked: bool = False) -> tuple[O, ...]:
        """What `by` finds as this transaction sees it, each object once. Raises `Invalid` if there is no such way.

        Checked: claims exactly who is found (each object's version is claimed only when it is written). Only what an
        index answers can be claimed; a search that looks at each object raises `Internal` unless it is `unchecked`.
        Raises `FailedPrecondition` if some manager does not know that index yet.
        """
        self._check_current()
        rows = self._tables.rows_of(type_)
        found: dict[str, O] = {}
        for look_up in look_ups(self._tables, rows, by):
            index = look_up.index
            if index is None:
                if not unchecked:
                    raise Internal(f"no command can claim what {by!r} finds", hint="read it unchecked")
                seen: tuple[O, ...] = self._overlay.everything(rows)
                found |= {object.id: object for object in seen if look_up.matches(object)}
            else:
                if not unchecked:
                    self._require_feature(feature_of_index(index.name), rows)
                    self._claim(index, look_up.key)
                found |= {object.id: object for object in self._overlay.holders(rows, index, look_up.key)}
        return tuple(found.values())

    def service_by_name(self, name: str) -> Service | None:
        """The service of that name, whatever its case, or None."""
        tables = self._tables
        key = fold(name)
        self._claim(tables.service_names, key)
        held = self._overlay.holders(tables.services, tables.service_names, key)
        return self._read(tables.services, held[0].id, unchecked=False) if held else None

    def tasks_of_service(self, service_id: str, *, unchecked: bool = False) -> tuple[Task, ...]:
        """Checked: claims the exact set of task ids (each task's version is claimed only when it is written)."""
        return self._listing(self._tables.tasks_by_service, service_id, unchecked)

    def tasks_of_slot(
        self, service_id: str, slot: int, node_id: str = "", *, unchecked: bool = False
    ) -> tuple[Task, ...]:
        """Checked: claims the exact set of task ids. `node_id` is for slot 0, of which each node has its own."""
        return self._listing(self._tables.tasks_by_slot, slot_key(service_id, slot, node_id), unchecked)

    def tasks_of_node(self, node_id: str, *, unchecked: bool = False) -> tuple[Task, ...]:
        """Checked: claims the exact set of task ids."""
        return self._listing(self._tables.tasks_by_node, node_id, unchecked)

    def nodes(self) -> tuple[Node, ...]:
        """All nodes, unrecorded: a decision that depends on one reads it by id as well."""
        self._check_current()
        return tuple(self._overlay.everything(self._tables.nodes))

    def networks(self) -> tuple[Network, ...]:
        """All networks. Claims that there are these and no others; what their specs say is not claimed, which changes
        neither a subnet nor a number. Raises `FailedPrecondition` until every manager knows such claims."""
        self._check_current()
        index, rows = self._tables.all_networks, self._tables.networks
        self._require_feature(feature_of_index(index.name), rows)
        self._claim(index, EVERY)
        return self._overlay.holders(rows, index, EVERY)

    def nodes_by_request(self, csr: bytes) -> tuple[Node, ...]:
        """The nodes with this certificate request. Claims them, and that there are no more, once every manager knows
        such claims."""
        self._check_current()
        index, key = self._tables.nodes_by_request, request_key(csr)
        cluster = self.cluster(unchecked=True)
        if cluster is not None and feature_of_index(index.name) in cluster.feature_level:
            self._claim(index, key)
        found = self._overlay.holders(self._tables.nodes, index, key)
        return tuple([node for node in found if node.certificate.csr == csr])

    def is_node_ready(self, node_id: str, *, unchecked: bool = False) -> bool:
        """Whether the node takes new tasks (accepted, ACTIVE, READY and confirmed).

        Checked: claims the answer and nothing else of the node, so that only what changes it conflicts. `assign` needs
        no such claim: an assignment is refused anyway if its node is not ready when it is applied.
        """
        self._check_current()
        if not unchecked:
            self._claim(self._tables.schedulable_nodes, node_id)
        return is_schedulable(self._overlay.get(self._tables.nodes, node_id))

    def require_node_ready(self, node_id: str) -> None:
        """Claim that the node takes new tasks. Raises `FailedPrecondition` if it does not now."""
        if not self.is_node_ready(node_id):
            raise FailedPrecondition(f"node {node_id} takes no new tasks")

    # -- writes --------------------------------------------------------------------------------------------------
    def new_id(self) -> str:
        """A fresh object id."""
        return new_id(self.rng)

    def create(self, object: StoredObject) -> None:
        """Raises `AlreadyExists` if the id or a unique name is taken in this view, `Invalid` if it cannot be stored.

        Raises `FailedPrecondition` if some manager does not know such objects yet, and what `state.rules` says.
        """
        self._check_current()
        rows = self._tables.rows_of(type(object))
        if object.id in rows.objects or (rows.tag, object.id) in self._overlay.writes:
            raise AlreadyExists(f"{_noun(rows)} {object.id} already exists")
        if rows.unique:
            self._check_unique(rows, object)
            self._check_rules(None, object)
        if type(object) is not Task:
            self._require_feature(feature_needed(object), rows)
        self._put_whole(_CREATE, rows, 0, object)

    def update(self, object: StoredObject) -> None:
        """Replace. Raises `NotFound` if it is not there. Based on the version this transaction sees.

        Raises `Conflict` if `object` was made from another version than that, `AlreadyExists` if it takes a unique
        name that is held, `Invalid` if it cannot be stored, and as `create` does.
        """
        self._check_current()
        rows = self._tables.rows_of(type(object))
        seen = self._seen(rows, object.id)
        if object.meta.version not in (0, seen.meta.version):
            raise Conflict(
                f"{_noun(rows)} {object.id} is at version {seen.meta.version}, not {object.meta.version}",
                hint="read it again",
            )
        if rows.unique:
            self._check_unique(rows, object)
            self._check_rules(seen, object)
        if type(object) is not Task:
            self._require_feature(feature_needed(object), rows)
        write = self._overlay.writes.get((rows.tag, object.id))
        intent = _CREATE if write is not None and write.intent is _CREATE else _UPDATE
        if object.meta is not seen.meta:
            object = replace(object, meta=seen.meta)
        self._put_whole(intent, rows, seen.meta.version, object)

    def remove(self, table: Table, id: str) -> None:
        """Raises `NotFound`, and `FailedPrecondition` if an extension has resources."""
        self._check_current()
        rows = self._tables.by_table[table]
        seen = self._seen(rows, id)
        if rows.unique:
            self._check_rules(seen, None)
        write = self._overlay.writes.get((rows.tag, id))
        if write is not None and write.intent is _CREATE:
            self._overlay.discard(rows, id)
        else:
            self._overlay.put(id, PendingWrite(_REMOVE, rows, seen.meta.version, None))

    def assign(self, task_id: str, node_id: str, status: TaskStatus) -> None:
        """Compact assignment; those that share one `status` cost one status together.

        Raises `NotFound` without the task, `FailedPrecondition` if it has a node or its state is beyond `status`, and
        if the node takes no new tasks: ask `is_node_ready` first.
        """
        self._check_current()
        task = self._seen(self._tables.tasks, task_id)
        if task.node_id:
            raise FailedPrecondition(f"task {task_id} already has node {task.node_id}")
        if not is_schedulable(self._overlay.get(self._tables.nodes, node_id)):
            raise FailedPrecondition(f"node {node_id} takes no new tasks")
        shared = self._share(task, status)
        intent = self._put_compact(_ASSIGN, task, replace(task, node_id=str(node_id), status=shared))
        if intent is not _ASSIGN:
            self._claim(self._tables.schedulable_nodes, node_id)

    def advance(self, task_id: str, status: TaskStatus) -> None:
        """Compact status change based on the version seen; those that share one `status` cost one status together.

        Raises `NotFound` without the task, `FailedPrecondition` if its state is beyond `status`.
        """
        self._check_current()
        task = self._seen(self._tables.tasks, task_id)
        self._put_compact(_ADVANCE, task, replace(task, status=self._share(task, status)))

    def report(self, node_id: str, task_id: str, status: TaskStatus) -> None:
        """Compact observed status: merges monotonically at apply, conflicts with nobody.

        What would change nothing already now (task gone or another node's, lower state, nothing new) is left out.
        `node_id` "" is a manager's own observation of any task.
        """
        self._check_current()
        task = self._overlay.get(self._tables.tasks, task_id)
        merged = merged_status(task, node_id, status, self.now)
        if task is None or merged is None:
            return
        new = replace(task, status=normal(merged)[0])
        self._put_compact(_REPORT, task, new, node_id=str(node_id))

    # -- the result ----------------------------------------------------------------------------------------------
    @property
    def is_empty(self) -> bool:
        """Whether nothing would be written."""
        return not self._overlay.writes

    @property
    def changes_count(self) -> int:
        """Objects that would be written; batch writers stop at `batch.CHANGES_MAX`."""
        return len(self._overlay.writes)

    @property
    def bytes_estimate(self) -> int:
        """What the command will take in the log, about; batch writers stop at `batch.BATCH_BYTES_MAX`."""
        claims = sum(_COMPACT_BYTES + 27 * len(claim.holders) for claim in self._claims.values())
        return self._bytes + claims + _COMPACT_BYTES * (len(self._overlay.writes) + len(self._reads))

    def command(self, id: CommandId, *, actor: str, term: int = 0, key: IdempotencyKey | None = None) -> Command:
        """What was written and relied on, ready to be proposed. `encode_command` refuses what no entry can hold."""
        if key is not None and max(len(key.key), len(key.request_sha256)) > KEY_BYTES_MAX:
            raise Invalid(f"an idempotency key has at most {KEY_BYTES_MAX} bytes")
        changes = _changes(self._overlay)
        if self._reads:
            changes = self._requirements() + changes
        return Command(
            id=id,
            actor=actor,
            at=self.now,
            term=term,
            key=key,
            claims=tuple(self._claims.values()),
            changes=tuple(changes),
        )

    def _requirements(self) -> list[Change]:
        """Objects that were read and are not written on that very version anyway."""
        writes = self._overlay.writes
        return [
            Require(table, id, base)
            for (tag, id), (table, base) in self._reads.items()
            if (write := writes.get((tag, id))) is None or write.intent is _REPORT
        ]

    # -- inside --------------------------------------------------------------------------------------------------
    def _check_current(self) -> None:
        """Everything public that looks at the tables does this first."""
        if self._tables.index != self._index:
            raise Internal(f"a transaction on index {self._index} was used at index {self._tables.index}")

    def _read(self, rows: Rows[O], id: str, unchecked: bool) -> O | None:  # noqa: FBT001
        self._check_current()
        key = (rows.tag, id)
        live = rows.objects.get(id)
        if not unchecked and key not in self._reads:
            self._reads[key] = (rows.table, 0 if live is None else live.meta.version)
        write = self._overlay.writes.get(key)
        return live if write is None else cast("O | None", write.new)

    def _seen(self, rows: Rows[O], id: str) -> O:
        object = self._overlay.get(rows, id)
        if object is None:
            raise NotFound(f"{_noun(rows)} {id} does not exist")
        return object

    def _listing(self, index: Index[Task], key: str, unchecked: bool) -> tuple[Task, ...]:  # noqa: FBT001
        self._check_current()
        if not unchecked:
            self._claim(index, key)
        return self._overlay.holders(self._tables.tasks, index, key)

    def _claim(self, index: AnyIndex[Any] | SchedulableNodes, key: str) -> None:
        name = index.name
        if (name, key) not in self._claims:
            self._claims[name, key] = index.claim(key)

    def _check_unique(self, rows: Rows[Any], object: StoredObject) -> None:
        for index in rows.unique:
            key = index.key_of(object)
            if any(holder.id != object.id for holder in self._overlay.holders(rows, index, key)):
                raise AlreadyExists(f"{index.name.replace('.', ' ')} {key!r} is taken")

    def _check_rules(self, old: StoredObject | None, new: StoredObject | None) -> None:
        error = broken_rule(self._tables, self._overlay, old, new)
        if error is not None:
            raise error

    def _require_feature(self, feature: str, rows: Rows[Any]) -> None:
        """A manager that lacks it would stop at the command."""
        if not feature:
            return
        cluster = self.cluster(unchecked=True)
        if cluster is None or feature not in cluster.feature_level:
            raise FailedPrecondition(
                f"not every manager knows yet what this says of a {_noun(rows)} ({feature})",
                hint="run one version of swarmd on all managers",
            )

    def _share(self, task: Task, status: TaskStatus) -> TaskStatus:
        """`status` in normal form, one object for all in a row that are given an equal one."""
        if status.state < task.status.state:
            raise FailedPrecondition(f"task {task.id} is {task.status.state.name} already, beyond {status.state.name}")
        if self._shared is None or (self._shared[0] is not status and self._shared[0] != status):
            self._shared = (status, normal(status)[0])
        return self._shared[1]

    def _put_whole(self, intent: Intent, rows: Rows[Any], base: int, object: StoredObject) -> None:
        object, size = normal(object)
        self._bytes += size
        self._overlay.put(object.id, PendingWrite(intent, rows, base, object))

    def _put_compact(self, intent: Intent, seen: Task, new: Task, *, node_id: str = "") -> Intent:
        """Write `new` compactly if this is the task's only kind of write, else as a whole. Returns what it became."""
        rows = self._tables.tasks
        before = self._overlay.writes.get((rows.tag, seen.id))
        if before is not None and (before.intent is not intent or before.node_id != node_id):
            intent = _CREATE if before.intent is _CREATE else _UPDATE
            self._put_whole(intent, rows, seen.meta.version, new)
        else:
            self._overlay.put(seen.id, PendingWrite(intent, rows, seen.meta.version, new, node_id))
        return intent


def _changes(overlay: Overlay) -> list[Change]:
    """The pending writes: whole objects in the order in which they were written, then the compact kinds."""
    changes: list[Change] = []
    compact: list[tuple[str, PendingWrite]] = []
    for (_, object_id), write in overlay.writes.items():
        new, intent = write.new, write.intent
        if new is None:
            changes.append(Remove(write.rows.table, object_id, write.base))
        elif intent is _CREATE:
            changes.append(Create(new))
        elif intent is _UPDATE:
            changes.append(Update(replace(new, meta=_NOT_STAMPED), write.base))
        else:
            compact.append((object_id, write))
    return changes + _compact_changes(compact) if compact else changes


def _compact_changes(writes: list[tuple[str, PendingWrite]]) -> list[Change]:
    """Those of tasks that share a status (or a reporter) become one change."""
    assigned: dict[int, tuple[TaskStatus, list[tuple[str, int, str]]]] = {}
    advanced: dict[int, tuple[TaskStatus, list[tuple[str, int]]]] = {}
    reported: dict[str, list[tuple[str, TaskStatus]]] = {}
    for task_id, write in writes:
        new = write.new
        assert isinstance(new, Task)
        status = new.status
        if write.intent is _ASSIGN:
            assigned.setdefault(id(status), (status, []))[1].append((task_id, write.base, new.node_id))
        elif write.intent is _ADVANCE:
            advanced.setdefault(id(status), (status, []))[1].append((task_id, write.base))
        else:
            reported.setdefault(write.node_id, []).append((task_id, status))
    return [
        *[Assign(tuple(items), status) for status, items in assigned.values()],
        *[Advance(tuple(items), status) for status, items in advanced.values()],
        *[Report(node_id, tuple(items)) for node_id, items in reported.items()],
    ]


def _noun(rows: Rows[Any]) -> str:
    return rows.table.name.lower().replace("_", " ")
