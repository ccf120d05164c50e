"""Whose state is right, by the points that members told."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.manager.digests.votes import CONTENT, HISTORY, Divergence, Points, judge
from swarmd.raft import Configuration
from swarmd.raft.quorum import is_quorum
from swarmd.wire.peer import DigestPoint
from tests.unit.manager.raft_cluster import member


def group(voters: int, learners: int = 0) -> Configuration:
    return Configuration(members=tuple(member(n, is_voter=n <= voters) for n in range(1, voters + learners + 1)))


def point(index: int, history: str = "right", content: str = "") -> DigestPoint:
    return DigestPoint(
        index=index,
        digest=sha256(f"{index} {history}".encode()).digest(),
        state_hash=sha256(f"{index} {content}".encode()).digest() if content else b"",
    )


def points(*them: DigestPoint) -> Points:
    return {p.index: p for p in them}


RIGHT = points(point(64), point(128))
WRONG = points(point(64), point(128, "wrong"))


def test_equal_points_agree_at_the_newest_index_that_a_quorum_has_passed() -> None:
    ahead = points(point(64), point(128), point(192))
    found = judge(group(3), {1: ahead, 2: RIGHT, 3: points(point(64))})
    assert (found.agreed_at, found.agreeing) == (128, (1, 2))
    assert (found.diverging, found.undecided_at) == ((), 0)


def test_one_of_three_diverges_from_the_other_two() -> None:
    found = judge(group(3), {1: RIGHT, 2: WRONG, 3: RIGHT})
    assert found.diverging == (Divergence(member_id=2, index=128, of=HISTORY, majority=(1, 3)),)
    assert (found.agreed_at, found.undecided_at) == (64, 0)
    assert found.of_member(2) == found.diverging[0]
    assert found.of_member(1) is None


def test_a_wrong_history_stays_wrong_and_is_dated_by_the_oldest_index_where_it_shows() -> None:
    late = points(point(192), point(256))
    wrong = points(point(192, "wrong"), point(256, "wrong"))
    found = judge(group(3), {1: late, 2: late, 3: wrong})
    assert [d.index for d in found.diverging] == [192]


def test_the_same_history_with_other_objects_is_seen_where_both_hashed() -> None:
    right, wrong = points(point(64, content="a")), points(point(64, content="b"))
    found = judge(group(3), {1: right, 2: right, 3: wrong})
    assert found.diverging == (Divergence(member_id=3, index=64, of=CONTENT, majority=(1, 2)),)


def test_a_member_that_left_a_hash_out_says_nothing_about_content() -> None:
    found = judge(group(3), {1: points(point(64, content="a")), 2: points(point(64)), 3: points(point(64))})
    assert (found.agreed_at, found.diverging, found.undecided_at) == (64, (), 0)


@pytest.mark.parametrize("voters", [2, 4])
def test_a_tie_proves_nothing(voters: int) -> None:
    half = voters // 2
    found = judge(group(voters), {n: RIGHT if n <= half else WRONG for n in range(1, voters + 1)})
    assert found.diverging == ()
    assert found.undecided_at == 128
    assert found.sides == (tuple(range(1, half + 1)), tuple(range(half + 1, voters + 1)))


def test_two_of_three_are_no_quorum_while_they_differ() -> None:
    """The third is down: it would have to say which of them is right."""
    found = judge(group(3), {1: RIGHT, 2: WRONG})
    assert (found.diverging, found.undecided_at, found.sides) == ((), 128, ((1,), (2,)))


def test_two_that_agree_are_no_quorum_of_five() -> None:
    found = judge(group(5), {1: RIGHT, 2: RIGHT, 3: WRONG})
    assert (found.diverging, found.undecided_at) == ((), 128)
    assert found.sides == ((1, 2), (3,))


def test_what_nobody_can_settle_is_dated_by_its_oldest_index() -> None:
    """So that an alarm says the same while entries go on."""
    one, other = points(*map(point, (64, 128, 192))), points(point(64), point(128, "b"), point(192, "b"))
    assert judge(group(2), {1: one, 2: other}).undecided_at == 128


def test_what_is_proved_of_one_index_settles_the_others() -> None:
    """At 64 only two have a hash, and differ; at 128 a quorum says which of them is wrong."""
    one = points(point(64, content="a"), point(128, content="a"))
    other = points(point(64), point(128, content="a"))
    wrong = points(point(64, content="b"), point(128, content="b"))
    found = judge(group(3), {1: one, 2: other, 3: wrong})
    assert [d.member_id for d in found.diverging] == [3]
    assert found.undecided_at == 0


def test_the_quorum_may_be_against_whoever_asks() -> None:
    """Nothing here knows who leads."""
    assert [d.member_id for d in judge(group(3), {1: WRONG, 2: RIGHT, 3: RIGHT}).diverging] == [1]


def test_two_may_be_wrong_each_in_its_own_way() -> None:
    other = points(point(64), point(128, "wrong too"))
    found = judge(group(5), {1: RIGHT, 2: RIGHT, 3: RIGHT, 4: WRONG, 5: other})
    assert [d.member_id for d in found.diverging] == [4, 5]


def test_a_learner_may_diverge_and_has_no_vote() -> None:
    assert [d.member_id for d in judge(group(2, learners=1), {1: RIGHT, 2: RIGHT, 3: WRONG}).diverging] == [3]
    found = judge(group(2, learners=3), {1: RIGHT, 2: WRONG, 3: RIGHT, 4: RIGHT, 5: RIGHT})
    assert (found.diverging, found.undecided_at) == ((), 128)


def test_who_does_not_take_part_counts_nothing() -> None:
    found = judge(group(3), {1: RIGHT, 2: RIGHT, 9: WRONG})
    assert (found.agreed_at, found.diverging) == (128, ())


def test_one_that_restored_a_snapshot_is_compared_from_then_on() -> None:
    found = judge(group(3), {1: RIGHT, 2: RIGHT, 3: points(point(192))})
    assert (found.agreed_at, found.diverging) == (128, ())


def test_a_manager_alone_agrees_with_itself() -> None:
    assert judge(group(1), {1: RIGHT}).agreed_at == 128
    assert judge(group(1), {}).agreed_at == 0


INDEXES = st.sets(st.integers(1, 6).map(lambda n: n * 64))


@st.composite
def _stories(draw: st.DrawFn) -> tuple[int, dict[int, Points], dict[int, int]]:
    """Voters, everybody's points, and since when which member is wrong (in history, or for one index in content)."""
    voters, learners = draw(st.integers(1, 7)), draw(st.integers(0, 2))
    everybody = range(1, voters + learners + 1)
    wrong_since = {n: draw(st.integers(1, 400)) for n in everybody if draw(st.integers(0, 3)) == 0}
    reports = {}
    for n in everybody:
        since = wrong_since.get(n, 10**9)
        hashed = draw(INDEXES)
        reports[n] = points(
            *(
                point(
                    index,
                    "right" if index < since else f"wrong {n % 2}",
                    "right" * (index in hashed),
                )
                for index in draw(INDEXES)
            )
        )
    return voters, reports, wrong_since


@given(_stories())
def test_whom_a_quorum_contradicts_is_named_and_nobody_else(
    story: tuple[int, dict[int, Points], dict[int, int]],
) -> None:
    voters, reports, wrong_since = story
    configuration = group(voters, len(reports) - voters)
    found = judge(configuration, reports)
    named = {d.member_id for d in found.diverging}
    for index in {index for them in reports.values() for index in them}:
        sides: dict[bytes, set[int]] = {}
        for n, them in reports.items():
            if index in them:
                sides.setdefault(them[index].digest, set()).add(n)
        quorum = next((side for side in sides.values() if is_quorum(side, configuration.voters)), set[int]())
        for side in sides.values():
            assert not quorum or side is quorum or side <= named
        assert index != found.agreed_at or len(sides) == 1
    assert all(is_quorum(d.majority, configuration.voters) for d in found.diverging)
    assert all(d.member_id not in d.majority for d in found.diverging)
    if not is_quorum(set(wrong_since), configuration.voters):
        assert named <= set(wrong_since), "one that was right was named"
    if not wrong_since:
        assert found.undecided_at == 0
