"""Membership in life: dissertation chapter 4, learners, transfer (3.10), the leader that leaves."""

from __future__ import annotations

import msgspec
import pytest

from swarmd.errors import FailedPrecondition, Unavailable
from swarmd.raft import ChangeKind, Message, MessageType, RaftRole
from tests.scenarios.raft.cluster import SETTINGS, Cluster, change

ADD, PROMOTE, REMOVE, UPDATE = ChangeKind


def test_a_joiner_with_nothing_becomes_a_learner_then_a_voter() -> None:
    cluster = Cluster(1)
    leader = cluster.elect(1)
    cluster.propose(1, *[b"x"] * 10)
    cluster.add(2)
    leader.propose_change(change(ADD, 2))
    cluster.stabilize()
    assert leader.configuration.voters == (1,)
    cluster.tick(15)
    assert leader.configuration.voters == (1, 2)
    assert cluster.data(2) == [b"x"] * 10
    assert cluster.cores[2].configuration == leader.configuration


def test_a_learner_that_lags_or_is_silent_is_not_promoted() -> None:
    cluster = Cluster(1, settings=msgspec.structs.replace(SETTINGS, promote_lag_max=5))
    leader = cluster.elect(1)
    leader.propose_change(change(ADD, 2))
    cluster.stabilize()
    cluster.tick(40)
    assert leader.configuration.voters == (1,), "nobody is there"
    cluster.add(2)
    cluster.lose = lambda m: m.type is MessageType.APPEND and bool(m.entries)
    cluster.propose(1, *[b"x"] * 10)
    cluster.tick(40)
    assert leader.configuration.voters == (1,), "it answers, and has nothing"
    cluster.mend()
    cluster.tick(10)
    assert leader.configuration.voters == (1, 2)


def test_learners_are_promoted_one_at_a_time() -> None:
    cluster = Cluster(1, learners=3)
    leader = cluster.elect(1)
    seen = [leader.configuration.voters]
    for _ in range(30):
        cluster.tick(1)
        if leader.configuration.voters != seen[-1]:
            seen.append(leader.configuration.voters)
    assert [len(voters) for voters in seen] == [1, 2, 3, 4]


def test_one_change_at_a_time_and_only_after_an_entry_of_the_own_term() -> None:
    """4.1; the bug fix of 2015: not before the leader has committed in its term."""
    cluster = Cluster(3)
    cluster.lose = lambda m: m.type is MessageType.APPEND
    leader = cluster.elect(1)
    with pytest.raises(FailedPrecondition, match="an entry of its term"):
        leader.propose_change(change(ADD, 4))
    cluster.mend()
    cluster.tick(2)
    leader.propose_change(change(ADD, 4))
    with pytest.raises(FailedPrecondition, match="not committed yet"):
        leader.propose_change(change(ADD, 5))
    with pytest.raises(Unavailable):
        cluster.cores[2].propose_change(change(ADD, 5))


def test_a_change_that_is_overwritten_is_undone() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.tick(1)
    cluster.cut(1)
    leader.propose_change(change(ADD, 4))
    cluster.stabilize()
    assert leader.configuration.member(4) is not None, "used from append"
    cluster.elect(2)
    cluster.mend()
    cluster.tick(2)
    assert cluster.cores[1].configuration.member(4) is None


def test_a_removed_id_is_refused_for_ever_and_its_words_are_ignored() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.tick(1)
    leader.propose_change(change(REMOVE, 3))
    cluster.tick(2)
    assert leader.configuration.removed == (3,)
    with pytest.raises(FailedPrecondition, match="never comes back"):
        leader.propose_change(change(ADD, 3), force=True)
    for target in (1, 2):
        cluster.cores[target].step(
            Message(type=MessageType.HEARTBEAT, source=3, target=target, term=99, index=1, log_term=1)
        )
        assert cluster.cores[target].term == 2


def test_a_removal_that_is_not_committed_silences_nobody() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.tick(1)
    cluster.cut(1)
    leader.propose_change(change(REMOVE, 3))
    cluster.stabilize()
    cluster.elect(3)  # the very member that is named
    cluster.propose(3, b"x")
    cluster.mend()
    cluster.tick(3)
    assert cluster.cores[1].leader == 3
    assert cluster.data(1) == [b"x"]


def test_the_guard_counts_who_answers() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.tick(1)
    cluster.cut(3)
    cluster.tick(12)
    with pytest.raises(FailedPrecondition, match="2 of 3 voters answer"):
        leader.propose_change(change(REMOVE, 2))
    leader.propose_change(change(REMOVE, 3))
    cluster.stabilize()
    assert leader.configuration.voters == (1, 2)
    assert leader.commit == leader.last_index


def test_the_guard_does_not_count_on_one_whose_link_was_just_lost() -> None:
    """However lately it answered: with it gone, removing another one would leave a majority that cannot be."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.tick(1)
    leader.report_unreachable(3)
    with pytest.raises(FailedPrecondition, match="2 of 3 voters answer"):
        leader.propose_change(change(REMOVE, 2))
    cluster.tick(1)  # it was heard again
    leader.propose_change(change(REMOVE, 2))
    cluster.stabilize()
    assert leader.configuration.voters == (1, 3)


def test_a_leader_may_remove_itself_and_the_others_go_on_at_once() -> None:
    """4.2.2: it leads without counting itself until the change is committed."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.tick(1)
    leader.propose_change(change(REMOVE, 1))
    assert leader.is_leader, "not before it is committed"
    cluster.stabilize()
    assert not leader.is_leader
    heirs = [i for i in (2, 3) if cluster.cores[i].is_leader]
    assert len(heirs) == 1, "without waiting for a timeout"
    cluster.propose(heirs[0], b"x")
    cluster.tick(40)
    assert leader.role is RaftRole.FOLLOWER
    assert cluster.data(2) == cluster.data(3) == [b"x"]


