"""The removal of a node: its certificate is refused from then on, its tasks are given up, its record goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from swarmd.manager.certificates import manager_fingerprints
from swarmd.manager.control_api.node_checks import check_removal
from swarmd.manager.control_api.views import RaftView
from swarmd.manager.payload_rotation import replace_payload_key
from swarmd.model import Node, RemovedNode, Role, Task, TaskState, TaskStatus
from swarmd.state.command import Table
from swarmd.state.transaction import Transaction
from swarmd.wire.control import RemoveNode

TASKS_ORPHANED_MAX: Final = 2_000
"""Tasks in one transaction: some 300 KB of entry, far below a frame."""
CLOCK_SKEW_S: Final = 7 * 24 * 3600.0
"""How much longer than its certificate a removed node is remembered (SwarmKit `controlapi/node.go`)."""
ORPHANED_MESSAGE: Final = "the node of this task was removed from the swarm"


def orphan_some(tx: Transaction, raft: RaftView, request: RemoveNode, now: float) -> int:
    """Give up the next `TASKS_ORPHANED_MAX` tasks of a node that may be removed; how many there were."""
    node = check_removal(tx, raft, request.id, force=request.force)
    live = _live(tx.tasks_of_node(node.id, unchecked=True))
    return _orphan(tx, node, islice(live, TASKS_ORPHANED_MAX), now)


def remove_node(tx: Transaction, raft: RaftView, request: RemoveNode, now: float) -> str:
    """All of it in this transaction. Raises as `check_removal`."""
    node = check_removal(tx, raft, request.id, force=request.force)
    if node.role is Role.MANAGER:  # out of Raft, and its role has not followed yet
        replace_payload_key(tx)
    _orphan(tx, node, _live(tx.tasks_of_node(node.id)), now)
    if tx.removed_node(node.id) is None:
        tx.create(
            RemovedNode(
                id=node.id,
                expires_at=_certificate_end(tx, node, now) + CLOCK_SKEW_S,
                fingerprints=manager_fingerprints(node.certificate, now),
            )
        )
    tx.remove(Table.NODE, node.id)
    return node.id


def _orphan(tx: Transaction, node: Node, tasks: Iterable[Task], now: float) -> int:
    status = TaskStatus(state=TaskState.ORPHANED, at=now, message=ORPHANED_MESSAGE, applied_at=now)
    count = 0
    for task in tasks:
        tx.report(node.id, task.id, status)
        count += 1
    return count


def _live(tasks: Iterable[Task]) -> Iterator[Task]:
    return (task for task in tasks if task.status.state < TaskState.COMPLETE)


def _certificate_end(tx: Transaction, node: Node, now: float) -> float:
    """When the node's certificate expires; if that is not known, when one issued this moment would."""
    if node.certificate.expires_at:
        return node.certificate.expires_at
    cluster = tx.cluster(unchecked=True)
    return now + (cluster.spec.ca.node_cert_expiry_s if cluster is not None else 0.0)
