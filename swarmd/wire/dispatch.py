"""What an agent and the dispatcher say to each other. The node's id comes from its certificate, never from here."""

from __future__ import annotations

import msgspec

from swarmd.model import Node, NodeDescription, Task, TaskStatus


class ManagerPeer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A manager and where it answers."""

    node_id: str
    addresses: tuple[str, ...]
    is_leader: bool = False


class SessionRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Register. A still valid `session_id` resumes it."""

    description: NodeDescription
    session_id: str = ""


class SessionMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The first one confirms the registration; later ones follow changes. Every message carries all fields."""

    session_id: str
    node: Node
    managers: tuple[ManagerPeer, ...]
    root_ca: bytes
    heartbeat_period_s: float
    revoked: tuple[str, ...] = ()
    """Fingerprints of certificates of managers that are none any more and have not expired: a node trusts no peer that
    shows one of them."""


class HeartbeatRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """I am here."""

    session_id: str


class HeartbeatReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Beat again within this time."""

    period_s: float


class AssignmentsRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Open the stream of what this node should run."""

    session_id: str


class AssignmentsMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """COMPLETE (`applies_to` empty: the whole set, paged; `more` says that it goes on) or a change to the set that
    `applies_to` names. A gap makes the agent reopen the stream."""

    results_in: str
    applies_to: str = ""
    complete: bool = False
    more: bool = False
    tasks: tuple[Task, ...] = ()
    removed_tasks: tuple[str, ...] = ()


class ReportedStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One task as its node sees it."""

    task_id: str
    status: TaskStatus


class UpdateStatusRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """At most 1,000 statuses."""

    session_id: str
    updates: tuple[ReportedStatus, ...]


class UpdateStatusReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Sent once the statuses are committed. `refused` lists tasks that are not this node's."""

    refused: tuple[str, ...] = ()


class GoodbyeRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The agent stops on purpose. `leaving`: its tasks are gone and it will not be back."""

    session_id: str
    leaving: bool = False
