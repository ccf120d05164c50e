"""How a selector is answered on a table: `LOOK_UPS` says which table knows which way.

By an index where one is kept, by the part of an index or of a name that narrows the search, or by looking at each
object. The answer is the same; DESIGN.md says which is which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar

import msgspec

from swarmd.errors import Invalid
from swarmd.model import ID_LENGTH, Node, Service, StoredObject, Task
from swarmd.state.command import Table
from swarmd.state.indexes import AnyIndex
from swarmd.state.keys import custom_key, custom_keys, fold, name_of, runtime_of, slot_key
from swarmd.state.selectors import (
    All,
    By,
    ByCustom,
    ByCustomPrefix,
    ByDesiredState,
    ByDriver,
    ByIdPrefix,
    ByKind,
    ByMembership,
    ByName,
    ByNamePrefix,
    ByNode,
    ByPublishedPort,
    ByReferencedConfig,
    ByReferencedNetwork,
    ByReferencedSecret,
    ByRole,
    ByRuntime,
    ByService,
    BySlot,
    ByTaskState,
    ByVolumeAttachment,
    ByVolumeGroup,
    Or,
)
from swarmd.state.tables import Rows, Tables

O = TypeVar("O", bound=StoredObject)  # noqa: E741


class LookUp(msgspec.Struct, Generic[O], frozen=True, gc=False):
    """One selector on one table: what it means, and what shortens the way there.

    `matches` alone defines the answer. `index` and `key`: exactly the holders of that key match, and a transaction can
    claim it. `candidates`: ids among which all matching ones are, as the tables are now.
    """

    matches: Callable[[O], bool]
    index: AnyIndex[O] | None = None
    key: str = ""
    candidates: Callable[[], Iterable[str]] | None = None


def look_ups(tables: Tables, rows: Rows[O], by: By) -> tuple[LookUp[O], ...]:
    """What `by` comes to on this table, alternatives side by side. Raises `Invalid` if the table is not searched so."""
    if isinstance(by, Or):
        return tuple([look_up for part in by.selectors for look_up in look_ups(tables, rows, part)])
    make = LOOK_UPS[rows.table].get(type(by))
    if make is None:
        noun, way = rows.table.name.lower().replace("_", " "), type(by).__name__
        raise Invalid(f"a {noun} is not found by {way}", hint=f"but by {_ways(rows.table)}")
    return (make(tables, rows, by),)


def find(tables: Tables, type_: type[O], by: By) -> tuple[O, ...]:
    """What `by` finds, each object once, in no promised order. Raises `Invalid` if the table is not searched so."""
    rows = tables.rows_of(type_)
    looks = look_ups(tables, rows, by)
    if len(looks) == 1:
        return tuple(_found(rows, looks[0]))
    return tuple({object.id: object for look_up in looks for object in _found(rows, look_up)}.values())


def _found(rows: Rows[O], look_up: LookUp[O]) -> list[O]:
    objects, matches = rows.objects, look_up.matches
    if look_up.index is not None:
        return [objects[id] for id in look_up.index.holders.get(look_up.key, ())]
    if look_up.candidates is None:
        return [object for object in objects.values() if matches(object)]
    candidates = dict.fromkeys(look_up.candidates())
    return [object for id in candidates if (object := objects.get(id)) is not None and matches(object)]


# -- ways that several tables know -------------------------------------------------------------------------------------
def _all(tables: Tables, rows: Rows[Any], by: All) -> LookUp[Any]:
    return LookUp(lambda _: True)


def _id_prefix(tables: Tables, rows: Rows[Any], by: ByIdPrefix) -> LookUp[Any]:
    prefix = by.prefix
    whole = (lambda: (prefix,)) if len(prefix) == ID_LENGTH else None
    return LookUp(lambda object: object.id.startswith(prefix), candidates=whole)


def _name(tables: Tables, rows: Rows[Any], by: ByName) -> LookUp[Any]:
    """By the table's index of names, which is its first."""
    key, index = fold(by.name), rows.indexes[0]
    return LookUp(lambda object: fold(name_of(object)) == key, index, key) if key else _nothing()


