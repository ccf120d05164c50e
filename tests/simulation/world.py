"""One life of a cluster, event by event, from a seed: the same seed and code replay it exactly."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from swarmd.raft import (
    ChangeKind,
    Entry,
    EntryKind,
    HardState,
    Member,
    MembershipChange,
    Message,
    MessageType,
    RaftCore,
    encode_change,
)
from tests.simulation.clients import Clients
from tests.simulation.disk import Disk
from tests.simulation.faults import Faults
from tests.simulation.invariants import Invariants
from tests.simulation.machine import Machine, RegisterMachine
from tests.simulation.member import SimulatedMember
from tests.simulation.nemesis import Nemesis
from tests.simulation.network import Network
from tests.simulation.witness import Witness

SAFETY_MS = 4_000
LIVENESS_MS = 20_000
EVENTS_REMEMBERED = 30
EVENT_CHARACTERS = 400
LOSS_NOTICED = 0.3
NO_WEATHER: Final[Mapping[str, float]] = MappingProxyType({})


class World:
    """A heap of events, and everything they may touch.

    Args:
        seed: decides everything.
        machine_factory: what the members agree about.
        core_factory: how a member's core is made (the mutants of the suite put theirs here).
        safety_ms: how long anything may fail.
        weather: faults that are as given, whatever the dice say.
    """

    def __init__(
        self,
        seed: int,
        *,
        machine_factory: Callable[[], Machine] = RegisterMachine,
        core_factory: Callable[..., RaftCore] = RaftCore,
        safety_ms: int = SAFETY_MS,
        weather: Mapping[str, float] = NO_WEATHER,
    ) -> None:
        self.seed = seed
        self._safety_ms = safety_ms
        self.rng = random.Random(seed)
        self.machine_factory = machine_factory
        self.core_factory = core_factory
        self.faults = replace(Faults.draw(self.rng), **weather)
        self.settings = self.faults.settings()
        self.now = 0.0
        self.step = 0
        self.count: Counter[str] = Counter()
        self.leading: dict[int, tuple[int, int]] = {}
        self.invariants = Invariants()
        self.witness = Witness()
        self.members: dict[int, SimulatedMember] = {}
        self._retired: set[int] = set()
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = itertools.count()
        self._recent: deque[tuple[float, Message]] = deque(maxlen=EVENTS_REMEMBERED)
        self._member_ids = itertools.count(1)
        self.network = Network(random.Random(self.rng.getrandbits(64)), self.faults)
        self.nemesis = Nemesis(self, random.Random(self.rng.getrandbits(64)))
        self._found()
        self.clients = Clients(self, random.Random(self.rng.getrandbits(64)), count=4)

    def _found(self) -> None:
        """Every founder's log begins with all of them as voters."""
        ids = [self.next_member_id() for _ in range(self.faults.voters)]
        members = [Member(member_id=i, node_id=f"node-{i}") for i in ids]
        changes = [
            MembershipChange(kind=kind, member=member)
            for member in members
            for kind in (ChangeKind.ADD_LEARNER, ChangeKind.PROMOTE)
        ]
        entries = [Entry(i, 1, EntryKind.CONFIG, encode_change(change)) for i, change in enumerate(changes, 1)]
        for member_id in ids:
            self.spawn(member_id, Disk(hard_state=HardState(term=1, commit=len(entries)), entries=list(entries)))

    # -- events ----------------------------------------------------------------------------------------------------
    def after(self, delay_ms: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action` later."""
        heapq.heappush(self._heap, (self.now + delay_ms, next(self._sequence), action, arguments))

    def run_next_event(self) -> None:
        """Live one event."""
        self.now, _, action, arguments = heapq.heappop(self._heap)
        self.step += 1
        action(*arguments)

    def send(self, message: Message, data: bytes) -> None:
        """Hand a message to the network."""
        self._recent.append((self.now, message))
        target = self.members.get(message.target)
        arrivals = self.network.arrivals(message.source, message.target) if target is not None else []
        is_snapshot = message.type is MessageType.SNAPSHOT
        for delay in arrivals:
            if target is not None:
                self.after(delay * (5 if is_snapshot else 1), target.receive, message, data)
        if not arrivals and self.rng.random() < LOSS_NOTICED:
            self.after(1, self._report_unreachable, message)
        if is_snapshot:
            delay = max(arrivals, default=500.0) * 5 + 1
            self.after(delay, self._report_snapshot, message, bool(arrivals))

    def _report_snapshot(self, message: Message, delivered: bool) -> None:
        self.members[message.source].transfer_ended(message.target, delivered)

    def _report_unreachable(self, message: Message) -> None:
        self.members[message.source].lost_sight_of(message.target)

    def disk_delay(self) -> float:
        """How long the next sync takes."""
        if self.network.is_healed:
            return 1.0
        if self.rng.random() < self.faults.disk_stall:
            return self.rng.uniform(100, 1000)
        return self.rng.expovariate(1 / self.faults.disk_ms)

    # -- members ---------------------------------------------------------------------------------------------------
    def next_member_id(self) -> int:
        """Never used before."""
        return next(self._member_ids)

    def spawn(self, member_id: int, disk: Disk | None = None) -> None:
        """A machine with this member id begins to live."""
        member = SimulatedMember(self, member_id, disk or Disk())
        skew = self.faults.tick_skew
        member.tick_ms = 100 * self.rng.uniform(1 - skew, 1 + skew)
        self.members[member_id] = member
        member.start()

    def restart(self, member: SimulatedMember) -> None:
        """After a crash; nothing if it runs, or is gone for good."""
        if not member.is_up and member.member_id not in self._retired:
            member.start()

    def retire(self, member_id: int) -> None:
        """Gone for good, disk and all."""
        self._retired.add(member_id)
        if member_id in self.members:
            self.members[member_id].crash()

    def is_retired(self, member_id: int) -> bool:
        """Whether it is gone for good."""
        return member_id in self._retired

    def leaders(self) -> list[SimulatedMember]:
        """Whoever believes that it leads."""
        return [member for member in self.members.values() if member.is_up and member.core.is_leader]

    # -- phases ----------------------------------------------------------------------------------------------------
    def live(self) -> None:
        """Safety: anything may fail at any moment, and every event is checked. Then heal and demand convergence."""
        while self.now < self._safety_ms:
            self.run_next_event()
        self.heal()
        deadline = self.now + LIVENESS_MS
        while self.now < deadline and not self.has_settled():
            self.run_next_event()
        assert self.has_settled(), "no convergence: " + self.describe()
        self.clients.check()
        self.count["elections"] = self.invariants.elections

    def heal(self) -> None:
        """Faults off, everybody up."""
        self.network.heal()
        self.nemesis.is_resting = self.clients.is_resting = True
        for member in list(self.members.values()):
            member.resume()
            self.restart(member)

    def has_settled(self) -> bool:
        """One leader that has committed in its term, and every member of its configuration equal to it."""
        leaders = self.leaders()
        if not leaders:
            return False
        leader = max(leaders, key=lambda member: member.core.term)
        core = leader.core
        if not core.has_committed_in_term or core.commit != core.last_index or core.commit < self.invariants.commit:
            return False
        for member in core.configuration.members:
            other = self.members[member.member_id]
            if member.member_id in self._retired:
                continue
            if (other.machine.index, other.machine.digest) != (leader.machine.index, leader.machine.digest):
                return False
            if other.core.leader != core.member_id:
                return False
        return True

    def describe(self) -> str:
        """Seed, weather, members, and what was said last."""
        lines = [f"seed {self.seed} at {self.now:.1f} ms, event {self.step}", str(self.faults)]
        for member in self.members.values():
            core = member.core
            lines.append(
                f"{member.member_id} up={member.is_up} {core.role.name} term={core.term} leader={core.leader} "
                f"commit={core.commit} last={core.last_index} applied={member.machine.index} "
                f"voters={core.configuration.voters} members={[m.member_id for m in core.configuration.members]} "
                f"{core.progress()}"
            )
        lines += [f"{when:.1f} {message}"[:EVENT_CHARACTERS] for when, message in self._recent]
        return "\n".join(lines)


def simulate(seed: int, **factories: Any) -> Counter[str]:
    """Live one life. Returns what it contained; raises AssertionError with the seed and the last events."""
    world = World(seed, **factories)
    try:
        world.live()
    except Exception as error:
        raise AssertionError(f"{error!r}\n{world.describe()}") from error
    return world.count
