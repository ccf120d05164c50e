"""Tables and their indexes: `dict id -> frozen Struct`, and per index `dict key -> dict id -> None`.

Dicts of strings to `gc=False` structs or to None stay untracked by the collector, which sets never do
(performance-scheduler 2). Must not know commands or who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, TypeVar

from swarmd.errors import Invalid
from swarmd.model import Availability, Cluster, Membership, Node, NodeState, RemovedNode, Service, StoredObject, Task
from swarmd.state.command import Claim, Table

O = TypeVar("O", bound=StoredObject)  # noqa: E741

SERVICE_NAME: Final = "service.name"
NODE_HOSTNAME: Final = "node.hostname"
NODE_SCHEDULABLE: Final = "node.schedulable"
TASK_SERVICE: Final = "task.service"
TASK_NODE: Final = "task.node"
TASK_SLOT: Final = "task.slot"
CLUSTER_ONLY: Final = "cluster.only"
CLUSTER_KEY: Final = "cluster"
"""The one key of `cluster.only`, so that there is one cluster object at most."""

_ASCII_LOWER: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def fold(name: str) -> str:
    """`name` for case-insensitive matching. ASCII only: Unicode's tables differ between Python versions, and replicas
    must agree."""
    return name.lower() if name.isascii() else name.translate(_ASCII_LOWER)


def slot_key(service_id: str, slot: int) -> str:
    """Key of the index `task.slot`."""
    return f"{service_id}.{slot}"


def is_schedulable(node: Node | None) -> bool:
    """Whether `node` takes new tasks: accepted, ACTIVE, READY, and seen by the present leader."""
    return (
        node is not None
        and node.status.state is NodeState.READY
        and node.status.confirmed
        and node.spec.availability is Availability.ACTIVE
        and node.spec.membership is Membership.ACCEPTED
    )


class Index(Generic[O]):
    """Which objects hold which key, in the order in which they came to hold it.

    Args:
        name: as it stands in claims.
        key_of: the object's key; "" means none.
        is_unique: at most one holder a key.
        is_versioned: claimed by the entry that last changed the key's set, because the set may be large.
    """

    __slots__ = ("changed_at", "holders", "is_unique", "is_versioned", "key_of", "name")

    def __init__(
        self,
        name: str,
        key_of: Callable[[O], str],
        *,
        is_unique: bool = False,
        is_versioned: bool = False,
    ) -> None:
        self.name = name
        self.key_of = key_of
        self.is_unique = is_unique
        self.is_versioned = is_versioned
        self.holders: dict[str, dict[str, None]] = {}
        self.changed_at: dict[str, int] = {}
        """Versioned only: key -> entry that last changed the set. A set that empties is forgotten."""

    def ids(self, key: str) -> tuple[str, ...]:
        """Who holds `key`."""
        return tuple(self.holders.get(key, ()))

    def hold(self, key: str, id: str, at_index: int) -> None:
        """`id` now holds `key`."""
        if key:
            held = self.holders.get(key)
            if held is None:
                self.holders[key] = {id: None}
            else:
                held[id] = None
            if self.is_versioned:
                self.changed_at[key] = at_index

    def drop(self, key: str, id: str, at_index: int) -> None:
        """`id` no longer holds `key`."""
        if not key:
            return
        held = self.holders[key]
        del held[id]
        if not held:
            del self.holders[key]
            self.changed_at.pop(key, None)
        elif self.is_versioned:
            self.changed_at[key] = at_index

    def claim(self, key: str) -> Claim:
        """What a transaction that looked at `key` relies on."""
        if self.is_versioned and key in self.changed_at:
            return Claim(self.name, key, version=self.changed_at[key])
        return Claim(self.name, key, self.ids(key))

    def upholds(self, claim: Claim) -> bool:
        """Whether `claim` is true now."""
        if claim.version:
            return self.changed_at.get(claim.key) == claim.version
        held = self.holders.get(claim.key)
        if held is None:
            return not claim.holders
        return held.keys() == frozenset(claim.holders)


class SchedulableNodes:
    """The index `node.schedulable`, computed: a node that takes new tasks holds its own id.

    It says nothing of the node's version, so heartbeats, descriptions and labels conflict with no assignment.
    """

    name = NODE_SCHEDULABLE

    def __init__(self, nodes: dict[str, Node]) -> None:
        self._nodes = nodes

    def claim(self, key: str) -> Claim:
        """What a transaction that asked for `key` relies on."""
        return Claim(self.name, key, (key,) if is_schedulable(self._nodes.get(key)) else ())

    def upholds(self, claim: Claim) -> bool:
        """Whether `claim` is true now."""
        return bool(claim.holders) == is_schedulable(self._nodes.get(claim.key))


class Rows(Generic[O]):
    """One table.

    Args:
        is_same: whether two versions of an object surely have the same key in every index.
    """

    __slots__ = ("indexes", "is_same", "objects", "table", "tag", "unique")

    def __init__(self, table: Table, is_same: Callable[[O, O], bool], *indexes: Index[O]) -> None:
        self.table = table
        self.tag = int(table)
        self.objects: dict[str, O] = {}
        """In order of creation."""
        self.is_same = is_same
        self.indexes = indexes
        self.unique = tuple([index for index in indexes if index.is_unique])

    def write(self, id: str, old: O | None, new: O | None, at_index: int) -> None:
        """Replace `old` (None: it is not there) by `new` (None: remove it), touching only the keys that differ."""
        if new is None:
            assert old is not None
            del self.objects[id]
            for index in self.indexes:
                index.drop(index.key_of(old), id, at_index)
            return
        self.objects[id] = new
        if old is None:
            for index in self.indexes:
                if key := index.key_of(new):
                    index.hold(key, id, at_index)
        elif not self.is_same(old, new):
            for index in self.indexes:
                before, after = index.key_of(old), index.key_of(new)
                if before != after:
                    index.drop(before, id, at_index)
                    index.hold(after, id, at_index)


class Tables:
    """All tables as they are after the entry `index`."""

    def __init__(self) -> None:
        self.index = 0
        self.service_names = Index[Service](SERVICE_NAME, lambda s: fold(s.spec.name), is_unique=True)
        self.hostnames = Index[Node](NODE_HOSTNAME, lambda n: fold(n.description.hostname))
        self.only_cluster = Index[Cluster](CLUSTER_ONLY, lambda _: CLUSTER_KEY, is_unique=True)
        self.tasks_by_service = Index[Task](TASK_SERVICE, lambda t: t.service_id, is_versioned=True)
        self.tasks_by_node = Index[Task](TASK_NODE, lambda t: t.node_id, is_versioned=True)
        self.tasks_by_slot = Index[Task](TASK_SLOT, lambda t: f"{t.service_id}.{t.slot}" if t.service_id else "")
        self.nodes = Rows[Node](
            Table.NODE, lambda a, b: a.description.hostname == b.description.hostname, self.hostnames
        )
        self.services = Rows[Service](Table.SERVICE, lambda a, b: a.spec.name == b.spec.name, self.service_names)
        self.tasks = Rows[Task](
            Table.TASK,
            lambda a, b: a.node_id == b.node_id and a.service_id == b.service_id and a.slot == b.slot,
            self.tasks_by_service,
            self.tasks_by_node,
            self.tasks_by_slot,
        )
        self.clusters = Rows[Cluster](Table.CLUSTER, lambda _a, _b: True, self.only_cluster)
        self.removed_nodes = Rows[RemovedNode](Table.REMOVED_NODE, lambda _a, _b: True)
        self.schedulable_nodes = SchedulableNodes(self.nodes.objects)
        self.by_table: dict[Table, Rows[Any]] = {
            rows.table: rows for rows in (self.nodes, self.services, self.tasks, self.clusters, self.removed_nodes)
        }
        self.by_type: dict[type, Rows[Any]] = {
            Node: self.nodes,
            Service: self.services,
            Task: self.tasks,
            Cluster: self.clusters,
            RemovedNode: self.removed_nodes,
        }
        self._claimable: dict[str, Index[Any] | SchedulableNodes] = {
            NODE_SCHEDULABLE: self.schedulable_nodes,
            **{index.name: index for index in self.indexes()},
        }

    def indexes(self) -> Iterator[Index[Any]]:
        """Every stored index."""
        for rows in self.by_table.values():
            yield from rows.indexes

    def claimable(self, name: str) -> Index[Any] | SchedulableNodes:
        """The index that a claim names. Raises `Invalid` if this version has none of that name."""
        index = self._claimable.get(name)
        if index is None:
            raise Invalid(f"a command claims something of index {name!r}, which is unknown to this program")
        return index
