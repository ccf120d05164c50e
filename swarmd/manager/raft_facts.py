"""Raft's live facts as the rest of the manager asks for them: never stored, cheap, never waiting."""

from __future__ import annotations

from swarmd.manager.control_api import MemberView
from swarmd.manager.peers import Peers
from swarmd.manager.raft_driver import RaftDriver
from swarmd.wire.control import Reachability
from swarmd.wire.dispatch import ManagerPeer


class RaftFacts:
    """Implements `control_api.RaftView`."""

    def __init__(self, driver: RaftDriver, peers: Peers) -> None:
        self._driver = driver
        self._peers = peers

    @property
    def is_leader(self) -> bool:
        """Whether this manager leads, with a state that is up to date."""
        return self._driver.is_leading

    @property
    def leader_node_id(self) -> str:
        """The leader's node id; empty while none is known."""
        member = self._driver.configuration.member(self._driver.leader)
        return member.node_id if member is not None else ""

    @property
    def leader_addresses(self) -> tuple[str, ...]:
        """Where the leader answers."""
        member = self._driver.configuration.member(self._driver.leader)
        return member.addresses if member is not None else ()

    @property
    def term(self) -> int:
        """The present term."""
        return self._driver.core.term

    @property
    def commit_index(self) -> int:
        """The greatest index known to be committed."""
        return self._driver.core.commit

    def members(self) -> tuple[MemberView, ...]:
        """Every member as seen from here: by its links, and the leader by answers as well. Answers are remembered for
        an election timeout; a link tells at once that a manager was stopped, before another one is demoted."""
        own = self._driver.core.member_id
        active = (
            {p.member_id for p in self._driver.core.progress() if p.is_active} if self._driver.core.is_leader else None
        )

        def reachability(member_id: int) -> Reachability:
            if member_id == own:
                return Reachability.REACHABLE
            is_up = self._peers.is_linked(member_id) and (active is None or member_id in active)
            return Reachability.REACHABLE if is_up else Reachability.UNREACHABLE

        return tuple(
            MemberView(
                member_id=m.member_id,
                node_id=m.node_id,
                addresses=m.addresses,
                is_voter=m.is_voter,
                reachability=reachability(m.member_id),
            )
            for m in self._driver.configuration.members
        )

    def manager_peers(self) -> tuple[ManagerPeer, ...]:
        """What agents are told."""
        return tuple(
            ManagerPeer(node_id=m.node_id, addresses=m.addresses, is_leader=m.member_id == self._driver.leader)
            for m in self._driver.configuration.members
        )
