"""Cluster volumes: what users ask for, and what their driver made of it (the words are CSI's)."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from swarmd.model.common import Driver, IndexEntry, Meta
from swarmd.model.states import Availability


class AccessScope(IntEnum):
    """From how many nodes a volume is used at a time."""

    SINGLE_NODE = 0
    MULTI_NODE = 1


class AccessSharing(IntEnum):
    """How tasks share a volume."""

    NONE = 0
    READ_ONLY = 1
    ONE_WRITER = 2
    ALL = 3


class MountAccess(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    gc=False,
    tag_field="kind",
    tag="mount",
):
    """A file system."""

    fs_type: str = ""
    mount_flags: tuple[str, ...] = ()


class BlockAccess(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    gc=False,
    tag_field="kind",
    tag="block",
):
    """A raw device."""


class VolumeAccessMode(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """Who may use a volume at a time, and as what."""

    scope: AccessScope = AccessScope.SINGLE_NODE
    sharing: AccessSharing = AccessSharing.NONE
    access: MountAccess | BlockAccess | None = None


class Topology(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A part of the world, in the driver's own words."""

    segments: dict[str, str] = {}


class TopologyRequirement(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """From where a volume must be reachable, and from where it should be, best first."""

    requisite: tuple[Topology, ...] = ()
    preferred: tuple[Topology, ...] = ()


class CapacityRange(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """How large a volume is at least and at most; 0: not said."""

    required_bytes: int = 0
    limit_bytes: int = 0


class VolumeSecret(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What the driver calls a secret (`key`), and which of the swarm's secrets that is (`secret`: an id)."""

    key: str
    secret: str


class VolumeSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What a volume should be. Only labels and availability may change later."""

    name: str
    labels: dict[str, str] = {}
    indices: tuple[IndexEntry, ...] = ()
    group: str = ""
    driver: Driver | None = None
    access_mode: VolumeAccessMode | None = None
    secrets: tuple[VolumeSecret, ...] = ()
    accessibility_requirements: TopologyRequirement | None = None
    capacity_range: CapacityRange | None = None
    availability: Availability = Availability.ACTIVE


class PublishState(IntEnum):
    """How far a volume is on its way to a node, or from it."""

    PENDING_PUBLISH = 0
    PUBLISHED = 1
    PENDING_NODE_UNPUBLISH = 2
    PENDING_UNPUBLISH = 3


class VolumePublishStatus(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """A volume on one node."""

    node_id: str
    state: PublishState = PublishState.PENDING_PUBLISH
    publish_context: dict[str, str] = {}
    message: str = ""


class VolumeInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What the driver said when it made the volume. `volume_id` is the driver's."""

    capacity_bytes: int = 0
    volume_context: dict[str, str] = {}
    volume_id: str = ""
    accessible_topology: tuple[Topology, ...] = ()


class Volume(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A cluster volume. `pending_delete` is irrevocable: the record goes once the driver has cleaned up."""

    id: str
    meta: Meta = Meta()
    spec: VolumeSpec
    publish_status: tuple[VolumePublishStatus, ...] = ()
    volume_info: VolumeInfo | None = None
    pending_delete: bool = False