def _name_prefix(tables: Tables, rows: Rows[Any], by: ByNamePrefix) -> LookUp[Any]:
    prefix, index = fold(by.prefix), rows.indexes[0]
    within = (lambda: index.ids_by_prefix(prefix)) if prefix else None
    return LookUp(lambda object: fold(name_of(object)).startswith(prefix), candidates=within)


def _custom(tables: Tables, rows: Rows[Any], by: ByCustom) -> LookUp[Any]:
    key = custom_key(by.index, by.value)
    return LookUp(lambda object: key in custom_keys(object), rows.many[-1], key)


def _custom_prefix(tables: Tables, rows: Rows[Any], by: ByCustomPrefix) -> LookUp[Any]:
    prefix, index = custom_key(by.index, by.prefix), rows.many[-1]
    return LookUp(
        lambda object: any(key.startswith(prefix) for key in custom_keys(object)),
        candidates=lambda: index.ids_by_prefix(prefix),
    )


def _held(index_of: Callable[[Tables], AnyIndex[Any]], key_of: Callable[[Any], str]) -> _Make:
    """A way that is exactly one key of an index."""

    def make(tables: Tables, rows: Rows[Any], by: By) -> LookUp[Any]:
        index, key = index_of(tables), key_of(by)
        return LookUp(lambda object: index.has(object, key), index, key) if key else _nothing()

    return make


def _nothing() -> LookUp[Any]:
    """ "" is nobody's key."""
    return LookUp(lambda _: False, candidates=tuple)


# -- ways of one table -------------------------------------------------------------------------------------------------
def _cluster_name(tables: Tables, rows: Rows[Any], by: ByName) -> LookUp[Any]:
    key = fold(by.name)
    return LookUp(lambda cluster: fold(cluster.spec.name) == key)


def _cluster_name_prefix(tables: Tables, rows: Rows[Any], by: ByNamePrefix) -> LookUp[Any]:
    prefix = fold(by.prefix)
    return LookUp(lambda cluster: fold(cluster.spec.name).startswith(prefix))


def _role(tables: Tables, rows: Rows[Node], by: ByRole) -> LookUp[Node]:
    role = by.role
    return LookUp(lambda node: node.role is role)


def _membership(tables: Tables, rows: Rows[Node], by: ByMembership) -> LookUp[Node]:
    membership = by.membership
    return LookUp(lambda node: node.spec.membership is membership)


def _service_runtime(tables: Tables, rows: Rows[Service], by: ByRuntime) -> LookUp[Service]:
    return LookUp(lambda service: runtime_of(service.spec.task) == by.runtime)


def _task_runtime(tables: Tables, rows: Rows[Task], by: ByRuntime) -> LookUp[Task]:
    return LookUp(lambda task: runtime_of(task.spec) == by.runtime)


def _task_name(tables: Tables, rows: Rows[Task], by: ByName) -> LookUp[Task]:
    """A computed name ends with the task's id; a name of its own is in an index."""
    key = fold(by.name)
    own = tables.tasks_by_own_name
    return LookUp(
        lambda task: fold(task.name) == key,
        candidates=lambda: (by.name.rpartition(".")[2], key.rpartition(".")[2], *own.ids(key)),
    )


def _task_name_prefix(tables: Tables, rows: Rows[Task], by: ByNamePrefix) -> LookUp[Task]:
    """Names are taken apart once for each service, rather than put together for each task."""
    prefix = fold(by.prefix)
    rest_after: dict[str, tuple[str, str, str] | None] = {}

    def matches(task: Task) -> bool:
        if task.annotations.name:
            return fold(task.annotations.name).startswith(prefix)
        service_name = task.service_name
        if service_name not in rest_after:
            rest_after[service_name] = _rest_of_prefix(prefix, fold(service_name))
        rest = rest_after[service_name]
        if rest is None:
            return False
        slot, dot, id_prefix = rest
        if dot:
            return str(task.slot or fold(task.node_id)) == slot and fold(task.id).startswith(id_prefix)
        return not slot or str(task.slot or fold(task.node_id)).startswith(slot)

    return LookUp(matches)


def _rest_of_prefix(prefix: str, service_name: str) -> tuple[str, str, str] | None:
    """What must follow a service's name: the slot (or node), a dot if that is whole, and the beginning of an id."""
    if service_name.startswith(prefix):
        return ("", "", "")
    if not prefix.startswith(f"{service_name}."):
        return None
    slot, dot, id_prefix = prefix[len(service_name) + 1 :].partition(".")
    return (slot, dot, id_prefix)


