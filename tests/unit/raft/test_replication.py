"""Replication and commit: Raft 5.3, 5.4.2; performance-raft section 4."""

from __future__ import annotations

import msgspec
import pytest

from swarmd.errors import ResourceExhausted, Unavailable
from swarmd.raft import Message, MessageType, RaftCore
from tests.scenarios.raft.cluster import SETTINGS, Cluster


def test_a_batch_leaves_in_one_append_per_follower_that_shares_its_entries_with_the_disk() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    first, term = leader.propose([b"%d" % i for i in range(64)])
    ready = leader.take_ready()
    appends = [m for m in ready.messages if m.type is MessageType.APPEND]
    assert [m.target for m in appends] == [2, 3]
    assert all(m.entries is ready.entries for m in appends), "encoded once for everybody"
    assert [e.index for e in ready.entries] == list(range(first, first + 64))
    assert {e.term for e in ready.entries} == {term}
    assert ready.after_persist == ()
    assert ready.hard_state is None or ready.hard_state.term == term


def test_proposals_between_two_readies_share_one_append() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    for i in range(5):
        leader.propose([b"%d" % i])
    assert [len(m.entries) for m in leader.take_ready().messages] == [5, 5]


def test_commit_needs_a_majority_of_disks_of_which_the_own_counts_once_persisted() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    index, term = leader.propose([b"x"])
    leader.take_ready()
    leader.persisted(index, term)
    assert leader.commit == index - 1
    leader.step(Message(type=MessageType.APPEND_REPLY, source=2, target=1, term=term, index=index))
    assert leader.commit == index


def test_commit_may_run_ahead_of_the_own_disk() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    index, term = leader.propose([b"x"])
    leader.take_ready()
    leader.step(Message(type=MessageType.APPEND_REPLY, source=2, target=1, term=term, index=index))
    assert leader.commit == index - 1
    leader.step(Message(type=MessageType.APPEND_REPLY, source=3, target=1, term=term, index=index))
    assert [e.index for e in leader.take_ready().committed] == [index]


def test_disk_news_of_another_term_does_not_count() -> None:
    cluster = Cluster(1)
    leader = cluster.elect(1)
    index, term = leader.propose([b"x"])
    leader.take_ready()
    leader.persisted(index, term - 1)
    leader.persisted(index + 5, term)
    assert leader.commit == index - 1
    leader.persisted(index, term)
    assert leader.commit == index


def test_followers_acknowledge_once_with_the_newest_index_and_only_after_the_disk() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    follower = cluster.cores[2]
    for i in range(3):
        leader.propose([b"%d" % i])
        for message in leader.take_ready().messages:
            if message.target == 2:
                follower.step(message)
    ready = follower.take_ready()
    assert ready.messages == ()
    assert [(m.type, m.index) for m in ready.after_persist] == [(MessageType.APPEND_REPLY, leader.last_index)]
    assert len(ready.entries) == 3


def test_the_commit_index_travels_with_the_next_append_the_heartbeat_or_on_request() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    at = cluster.propose(1, b"x")
    assert cluster.cores[2].commit == at - 1
    leader.announce_commit()
    cluster.stabilize()
    assert cluster.cores[2].commit == at
    leader.announce_commit()
    assert not leader.has_ready(), "nothing new to announce"
    at = cluster.propose(1, b"y")
    cluster.tick(1)
    assert cluster.cores[3].commit == at