def test_a_member_whose_removal_nobody_else_has_still_stands() -> None:
    """4.2.2: its log may be the only one that can win. (Found by the simulator: two members waited for ever.)"""
    cluster = Cluster(2)
    leader = cluster.elect(1)
    cluster.tick(1)
    cluster.cut(1)
    leader.propose_change(change(REMOVE, 1))
    cluster.stabilize()
    cluster.crash(1)
    cluster.start(1)
    cluster.restart(2)
    cluster.mend()
    cluster.tick(60)
    assert cluster.cores[2].is_leader
    assert cluster.cores[2].configuration.voters == (2,)
    assert not cluster.cores[1].is_leader


def test_addresses_are_updated_everywhere() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.tick(1)
    moved = msgspec.structs.replace(
        change(UPDATE, 2), member=msgspec.structs.replace(change(UPDATE, 2).member, addresses=("10.1.1.1:1",))
    )
    leader.propose_change(moved)
    cluster.tick(2)
    for core in cluster.cores.values():
        found = core.configuration.member(2)
        assert found is not None
        assert found.addresses == ("10.1.1.1:1",)


def test_leadership_goes_to_the_best_match_without_waiting_for_a_timeout() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.tick(1)
    cluster.lose = lambda m: m.type is MessageType.APPEND and m.target == 2
    cluster.propose(1, b"x")
    cluster.mend()
    assert leader.transfer_leadership() == 3
    cluster.stabilize()
    assert cluster.cores[3].is_leader
    assert leader.leader == 3


def test_a_transfer_waits_until_the_target_has_everything_and_refuses_proposals_meanwhile() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.tick(1)
    leader.propose([b"x"])
    assert leader.transfer_leadership(2) == 2
    ready = leader.take_ready()
    assert not [m for m in ready.messages if m.type is MessageType.TIMEOUT_NOW]
    with pytest.raises(Unavailable, match="handed over"):
        leader.propose([b"y"])
    with pytest.raises(Unavailable, match="handed over"):
        leader.propose_change(change(ADD, 4))
    leader.step(Message(type=MessageType.APPEND_REPLY, source=2, target=1, term=2, index=leader.last_index))
    assert [m.target for m in leader.take_ready().messages if m.type is MessageType.TIMEOUT_NOW] == [2]


def test_a_transfer_is_given_up_after_an_election_timeout() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.tick(1)
    cluster.lose = lambda m: m.type is MessageType.TIMEOUT_NOW
    leader.transfer_leadership(2)
    cluster.tick(9)
    assert leader.transferee == 2
    cluster.tick(1)
    assert leader.transferee == 0
    cluster.propose(1, b"x")
    assert leader.is_leader


def test_a_lost_timeout_now_is_repeated() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.tick(1)
    cluster.lose = lambda m: m.type is MessageType.TIMEOUT_NOW
    leader.transfer_leadership(2)
    cluster.stabilize()
    cluster.mend()
    cluster.tick(1)
    assert cluster.cores[2].is_leader


@pytest.mark.parametrize("target", [1, 4, 99, 0])
def test_leadership_stays_where_nobody_can_take_it(target: int) -> None:
    cluster = Cluster(3, learners=1, settings=msgspec.structs.replace(SETTINGS, promote_ticks_min=1000))
    leader = cluster.elect(1)
    cluster.tick(1)
    if target == 0:
        cluster.lose = lambda m: m.target == 1 and m.source == 3
        cluster.cut(2)
        cluster.lose = lambda m: m.target == 1 and m.source in (2, 3)
        for _ in range(9):
            leader.tick()
        leader._leadership._progress[2].ticks_since_heard = 10  # type: ignore[union-attr]
        leader._leadership._progress[3].ticks_since_heard = 10  # type: ignore[union-attr]
    with pytest.raises(FailedPrecondition, match="stays here"):
        leader.transfer_leadership(target)
    with pytest.raises(Unavailable):
        cluster.cores[2].transfer_leadership()


def test_timeout_now_from_anyone_but_the_leader_is_ignored() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.cores[2].step(Message(type=MessageType.TIMEOUT_NOW, source=3, target=2, term=2))
    assert cluster.cores[2].role is RaftRole.FOLLOWER


def test_a_member_whose_disk_went_back_is_quarantined() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.propose(1, *[b"x"] * 10)
    cluster.tick(2)
    kept = cluster.kept[3]
    kept.entries = kept.entries[:-5]
    cluster.restart(3)
    cluster.tick(3)
    view = next(p for p in leader.progress() if p.member_id == 3)
    assert view.is_rolled_back
    at = cluster.propose(1, b"y")
    assert leader.commit == at
    assert cluster.cores[3].last_index < at
    leader.propose_change(change(REMOVE, 3))
