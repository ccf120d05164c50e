"""A hand-driven cluster: nothing happens unless the script says so, and every disk write is instantaneous."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

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
    ReadReady,
    Ready,
    Settings,
    SnapshotMeta,
    encode_change,
)

SETTINGS = Settings(election_ticks_min=10, promote_ticks_min=3)
CoreFactory = Callable[..., RaftCore]


def member(member_id: int) -> Member:
    return Member(member_id=member_id, node_id=f"node-{member_id}", addresses=(f"10.0.0.{member_id}:2377",))


def change(kind: ChangeKind, member_id: int) -> MembershipChange:
    return MembershipChange(kind=kind, member=member(member_id))


def founding_entries(voters: Sequence[int], learners: Sequence[int] = ()) -> list[Entry]:
    """A log of term 1 in which everybody is added, and the voters promoted."""
    changes = [change(ChangeKind.ADD_LEARNER, i) for i in (*voters, *learners)]
    changes += [change(ChangeKind.PROMOTE, i) for i in voters]
    return [Entry(i, 1, EntryKind.CONFIG, encode_change(c)) for i, c in enumerate(changes, 1)]


@dataclass
class Kept:
    """What a member's disk has."""

    hard_state: HardState = field(default_factory=HardState)
    entries: list[Entry] = field(default_factory=list)
    snapshot: SnapshotMeta = field(default_factory=SnapshotMeta)

    def write(self, ready: Ready) -> None:
        if ready.snapshot is not None:
            self.snapshot, self.entries = ready.snapshot, []
        if ready.entries:
            self.entries = [e for e in self.entries if e.index < ready.entries[0].index] + list(ready.entries)
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state


