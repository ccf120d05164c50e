"""Two transactions on one state: which pairs may both take effect, and which never do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from swarmd.errors import FailedPrecondition, Invalid
from swarmd.model import Availability, NodeState, NodeStatus, TaskState, TaskStatus
from swarmd.state import Command, CommandId, State, Table, Transaction, Verdict, encode_command
from swarmd.state.command import Advance, Assign, Claim, Create, Remove, Report, Require, Update
from tests.unit.state.builders import Proposer, node, service, task

ASSIGNED = TaskStatus(state=TaskState.ASSIGNED)
PENDING = TaskStatus(state=TaskState.PENDING)
RUNNING = TaskStatus(state=TaskState.RUNNING)
Fn = Callable[[Transaction], object]


def touch_task(tx: Transaction) -> None:
    tx.update(replace(tx.task("t1"), slot=8))


def remove_task(tx: Transaction) -> None:
    tx.remove(Table.TASK, "t1")


def touch_node(tx: Transaction) -> None:
    tx.update(replace(tx.node("n1"), description=replace(tx.node("n1").description, engine_version="2")))


def drain_node(tx: Transaction) -> None:
    tx.update(replace(tx.node("n1"), spec=replace(tx.node("n1").spec, availability=Availability.DRAIN)))


def lose_node(tx: Transaction) -> None:
    tx.update(replace(tx.node("n1"), status=NodeStatus(state=NodeState.DOWN)))


def unconfirm_node(tx: Transaction) -> None:
    tx.update(replace(tx.node("n1"), status=replace(tx.node("n1").status, confirmed=False)))


def rely_on(read: Fn) -> Fn:
    """A transaction that writes something unrelated after `read`."""

    def fn(tx: Transaction) -> None:
        read(tx)
        tx.create(service("unrelated"))

    return fn


def create_task(id: str, service_id: str = "s1", slot: int = 1, node_id: str = "") -> Fn:
    return lambda tx: tx.create(task(id, service_id, slot=slot, node_id=node_id))


CONFLICTS: dict[str, tuple[Fn, Fn]] = {
    "one name for two services": (lambda tx: tx.create(service("s2", "X")), lambda tx: tx.create(service("s3", "x"))),
    "an absent name that is taken": (
        rely_on(lambda tx: tx.service_by_name("new")),
        lambda tx: tx.create(service("s2", "new")),
    ),
    "a name whose service changed": (
        rely_on(lambda tx: tx.service_by_name("s1")),
        lambda tx: tx.update(service("s1", spec_version=4)),
    ),
    "an absent object that is created": (rely_on(lambda tx: tx.task("t9")), create_task("t9")),
    "one id created twice": (create_task("t9"), create_task("t9")),
    "a read object that changed": (rely_on(lambda tx: tx.task("t1")), touch_task),
    "a read object that was removed": (rely_on(lambda tx: tx.task("t1")), remove_task),
    "an updated object that changed": (touch_task, touch_task),
    "an updated object that was removed": (touch_task, remove_task),
    "a removed object that changed": (remove_task, touch_task),
    "removed twice": (remove_task, remove_task),
    "an empty slot that was filled": (
        rely_on(lambda tx: tx.tasks_of_slot("s1", 5)),
        create_task("t9", slot=5),
    ),
    "a slot that was emptied": (rely_on(lambda tx: tx.tasks_of_slot("s1", 1)), remove_task),
    "a node's slot of a global service that was filled": (
        rely_on(lambda tx: tx.tasks_of_slot("s1", 0, "n1")),
        lambda tx: tx.create(task("t9", "s1", slot=0, node_id="n1")),
    ),
    "a service whose tasks became more": (rely_on(lambda tx: tx.tasks_of_service("s1")), create_task("t9")),
    "a service whose tasks became fewer": (rely_on(lambda tx: tx.tasks_of_service("s1")), remove_task),
    "a service without tasks that got one": (
        rely_on(lambda tx: tx.tasks_of_service("s9")),
        create_task("t9", "s9"),
    ),
    "a node that got a task": (rely_on(lambda tx: tx.tasks_of_node("n1")), lambda tx: tx.assign("t1", "n1", ASSIGNED)),
    "assigned twice": (lambda tx: tx.assign("t1", "n1", ASSIGNED), lambda tx: tx.assign("t1", "n2", ASSIGNED)),
    "an assigned task that changed": (lambda tx: tx.assign("t1", "n1", ASSIGNED), touch_task),
    "an assigned task that was removed": (lambda tx: tx.assign("t1", "n1", ASSIGNED), remove_task),
    "an advanced task that changed": (lambda tx: tx.advance("t1", PENDING), touch_task),
    "assigned to a drained node": (lambda tx: tx.assign("t1", "n1", ASSIGNED), drain_node),
    "assigned to a lost node": (lambda tx: tx.assign("t1", "n1", ASSIGNED), lose_node),
    "assigned to a node that is unconfirmed": (lambda tx: tx.assign("t1", "n1", ASSIGNED), unconfirm_node),
    "assigned to a removed node": (
        lambda tx: tx.assign("t1", "n1", ASSIGNED),
        lambda tx: tx.remove(Table.NODE, "n1"),
    ),
    "relied on a node that is drained": (rely_on(lambda tx: tx.require_node_ready("n1")), drain_node),
    "created and assigned at once to a drained node": (
        lambda tx: (tx.create(task("t9")), tx.assign("t9", "n1", ASSIGNED)),
        drain_node,
    ),
    "a read task with a new status": (rely_on(lambda tx: tx.task("t1")), lambda tx: tx.report("", "t1", RUNNING)),
}

PEACE: dict[str, tuple[Fn, Fn]] = {
    "different names": (lambda tx: tx.create(service("s2")), lambda tx: tx.create(service("s3"))),
    "a report on a task that changed": (lambda tx: tx.report("", "t1", RUNNING), touch_task),
    "a report on a task that was removed": (lambda tx: tx.report("", "t1", RUNNING), remove_task),
    "two reports on one task": (lambda tx: tx.report("", "t1", RUNNING), lambda tx: tx.report("", "t1", PENDING)),
    "status traffic under a listing of the service": (
        rely_on(lambda tx: tx.tasks_of_service("s1")),
        lambda tx: tx.report("", "t1", RUNNING),
    ),
    "status traffic under a service's update": (
        lambda tx: tx.update(service("s1", spec_version=2)),
        lambda tx: tx.report("", "t1", RUNNING),
    ),
    "an assignment to a node that described itself anew": (lambda tx: tx.assign("t1", "n1", ASSIGNED), touch_node),
    "reliance on a node that described itself anew": (rely_on(lambda tx: tx.require_node_ready("n1")), touch_node),
    "a task of another slot": (rely_on(lambda tx: tx.tasks_of_slot("s1", 5)), create_task("t9", slot=6)),
    "another node's slot of a global service": (
        rely_on(lambda tx: tx.tasks_of_slot("s1", 0, "n1")),
        lambda tx: tx.create(task("t9", "s1", slot=0, node_id="n2")),
    ),
    "a task of another service": (rely_on(lambda tx: tx.tasks_of_service("s1")), create_task("t9", "s2")),
    "an unchecked read": (rely_on(lambda tx: tx.task("t1", unchecked=True)), touch_task),
    "an unchecked listing": (rely_on(lambda tx: tx.tasks_of_service("s1", unchecked=True)), create_task("t9")),
    "all nodes": (rely_on(lambda tx: tx.nodes()), touch_node),
}


def both(proposer: Proposer, first: Fn, second: Fn) -> Verdict:
    """Build `first`, commit `second` before it, and see what becomes of `first`."""
    proposer.create(service("s1"), node("n1"), node("n2"), task("t1", "s1"))
    tx = proposer.begin()
    first(tx)
    proposer.update(second)
    return proposer.commit(tx).verdict


@pytest.mark.parametrize("name", CONFLICTS)
def test_conflicts(proposer: Proposer, name: str) -> None:
    assert both(proposer, *CONFLICTS[name]) is Verdict.CONFLICT


@pytest.mark.parametrize("name", PEACE)
def test_no_conflict(proposer: Proposer, name: str) -> None:
    assert both(proposer, *PEACE[name]) is Verdict.APPLIED


@pytest.mark.parametrize("name", CONFLICTS)
def test_each_conflicting_transaction_takes_effect_alone(proposer: Proposer, name: str) -> None:
    proposer.create(service("s1"), node("n1"), node("n2"), task("t1", "s1"))
    proposer.update(CONFLICTS[name][0])


def test_a_set_that_emptied_and_filled_again_is_another_set(proposer: Proposer) -> None:
    proposer.create(task("t1", "s1"))
    tx = proposer.begin()
    rely_on(lambda tx: tx.tasks_of_service("s1"))(tx)
    proposer.update(remove_task)
    proposer.create(task("t2", "s1"))
    assert proposer.commit(tx).verdict is Verdict.CONFLICT


@pytest.mark.parametrize("change", [remove_task, create_task("t9")])
def test_a_set_of_several_that_shrank_or_grew_is_another_set(proposer: Proposer, change: Fn) -> None:
    proposer.create(task("t1", "s1"), task("t2", "s1"))
    tx = proposer.begin()
    rely_on(lambda tx: tx.tasks_of_service("s1"))(tx)
    proposer.update(change)
    assert proposer.commit(tx).verdict is Verdict.CONFLICT


def test_an_absent_cluster_is_relied_on(proposer: Proposer) -> None:
    from swarmd.model import Cluster

    tx = proposer.begin()
    rely_on(lambda tx: tx.cluster())(tx)
    proposer.create(Cluster(id="c1"))
    assert proposer.commit(tx).verdict is Verdict.CONFLICT


def test_one_refused_assignment_refuses_the_batch_and_names_the_task(proposer: Proposer) -> None:
    proposer.create(node("n1"), task("t1"), task("t2"), task("t3"))
    tx = proposer.begin()
    for id in ("t1", "t2", "t3"):
        tx.assign(id, "n1", ASSIGNED)
    proposer.update(lambda other: other.remove(Table.TASK, "t2"))
    outcome = proposer.commit(tx)
    assert (outcome.verdict, outcome.object_id) == (Verdict.CONFLICT, "t2")
    assert proposer.state.task("t1").node_id == ""


def test_a_refused_node_is_named(proposer: Proposer) -> None:
    proposer.create(node("n1"), task("t1"))
    tx = proposer.begin()
    tx.assign("t1", "n1", ASSIGNED)
    proposer.update(drain_node)
    outcome = proposer.commit(tx)
    assert outcome.object_id == "n1"
    assert "takes no new tasks" in outcome.reason


@pytest.mark.parametrize("unready", [node("n1", ready=False), node("n1", availability=Availability.PAUSE)])
def test_a_node_that_is_not_ready_is_refused_in_the_view(proposer: Proposer, unready) -> None:
    proposer.create(unready, task("t1"))
    tx = proposer.begin()
    assert not tx.is_node_ready("n1")
    assert not tx.is_node_ready("unknown")
    with pytest.raises(FailedPrecondition):
        tx.require_node_ready("n1")
    with pytest.raises(FailedPrecondition):
        tx.assign("t1", "n1", ASSIGNED)


def test_relying_on_a_node_not_being_ready_conflicts_when_it_becomes_so(proposer: Proposer) -> None:
    proposer.create(node("n1", ready=False))
    tx = proposer.begin()
    rely_on(lambda tx: tx.is_node_ready("n1"))(tx)
    proposer.update(lambda other: other.update(node("n1")))
    assert proposer.commit(tx).verdict is Verdict.CONFLICT


def test_a_command_of_another_term_is_refused(proposer: Proposer) -> None:
    for term, verdict in ((0, Verdict.APPLIED), (3, Verdict.APPLIED), (2, Verdict.WRONG_TERM), (4, Verdict.WRONG_TERM)):
        tx = proposer.begin()
        tx.create(service(f"s{term}"))
        assert proposer.apply(proposer.command(tx, term=term), term=3).verdict is verdict
    assert [s.id for s in proposer.state.services()] == ["s0", "s3"]


@pytest.mark.parametrize(
    "changes",
    [
        (Create(task("t9")), Create(task("t9"))),
        (Update(task("t1"), 1), Remove(Table.TASK, "t1", 1)),
        (Assign((("t1", 1, "n1"), ("t1", 1, "n1")), ASSIGNED),),
        (Advance((("t2", 1),), PENDING),),
        (Assign((("t2", 1, "n1"),), ASSIGNED),),
        (Report("", (("t1", RUNNING),)), Update(task("t1"), 1)),
        (Create(service("s8", "x")), Create(service("s9", "X"))),
        (Require(Table.TASK, "t1", 0),),
        (Require(Table.TASK, "t9", 1),),
        (Create(service("s9", "s1")),),
        (Update(service("s2", "s1"), 1), Update(service("s1", "s1"), 1)),
    ],
)
def test_a_contradictory_command_is_refused_alike_everywhere(proposer: Proposer, changes) -> None:
    proposer.create(service("s1"), service("s2"), node("n1"), task("t1", "s1"), task("t2", state=TaskState.RUNNING))
    command = Command(id=CommandId(1, b"x", 1), actor="a", at=1.0, changes=changes)
    assert proposer.apply(command).verdict is Verdict.CONFLICT


def test_names_may_be_swapped_within_one_command(proposer: Proposer) -> None:
    proposer.create(service("s1"), service("s2"))
    changes = (Update(service("s1", "s2"), 1), Update(service("s2", "s1"), 1))
    command = Command(id=CommandId(1, b"x", 1), actor="a", at=1.0, changes=changes)
    assert proposer.apply(command).verdict is Verdict.APPLIED
    assert proposer.state.service_by_name("s1").id == "s2"


def test_a_claim_on_an_index_that_this_version_does_not_have_stops_the_node_and_changes_nothing() -> None:
    state = State()
    command = Command(
        id=CommandId(1, b"x", 1),
        actor="a",
        at=1.0,
        claims=(Claim("task.slot", "x", ("gone",)), Claim("secret.user", "x")),
        changes=(Create(service("s1")),),
    )
    with pytest.raises(Invalid, match=r"secret\.user"):
        state.apply(1, 1, encode_command(command), command)
    assert state.index == 0
    assert state.service("s1") is None
