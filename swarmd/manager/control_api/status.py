"""The daemon behind the socket, told by itself: it answers without a leader, so it waits for nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swarmd import __version__
from swarmd.manager.control_api.access import Access
from swarmd.manager.control_api.views import LocalNode, RaftView
from swarmd.transport.connection import Call, UnaryHandler
from swarmd.wire.control import StatusReply, StatusRequest
from swarmd.wire.methods import STATUS, Method


class StatusHandler:
    """Serves `status`."""

    def __init__(self, access: Access, *, membership: Callable[[], RaftView], local: LocalNode) -> None:
        self._access = access
        self._membership = membership
        self._local = local

    def handlers(self) -> dict[Method[Any, Any], UnaryHandler]:
        return {STATUS: self.get}

    async def get(self, call: Call, request: StatusRequest) -> StatusReply:
        """This manager's own view, whatever the others think."""
        raft, state = self._membership(), self._access.state
        return StatusReply(
            node_id=self._local.node_id,
            swarm_id=self._local.swarm_id,
            version=__version__,
            is_manager=True,
            is_leader=raft.is_leader,
            leader_node_id=raft.leader_node_id,
            term=raft.term,
            commit_index=raft.commit_index,
            applied_index=state.index,
            digest=state.digest,
            remote_addresses=self._local.remote_addresses,
            session=self._local.session,
        )