class Cluster:
    """Members with ids 1, 2, ...; `deliver` and `stabilize` move messages, `cut` and `lose` stop them."""

    def __init__(
        self,
        voters: int = 3,
        *,
        learners: int = 0,
        settings: Settings = SETTINGS,
        core_factory: CoreFactory = RaftCore,
    ) -> None:
        self.settings = settings
        self.core_factory = core_factory
        self.kept: dict[int, Kept] = {}
        self.cores: dict[int, RaftCore] = {}
        self.applied: dict[int, list[Entry]] = {}
        self.ever_applied: dict[int, Entry] = {}
        self.installed: dict[int, list[SnapshotMeta]] = {}
        self.reads: dict[int, list[ReadReady]] = {}
        self.in_flight: list[Message] = []
        self.sent: list[Message] = []
        self._cut: set[int] = set()
        self.lose: Callable[[Message], bool] = lambda message: False
        ids = list(range(1, voters + learners + 1))
        log = founding_entries(ids[:voters], ids[voters:])
        for i in ids:
            self.add(i, HardState(term=1, commit=len(log)), log)

    # -- members ---------------------------------------------------------------------------------------------------
    def add(self, member_id: int, hard_state: HardState | None = None, log: Sequence[Entry] = ()) -> RaftCore:
        """A machine with this disk (empty: a joiner) starts."""
        self.kept[member_id] = Kept(hard_state or HardState(), list(log))
        return self.start(member_id)

    def start(self, member_id: int) -> RaftCore:
        """(Re)start from the disk."""
        kept = self.kept[member_id]
        self.cores[member_id] = self.core_factory(
            member_id,
            self.settings,
            random.Random(member_id),
            hard_state=kept.hard_state,
            snapshot=kept.snapshot,
            entries=kept.entries,
        )
        self.applied[member_id] = []
        self.installed[member_id] = []
        self.reads[member_id] = []
        return self.cores[member_id]

    def crash(self, member_id: int) -> None:
        """Whatever was not handed over is gone, and so is what was on its way to it."""
        del self.cores[member_id]
        self.in_flight = [m for m in self.in_flight if m.target != member_id]

    def restart(self, member_id: int) -> RaftCore:
        """Crash, and start again."""
        self.crash(member_id)
        return self.start(member_id)

    # -- messages --------------------------------------------------------------------------------------------------
    def cut(self, *members: int) -> None:
        """Nothing passes between these and the others."""
        self._cut |= set(members)

    def mend(self) -> None:
        """Everything passes again."""
        self._cut.clear()
        self.lose = lambda message: False

    def ready(self, member_id: int) -> Ready:
        """Take one Ready and obey it."""
        core, ready = self.cores[member_id], self.cores[member_id].take_ready()
        self.kept[member_id].write(ready)
        self._post(ready.messages + ready.after_persist)
        if ready.snapshot is not None:
            self.installed[member_id].append(ready.snapshot)
        for entry in ready.committed:
            known = self.ever_applied.setdefault(entry.index, entry)
            assert known == entry, f"two entries applied at {entry.index}: {known} and {entry}"
        self.applied[member_id] += ready.committed
        if ready.committed:
            core.applied(ready.committed[-1].index)
        self.reads[member_id] += ready.reads
        if ready.entries:
            core.persisted(ready.entries[-1].index, ready.entries[-1].term)
        return ready

    def drain(self) -> None:
        """Obey everybody until nobody asks for anything."""
        while any(core.has_ready() for core in self.cores.values()):
            for member_id in list(self.cores):
                if self.cores[member_id].has_ready():
                    self.ready(member_id)

    def _post(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.sent.append(message)
            is_cut = (message.source in self._cut) != (message.target in self._cut)
            if not is_cut and message.target in self.cores and not self.lose(message):
                self.in_flight.append(message)

    def deliver(self, *, count: int | None = None) -> None:
        """Deliver what is in flight now (the first `count` of it)."""
        batch = self.in_flight[:count]
        self.in_flight = self.in_flight[len(batch) :]
        for message in batch:
            if message.target in self.cores:
                self.cores[message.target].step(message)

    def stabilize(self) -> None:
        """Drain and deliver until it is quiet."""
        for _ in range(1000):
            self.drain()
            if not self.in_flight:
                return
            self.deliver()
        raise AssertionError("the cluster does not come to rest")

    def tick(self, count: int = 1, *, only: Sequence[int] | None = None) -> None:
        """Tick everybody (or some) and stabilize after each."""
        for _ in range(count):
            for member_id in only or list(self.cores):
                self.cores[member_id].tick()
            self.stabilize()

    # -- verbs -----------------------------------------------------------------------------------------------------
    def elect(self, member_id: int) -> RaftCore:
        """Make this member the leader at the first try; leases of the others run out first."""
        self.expire_leases()
        self.cores[member_id].campaign()
        self.stabilize()
        core = self.cores[member_id]
        assert core.is_leader, f"member {member_id} was not elected"
        return core

    def elect_eventually(self, member_id: int) -> RaftCore:
        """The same, at the third try at the latest (it may have to learn of a later term first)."""
        for _ in range(2):
            self.expire_leases()
            self.cores[member_id].campaign()
            self.stabilize()
        return self.cores[member_id] if self.cores[member_id].is_leader else self.elect(member_id)

    def expire_leases(self) -> None:
        """As if nobody had heard of a leader for an election timeout, without the ticks that would start elections."""
        for core in self.cores.values():
            core._elapsed_ticks = self.settings.election_ticks_min

    def propose(self, member_id: int, *bodies: bytes) -> int:
        """Propose, stabilize, and return the index of the last."""
        first, _ = self.cores[member_id].propose(bodies)
        self.stabilize()
        return first + len(bodies) - 1

    def data(self, member_id: int) -> list[bytes]:
        """Bodies of the commands this member applied."""
        return [e.body for e in self.applied[member_id] if e.kind is EntryKind.DATA]

    def of_type(self, *types: MessageType) -> list[Message]:
        """Messages said so far, of these types."""
        return [m for m in self.sent if m.type in types]

    def assert_logs_match(self) -> None:
        """Log matching over what the disks have."""
        for a, b in pairwise(sorted(self.kept)):
            mine = {e.index: e for e in self.kept[a].entries}
            shared = [(mine[e.index], e) for e in self.kept[b].entries if e.index in mine]
            agreed = [i for i, (x, y) in enumerate(shared) if x.term == y.term]
            if agreed:
                assert all(x == y for x, y in shared[: agreed[-1] + 1]), f"logs of {a} and {b} differ"
