"""What goes wrong, at random and aimed at the moments that matter."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from swarmd.errors import SwarmError
from swarmd.raft import ChangeKind, Member, MembershipChange
from tests.simulation.member import SimulatedMember

if TYPE_CHECKING:
    from tests.simulation.world import World

MEMBERS_MAX = 7


class Nemesis:
    """Throws the dice of `Faults` until the world heals."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self.is_resting = False
        self._lost: set[int] = set()
        """Whose disks are gone for good, and who are still members."""
        faults = world.faults
        self._aims = {
            "vote": faults.aim_vote,
            "persist": faults.aim_persist,
            "change": faults.aim_change,
            "snapshot": faults.aim_snapshot,
            "elected": faults.aim_elected,
            "commit": faults.aim_commit,
        }
        for every, deed in (
            (faults.crash_every_ms, self._crash_somebody),
            (faults.pause_every_ms, self._pause_somebody),
            (faults.power_cut_every_ms, self._cut_the_power),
            (faults.disk_loss_every_ms, self._lose_a_disk),
            (faults.cut_every_ms, self._cut),
            (faults.change_every_ms, self._change_membership),
            (faults.transfer_every_ms, self._transfer),
            (faults.disk_refusal_every_ms, self._refuse_writes),
        ):
            if every:
                self._repeat(every, deed)

    def _repeat(self, every_ms: int, deed: Callable[[], None]) -> None:
        def again() -> None:
            if not self.is_resting:
                deed()
                self._repeat(every_ms, deed)

        self._world.after(self._rng.expovariate(1 / every_ms), again)

    def saw(self, moment: str, member: SimulatedMember) -> None:
        """A moment worth aiming at: perhaps the member dies in it, perhaps it is cut off."""
        if self.is_resting or self._rng.random() >= self._aims[moment]:
            return
        if moment == "persist":
            self.crash(member)
        elif self._rng.random() < 0.7:
            self._world.after(0, self.crash, member)  # once it has said what it was about to say
        else:
            self._world.network.isolate(member.member_id, self._world.members)
            self._world.after(self._rng.uniform(200, 1500), self._mend)

    def crash(self, member: SimulatedMember) -> None:
        """Kill it; it comes back soon, at once, or late."""
        if not member.is_up:
            return
        member.crash()
        pause = self._rng.choice((5.0, 300.0, 1500.0))
        self._world.after(self._rng.uniform(0, pause), self._world.restart, member)

    def _crash_somebody(self) -> None:
        up = [m for m in self._world.members.values() if m.is_up]
        if up:
            self.crash(self._rng.choice(up))

    def _cut_the_power(self) -> None:
        self._world.count["power cuts"] += 1
        for member in list(self._world.members.values()):
            self.crash(member)

    def _pause_somebody(self) -> None:
        running = [m for m in self._world.members.values() if m.is_up and not m.is_paused]
        if running:
            member = self._rng.choice(running)
            member.pause()
            self._world.count["pauses"] += 1
            self._world.after(self._rng.choice((100.0, 600.0, 2500.0)), member.resume)

    def _refuse_writes(self) -> None:
        """A full or failing disk: a leader says farewell, then the member is gone until a fresh open takes writes."""
        running = [m for m in self._world.members.values() if m.is_up and not m.is_paused]
        if running:
            member = self._rng.choice(running)
            member.lose_disk()
            self._world.count["disks that refused"] += 1
            self._world.after(self._rng.uniform(0, 2000), self.crash, member)

    def _lose_a_disk(self) -> None:
        """A damaged log: the member never speaks under this id again, and joins as a new one once it is removed. One at
        a time, and only where the others can go on without it: what counts is committed, for a removal that is not may
        be undone, and then two of four are gone."""
        leaders = self._world.leaders()
        if self._lost or not leaders:
            return
        core = max(leaders, key=lambda m: m.core.term).core
        settled = core.committed_configuration.voters
        if min(len(settled), len(core.configuration.voters)) >= 3:
            lost = self._rng.choice(settled)
            self._world.retire(lost)
            self._world.count["disks lost"] += 1
            self._lost.add(lost)
            self._replace_lost()

    def _replace_lost(self) -> None:
        for leader in self._world.leaders():
            for lost in sorted(self._lost):
                member = leader.core.configuration.member(lost)
                if member is not None:
                    self._propose(leader, MembershipChange(kind=ChangeKind.REMOVE, member=member))
                elif lost in leader.core.committed_configuration.removed and not self.is_resting:
                    self._lost.discard(lost)
                    self._add(leader)
        if self._lost and not self.is_resting:
            self._world.after(200, self._replace_lost)

    def _cut(self) -> None:
        self._world.network.cut(self._world.members)
        self._world.count["partitions"] += 1
        self._world.after(self._rng.uniform(200, 1500), self._mend)

    def _mend(self) -> None:
        self._world.network.mend()

    def _transfer(self) -> None:
        for leader in self._world.leaders():
            try:
                leader.core.transfer_leadership()
            except SwarmError:
                continue
            self._world.count["transfers"] += 1
            leader.drain()

    def _wipe(self, member_id: int) -> None:
        """A learner loses its disk: it never speaks again under this id, and whoever leads removes it."""
        if self.is_resting:
            return
        for leader in self._world.leaders():
            member = leader.core.configuration.member(member_id)
            if member is None or member.is_voter or self._world.is_retired(member_id):
                continue
            if self._propose(leader, MembershipChange(kind=ChangeKind.REMOVE, member=member)):
                self._world.retire(member_id)
                self._world.count["learners wiped"] += 1

    def _change_membership(self) -> None:
        for leader in self._world.leaders():
            members = leader.core.configuration.members
            kind = self._rng.choice((ChangeKind.ADD_LEARNER, ChangeKind.REMOVE, ChangeKind.UPDATE_ADDRESSES))
            if kind is ChangeKind.ADD_LEARNER:
                if len(members) < MEMBERS_MAX:
                    self._add(leader)
                continue
            member = self._rng.choice(members)
            if self._lost and kind is ChangeKind.REMOVE and member.member_id not in self._lost:
                continue  # two of three gone is more than three survive, the second one by an operator's hand or not
            self._propose(leader, MembershipChange(kind=kind, member=member))

    def _add(self, leader: SimulatedMember) -> None:
        member_id = self._world.next_member_id()
        member = Member(member_id=member_id, node_id=f"node-{member_id}")
        if self._propose(leader, MembershipChange(kind=ChangeKind.ADD_LEARNER, member=member)):
            self._world.spawn(member_id)
            if self._rng.random() < self._world.faults.aim_learner:
                self._world.after(self._rng.uniform(50, 600), self._wipe, member_id)

    def _propose(self, leader: SimulatedMember, change: MembershipChange) -> bool:
        try:
            leader.core.propose_change(change)
        except SwarmError:
            return False
        leader.drain()
        self._world.count["membership changes"] += 1
        self.saw("change", leader)
        return True
