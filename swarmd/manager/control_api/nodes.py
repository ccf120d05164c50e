"""Nodes: read them, say what is wanted of them, remove them for good.

Sources: reference api-and-cli 1.3, raft-store-node 3.7; SwarmKit `manager/controlapi/node.go`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from swarmd.errors import Conflict, FailedPrecondition
from swarmd.manager.control_api.access import Access
from swarmd.manager.control_api.filters import check_size, has_name, has_prefix, prefixed
from swarmd.manager.control_api.node_checks import check_demotion
from swarmd.manager.control_api.node_removal import TASKS_ORPHANED_MAX, orphan_some, remove_node
from swarmd.manager.control_api.node_renewal import renew_node
from swarmd.manager.control_api.node_views import node_view, not_found, require_id
from swarmd.manager.control_api.usage import Usage, usage_by_node, usage_of
from swarmd.manager.control_api.views import RaftView
from swarmd.model import Membership, Node, Role, validate_node_spec
from swarmd.state.command import Table
from swarmd.state.store import State
from swarmd.state.transaction import Transaction
from swarmd.transport.connection import Call, UnaryHandler
from swarmd.wire.control import (
    GetObject,
    ListNodes,
    NodeList,
    NodeView,
    Removed,
    RemoveNode,
    UpdateNode,
)
from swarmd.wire.methods import NODE_GET, NODE_LIST, NODE_REMOVE, NODE_RENEW, NODE_UPDATE, Method


class NodeHandlers:
    """Serves `node.*`."""

    def __init__(
        self,
        access: Access,
        *,
        membership: Callable[[], RaftView],
        now: Callable[[], float],
    ) -> None:
        self._access = access
        self._membership = membership
        self._now = now

    def handlers(self) -> dict[Method[Any, Any], UnaryHandler]:
        return {
            NODE_LIST: self.list,
            NODE_GET: self.get,
            NODE_UPDATE: self.update,
            NODE_RENEW: self.renew,
            NODE_REMOVE: self.remove,
        }

    async def get(self, call: Call, request: GetObject) -> NodeView:
        """Raises `Invalid` for an empty id, `NotFound`."""
        require_id(request.id)
        node = (await self._access.read(call)).node(request.id)
        if node is None:
            raise not_found(request.id)
        return self._view(node)

    async def list(self, call: Call, request: ListNodes) -> NodeList:
        """By hostname, then id. `names` match a node's name or its hostname.

        Raises `ResourceExhausted` if more match than one reply holds.
        """
        state = await self._access.read(call)
        nodes = [
            node
            for node in _candidates(state, request)
            if has_prefix(node.id, request.id_prefixes)
            and has_name(request.names, node.spec.name, node.description.hostname)
        ]
        nodes.sort(key=lambda node: (node.description.hostname, node.id))
        raft = self._membership()
        usages, nothing = usage_by_node(state), Usage()
        views = tuple(node_view(raft, node, state.cluster(), usages.get(node.id, nothing)) for node in nodes)
        check_size(views, "nodes", "ask for some of them by name or id prefix")
        return NodeList(nodes=views)

    async def update(self, call: Call, request: UpdateNode) -> NodeView:
        """Raises `Invalid`, `NotFound`, `Conflict` for another version, `FailedPrecondition` for an unsafe demotion.

        A change of role takes effect later, when the node has its new certificate.
        """
        require_id(request.id)
        validate_node_spec(request.spec)
        written = await self._access.write(call, request, lambda tx: _update(tx, self._membership(), request))
        node = self._access.state.node(request.id) or written.result
        if node is None:
            raise not_found(request.id)
        return self._view(node)

    async def renew(self, call: Call, request: GetObject) -> NodeView:
        """Have it ask for another certificate. Raises `Invalid`, `NotFound`, `FailedPrecondition` while it waits to be
        let in."""
        require_id(request.id)
        written = await self._access.write(call, request, lambda tx: renew_node(tx, request.id))
        node = self._access.state.node(request.id) or written.result
        if node is None:
            raise not_found(request.id)
        return self._view(node)

    async def remove(self, call: Call, request: RemoveNode) -> Removed:
        """Raises `Invalid`, `NotFound`, `FailedPrecondition` for a manager, or for a node that is up without `force`.

        The node and its refusal are written in one transaction. More tasks than that holds are given up beforehand,
        in transactions of their own under the same checks; a retry goes on from there.
        """
        require_id(request.id)
        while self._has_too_many_tasks(request.id):
            step = await self._access.write(
                call, request, lambda tx: orphan_some(tx, self._membership(), request, self._now()), keyed=False
            )
            if not step.result:
                break
        written = await self._access.write(
            call, request, lambda tx: remove_node(tx, self._membership(), request, self._now())
        )
        return Removed(id=request.id, version=written.index)

    def _view(self, node: Node) -> NodeView:
        state = self._access.state
        return node_view(self._membership(), node, state.cluster(), usage_of(state.tasks_of_node(node.id)))

    def _has_too_many_tasks(self, id: str) -> bool:
        state = self._access.state
        return state.node(id) is not None and len(state.tasks_of_node(id)) > TASKS_ORPHANED_MAX


def _update(tx: Transaction, raft: RaftView, request: UpdateNode) -> Node:
    old = tx.node(request.id)
    if old is None:
        raise not_found(request.id)
    if request.version not in (0, old.meta.version):
        raise Conflict(
            f"update out of sequence: the node is at version {old.meta.version}, not {request.version}",
            object=f"node {old.spec.name or old.description.hostname or old.id}",
            hint="something changed it; read it again and repeat what you want",
        )
    if old.spec.membership is Membership.PENDING or request.spec.membership is not old.spec.membership:
        raise FailedPrecondition(
            "a node is let in by its join code alone"
            if old.spec.membership is Membership.PENDING
            else "a node that is in cannot be made to wait again",
            object=f"node {old.spec.name or old.description.hostname or old.id}",
            hint="swarmctl node accept CODE, or swarmctl node reject",
        )
    if request.spec == old.spec:
        return old
    if old.spec.desired_role is Role.MANAGER and request.spec.desired_role is Role.WORKER:
        check_demotion(tx, raft, old, force=request.force)
    node = replace(old, spec=request.spec)
    tx.update(node)
    return node


def _candidates(state: State, request: ListNodes) -> Iterable[Node]:
    if request.id_prefixes:
        return [found for found in prefixed(state, Table.NODE, request.id_prefixes) if isinstance(found, Node)]
    return state.nodes()
