"""Objects: what the swarm stores. Specs belong to users; everything else here is written by the system.

`meta.version` is the Raft index of the entry that wrote the object, set when the entry is applied.
Instants are epoch seconds (`*_at`).
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from swarmd.model.common import NO_ANNOTATIONS, Annotations, Driver, Meta
from swarmd.model.endpoints import Endpoint, NetworkAttachment
from swarmd.model.extensions import Extension, Resource
from swarmd.model.modes import JobStatus, Rebalancing, UpdateStatus
from swarmd.model.networks import Network
from swarmd.model.payloads import Config, Secret
from swarmd.model.placement import GenericResource, PlacementFailure, Platform, Plugin
from swarmd.model.references import VolumeAttachment
from swarmd.model.specs import ClusterSpec, NodeSpec, ServiceSpec, TaskSpec
from swarmd.model.states import NodeState, Role, TaskState
from swarmd.model.volumes import Volume


class Resources(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What a node has."""

    nano_cpus: int = 0
    memory_bytes: int = 0
    generic: tuple[GenericResource, ...] = ()


class NodeDescription(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """What a node says of itself at each registration."""

    hostname: str = ""
    platform: Platform = Platform()
    resources: Resources = Resources()
    engine_version: str = ""
    engine_labels: dict[str, str] = {}
    features: tuple[str, ...] = ()
    """Names of the features the node's software has (foundations: Version skew)."""
    engine_error: str = ""
    """Why the executor takes no tasks, if it does not."""
    plugins: tuple[Plugin, ...] = ()
    """What the engine can do beyond itself, if it says."""


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What the dispatcher knows of a node. `confirmed` is false between a leader change and its next session:
    it keeps its state, but nothing new is placed on it."""

    state: NodeState = NodeState.UNKNOWN
    message: str = ""
    addr: str = ""
    confirmed: bool = False
    certificate: str = ""
    """The fingerprint of the certificate that the leader saw at the last registration."""
    issuer: str = ""
    """The fingerprint of the root that signed it, as the leader verified it; filled in while the root is rotated."""


class IssuanceState(IntEnum):
    """Where a node's certificate request stands (SwarmKit `api/types.proto`)."""

    UNKNOWN = 0
    RENEW = 1
    PENDING = 2
    ISSUED = 3
    FAILED = 4
    ROTATE = 5


class EarlierCertificate(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """A certificate that was replaced and has not expired. It counts until its successor was seen in use."""

    fingerprint: str
    expires_at: float
    is_revoked: bool = False
    role: Role = Role.WORKER


class NodeCertificate(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """A node's request and the certificate made for it (PEM)."""

    role: Role = Role.WORKER
    csr: bytes = b""
    state: IssuanceState = IssuanceState.UNKNOWN
    error: str = ""
    certificate: bytes = b""
    """The leaf, and after it the cross-signed root while the root is rotated."""
    expires_at: float = 0.0
    fingerprint: str = ""
    """SHA-256 of the leaf's DER, 64 hex digits."""
    earlier: tuple[EarlierCertificate, ...] = ()


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A machine. `spec.desired_role` is what the operator wants, `role` what the CA certifies now."""

    id: str
    meta: Meta = Meta()
    spec: NodeSpec = NodeSpec()
    role: Role = Role.WORKER
    description: NodeDescription = NodeDescription()
    status: NodeStatus = NodeStatus()
    certificate: NodeCertificate = NodeCertificate()
    attachments: tuple[NetworkAttachment, ...] = ()
    """The node's own address in each network that its tasks are in."""


class Service(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A service. `spec_version` changes with the spec alone, so `--version` conflicts with no status traffic."""

    id: str
    meta: Meta = Meta()
    spec: ServiceSpec
    spec_version: int = 0
    previous_spec: ServiceSpec | None = None
    previous_spec_version: int = 0
    update_status: UpdateStatus | None = None
    job_status: JobStatus | None = None
    endpoint: Endpoint | None = None
    rebalancing: Rebalancing | None = None


class ContainerStatus(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """What runs a task on its node."""

    container_id: str = ""
    pid: int = 0
    exit_code: int | None = None


class TaskStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What was last observed of a task. `state` never decreases. `at` is when it was observed, `running_at`
    when the task was first seen RUNNING or 0, both by the observer's clock."""

    state: TaskState = TaskState.NEW
    at: float = 0.0
    message: str = ""
    err: str = ""
    container: ContainerStatus | None = None
    applied_by: str = ""
    applied_at: float = 0.0
    running_at: float = 0.0
    unplaced: PlacementFailure | None = None
    """Why the task still waits for a node; `err` says the same in one line."""


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One attempt to run a service's template in one slot on one node. It runs at most once."""

    id: str
    meta: Meta = Meta()
    service_id: str = ""
    service_name: str = ""
    slot: int = 0
    node_id: str = ""
    spec: TaskSpec
    spec_version: int = 0
    labels: dict[str, str] = {}
    """The service's labels when the task was made."""
    status: TaskStatus = TaskStatus()
    desired_state: TaskState = TaskState.RUNNING
    annotations: Annotations = NO_ANNOTATIONS
    """Of this very task; none of a service's tasks has any."""
    volumes: tuple[VolumeAttachment, ...] = ()
    endpoint: Endpoint | None = None
    """The service's when the task passed the allocator; host ports are taken on its node."""
    networks: tuple[NetworkAttachment, ...] = ()
    log_driver: Driver | None = None
    assigned_generic_resources: tuple[GenericResource, ...] = ()
    job_iteration: int = 0
    failures: int = 0
    """How many tasks of its slot failed in a row before this one: the delay before its start grows with them. Only once
    every manager knows the field; nodes are not told."""

    @property
    def name(self) -> str:
        """Its own name if it has one, else `service.slot.id` (SwarmKit `api/naming`)."""
        return self.annotations.name or f"{self.service_name}.{self.slot or self.node_id}.{self.id}"


class JoinTokens(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """The two tokens that let a node in. Whoever holds the control socket may read them."""

    worker: str = ""
    manager: str = ""


class RootRotation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """The root (PEM) that is to take the present one's place. Until every node has a certificate of it, all of them
    trust the present one and accept it through `cross_signed`. Without a key an external CA signs."""

    certificate: bytes
    cross_signed: bytes
    key: bytes = b""
    started_at: float = 0.0

    def __repr__(self) -> str:
        """Without the key."""
        return f"RootRotation(started_at={self.started_at})"


class RootCA(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """The swarm's certificate authority (PEM). The key lives here and nowhere on disk in clear; without one an external
    CA signs."""

    certificate: bytes = b""
    key: bytes = b""
    digest: str = ""
    join_tokens: JoinTokens = JoinTokens()
    rotation: RootRotation | None = None
    last_forced_rotation: int = 0
    """The `spec.ca.force_rotate` that was last acted upon."""

    def __repr__(self) -> str:
        """Without the key and the tokens."""
        return f"RootCA(digest={self.digest!r}, rotation={self.rotation!r})"


class UnlockKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """The key-encryption key of the managers' disks. Its version counts up with every change; `key` is empty while
    autolock is off."""

    version: int = 0
    key: bytes = b""

    def __repr__(self) -> str:
        """Without the key."""
        return f"UnlockKey(version={self.version})"


class PayloadKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Seals the payloads of secrets. Ids count up; the highest seals, the others open what they sealed."""

    id: int
    key: bytes

    def __repr__(self) -> str:
        """Without the key."""
        return f"PayloadKey(id={self.id})"


class Cluster(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """The swarm itself: one object, whose id is the O of every certificate."""

    id: str
    meta: Meta = Meta()
    spec: ClusterSpec = ClusterSpec()
    root_ca: RootCA = RootCA()
    feature_level: tuple[str, ...] = ()
    """Features that every manager has announced, so replicated data may use them."""
    unlock_key: UnlockKey = UnlockKey()
    payload_keys: tuple[PayloadKey, ...] = ()


class RemovedNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A node that was removed and is refused on every door until its last certificate is long expired."""

    id: str
    meta: Meta = Meta()
    expires_at: float = 0.0
    fingerprints: tuple[str, ...] = ()
    """Of the certificates it had as a manager: whoever dials trusts no peer that shows one of them."""


StoredObject = Node | Service | Task | Network | Cluster | Secret | Resource | Extension | Config | Volume | RemovedNode
