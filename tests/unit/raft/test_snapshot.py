"""Snapshots and compaction: Raft section 7, dissertation 5.1."""

from __future__ import annotations

import pytest

from swarmd.raft import ChangeKind, Message, MessageType, SnapshotMeta
from tests.scenarios.raft.cluster import Cluster, change


def compacted(*, keep: int = 0) -> Cluster:
    """Member 3 was away; the leader has compacted what it needs."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.cut(3)
    cluster.propose(1, *[b"x"] * 20)
    leader.compact(leader.snapshot_meta(leader.commit), keep_entries=keep)
    return cluster


def test_a_snapshot_says_index_term_and_the_configuration_at_that_index() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    at = cluster.propose(1, b"x")
    meta = leader.snapshot_meta(at)
    assert (meta.index, meta.term, meta.configuration) == (at, 2, leader.configuration)
    assert leader.snapshot_meta(3).configuration.voters == ()
    with pytest.raises(ValueError, match="no snapshot"):
        leader.snapshot_meta(at + 1)


def test_compaction_keeps_the_asked_for_tail_and_refuses_what_is_not_applied() -> None:
    cluster = compacted(keep=5)
    leader = cluster.cores[1]
    assert leader.first_index == leader.commit - 5
    assert leader.term_of(leader.first_index - 2) is None
    with pytest.raises(ValueError, match="is applied"):
        leader.compact(SnapshotMeta(index=leader.commit + 1, term=2), keep_entries=0)
    before = leader.first_index
    leader.compact(SnapshotMeta(index=3, term=1), keep_entries=0)
    assert leader.first_index == before, "an older snapshot is ignored"


def test_a_follower_behind_the_log_gets_a_snapshot_then_the_rest() -> None:
    cluster = compacted()
    leader = cluster.cores[1]
    cluster.mend()
    cluster.tick(3)
    assert [m.target for m in cluster.of_type(MessageType.SNAPSHOT)] == [3], "once"
    assert cluster.installed[3] == [leader.snapshot]
    cluster.propose(1, b"after")
    cluster.tick(1)
    assert cluster.data(3) == [b"after"]
    assert cluster.cores[3].configuration == leader.configuration
    assert cluster.kept[3].snapshot == leader.snapshot


def test_nothing_is_appended_while_a_snapshot_is_on_its_way() -> None:
    cluster = compacted()
    cluster.mend()
    cluster.lose = lambda m: m.type is MessageType.SNAPSHOT
    cluster.tick(3)
    leader = cluster.cores[1]
    view = next(p for p in leader.progress() if p.member_id == 3)
    assert view.is_snapshotting
    leader.propose([b"y"])
    assert not [m for m in leader.take_ready().messages if m.target == 3]


@pytest.mark.parametrize("delivered", [True, False])
def test_a_transfer_that_ends_is_followed_up(delivered: bool) -> None:
    cluster = compacted()
    cluster.mend()
    cluster.lose = lambda m: m.type is MessageType.SNAPSHOT
    cluster.tick(3)
    leader = cluster.cores[1]
    cluster.mend()
    leader.report_snapshot(3, delivered=delivered)  # "delivered", though the member lost it again
    cluster.tick(5)
    assert cluster.installed[3] == [leader.snapshot]
    assert cluster.cores[3].last_index == leader.last_index


def test_entries_right_after_a_snapshot_under_way_are_kept() -> None:
    cluster = compacted()
    cluster.mend()
    cluster.lose = lambda m: m.type is MessageType.SNAPSHOT
    cluster.tick(3)
    leader = cluster.cores[1]
    sent = leader.snapshot.index
    cluster.propose(1, *[b"y"] * 10)
    leader.compact(leader.snapshot_meta(leader.commit), keep_entries=0)
    assert leader.first_index == sent + 1


def test_a_snapshot_of_what_is_here_moves_the_commit_index_and_keeps_the_log() -> None:
    """Section 7: if the entry exists, following entries are retained."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    at = cluster.propose(1, b"x")
    follower = cluster.cores[2]
    assert follower.commit < at
    follower.step(Message(type=MessageType.SNAPSHOT, source=1, target=2, term=2, snapshot=leader.snapshot_meta(at)))
    ready = follower.take_ready()
    assert ready.snapshot is None
    assert [e.body for e in ready.committed][-1] == b"x"
    assert [m.index for m in ready.after_persist] == [at]


def test_an_old_snapshot_changes_nothing() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.propose(1, *[b"x"] * 5)
    cluster.tick(1)
    follower = cluster.cores[2]
    follower.compact(follower.snapshot_meta(follower.commit), keep_entries=0)
    follower.step(
        Message(type=MessageType.SNAPSHOT, source=1, target=2, term=2, snapshot=SnapshotMeta(index=4, term=1))
    )
    assert follower.take_ready().snapshot is None
    assert follower.last_index == leader.last_index


def test_a_restart_after_an_installed_snapshot_goes_on_from_it() -> None:
    cluster = compacted()
    cluster.mend()
    cluster.tick(3)
    cluster.propose(1, b"more")
    core = cluster.restart(3)
    assert core.snapshot == cluster.cores[1].snapshot
    assert core.last_index == cluster.cores[1].last_index
    cluster.tick(2)
    assert cluster.data(3) == [b"more"]


def test_a_joiner_may_be_fed_by_a_snapshot_that_does_not_know_it_yet() -> None:
    cluster = compacted()
    leader = cluster.cores[1]
    leader.propose_change(change(ChangeKind.ADD_LEARNER, 4))
    cluster.add(4)
    cluster.tick(10)
    assert cluster.installed[4]
    assert cluster.installed[4][0].configuration.member(4) is None
    assert cluster.cores[4].configuration.member(4) is not None
    assert cluster.cores[4].commit == leader.commit