def test_entries_that_conflict_give_way_to_the_leaders() -> None:
    """5.3: the follower's log becomes the leader's."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.cut(1)
    for i in range(30):
        cluster.cores[1].propose([b"lost %d" % i])
    cluster.stabilize()
    cluster.elect(2)
    cluster.propose(2, b"kept")
    cluster.mend()
    before = len(cluster.sent)
    cluster.tick(3)
    refused = [m for m in cluster.sent[before:] if m.type is MessageType.APPEND_REPLY and m.reject and m.source == 1]
    assert len(refused) <= 2, "a hint spares one round trip per entry"
    assert [cluster.data(i) for i in (1, 2, 3)] == [[b"kept"]] * 3
    cluster.assert_logs_match()


def test_a_member_far_behind_is_found_with_one_refusal() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.tick(1)
    cluster.cut(3)
    cluster.propose(1, *[b"x"] * 500)
    cluster.cores[1].transfer_leadership(2)
    cluster.stabilize()
    assert cluster.cores[2].is_leader
    cluster.mend()
    before = len(cluster.sent)
    cluster.tick(2)
    refused = [m for m in cluster.sent[before:] if m.type is MessageType.APPEND_REPLY and m.reject]
    assert len(refused) <= 2
    assert cluster.data(3) == [b"x"] * 500


def test_appends_are_pipelined_up_to_the_window_and_limited_in_size() -> None:
    small = msgspec.structs.replace(SETTINGS, append_entries_max=2, appends_in_flight_max=3)
    cluster = Cluster(2, settings=small)
    leader = cluster.elect(1)
    leader.propose([b"x"] * 20)
    sent = [m for m in leader.take_ready().messages if m.type is MessageType.APPEND]
    assert [len(m.entries) for m in sent] == [2, 2, 2]
    assert not leader.has_ready()
    leader.step(Message(type=MessageType.APPEND_REPLY, source=2, target=1, term=2, index=sent[1].entries[-1].index))
    assert [len(m.entries) for m in leader.take_ready().messages] == [2, 2], "a cumulative answer frees two places"


def test_a_lost_append_is_noticed_and_repeated() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.lose = lambda m: m.type is MessageType.APPEND and m.target == 2
    cluster.propose(1, b"a")
    cluster.mend()
    cluster.propose(1, b"b")
    cluster.tick(3)
    assert cluster.data(2) == [b"a", b"b"]


def test_an_unreachable_member_is_probed_not_flooded() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.report_unreachable(2)
    for _ in range(5):
        leader.propose([b"x"])
    assert not [m for m in leader.take_ready().messages if m.target == 2]
    cluster.tick(3)
    assert cluster.cores[2].last_index == leader.last_index


def test_duplicates_and_reordering_change_nothing() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    messages: list[Message] = []
    for i in range(4):
        leader.propose([b"%d" % i])
        messages += [m for m in leader.take_ready().messages if m.target == 2]
    follower: RaftCore = cluster.cores[2]
    for message in [*reversed(messages), *messages, messages[0]]:
        follower.step(message)
    assert follower.last_index == leader.last_index
    assert [e.body for e in follower.take_ready().entries] == [b"0", b"1", b"2", b"3"]


def test_a_duplicate_behind_the_commit_index_is_acknowledged_with_it() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"a", b"b")
    cluster.tick(1)
    follower = cluster.cores[2]
    old = next(m for m in cluster.of_type(MessageType.APPEND) if m.target == 2 and m.entries)
    follower.step(old)
    assert [m.index for m in follower.take_ready().after_persist] == [follower.commit]


def test_only_the_leader_accepts_proposals() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    with pytest.raises(Unavailable):
        cluster.cores[2].propose([b"x"])
    assert not cluster.cores[2].has_ready()


def test_proposals_beyond_the_uncommitted_limit_are_refused_and_leave_no_trace() -> None:
    small = msgspec.structs.replace(SETTINGS, uncommitted_bytes_max=10)
    cluster = Cluster(3, settings=small)
    leader = cluster.elect(1)
    leader.propose([b"x" * 100])  # alone it is let through: else it never could be
    last = leader.last_index
    with pytest.raises(ResourceExhausted):
        leader.propose([b"y"])
    assert leader.last_index == last
    cluster.stabilize()
    leader.propose([b"y"])


def test_a_restart_finds_term_vote_log_and_applies_what_was_committed() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"a")
    cluster.propose(1, b"b")
    core = cluster.restart(2)
    assert (core.term, core.role) == (2, 0)
    assert core.last_index == cluster.cores[1].last_index
    cluster.tick(3)
    assert cluster.data(2) == [b"a", b"b"]


def test_the_commit_hint_never_causes_a_write_of_its_own() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.propose(1, b"x")
    leader.announce_commit()
    cluster.drain()
    cluster.deliver()
    ready = cluster.cores[2].take_ready()
    assert ready.committed
    assert ready.hard_state is None
