"""The famous stories, as functions of the core they are told about: the real one must pass, a mutant must not."""

from __future__ import annotations

import msgspec

from swarmd.raft import Entry, EntryKind, HardState, Message, MessageType, RaftCore
from tests.scenarios.raft.cluster import SETTINGS, Cluster, CoreFactory, founding_entries


def cluster_with_logs(core_factory: CoreFactory, term: int, logs: dict[int, list[int]]) -> tuple[Cluster, int]:
    """Members in `term` whose logs continue the founding with entries of these terms; and where the founding ends."""
    one_by_one = msgspec.structs.replace(SETTINGS, append_entries_max=1)
    cluster = Cluster(len(logs), core_factory=core_factory, settings=one_by_one)
    founding = founding_entries(list(logs))
    for member_id, terms in logs.items():
        tail = [Entry(len(founding) + at, t, EntryKind.DATA, b"of term %d" % t) for at, t in enumerate(terms, 1)]
        cluster.add(member_id, HardState(term=term, commit=len(founding)), founding + tail)
    cluster.drain()
    return cluster, len(founding)


def old_terms_are_not_committed_by_counting(core_factory: CoreFactory = RaftCore) -> None:
    """Raft figure 8: in term 4, S1 brings an entry of term 2 to a majority; S5 may still overwrite it from term 3."""
    cluster, founding = cluster_with_logs(core_factory, 3, {1: [2], 2: [], 3: [], 4: [], 5: [3]})
    cluster.cut(4, 5)
    cluster.lose = lambda m: any(e.term == 4 for e in m.entries) and cluster.cores[m.target].last_index >= m.index
    cluster.elect(1)
    cluster.tick(3, only=[1])
    assert [cluster.kept[i].entries[founding].term for i in (1, 2, 3)] == [2, 2, 2], "the old entry is on a majority"
    assert cluster.cores[1].last_index == founding + 2, "and the entry of term 4 on its leader alone"
    cluster.crash(1)
    cluster.mend()
    cluster.elect_eventually(5)
    cluster.start(1)
    cluster.tick(20)
    bodies = [cluster.kept[i].entries[founding].body for i in cluster.cores]
    assert bodies == [b"of term 3"] * 5, f"S5 was free to overwrite: {bodies}"


def a_vote_survives_a_crash(core_factory: CoreFactory = RaftCore) -> None:
    """Raft 5.2 and figure 2: S3 votes for S1, crashes, comes back, and is asked by S2 in the same term."""
    cluster = Cluster(3, core_factory=core_factory)
    cluster.drain()
    cluster.lose = lambda m: m.type in (MessageType.PRE_VOTE, MessageType.VOTE)
    for candidate in (1, 2):
        core = cluster.cores[candidate]
        core.campaign()
        core.step(Message(type=MessageType.PRE_VOTE_REPLY, source=3, target=candidate, term=core.term + 1))
        cluster.drain()
    requests = cluster.of_type(MessageType.VOTE)
    cluster.mend()
    for candidate in (1, 2):
        request = next(m for m in requests if m.source == candidate and m.target == 3)
        cluster.cores[3].step(request)
        cluster.drain()
        replies = [m for m in cluster.in_flight if m.type is MessageType.VOTE_REPLY]
        cluster.in_flight.clear()
        for reply in replies:
            cluster.cores[reply.target].step(reply)
        cluster.restart(3)
        cluster.in_flight.clear()
    leaders = [i for i in (1, 2) if cluster.cores[i].is_leader]
    assert leaders == [1], f"one leader a term, not {leaders}"


def a_shorter_log_is_not_elected(core_factory: CoreFactory = RaftCore) -> None:
    """Raft 5.4.1: S3 missed a committed entry, so it must not lead while only it and one other are up."""
    cluster = Cluster(3, core_factory=core_factory)
    cluster.elect(1)
    cluster.cut(3)
    at = cluster.propose(1, b"precious")
    assert cluster.cores[1].commit == at
    cluster.mend()
    cluster.crash(1)
    cluster.expire_leases()
    for _ in range(3):
        cluster.cores[3].campaign()
        cluster.stabilize()
    assert not cluster.cores[3].is_leader, "a member without a committed entry leads"
    cluster.elect_eventually(2)
    cluster.tick(2)
    assert cluster.data(3) == [b"precious"]


def a_minority_does_not_commit(core_factory: CoreFactory = RaftCore) -> None:
    """Raft 5.3: a leader cut off with one follower of five commits nothing, and its entries give way."""
    cluster = Cluster(5, core_factory=core_factory)
    cluster.elect(1)
    before = cluster.cores[1].commit
    cluster.cut(1, 2)
    cluster.propose(1, b"minority")
    assert cluster.cores[1].commit == before, "two of five committed"
    cluster.expire_leases()
    cluster.elect(3)
    cluster.propose(3, b"majority")
    cluster.mend()
    cluster.tick(25)
    assert all(cluster.data(i) == [b"majority"] for i in cluster.cores)
