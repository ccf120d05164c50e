"""Raft's live facts as the rest of the manager asks for them: never stored, cheap, never waiting."""

from __future__ import annotations

from collections.abc import Callable

from swarmd.manager.control_api import DigestDetail, MemberDetail, MemberView, RaftDetail
from swarmd.manager.digests.board import DigestBoard
from swarmd.manager.digests.votes import Findings
from swarmd.manager.peers import Peers
from swarmd.manager.raft_driver import TICK_S, RaftDriver
from swarmd.wire.control import Reachability
from swarmd.wire.disk import DiskReport
from swarmd.wire.dispatch import ManagerPeer


class RaftFacts:
    """Implements `control_api.RaftView`."""

    def __init__(
        self,
        driver: RaftDriver,
        peers: Peers,
        board: DigestBoard,
        disks: Callable[[str], DiskReport | None] = lambda node_id: None,
    ) -> None:
        self._driver = driver
        self._peers = peers
        self._board = board
        self._disks = disks

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

    @property
    def leader_contact_s(self) -> float | None:
        """How old the state here may be; see `RaftDriver`."""
        return self._driver.leader_contact_s

    def detail(self) -> RaftDetail:
        """This manager's own part. How far each member is, only its leader knows."""
        core, findings = self._driver.core, self._board.findings()
        return RaftDetail(
            member_id=core.member_id,
            role=core.role.name.lower(),
            first_index=core.first_index,
            last_index=core.last_index,
            snapshot_index=core.snapshot.index,
            removed_members=len(core.configuration.removed),
            members=self._seen_as_leader(findings) if core.is_leader else self._seen_as_follower(),
            digests=self._digests(findings),
        )

    def _digests(self, findings: Findings) -> DigestDetail:
        newest, hashed = self._board.own_points.newest, self._board.own_points.newest_hashed
        return DigestDetail(
            index=newest.index if newest is not None else 0,
            digest=newest.digest if newest is not None else b"",
            hashed_index=hashed.index if hashed is not None else 0,
            state_hash=hashed.state_hash if hashed is not None else b"",
            agree_at=findings.agreed_at,
            agreeing=len(findings.agreeing),
            diverges_at=self._board.diverges_at,
            alarm=self._board.alarm_here,
        )

    def _seen_as_leader(self, findings: Findings) -> dict[int, MemberDetail]:
        core = self._driver.core
        return {
            p.member_id: MemberDetail(
                match=p.match,
                lag=max(0, core.last_index - p.match),
                last_contact_s=0.0 if p.member_id == core.member_id else p.ticks_since_heard * TICK_S,
                is_receiving_snapshot=p.is_snapshotting,
                is_rolled_back=p.is_rolled_back,
                is_diverging=findings.of_member(p.member_id) is not None,
            )
            for p in core.progress()
        }

    def _seen_as_follower(self) -> dict[int, MemberDetail]:
        core, heard = self._driver.core, self._driver.leader_contact_s
        seen = {core.member_id: MemberDetail(last_contact_s=0.0)}
        if self._driver.leader and heard is not None:
            seen[self._driver.leader] = MemberDetail(last_contact_s=heard)
        return seen

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
                disk=self._disks(m.node_id),
            )
            for m in self._driver.configuration.members
        )

    def manager_peers(self) -> tuple[ManagerPeer, ...]:
        """What agents are told."""
        return tuple(
            ManagerPeer(node_id=m.node_id, addresses=m.addresses, is_leader=m.member_id == self._driver.leader)
            for m in self._driver.configuration.members
        )
