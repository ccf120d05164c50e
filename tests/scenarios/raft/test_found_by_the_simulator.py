"""What lives in the simulator came upon, as scripts of their own. Seeds change their meaning; these do not."""

from __future__ import annotations

import pytest

from swarmd.errors import FailedPrecondition
from swarmd.raft import ChangeKind
from tests.scenarios.raft.cluster import SETTINGS, Cluster, change

REMOVE = ChangeKind.REMOVE
PATIENCE_TICKS = SETTINGS.election_ticks_min // 2


def three_of_which_the_third_is_silent() -> Cluster:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.tick(1)
    cluster.cut(3)
    return cluster


def test_a_manager_is_removed_while_another_one_has_just_died() -> None:
    """Seeds 3906, 9280, 11293 and 15256 of the first 20,000. The dead one's last answer was less than an election
    timeout old, so the removal of a live one went into the log, where it counts at once (dissertation, 4.1): of the two
    that are left one is dead, and the one that was to go, which alone could help, is asked no more."""
    cluster = three_of_which_the_third_is_silent()
    leader = cluster.cores[1]
    cluster.tick(PATIENCE_TICKS)
    with pytest.raises(FailedPrecondition, match="2 of 3 voters answer"):
        leader.propose_change(change(REMOVE, 2))
    cluster.propose(1, b"x")
    cluster.tick(1)
    assert cluster.data(2) == [b"x"], "two of three go on"


def test_what_the_guard_is_there_for() -> None:
    """The same, forced: nobody can be elected any more, and the two that live would have been a majority."""
    cluster = three_of_which_the_third_is_silent()
    leader = cluster.cores[1]
    leader.propose_change(change(REMOVE, 2), force=True)
    committed = leader.commit
    cluster.stabilize()
    cluster.tick(200)
    assert leader.configuration.voters == (1, 3)
    assert leader.commit == committed
    assert not any(core.is_leader for core in cluster.cores.values())
    cluster.mend()
    cluster.tick(60)
    assert any(core.is_leader for core in cluster.cores.values()), "the dead one was only asleep: all is well again"
    assert len({core.configuration for core in cluster.cores.values()}) == 1
