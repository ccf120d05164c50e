"""Tables: `dict id -> frozen Struct` with their indexes. Must not know who asks.

Dicts of strings to `gc=False` structs stay untracked by the collector (performance-scheduler 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, TypeVar

from swarmd.errors import Invalid
from swarmd.model import (
    Cluster,
    Config,
    Extension,
    Network,
    Node,
    RemovedNode,
    Resource,
    Secret,
    Service,
    StoredObject,
    Task,
    Volume,
)
from swarmd.state.command import TABLE_OF_TYPE, Table
from swarmd.state.indexes import AnyIndex, Index, ManyIndex, SchedulableNodes
from swarmd.state.keys import (
    configs_of,
    custom_keys,
    fold,
    is_special_service,
    is_special_task,
    name_of,
    networks_of,
    own_names_of,
    ports_of,
    request_key,
    secrets_of,
    slot_key,
    volumes_of,
)

O = TypeVar("O", bound=StoredObject)  # noqa: E741

CLUSTER_KEY: Final = "cluster"
"""The one key of `cluster.only`, so that there is one cluster object at most."""

EVERY: Final = "every"
"""The one key of `network.every`: who chooses a subnet relies on knowing all others."""


class Rows(Generic[O]):
    """One table.

    Args:
        is_same: whether two versions of an object surely have the same keys in every index.
        indexes: of one key an object.
        many: indexes of any number of keys an object.
        is_special: whether an object may have a key in any of `many`.
        is_same_in_many: whether two versions surely have the same keys in all of `many`.
    """

    __slots__ = ("indexes", "is_same", "is_same_in_many", "is_special", "many", "objects", "table", "tag", "unique")

    def __init__(
        self,
        table: Table,
        is_same: Callable[[O, O], bool],
        *indexes: Index[O],
        many: tuple[ManyIndex[O], ...] = (),
        is_special: Callable[[O], bool] = lambda _: True,
        is_same_in_many: Callable[[O, O], bool] = lambda _a, _b: False,
    ) -> None:
        self.table = table
        self.tag = int(table)
        self.objects: dict[str, O] = {}
        """In order of creation."""
        self.is_same = is_same
        self.indexes = indexes
        self.many = many
        self.is_special = is_special
        self.is_same_in_many = is_same_in_many
        self.unique = tuple([index for index in indexes if index.is_unique])

    def write(self, id: str, old: O | None, new: O | None, at_index: int) -> None:
        """Replace `old` (None: it is not there) by `new` (None: remove it), touching only the keys that differ."""
        if new is None:
            assert old is not None
            del self.objects[id]
            for index in self.indexes:
                index.drop(index.key_of(old), id, at_index)
            self._write_many(id, old, None, at_index)
            return
        self.objects[id] = new
        if old is None:
            for index in self.indexes:
                if key := index.key_of(new):
                    index.hold(key, id, at_index)
            if self.many and self.is_special(new):
                for many in self.many:
                    many.replace(id, None, new, at_index)
        elif not self.is_same(old, new):
            for index in self.indexes:
                before, after = index.key_of(old), index.key_of(new)
                if before != after:
                    index.drop(before, id, at_index)
                    index.hold(after, id, at_index)
            if not self.is_same_in_many(old, new):
                self._write_many(id, old, new, at_index)

    def _write_many(self, id: str, old: O | None, new: O | None, at_index: int) -> None:
        if (old is not None and self.is_special(old)) or (new is not None and self.is_special(new)):
            for index in self.many:
                index.replace(id, old, new, at_index)


class Tables:
    """All tables as they are after the entry `index`."""

    def __init__(self) -> None:
        self.index = 0
        self.service_names = Index[Service]("service.name", lambda s: fold(s.spec.name), is_unique=True)
        self.hostnames = Index[Node]("node.hostname", lambda n: fold(n.description.hostname))
        self.nodes_by_request = Index[Node]("node.request", lambda n: request_key(n.certificate.csr))
        self.only_cluster = Index[Cluster]("cluster.only", lambda _: CLUSTER_KEY, is_unique=True)
        self.tasks_by_service = Index[Task]("task.service", lambda t: t.service_id, is_versioned=True)
        self.tasks_by_node = Index[Task]("task.node", lambda t: t.node_id, is_versioned=True)
        self.tasks_by_slot = Index[Task](
            "task.slot", lambda t: slot_key(t.service_id, t.slot, t.node_id) if t.service_id else ""
        )
        self.tasks_by_own_name = ManyIndex[Task]("task.own_name", own_names_of)
        self.tasks_by_network = ManyIndex[Task]("task.network", lambda t: networks_of(t.spec))
        self.tasks_by_secret = ManyIndex[Task]("task.secret", lambda t: secrets_of(t.spec))
        self.tasks_by_config = ManyIndex[Task]("task.config", lambda t: configs_of(t.spec))
        self.tasks_by_volume = ManyIndex[Task]("task.volume", volumes_of)
        self.services_by_network = ManyIndex[Service]("service.network", lambda s: networks_of(s.spec.task))
        self.services_by_secret = ManyIndex[Service]("service.secret", lambda s: secrets_of(s.spec.task))
        self.services_by_config = ManyIndex[Service]("service.config", lambda s: configs_of(s.spec.task))
        self.services_by_port = ManyIndex[Service]("service.port", ports_of)
        self.all_networks = Index[Network]("network.every", lambda _: EVERY)
        self.extension_names = Index[Extension]("extension.name", lambda e: fold(e.annotations.name), is_unique=True)
        self.resources_by_kind = Index[Resource]("resource.kind", lambda r: fold(r.kind), is_versioned=True)
        self.volumes_by_group = Index[Volume]("volume.group", lambda v: v.spec.group, is_versioned=True)
        self.volumes_by_driver = Index[Volume](
            "volume.driver", lambda v: v.spec.driver.name if v.spec.driver is not None else "", is_versioned=True
        )
        self.nodes = Rows[Node](
            Table.NODE,
            lambda a, b: (
                a.description.hostname == b.description.hostname
                and a.spec.indices is b.spec.indices
                and a.certificate is b.certificate
            ),
            self.hostnames,
            self.nodes_by_request,
            many=(_custom(Node),),
            is_special=lambda node: bool(node.spec.indices),
        )
        self.services = Rows[Service](
            Table.SERVICE,
            lambda a, b: a.spec is b.spec and a.endpoint is b.endpoint,
            self.service_names,
            many=(
                self.services_by_network,
                self.services_by_secret,
                self.services_by_config,
                self.services_by_port,
                _custom(Service),
            ),
            is_special=is_special_service,
        )
        self.tasks = Rows[Task](
            Table.TASK,
            _is_same_task,
            self.tasks_by_service,
            self.tasks_by_node,
            self.tasks_by_slot,
            many=(
                self.tasks_by_own_name,
                self.tasks_by_network,
                self.tasks_by_secret,
                self.tasks_by_config,
                self.tasks_by_volume,
                _custom(Task),
            ),
            is_special=is_special_task,
            is_same_in_many=lambda a, b: a.spec is b.spec and a.volumes is b.volumes and a.annotations is b.annotations,
        )
        self.clusters = Rows[Cluster](
            Table.CLUSTER, lambda a, b: a.spec is b.spec, self.only_cluster, many=(_custom(Cluster),)
        )
        self.networks = _named(Network, self.all_networks)
        self.secrets = _named(Secret)
        self.configs = _named(Config)
        self.volumes = _named(Volume, self.volumes_by_group, self.volumes_by_driver)
        self.resources = _named(Resource, self.resources_by_kind)
        self.extensions = Rows[Extension](
            Table.EXTENSION, lambda _a, _b: False, self.extension_names, many=(_custom(Extension),)
        )
        self.removed_nodes = Rows[RemovedNode](Table.REMOVED_NODE, lambda _a, _b: True)
        self.schedulable_nodes = SchedulableNodes(self.nodes.objects)
        self.by_type: dict[type, Rows[Any]] = {
            Node: self.nodes,
            Service: self.services,
            Task: self.tasks,
            Network: self.networks,
            Cluster: self.clusters,
            Secret: self.secrets,
            Resource: self.resources,
            Extension: self.extensions,
            Config: self.configs,
            Volume: self.volumes,
            RemovedNode: self.removed_nodes,
        }
        self.by_table: dict[Table, Rows[Any]] = {rows.table: rows for rows in self.by_type.values()}
        self._claimable: dict[str, AnyIndex[Any] | SchedulableNodes] = {
            SchedulableNodes.name: self.schedulable_nodes,
            **{index.name: index for index in self.indexes()},
        }

    def rows_of(self, type_: type[O]) -> Rows[O]:
        """The table that holds such objects. Raises `Invalid` if none does."""
        rows = self.by_type.get(type_)
        if rows is None:
            raise Invalid(f"a {type_.__name__} is nothing that the swarm stores")
        return rows

    def indexes(self) -> Iterator[AnyIndex[Any]]:
        """Every stored index."""
        for rows in self.by_table.values():
            yield from rows.indexes
            yield from rows.many

    def claimable(self, name: str) -> AnyIndex[Any] | SchedulableNodes:
        """The index that a claim names. Raises `Invalid` if this version has none of that name."""
        index = self._claimable.get(name)
        if index is None:
            raise Invalid(f"a command claims something of index {name!r}, which is unknown to this program")
        return index


def _is_same_task(a: Task, b: Task) -> bool:
    # Equal specs are one object mostly, and tuples and annotations that were not set always are.
    return (
        a.node_id == b.node_id
        and a.spec is b.spec
        and a.slot == b.slot
        and a.service_id == b.service_id
        and a.volumes is b.volumes
        and a.annotations is b.annotations
    )


def _named(type_: type[O], *indexes: Index[O]) -> Rows[O]:
    """A table of objects that have a name of their own; they are few, or seldom written."""
    table = _table_of(type_)
    names = Index[O](f"{_label(table)}.name", lambda object: fold(name_of(object)), is_unique=True)
    return Rows[O](table, lambda _a, _b: False, names, *indexes, many=(_custom(type_),))


def _custom(type_: type[O]) -> ManyIndex[O]:
    return ManyIndex[O](f"{_label(_table_of(type_))}.custom", custom_keys)


def _table_of(type_: type[Any]) -> Table:
    return TABLE_OF_TYPE[type_]


def _label(table: Table) -> str:
    return table.name.lower()
