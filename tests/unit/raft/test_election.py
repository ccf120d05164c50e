"""Elections: Raft 5.2, 5.4.1; dissertation 3.10, 4.2.3, 6.2, 9.6."""

from __future__ import annotations

import random

import pytest

from swarmd.raft import HardState, Message, MessageType, RaftCore, RaftRole, Settings
from tests.scenarios.raft.cluster import Cluster, founding_entries


def fresh(member_id: int = 1, voters: int = 3, seed: int = 0) -> RaftCore:
    log = founding_entries(list(range(1, voters + 1)))
    core = RaftCore(
        member_id,
        Settings(),
        random.Random(seed),
        hard_state=HardState(term=1, commit=len(log)),
        entries=log,
    )
    core.take_ready()
    return core


def test_a_follower_that_hears_nobody_stands_after_min_to_twice_min_less_one_ticks() -> None:
    """5.2: timeouts are drawn from an interval, so that split votes are rare."""
    waited = set()
    for seed in range(200):
        core, ticks = fresh(seed=seed), 0
        while core.role is RaftRole.FOLLOWER:
            core.tick()
            ticks += 1
        waited.add(ticks)
    assert waited == set(range(10, 20))


def test_a_pre_candidate_changes_neither_term_nor_vote_and_needs_no_disk() -> None:
    """9.6: a member that cannot win does not raise the term."""
    core = fresh()
    core.campaign()
    ready = core.take_ready()
    assert core.role is RaftRole.PRE_CANDIDATE
    assert core.term == 1
    assert ready.hard_state is None
    assert {(m.type, m.target, m.term) for m in ready.messages} == {
        (MessageType.PRE_VOTE, 2, 2),
        (MessageType.PRE_VOTE, 3, 2),
    }


def test_requests_for_votes_wait_until_term_and_own_vote_are_durable() -> None:
    """5.2: it votes for itself; figure 2: persistent state is updated before responding."""
    core = fresh()
    core.campaign()
    core.step(Message(type=MessageType.PRE_VOTE_REPLY, source=2, target=1, term=2))
    ready = core.take_ready()
    assert ready.hard_state == HardState(term=2, voted_for=1, commit=core.commit)
    assert {m.type for m in ready.after_persist} == {MessageType.VOTE}
    assert not any(m.type is MessageType.VOTE for m in ready.messages)


def test_a_vote_is_granted_only_after_it_is_durable_and_once_a_term() -> None:
    """5.2: at most one candidate in a term, first come first served."""
    core = fresh(3)
    last = core.last_index
    ask = Message(type=MessageType.VOTE, source=1, target=3, term=2, index=last, log_term=1)
    core.step(ask)
    ready = core.take_ready()
    assert ready.hard_state is not None
    assert ready.hard_state.voted_for == 1
    assert [m.reject for m in ready.after_persist] == [False]
    core.step(Message(type=MessageType.VOTE, source=2, target=3, term=2, index=last, log_term=1))
    assert [m.reject for m in core.take_ready().messages] == [True]
    core.step(ask)
    again = core.take_ready()
    assert [m.reject for m in again.after_persist] == [False], "a repeated request gets the same vote, after the disk"


@pytest.mark.parametrize(
    ("log_term", "behind", "granted"),
    [(1, 0, True), (1, -1, False), (0, 5, False), (2, -3, True), (1, 1, True)],
)
@pytest.mark.parametrize("kind", [MessageType.VOTE, MessageType.PRE_VOTE])
def test_only_an_up_to_date_log_gets_a_vote(kind: MessageType, log_term: int, behind: int, granted: bool) -> None:
    """5.4.1: the later term wins, then the longer log."""
    core = fresh(3)
    core.step(Message(type=kind, source=1, target=3, term=3, index=core.last_index + behind, log_term=log_term))
    ready = core.take_ready()
    assert [m.reject for m in ready.messages + ready.after_persist] == [not granted]


def two_that_stand_at_once() -> tuple[RaftCore, RaftCore]:
    """Members 1 and 2 of three, whose questions to each other are on the way; 3 is silent."""
    first, second = fresh(1), fresh(2)
    first.campaign()
    second.campaign()
    questions = first.take_ready().messages, second.take_ready().messages
    for core, messages in ((second, questions[0]), (first, questions[1])):
        for message in messages:
            core.step(message)
    return first, second


def test_of_two_that_stand_at_once_one_gives_way() -> None:
    """Each would grant the other's pre-vote, stand for the same term, vote for itself, and both would wait for another
    election timeout: a leader that is gone was then missed for up to 3.7 s instead of 2."""
    first, second = two_that_stand_at_once()
    assert (first.role, second.role) == (RaftRole.FOLLOWER, RaftRole.PRE_CANDIDATE)
    (granted,) = first.take_ready().messages
    (refused,) = second.take_ready().messages
    assert (granted.reject, refused.reject) == (False, True)
    first.step(refused)
    second.step(granted)
    assert second.role is RaftRole.CANDIDATE


def test_the_better_log_goes_first() -> None:
    """Whoever is behind could not win anyway."""
    core = fresh(2)
    core.campaign()
    core.take_ready()
    core.step(Message(type=MessageType.PRE_VOTE, source=1, target=2, term=2, index=core.last_index + 1, log_term=1))
    assert core.role is RaftRole.FOLLOWER
    assert [m.reject for m in core.take_ready().messages] == [False]


