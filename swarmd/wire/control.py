"""What `swarmctl` says. Mutations carry an idempotency key in the call's headers; names are resolved by the client.

Secrets of the system (the CA key, payloads) never leave: `redact` is applied by the control API's serializer.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from swarmd.model import Node, NodeSpec, Resources, Service, ServiceSpec, Task
from swarmd.wire.disk import DiskReport


class Reachability(IntEnum):
    """The answering manager's view of a member."""

    UNKNOWN = 0
    UNREACHABLE = 1
    REACHABLE = 2


class ManagerStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A node's part in Raft: joined in live, never stored."""

    member_id: int
    addresses: tuple[str, ...] = ()
    is_leader: bool = False
    is_voter: bool = True
    reachability: Reachability = Reachability.UNKNOWN
    disk: DiskReport | None = None
    """What is wrong with its disk, as far as the answering manager was told."""


class GetObject(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One object by its full id."""

    id: str


class RemoveObject(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Remove one object by its full id."""

    id: str


class Removed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What was removed, and by which version."""

    id: str
    version: int = 0


class ListNodes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """All nodes, or those that match: OR inside a field, AND between fields."""

    id_prefixes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


class NodeView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A node and its part in Raft, if it is a manager. The CSR and certificate are left out.

    `join_code` is set while it waits to be accepted: what it must show too (`pki.join_code`). `tasks` are there or on
    their way, `reserved` is what is set aside for them, `allocatable` what is left of the node for more.
    """

    node: Node
    manager: ManagerStatus | None = None
    join_code: str = ""
    tasks: int = 0
    reserved: Resources = Resources()
    allocatable: Resources = Resources()


class NodeList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Sorted by hostname, then id."""

    nodes: tuple[NodeView, ...]


class UpdateNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Replace a node's spec. `version` is the `meta.version` it was read at (0: whatever is there)."""

    id: str
    spec: NodeSpec
    version: int = 0
    force: bool = False
    """Also demote a manager whose going could not be committed now: it goes as soon as that is possible."""


class AcceptNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Let a waiting node in. `join_code` is the one that the operator compared; another one is refused."""

    id: str
    join_code: str


class RejectNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Turn a waiting node away: its record goes, and it is told."""

    id: str


class RemoveNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Remove a node for good. `force` skips only the check that it is down."""

    id: str
    force: bool = False


class ListServices(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """All services, or those that match."""

    id_prefixes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


class ServiceView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A service and how it stands. `running` counts observed-RUNNING tasks on nodes that are not DOWN.

    `desired`: replicas; for a global service or job the nodes that it is for; for a job the completions it is to
    reach. Of a job only the present iteration counts. `completed` are its slots that came to their end, `failed` those
    in which nothing is to run any more because the last task failed, `outdated` those not as the spec says yet.
    """

    service: Service
    running: int = 0
    desired: int = 0
    completed: int = 0
    failed: int = 0
    outdated: int = 0


class ServiceList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Sorted by name."""

    services: tuple[ServiceView, ...]


class CreateService(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Create a service."""

    spec: ServiceSpec


class UpdateService(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Replace a service's spec. `spec_version` is the one it was read at (-1: whatever is there)."""

    id: str
    spec: ServiceSpec
    spec_version: int = -1


class ListTasks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """All tasks, or those that match."""

    id_prefixes: tuple[str, ...] = ()
    service_ids: tuple[str, ...] = ()
    node_ids: tuple[str, ...] = ()


class TaskView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A task."""

    task: Task


class TaskList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """By service name, then slot, newest first."""

    tasks: tuple[Task, ...]


class StatusRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Ask the daemon behind the socket about itself."""


class StatusReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The daemon behind the socket. `digest` is the running digest of everything applied up to `applied_index`."""

    node_id: str
    swarm_id: str
    version: str
    is_manager: bool = False
    is_leader: bool = False
    leader_node_id: str = ""
    term: int = 0
    commit_index: int = 0
    applied_index: int = 0
    digest: bytes = b""
    remote_addresses: tuple[str, ...] = ()
    session: str = ""
    """State of this node's own agent session: `connected`, or why not."""
    leader_contact_s: float | None = None
    """How old a manager's state may be: seconds since it heard a leader, or, leading, since a majority answered it.
    None: not since it started."""
    alarm: str = ""
    """What is wrong with the managers' states, as far as this manager knows; see `RaftStatusReply`."""
    locked: bool = False
    """Whether the daemon waits for the unlock key and takes no part until then."""
