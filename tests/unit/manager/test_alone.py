"""What is decided about a log whose group is lost, and that consensus agrees with it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from swarmd.errors import FailedPrecondition
from swarmd.manager.alone import ACTOR, Plan, plan_alone
from swarmd.manager.control_api.secrets import _create
from swarmd.manager.payload_rotation import Reseal, next_step
from swarmd.model import Role, Secret, SecretSpec
from swarmd.raft import ChangeKind, Entry, EntryKind, HardState, Member, Message, MessageType, RaftCore, Settings
from swarmd.state.command import decode_command
from swarmd.state.selectors import ByName
from swarmd.state.store import State
from tests.unit.node.lost_group import NOW, OTHERS, Group, a_service, read


def planned(group: Group, tmp_path: Path, *, snapshot_at: int = 0) -> Plan:
    log = read(group.make(tmp_path / "state", snapshot_at=snapshot_at))
    return plan_alone(log, now=NOW, rng=random.Random(2))


def state_after(group: Group, plan: Plan) -> State:
    state = group.state
    for entry in plan.entries:
        if entry.kind is EntryKind.DATA:
            state.apply(entry.index, entry.term, entry.body)
        else:
            state.skip(entry.index, entry.body)
    return state


def core_after(group: Group, plan: Plan) -> RaftCore:
    entries: list[Entry] = [*group.entries, *plan.entries]
    return RaftCore(group.own.member_id, Settings(), random.Random(3), hard_state=plan.hard_state, entries=entries)


def test_it_becomes_the_only_voter_leads_and_refuses_the_others_for_ever(tmp_path: Path) -> None:
    group = Group().with_others()
    plan = planned(group, tmp_path)
    core = core_after(group, plan)
    assert core.configuration.voters == (group.own.member_id,)
    assert set(core.configuration.removed) == {member.member_id for member in OTHERS}
    term = core.term
    for type_ in (MessageType.VOTE, MessageType.APPEND, MessageType.HEARTBEAT):
        core.step(Message(type=type_, source=77, target=group.own.member_id, term=term + 5))
    assert core.term == term
    core.tick()
    ready = core.take_ready()
    assert core.is_leader
    core.persisted(ready.entries[-1].index, ready.entries[-1].term)
    assert core.commit == ready.entries[-1].index > group.last


def test_former_managers_become_workers_in_the_same_write(tmp_path: Path) -> None:
    group = Group().with_others()
    plan = planned(group, tmp_path)
    assert plan.demoted == ("second", "third")
    state = state_after(group, plan)
    for member in OTHERS:
        node = state.node(member.node_id)
        assert node is not None
        assert (node.role, node.spec.desired_role) == (Role.WORKER, Role.WORKER)
    own = state.node(group.own.node_id)
    assert own is not None
    assert own.role is Role.MANAGER
    assert state.service_by_name("web") is not None
    assert decode_command(plan.entries[-1].body).actor == ACTOR


def test_the_key_of_payloads_is_replaced_in_the_same_write_for_they_all_knew_it(tmp_path: Path) -> None:
    group = Group().with_others()
    group.write(lambda tx: _create(tx, SecretSpec(name="horse", data=b"battery staple")))
    state = state_after(group, planned(group, tmp_path))
    cluster = state.cluster()
    (secret,) = state.find(Secret, ByName("horse"))
    assert cluster is not None
    assert [key.id for key in cluster.payload_keys] == [1, 2]
    assert next_step(cluster, [secret]) == Reseal((secret.id,))


@pytest.mark.parametrize("snapshot_at", [0, 9])
def test_what_is_not_known_to_be_committed_is_kept_and_told(tmp_path: Path, snapshot_at: int) -> None:
    group = Group().with_others()
    group.write(lambda tx: tx.create(a_service("late")))
    plan = planned(group, tmp_path, snapshot_at=snapshot_at)
    assert plan.entries[0].index == group.last + 1
    assert {entry.term for entry in plan.entries} == {2}
    assert plan.hard_state == HardState(term=2, voted_for=group.own.member_id, commit=plan.entries[-1].index)
    assert state_after(group, plan).service_by_name("late") is not None
    assert any("1 entries" in line and "not known to be committed" in line for line in plan.lines)


def test_it_says_what_it_does_and_what_may_be_lost(tmp_path: Path) -> None:
    group = Group().with_others()
    text = "\n".join(planned(group, tmp_path).lines)
    assert f"up to index {group.last} of term 1" in text
    assert "host-second (node second, member 4d)" in text
    assert "never received is lost" in text
    assert "stop it now" in text
    assert "not known to be committed" not in text


def test_one_that_is_alone_already_has_nothing_to_do(tmp_path: Path) -> None:
    group = Group()
    group.commit = group.last
    assert planned(group, tmp_path).entries == ()


def test_a_learner_becomes_a_voter_and_is_warned(tmp_path: Path) -> None:
    """Its leader was the founder, of whom nothing is left."""
    group = Group()
    learner = OTHERS[0]
    group.change(ChangeKind.ADD_LEARNER, learner)
    group.own = learner
    group.identity = type(group.identity)(
        swarm_id=group.identity.swarm_id, node_id=learner.node_id, member_id=learner.member_id, incarnation=b"i" * 16
    )
    plan = planned(group, tmp_path)
    assert core_after(group, plan).configuration.voters == (77,)
    assert any("still catching up" in line for line in plan.lines)


def test_one_that_its_own_log_has_removed_is_refused(tmp_path: Path) -> None:
    group = Group().with_others()
    group.change(ChangeKind.REMOVE, Member(member_id=group.own.member_id, node_id=group.own.node_id))
    with pytest.raises(FailedPrecondition, match="no member of the group in its own log"):
        planned(group, tmp_path)
