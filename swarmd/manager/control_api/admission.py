"""Nodes that wait to be let in: accept one whose code was compared, or turn it away (foundations: Tokenless join)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from swarmd.errors import FailedPrecondition, Invalid, PermissionDenied, Unavailable
from swarmd.manager.certificates import tracked
from swarmd.manager.certifier import Certifier
from swarmd.manager.control_api.access import Access
from swarmd.manager.control_api.node_views import node_view, not_found, require_id
from swarmd.manager.control_api.usage import usage_of
from swarmd.manager.control_api.views import RaftView
from swarmd.model import Membership, Node, RemovedNode
from swarmd.pki import join_code, same_code
from swarmd.state.command import Table
from swarmd.state.transaction import Transaction
from swarmd.transport.connection import Call, UnaryHandler
from swarmd.wire.control import AcceptNode, NodeView, RejectNode, Removed
from swarmd.wire.methods import NODE_ACCEPT, NODE_REJECT, Method

REJECTION_REMEMBERED_S: Final = 24 * 3600.0
"""How long a node that was turned away is told so."""


class AdmissionHandlers:
    """Serves `node.accept` and `node.reject`."""

    def __init__(self, access: Access, *, membership: Callable[[], RaftView], now: Callable[[], float]) -> None:
        self._access = access
        self._membership = membership
        self._now = now
        self._certifier = Certifier()

    def handlers(self) -> dict[Method[Any, Any], UnaryHandler]:
        return {NODE_ACCEPT: self.accept, NODE_REJECT: self.reject}

    async def accept(self, call: Call, request: AcceptNode) -> NodeView:
        """Let it in: its certificate is made in the transaction that accepts it, or by the external CA after it.
        Accepted before: success.

        Raises `Invalid` without a code, `PermissionDenied` for another code than the node's, `NotFound`.
        """
        require_id(request.id)
        if not request.join_code:
            raise Invalid(
                "the join code is missing", field="$.join_code", hint="it is what the waiting node shows in its log"
            )
        written = await self._access.write(call, request, lambda tx: self._accept(tx, request))
        node = self._access.state.node(request.id) or written.result
        if node is None:
            raise not_found(request.id)
        state = self._access.state
        return node_view(self._membership(), node, state.cluster(), usage_of(state.tasks_of_node(node.id)))

    async def reject(self, call: Call, request: RejectNode) -> Removed:
        """Turn it away: its record goes, and it is told when it asks again.

        Raises `NotFound`, and `FailedPrecondition` for a node that was accepted.
        """
        require_id(request.id)
        written = await self._access.write(call, request, lambda tx: _reject(tx, request.id, self._now()))
        return Removed(id=request.id, version=written.index)

    def _accept(self, tx: Transaction, request: AcceptNode) -> Node:
        node, cluster = tx.node(request.id), tx.cluster()
        if node is None:
            raise not_found(request.id)
        if cluster is None or not cluster.root_ca.certificate:
            raise Unavailable("this swarm has no certificate authority yet", hint="try again in a moment")
        if not same_code(request.join_code, join_code(cluster.root_ca.certificate, node.certificate.csr)):
            raise PermissionDenied(
                "this is not the node's join code; it was not let in",
                field="$.join_code",
                object=f"node {node.description.hostname or node.id}",
                hint="compare what the node shows with `swarmctl node inspect`; if they differ, somebody is in between",
            )
        if node.spec.membership is Membership.ACCEPTED:
            return node
        certificate = self._certifier.certify(cluster, node.certificate.csr, node.id, node.role, tx.now)
        certificate = tracked(cluster, certificate, node.certificate, tx.now)
        accepted = replace(node, spec=replace(node.spec, membership=Membership.ACCEPTED), certificate=certificate)
        tx.update(accepted)
        return accepted


def _reject(tx: Transaction, id: str, now: float) -> str:
    node = tx.node(id)
    if node is None:
        raise not_found(id)
    if node.spec.membership is Membership.ACCEPTED:
        raise FailedPrecondition(
            f"node {node.description.hostname or id} does not wait: it is in", hint="remove it with: swarmctl node rm"
        )
    if tx.removed_node(id) is None:
        tx.create(RemovedNode(id=id, expires_at=now + REJECTION_REMEMBERED_S))
    tx.remove(Table.NODE, id)
    return id
