"""ReadIndex: dissertation 6.4."""

from __future__ import annotations

from swarmd.raft import Message, MessageType, ReadReady
from tests.scenarios.raft.cluster import Cluster


def test_a_leader_confirms_with_a_quorum_before_it_answers() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.read_index(7)
    ready = leader.take_ready()
    assert ready.reads == ()
    beat = next(m for m in ready.messages if m.type is MessageType.HEARTBEAT and m.target == 2)
    answer = Message(type=MessageType.HEARTBEAT_REPLY, source=2, target=1, term=2, context=beat.context)
    leader.step(Message(type=MessageType.HEARTBEAT_REPLY, source=2, target=1, term=2, context=beat.context - 1))
    assert leader.take_ready().reads == (), "an answer to an earlier round proves nothing"
    leader.step(answer)
    assert leader.take_ready().reads == (ReadReady(7, leader.commit),)


def test_reads_that_arrive_together_share_a_round_and_later_ones_the_next() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    for context in range(100):
        leader.read_index(context)
    assert len(leader.take_ready().messages) == 2
    leader.read_index(100)
    assert not leader.has_ready(), "one round at a time"
    leader.tick()  # the next heartbeat is a round anyway
    cluster.stabilize()
    assert [r.context for r in cluster.reads[1]] == list(range(101))


def test_a_cut_off_leader_answers_no_read_and_refuses_when_it_steps_down() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.cut(1)
    leader.read_index(1)
    cluster.tick(9, only=[1])
    assert cluster.reads[1] == []
    cluster.tick(5, only=[1])
    assert cluster.reads[1] == [ReadReady(1, -1)]


def test_reads_wait_for_an_entry_of_the_own_term() -> None:
    cluster = Cluster(3)
    cluster.lose = lambda m: m.type is MessageType.APPEND
    leader = cluster.elect(1)
    leader.read_index(1)
    cluster.tick(3)
    assert cluster.reads[1] == []
    cluster.mend()
    cluster.tick(3)
    assert cluster.reads[1] == [ReadReady(1, leader.commit)]


def test_a_sole_voter_answers_at_once() -> None:
    cluster = Cluster(1)
    leader = cluster.elect(1)
    leader.read_index(1)
    assert leader.take_ready().reads == (ReadReady(1, leader.commit),)


def test_a_follower_asks_its_leader_in_one_message_and_learns_the_commit_index_with_the_answer() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    at = cluster.propose(1, b"x")
    follower = cluster.cores[2]
    assert follower.commit < at
    for context in (5, 6):
        follower.read_index(context)
    assert len(follower.take_ready().messages) == 1
    follower.read_index(7)
    cluster.stabilize()
    follower._asked.abandon()
    follower.read_index(8)
    cluster.stabilize()
    assert cluster.reads[2] == [ReadReady(7, at), ReadReady(8, at)]
    assert cluster.data(2) == [b"x"], "applied without waiting for a heartbeat"


def test_a_follower_without_a_leader_refuses_at_once() -> None:
    cluster = Cluster(3)
    cluster.cores[1].read_index(9)
    assert cluster.cores[1].take_ready().reads == (ReadReady(9, -1),)


def test_a_follower_refuses_when_the_leader_changes_or_does_not_answer() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.lose = lambda m: m.type is MessageType.READ_INDEX
    cluster.cores[2].read_index(1)
    cluster.tick(9)
    assert cluster.reads[2] == []
    cluster.tick(2)
    assert cluster.reads[2] == [ReadReady(1, -1)]
    cluster.cores[2].read_index(2)
    cluster.drain()
    cluster.elect(3)
    assert cluster.reads[2][-1] == ReadReady(2, -1)


def test_an_answer_from_anyone_but_the_leader_is_ignored() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    follower = cluster.cores[2]
    follower.read_index(1)
    batch = follower.take_ready().messages[0].context
    forged = Message(type=MessageType.READ_INDEX_REPLY, source=3, target=2, term=2, context=batch, index=1)
    follower.step(forged)
    assert follower.take_ready().reads == ()


def test_a_member_that_does_not_lead_refuses_to_answer_for_the_leader() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.cores[2].step(Message(type=MessageType.READ_INDEX, source=3, target=2, term=2, context=4))
    replies = cluster.cores[2].take_ready().messages
    assert [(m.type, m.reject, m.context) for m in replies] == [(MessageType.READ_INDEX_REPLY, True, 4)]
