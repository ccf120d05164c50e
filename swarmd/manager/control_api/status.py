"""The daemon behind the socket, told by itself: it answers without a leader, so it waits for nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from swarmd import __version__
from swarmd.manager.control_api.access import Access
from swarmd.manager.control_api.views import LocalNode, MemberDetail, MemberView, RaftView
from swarmd.raft.quorum import majority
from swarmd.transport.connection import Call, UnaryHandler
from swarmd.wire.control import Reachability, StatusReply, StatusRequest
from swarmd.wire.methods import RAFT_STATUS, STATUS, Method
from swarmd.wire.raft_status import RaftMember, RaftStatusReply, RaftStatusRequest

_UNKNOWN: Final = MemberDetail()


class StatusHandler:
    """Serves `status` and `raft.status`."""

    def __init__(self, access: Access, *, membership: Callable[[], RaftView], local: LocalNode) -> None:
        self._access = access
        self._membership = membership
        self._local = local

    def handlers(self) -> dict[Method[Any, Any], UnaryHandler]:
        return {STATUS: self.get, RAFT_STATUS: self.raft}

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
            leader_contact_s=raft.leader_contact_s,
            alarm=raft.detail().digests.alarm,
        )

    async def raft(self, call: Call, request: RaftStatusRequest) -> RaftStatusReply:
        """This manager's own view of the group, whoever leads."""
        raft, detail = self._membership(), self._membership().detail()
        members = raft.members()
        voters = [member for member in members if member.is_voter]
        return RaftStatusReply(
            node_id=self._local.node_id,
            member_id=detail.member_id,
            role=detail.role,
            term=raft.term,
            leader_node_id=raft.leader_node_id,
            leader_contact_s=raft.leader_contact_s,
            first_index=detail.first_index,
            last_index=detail.last_index,
            commit_index=raft.commit_index,
            applied_index=self._access.state.index,
            snapshot_index=detail.snapshot_index,
            voters=len(voters),
            needed=majority(len(voters)) if voters else 0,
            answering=sum(member.reachability is Reachability.REACHABLE for member in voters),
            members=tuple(self._member(m, detail.members.get(m.member_id, _UNKNOWN), raft) for m in members),
            removed_members=detail.removed_members,
            digest_index=detail.digests.index,
            digest=detail.digests.digest,
            state_hash_index=detail.digests.hashed_index,
            state_hash=detail.digests.state_hash,
            digests_agree_at=detail.digests.agree_at,
            digests_agreeing=detail.digests.agreeing,
            diverges_at=detail.digests.diverges_at,
            alarm=detail.digests.alarm,
        )

    def _member(self, member: MemberView, known: MemberDetail, raft: RaftView) -> RaftMember:
        node = self._access.state.node(member.node_id)
        return RaftMember(
            node_id=member.node_id,
            node_name=(node.spec.name or node.description.hostname) if node is not None else "",
            member_id=member.member_id,
            addresses=member.addresses,
            is_voter=member.is_voter,
            is_leader=bool(raft.leader_node_id) and member.node_id == raft.leader_node_id,
            reachability=member.reachability,
            match=known.match,
            lag=known.lag,
            last_contact_s=known.last_contact_s,
            is_receiving_snapshot=known.is_receiving_snapshot,
            disk=member.disk,
            is_rolled_back=known.is_rolled_back,
            is_diverging=known.is_diverging,
        )
