"""The kinds of object, each with its table: numbers are stored and sent."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

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


class Table(IntEnum):
    """The kinds of object (SwarmKit's StoreAction tags where it has them). Numbers are never used again."""

    NODE = 2
    SERVICE = 3
    TASK = 4
    NETWORK = 5
    CLUSTER = 6
    SECRET = 7
    RESOURCE = 8
    EXTENSION = 9
    CONFIG = 10
    VOLUME = 11
    REMOVED_NODE = 12


TYPE_OF_TABLE: Final[dict[Table, type[StoredObject]]] = {
    Table.NODE: Node,
    Table.SERVICE: Service,
    Table.TASK: Task,
    Table.NETWORK: Network,
    Table.CLUSTER: Cluster,
    Table.SECRET: Secret,
    Table.RESOURCE: Resource,
    Table.EXTENSION: Extension,
    Table.CONFIG: Config,
    Table.VOLUME: Volume,
    Table.REMOVED_NODE: RemovedNode,
}
TABLE_OF_TYPE: Final[dict[type[StoredObject], Table]] = {type_: table for table, type_ in TYPE_OF_TABLE.items()}
WITHOUT_BYTES: Final = frozenset({Task, Service, Network, Extension, Volume, RemovedNode})
"""What holds no byte strings needs no care for them."""
