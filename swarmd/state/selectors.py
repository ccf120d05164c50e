"""Ways to find objects: `state.find(Task, BySlot(service_id, 3))`. `state.finding` says which table knows which way.

Names are found whatever their case; ids, groups, drivers and custom indices only as they are written.
"""

from __future__ import annotations

import msgspec

from swarmd.model import Membership, Role, TaskState


class By(msgspec.Struct, frozen=True, gc=False):
    """How to find objects."""


class All(By, frozen=True, gc=False):
    """Every object of the table."""


class ByIdPrefix(By, frozen=True, gc=False):
    """The id begins so; a whole id finds one object."""

    prefix: str


class ByName(By, frozen=True, gc=False):
    """A node's hostname, a task's own or computed name, any other object's name; whatever the case."""

    name: str


class ByNamePrefix(By, frozen=True, gc=False):
    """The name begins so, whatever the case."""

    prefix: str


class ByCustom(By, frozen=True, gc=False):
    """One of the object's `indices` is `index` with exactly this value."""

    index: str
    value: str


class ByCustomPrefix(By, frozen=True, gc=False):
    """One of the object's `indices` is `index` with a value that begins so."""

    index: str
    prefix: str


class ByRole(By, frozen=True, gc=False):
    """Nodes that are certified for a role now."""

    role: Role


class ByMembership(By, frozen=True, gc=False):
    """Nodes that were let in, or were not."""

    membership: Membership


class ByRuntime(By, frozen=True, gc=False):
    """Services and tasks run by this: `container` or `attachment`."""

    runtime: str


class ByReferencedNetwork(By, frozen=True, gc=False):
    """Services and tasks whose template names this network."""

    network_id: str


class ByReferencedSecret(By, frozen=True, gc=False):
    """Services and tasks whose template names this secret."""

    secret_id: str


class ByReferencedConfig(By, frozen=True, gc=False):
    """Services and tasks whose template names this config."""

    config_id: str


class ByPublishedPort(By, frozen=True, gc=False):
    """Services for which this port was set aside: `tcp/8080`, or `host:tcp/8080` (`keys.port_key`)."""

    key: str


class ByService(By, frozen=True, gc=False):
    """Tasks of a service."""

    service_id: str


class ByNode(By, frozen=True, gc=False):
    """Tasks of a node; "": tasks that have none."""

    node_id: str


class BySlot(By, frozen=True, gc=False):
    """Tasks of one slot of a service."""

    service_id: str
    slot: int


class ByDesiredState(By, frozen=True, gc=False):
    """Tasks that are wanted in a state."""

    state: TaskState


class ByTaskState(By, frozen=True, gc=False):
    """Tasks that were last seen in a state."""

    state: TaskState


class ByVolumeAttachment(By, frozen=True, gc=False):
    """Tasks that have got a volume."""

    volume_id: str


class ByKind(By, frozen=True, gc=False):
    """Resources of an extension, whatever the case."""

    kind: str


class ByVolumeGroup(By, frozen=True, gc=False):
    """Volumes of a group."""

    group: str


class ByDriver(By, frozen=True, gc=False):
    """Volumes that a driver made."""

    driver: str


class Or(By, frozen=True, gc=False):
    """What any of these finds, each object once. `Or(())` finds nothing."""

    selectors: tuple[By, ...]
