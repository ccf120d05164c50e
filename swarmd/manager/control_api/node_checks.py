"""When a manager may be demoted, and when a node may be removed."""

from __future__ import annotations

from swarmd.errors import FailedPrecondition, NotFound
from swarmd.manager.control_api.views import RaftView, member_of, removal_problem
from swarmd.model import Node, NodeState, Role
from swarmd.raft.quorum import failures_tolerated
from swarmd.state.transaction import Transaction


def check_demotion(tx: Transaction, raft: RaftView, node: Node, *, force: bool = False) -> None:
    """Raise unless the swarm is as safe without this manager.

    A promotion that never took effect (still a worker, not in the Raft group) may always be taken back. `force` lets
    the wish stand where the removal could not be committed now, and where the node is no member; nobody can force the
    last manager out. The role manager carries the wish out as soon as Raft's own guard allows it: a removal that can
    never commit would end the swarm, and serve nobody.
    """
    member = member_of(raft, node.id)
    if member is None and node.role is Role.WORKER:
        return
    if not any(other.id != node.id and _stays_manager(tx, other) for other in tx.nodes()):
        raise FailedPrecondition(
            "attempting to demote the last manager of the swarm", hint="promote another node first"
        )
    if force:
        return
    if member is None:
        raise NotFound(
            f"node {node.id} is not in the Raft member list", hint="it may be joining: try again, or use --force"
        )
    problem = removal_problem(raft.members(), member.member_id)
    if problem is not None:
        raise FailedPrecondition(
            "can't remove member from the raft: this would result in a loss of quorum",
            object=f"node {node.id}",
            hint=f"{problem} ({cost_of_removal(raft, node.id)}); bring a manager back or promote another node first; "
            "with --force it goes as soon as that can be committed, whatever is tolerated then",
        )


def cost_of_removal(raft: RaftView, node_id: str) -> str:
    """What the managers lose with this one, in numbers."""
    before = sum(member.is_voter for member in raft.members())
    after = sum(member.is_voter and member.node_id != node_id for member in raft.members())
    return (
        f"managers: {before} -> {after} voters; "
        f"failures tolerated: {failures_tolerated(before)} -> {failures_tolerated(after)}"
    )


def _stays_manager(tx: Transaction, seen: Node) -> bool:
    """Whether the other node is a manager and is meant to stay one. Those that count are recorded in the
    transaction, so that two managers cannot be demoted at once on the strength of each other."""
    if seen.role is not Role.MANAGER or seen.spec.desired_role is not Role.MANAGER:
        return False
    node = tx.node(seen.id)
    return node is not None and node.role is Role.MANAGER and node.spec.desired_role is Role.MANAGER


def check_removal(tx: Transaction, raft: RaftView, id: str, *, force: bool) -> Node:
    """The node, if it may be removed. Raises `NotFound`, `FailedPrecondition`. `force` skips only "it is up"."""
    node = tx.node(id)
    if node is None:
        raise NotFound(f"node {id} not found", hint="swarmctl node ls")
    if member_of(raft, id) is not None:
        raise FailedPrecondition(
            f"node {id} is a cluster manager and is a member of the raft cluster; it must be demoted first",
            hint=f"swarmctl node demote, and wait until it is a worker ({cost_of_removal(raft, id)})",
        )
    if node.status.state is NodeState.READY and not force:
        raise FailedPrecondition(
            f"node {id} is not down and can't be removed", hint="stop swarmd on it, or remove it with --force"
        )
    return node
