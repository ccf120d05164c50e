"""Specs: what users ask for. Field names and defaults are stored and are for ever.

Every struct is strict: an unknown field is an error with its path, in requests, entries and snapshots alike.
Durations are seconds (`*_s`). A new field is only used once every manager has announced the feature.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from swarmd.model.common import Driver, IndexEntry
from swarmd.model.endpoints import EndpointSpec
from swarmd.model.modes import Mode, Replicated, ServiceDependency, UpdateConfig
from swarmd.model.placement import GenericResource, Placement
from swarmd.model.references import ConfigReference, NetworkAttachmentConfig, NetworkAttachmentSpec, SecretReference
from swarmd.model.states import Availability, Membership, Role, TokenlessJoin

DEFAULT_STOP_GRACE_S: Final = 10.0
DEFAULT_RESTART_DELAY_S: Final = 5.0
DEFAULT_HEARTBEAT_PERIOD_S: Final = 5.0
DEFAULT_TASK_HISTORY: Final = 5
DEFAULT_ADDRESS_POOL: Final = "10.0.0.0/8"
DEFAULT_SUBNET_SIZE: Final = 20
"""Bits: 4,096 addresses a network. SwarmKit's 24 leaves no room for a service of 250 tasks."""
DEFAULT_VXLAN_PORT: Final = 4789
DEFAULT_CERTIFICATE_EXPIRY_S: Final = 90 * 24 * 3600.0


class ContainerSpec(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """What a task runs. The process executor runs `command + args` and ignores an image that is no directory."""

    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    """`NAME=value` each."""
    dir: str = ""
    user: str = ""
    hostname: str = ""
    labels: dict[str, str] = {}
    stop_signal: str = ""
    """`SIGTERM` and the like; empty means SIGTERM."""
    stop_grace_period_s: float = DEFAULT_STOP_GRACE_S
    secrets: tuple[SecretReference, ...] = ()
    configs: tuple[ConfigReference, ...] = ()


class RestartCondition(IntEnum):
    """When a stopped task is replaced."""

    NONE = 0
    ON_FAILURE = 1
    ANY = 2


class RestartPolicy(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """When and how soon a stopped task is replaced. `max_attempts` 0 means no limit."""

    condition: RestartCondition = RestartCondition.ANY
    delay_s: float = DEFAULT_RESTART_DELAY_S
    max_attempts: int = 0
    window_s: float = 0.0


class ResourceLimits(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """An amount of CPU (10^-9 cores) and memory (bytes), 0 means none stated; and of other kinds, to be reserved."""

    nano_cpus: int = 0
    memory_bytes: int = 0
    generic: tuple[GenericResource, ...] = ()


class ResourceRequirements(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """What a task may use at most and what the scheduler sets aside for it."""

    limits: ResourceLimits = ResourceLimits()
    reservations: ResourceLimits = ResourceLimits()


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """The template of a service's tasks, copied into each task. With `attachment` the task runs nothing, and
    `container` says nothing."""

    container: ContainerSpec
    resources: ResourceRequirements = ResourceRequirements()
    restart: RestartPolicy = RestartPolicy()
    placement: Placement = Placement()
    force_update: int = 0
    networks: tuple[NetworkAttachmentConfig, ...] = ()
    attachment: NetworkAttachmentSpec | None = None
    log_driver: Driver | None = None
    """None: the swarm's default for new tasks, or else the node's own."""


class ServiceSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What a service should be. `rollback` is how the previous template comes back."""

    name: str
    labels: dict[str, str] = {}
    task: TaskSpec
    mode: Mode = Replicated()
    update: UpdateConfig = UpdateConfig()
    indices: tuple[IndexEntry, ...] = ()
    rollback: UpdateConfig = UpdateConfig()
    endpoint: EndpointSpec = EndpointSpec()
    depends_on: tuple[ServiceDependency, ...] = ()


class NodeSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What the operator wants of a node."""

    name: str = ""
    labels: dict[str, str] = {}
    desired_role: Role = Role.WORKER
    membership: Membership = Membership.ACCEPTED
    availability: Availability = Availability.ACTIVE
    indices: tuple[IndexEntry, ...] = ()


class OrchestrationConfig(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """How many finished tasks a slot keeps; negative keeps all."""

    task_history_retention_limit: int = DEFAULT_TASK_HISTORY


class DispatcherConfig(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """How often agents beat. A node is DOWN after three missed beats."""

    heartbeat_period_s: float = DEFAULT_HEARTBEAT_PERIOD_S


class ExternalCA(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A signer of node certificates outside the swarm, asked over HTTPS. `ca_certificate`: the root (PEM) that it signs
    for; empty means the present root."""

    url: str
    protocol: str = "cfssl"
    options: dict[str, str] = {}
    ca_certificate: bytes = b""


class CAConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """How long node certificates live, what becomes of a node that shows no token, and which root is wanted.

    `signing_ca_*` (PEM) name the wanted root and its key; a higher `force_rotate` asks for a new one of the swarm's own
    making. Neither the certificate nor the key is ever shown again (reference security 4.1).
    """

    node_cert_expiry_s: float = DEFAULT_CERTIFICATE_EXPIRY_S
    tokenless_join: TokenlessJoin = TokenlessJoin.PENDING
    external_cas: tuple[ExternalCA, ...] = ()
    signing_ca_certificate: bytes = b""
    signing_ca_key: bytes = b""
    force_rotate: int = 0

    def __repr__(self) -> str:
        """Without the key: representations end in logs and tracebacks."""
        return f"CAConfig(force_rotate={self.force_rotate}, external_cas={len(self.external_cas)})"


class EncryptionConfig(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """Whether a manager's keys on disk are sealed with the unlock key, so that it stays locked after a restart."""

    auto_lock_managers: bool = False


class RaftConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Raft settings that belong to the swarm; ticks are 100 ms."""

    heartbeat_tick: int = 1
    election_tick: int = 10
    snapshot_interval: int = 10_000
    log_entries_for_slow_followers: int = 500


class TaskDefaults(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What a new task gets if its service does not say."""

    log_driver: Driver | None = None


class NetworkDefaults(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """Where subnets of new networks come from: pools (CIDR), how many bits of them name a network, and the UDP port of
    VXLAN."""

    default_address_pools: tuple[str, ...] = (DEFAULT_ADDRESS_POOL,)
    subnet_size: int = DEFAULT_SUBNET_SIZE
    vxlan_port: int = DEFAULT_VXLAN_PORT


class ClusterSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """The swarm's settings. Its name stays `default`."""

    name: str = "default"
    labels: dict[str, str] = {}
    orchestration: OrchestrationConfig = OrchestrationConfig()
    dispatcher: DispatcherConfig = DispatcherConfig()
    ca: CAConfig = CAConfig()
    raft: RaftConfig = RaftConfig()
    encryption: EncryptionConfig = EncryptionConfig()
    indices: tuple[IndexEntry, ...] = ()
    task_defaults: TaskDefaults = TaskDefaults()
    networks: NetworkDefaults = NetworkDefaults()
