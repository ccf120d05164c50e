from __future__ import annotations

import random

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.errors import FailedPrecondition, Invalid
from swarmd.raft import (
    ChangeKind,
    Configuration,
    Member,
    MembershipChange,
    RaftCore,
    Settings,
    bootstrap_configuration,
    decode_change,
    encode_change,
)
from swarmd.raft.membership import apply_change, check_change, refusal
from tests.scenarios.raft.cluster import change, member

ADD, PROMOTE, REMOVE, UPDATE = ChangeKind


def configuration(voters: tuple[int, ...], learners: tuple[int, ...] = ()) -> Configuration:
    made = Configuration()
    for i in (*voters, *learners):
        made = apply_change(made, change(ADD, i))
    for i in voters:
        made = apply_change(made, change(PROMOTE, i))
    return made


members = st.builds(
    Member,
    member_id=st.integers(1, 2**63 - 1),
    node_id=st.text(max_size=25),
    addresses=st.lists(st.text(max_size=10), max_size=3).map(tuple),
    is_voter=st.booleans(),
)


@settings(max_examples=50, deadline=None)
@given(st.builds(MembershipChange, kind=st.sampled_from(ChangeKind), member=members))
def test_a_change_survives_encoding(one: MembershipChange) -> None:
    assert decode_change(encode_change(one)) == one


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_hostile_bytes_raise_invalid_and_nothing_else(body: bytes) -> None:
    with pytest.raises(Invalid):
        decode_change(body)


@pytest.mark.parametrize(
    "raw",
    [
        {"kind": 0, "member": {"member_id": 1, "node_id": "n"}, "future": 1},
        {"kind": 0, "member": {"member_id": 1, "node_id": "n", "future": 1}},
        {"kind": 9, "member": {"member_id": 1, "node_id": "n"}},
        {"kind": 0, "member": {"member_id": 0, "node_id": "n"}},
        {"kind": 0, "member": {"member_id": 1 << 63, "node_id": "n"}},
        {"kind": 0, "member": {"member_id": "1", "node_id": "n"}},
        {"kind": 0},
        [0, []],
    ],
)
def test_a_change_of_another_shape_or_version_is_invalid(raw: object) -> None:
    with pytest.raises(Invalid):
        decode_change(cbor2.dumps(raw))


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (change(ADD, 1), "takes part already"),
        (change(ADD, 4), "takes part already"),
        (change(ADD, 9), "never comes back"),
        (MembershipChange(kind=ADD, member=Member(member_id=7, node_id="node-2")), "under another member id"),
        (change(PROMOTE, 1), "not a learner"),
        (change(PROMOTE, 7), "not a learner"),
        (change(REMOVE, 7), "does not take part"),
        (change(REMOVE, 9), "does not take part"),
        (change(UPDATE, 7), "does not take part"),
        (change(ADD, 7), None),
        (change(PROMOTE, 4), None),
        (change(REMOVE, 1), None),
        (change(REMOVE, 4), None),
        (change(UPDATE, 4), None),
    ],
)
def test_what_makes_sense_in_three_voters_one_learner_one_removed(one: MembershipChange, reason: str | None) -> None:
    before = apply_change(configuration((1, 2, 3), (4, 9)), change(REMOVE, 9))
    said = refusal(before, one)
    if reason is None:
        assert said is None
        assert apply_change(before, one) != before or one.kind is UPDATE
    else:
        assert said is not None
        assert reason in said
        assert apply_change(before, one) == before
        with pytest.raises(FailedPrecondition, match=reason):
            check_change(before, one, live={1, 2, 3, 4}, force=True)


def test_the_last_voter_cannot_be_removed_even_by_force() -> None:
    with pytest.raises(FailedPrecondition, match="last voter"):
        check_change(configuration((1,), (2,)), change(REMOVE, 1), live={1, 2}, force=True)


def test_an_added_member_is_a_learner_whatever_it_claims() -> None:
    claims = MembershipChange(kind=ADD, member=Member(member_id=5, node_id="n", is_voter=True))
    assert apply_change(configuration((1,)), claims).voters == (1,)


def test_an_address_update_changes_addresses_only() -> None:
    moved = MembershipChange(
        kind=UPDATE, member=Member(member_id=1, node_id="forged", addresses=("10.9.9.9:2377",), is_voter=False)
    )
    after = apply_change(configuration((1,)), moved).member(1)
    assert after is not None
    assert (after.node_id, after.addresses, after.is_voter) == ("node-1", ("10.9.9.9:2377",), True)


@pytest.mark.parametrize(
    ("voters", "learners", "one", "live", "is_safe"),
    [
        ((1,), (2,), change(PROMOTE, 2), {1, 2}, True),  # 1 -> 2, though it tolerates nothing
        ((1,), (2,), change(PROMOTE, 2), {1}, False),  # the joiner is dead: the swarm would be, too
        ((1, 2), (3,), change(PROMOTE, 3), {1, 2, 3}, True),
        ((1, 2), (3,), change(PROMOTE, 3), {1, 3}, False),  # cannot commit under the old voters
        ((1, 2), (3,), change(PROMOTE, 3), {1, 2}, True),
        ((1, 2, 3), (4,), change(PROMOTE, 4), {1, 2}, False),  # 3 of 4 needed afterwards
        ((1, 2, 3), (4,), change(PROMOTE, 4), {1, 2, 4}, True),
        ((1, 2), (), change(REMOVE, 2), {1}, False),  # the other is dead: it can never commit
        ((1, 2), (), change(REMOVE, 2), {1, 2}, True),
        ((1, 2), (), change(REMOVE, 1), {1, 2}, True),  # the leader itself
        ((1, 2, 3), (), change(REMOVE, 3), {1, 2}, True),  # remove the dead one
        ((1, 2, 3), (), change(REMOVE, 2), {1, 2}, False),  # remove a live one, keep the dead
        ((1, 2, 3, 4), (), change(REMOVE, 4), {1, 2, 3}, True),
        ((1, 2, 3, 4), (), change(REMOVE, 3), {1, 2, 3}, True),
        ((1, 2, 3, 4), (), change(REMOVE, 4), {1, 2}, False),
        ((1, 2, 3, 4, 5), (), change(REMOVE, 1), {1, 2, 3}, False),
        ((1, 2, 3), (4,), change(REMOVE, 4), {1}, True),  # voters stay as they are
        ((1, 2, 3), (), change(UPDATE, 3), {1, 2}, True),
        ((1, 2, 3), (), change(ADD, 4), {1, 2}, True),
    ],
)
def test_quorum_guard(
    voters: tuple[int, ...], learners: tuple[int, ...], one: MembershipChange, live: set[int], is_safe: bool
) -> None:
    before = configuration(voters, learners)
    forced = check_change(before, one, live, force=True)
    if is_safe:
        assert check_change(before, one, live) == forced
    else:
        with pytest.raises(
            FailedPrecondition, match=r"failures tolerated: \d\) before, .*failures tolerated: \d\) aft"
        ):
            check_change(before, one, live)


def test_bootstrap_makes_a_sole_voter_that_leads_and_commits_at_its_first_tick() -> None:
    hard_state, entries = bootstrap_configuration(member(77))
    core = RaftCore(77, Settings(), random.Random(0), hard_state=hard_state, entries=entries)
    assert core.configuration.voters == (77,)
    core.tick()
    ready = core.take_ready()
    assert core.is_leader
    core.persisted(ready.entries[-1].index, ready.entries[-1].term)
    assert core.commit == core.last_index == 3
