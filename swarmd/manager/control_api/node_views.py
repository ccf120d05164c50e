"""How a node is shown: its record without what must not leave, and what is known of it at this moment."""

from __future__ import annotations

from swarmd.errors import Invalid, NotFound
from swarmd.manager.control_api import redact
from swarmd.manager.control_api.usage import Usage, room_of
from swarmd.manager.control_api.views import RaftView, member_of
from swarmd.model import Cluster, Membership, Node
from swarmd.pki import join_code
from swarmd.wire.control import ManagerStatus, NodeView


def node_view(raft: RaftView, node: Node, cluster: Cluster | None, usage: Usage) -> NodeView:
    """The node, its part in Raft if it has one, its join code while it waits to be let in, and what its tasks take."""
    member = member_of(raft, node.id)
    status = None
    if member is not None:
        status = ManagerStatus(
            member_id=member.member_id,
            addresses=member.addresses,
            is_leader=bool(raft.leader_node_id) and raft.leader_node_id == node.id,
            is_voter=member.is_voter,
            reachability=member.reachability,
            disk=member.disk,
        )
    code = ""
    if node.spec.membership is Membership.PENDING and cluster is not None:
        code = join_code(cluster.root_ca.certificate, node.certificate.csr)
    room = room_of(node, usage)
    return NodeView(
        node=redact.node(node),
        manager=status,
        join_code=code,
        tasks=room.tasks,
        reserved=room.reserved,
        allocatable=room.allocatable,
    )


def require_id(id: str) -> None:
    """Raise `Invalid` unless there is one."""
    if not id:
        raise Invalid("a node's id is missing", field="$.id")


def not_found(id: str) -> NotFound:
    """What is said of a node that is not there."""
    return NotFound(f"node {id} not found", hint="swarmctl node ls")