def _slot(tables: Tables, rows: Rows[Task], by: BySlot) -> LookUp[Task]:
    """Slot 0 stands for those of all nodes: each has a key of its own."""
    service_id, slot = by.service_id, by.slot
    if not service_id:
        return _nothing()

    def matches(task: Task) -> bool:
        return task.service_id == service_id and task.slot == slot

    if slot:
        return LookUp(matches, tables.tasks_by_slot, slot_key(service_id, slot))
    return LookUp(matches, candidates=lambda: tables.tasks_by_service.ids(service_id))


def _node_of_task(tables: Tables, rows: Rows[Task], by: ByNode) -> LookUp[Task]:
    if by.node_id:
        return LookUp(lambda task: task.node_id == by.node_id, tables.tasks_by_node, by.node_id)
    return LookUp(lambda task: not task.node_id)


def _desired_state(tables: Tables, rows: Rows[Task], by: ByDesiredState) -> LookUp[Task]:
    state = by.state
    return LookUp(lambda task: task.desired_state is state)


def _task_state(tables: Tables, rows: Rows[Task], by: ByTaskState) -> LookUp[Task]:
    state = by.state
    return LookUp(lambda task: task.status.state is state)


_Make = Callable[[Tables, Rows[Any], Any], LookUp[Any]]
_CUSTOM: Final[dict[type[By], _Make]] = {ByCustom: _custom, ByCustomPrefix: _custom_prefix}
_NAMED: Final[dict[type[By], _Make]] = {
    All: _all,
    ByIdPrefix: _id_prefix,
    ByName: _name,
    ByNamePrefix: _name_prefix,
    **_CUSTOM,
}
LOOK_UPS: Final[dict[Table, dict[type[By], _Make]]] = {
    Table.NODE: {**_NAMED, ByRole: _role, ByMembership: _membership},
    Table.SERVICE: {
        **_NAMED,
        ByRuntime: _service_runtime,
        ByReferencedNetwork: _held(lambda tables: tables.services_by_network, lambda by: by.network_id),
        ByReferencedSecret: _held(lambda tables: tables.services_by_secret, lambda by: by.secret_id),
        ByReferencedConfig: _held(lambda tables: tables.services_by_config, lambda by: by.config_id),
        ByPublishedPort: _held(lambda tables: tables.services_by_port, lambda by: by.key),
    },
    Table.TASK: {
        **_NAMED,
        ByName: _task_name,
        ByNamePrefix: _task_name_prefix,
        ByRuntime: _task_runtime,
        ByService: _held(lambda tables: tables.tasks_by_service, lambda by: by.service_id),
        ByNode: _node_of_task,
        BySlot: _slot,
        ByDesiredState: _desired_state,
        ByTaskState: _task_state,
        ByReferencedNetwork: _held(lambda tables: tables.tasks_by_network, lambda by: by.network_id),
        ByReferencedSecret: _held(lambda tables: tables.tasks_by_secret, lambda by: by.secret_id),
        ByReferencedConfig: _held(lambda tables: tables.tasks_by_config, lambda by: by.config_id),
        ByVolumeAttachment: _held(lambda tables: tables.tasks_by_volume, lambda by: by.volume_id),
    },
    Table.NETWORK: _NAMED,
    Table.CLUSTER: {**_NAMED, ByName: _cluster_name, ByNamePrefix: _cluster_name_prefix},
    Table.SECRET: _NAMED,
    Table.RESOURCE: {**_NAMED, ByKind: _held(lambda tables: tables.resources_by_kind, lambda by: fold(by.kind))},
    Table.EXTENSION: _NAMED,
    Table.CONFIG: _NAMED,
    Table.VOLUME: {
        **_NAMED,
        ByVolumeGroup: _held(lambda tables: tables.volumes_by_group, lambda by: by.group),
        ByDriver: _held(lambda tables: tables.volumes_by_driver, lambda by: by.driver),
    },
    Table.REMOVED_NODE: {All: _all, ByIdPrefix: _id_prefix},
}


def _ways(table: Table) -> str:
    ways: list[type[By]] = [*LOOK_UPS[table], Or]
    return ", ".join(way.__name__ for way in ways)