def test_a_question_that_got_no_answer_holds_nobody_up() -> None:
    """The other was still sure of its leader, and ignored it. When it stands itself later it must not be refused."""
    core = fresh(2)
    core.campaign()
    core.take_ready()
    core.tick()
    core.tick()
    core.step(Message(type=MessageType.PRE_VOTE, source=1, target=2, term=2, index=core.last_index, log_term=1))
    assert [m.reject for m in core.take_ready().messages] == [False]


def test_a_leader_says_so_at_once_with_an_entry_of_its_term() -> None:
    """5.4.2, section 8: a noop at the start of a term."""
    cluster = Cluster(3)
    core = cluster.elect(1)
    assert core.has_committed_in_term
    assert all(c.leader == 1 for c in cluster.cores.values())


def test_a_candidate_gives_way_to_the_leader_of_its_term() -> None:
    """5.2: a legitimate leader's term is at least as large."""
    core = fresh()
    core.campaign()
    core.step(Message(type=MessageType.PRE_VOTE_REPLY, source=2, target=1, term=2))
    assert core.role is RaftRole.CANDIDATE
    core.step(Message(type=MessageType.HEARTBEAT, source=3, target=1, term=2))
    assert (core.role, core.leader, core.term) == (RaftRole.FOLLOWER, 3, 2)


def test_a_stale_leader_learns_of_the_later_term_and_follows() -> None:
    """5.1: a leader that discovers that its term is out of date reverts to follower."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.cut(1)
    cluster.elect(2)
    cluster.mend()
    cluster.tick(1)
    assert not cluster.cores[1].is_leader
    assert cluster.cores[1].leader == 2


def test_votes_are_ignored_while_a_leader_is_heard() -> None:
    """4.2.3: a disturbed cluster keeps its leader."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.tick(2)
    for kind in (MessageType.VOTE, MessageType.PRE_VOTE):
        for target in (1, 2):
            core = cluster.cores[target]
            core.step(Message(type=kind, source=3, target=target, term=9, index=99, log_term=8))
            assert core.term == 2
            assert not core.take_ready().messages
    assert cluster.cores[1].is_leader


def test_a_returning_member_does_not_depose_a_healthy_leader() -> None:
    """9.6: PreVote."""
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.cut(3)
    cluster.tick(60)
    assert cluster.cores[3].term == 2
    cluster.mend()
    cluster.tick(5)
    assert cluster.cores[1].is_leader
    assert cluster.cores[1].term == 2
    assert cluster.cores[3].leader == 1


def test_a_member_whose_term_is_ahead_is_not_shut_out() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.cores[3]._become_follower(7, 0)
    cluster.tick(40)
    leaders = [core for core in cluster.cores.values() if core.is_leader]
    assert len(leaders) == 1
    assert leaders[0].term >= 7
    assert all(core.leader == leaders[0].member_id for core in cluster.cores.values())


def test_a_leader_without_an_answering_quorum_steps_down_after_an_election_timeout() -> None:
    """6.2: CheckQuorum."""
    cluster = Cluster(3)
    core = cluster.elect(1)
    cluster.tick(1)
    cluster.cut(1)
    cluster.tick(9, only=[1])
    assert core.is_leader
    cluster.tick(1, only=[1])
    assert not core.is_leader
    assert core.leader == 0


def test_a_sole_voter_leads_at_its_first_tick_and_commits_once_persisted() -> None:
    core = fresh(voters=1)
    core.tick()
    assert core.is_leader
    first = core.take_ready()
    core.persisted(first.entries[-1].index, core.term)
    index, term = core.propose([b"x"])
    ready = core.take_ready()
    assert core.commit == index - 1
    core.persisted(ready.entries[-1].index, term)
    assert core.commit == index


def test_a_sole_voter_says_nothing_before_its_term_is_durable() -> None:
    """Else a crash could let it lead one term twice, with different entries."""
    cluster = Cluster(1, learners=1)
    core = cluster.cores[1]
    core.take_ready()
    core.tick()
    core.propose([b"x"])
    ready = core.take_ready()
    assert ready.messages == ()
    assert {m.type for m in ready.after_persist} >= {MessageType.APPEND}
    core.tick()
    assert core.take_ready().messages == ()
    core.persisted(ready.entries[-1].index, core.term)
    core.tick()
    assert core.take_ready().messages


def test_a_learner_never_stands_but_votes() -> None:
    """4.2.1; it may have been promoted without knowing."""
    cluster = Cluster(1, learners=1)
    core = cluster.cores[2]
    cluster.drain()
    for _ in range(50):
        core.tick()
    core.campaign()
    assert core.role is RaftRole.FOLLOWER
    core.step(Message(type=MessageType.VOTE, source=1, target=2, term=2, index=core.last_index, log_term=1))
    assert [m.reject for m in core.take_ready().after_persist] == [False]


def test_votes_of_learners_and_strangers_do_not_count() -> None:
    cluster = Cluster(3, learners=1)
    cluster.drain()
    core = cluster.cores[1]
    core.campaign()
    for source in (4, 99):
        core.step(Message(type=MessageType.PRE_VOTE_REPLY, source=source, target=1, term=2))
    assert core.role is RaftRole.PRE_CANDIDATE


def test_an_unknown_member_may_ask_for_a_vote_and_lead() -> None:
    """4.1: a lagging member does not know the newest configuration; servers use requests from outside it."""
    core = fresh(3)
    core.step(Message(type=MessageType.VOTE, source=8, target=3, term=2, index=99, log_term=1))
    assert [m.reject for m in core.take_ready().after_persist] == [False]
    core.step(Message(type=MessageType.HEARTBEAT, source=8, target=3, term=2))
    assert core.leader == 8
