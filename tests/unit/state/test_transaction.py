"""Read-your-own-writes, the compact kinds, and how pending writes combine into one change each."""

from __future__ import annotations

import random
import string

import pytest
from msgspec.structs import replace

from swarmd.errors import AlreadyExists, FailedPrecondition, Invalid, NotFound
from swarmd.model import ContainerStatus, Node, NodeDescription, TaskState, TaskStatus, new_id
from swarmd.state import IdempotencyKey, Table
from swarmd.state.command import Advance, Assign, Create, Remove, Report, Require, Update
from tests.unit.state.builders import Proposer, node, service, task

NEW = TaskStatus()
PENDING = TaskStatus(state=TaskState.PENDING)
ASSIGNED = TaskStatus(state=TaskState.ASSIGNED)
RUNNING = TaskStatus(state=TaskState.RUNNING)
FAILED = TaskStatus(state=TaskState.FAILED, err="exit 1")


def test_a_transaction_sees_what_it_wrote(proposer: Proposer) -> None:
    proposer.create(service("s1", "web"), task("t1", "s1"), node("n1"), node("n2"))
    tx = proposer.begin()
    tx.create(task("t2", "s1", slot=2))
    tx.create(service("s2", "db"))
    tx.create(node("n3"))
    tx.update(service("s1", "www"))
    tx.remove(Table.NODE, "n2")
    tx.assign("t1", "n1", ASSIGNED)
    assert [t.id for t in tx.tasks_of_service("s1")] == ["t1", "t2"]
    assert [t.id for t in tx.tasks_of_slot("s1", 2)] == ["t2"]
    assert [t.id for t in tx.tasks_of_node("n1")] == ["t1"]
    assert tx.service_by_name("WWW").id == "s1"
    assert tx.service_by_name("web") is None
    assert tx.service_by_name("db").id == "s2"
    assert [n.id for n in tx.nodes()] == ["n1", "n3"]
    assert tx.task("t1").status.state is TaskState.ASSIGNED
    assert proposer.state.tasks_of_node("n1") == ()


def test_a_removed_task_leaves_every_listing(proposer: Proposer) -> None:
    proposer.create(task("t1", "s1", node_id="n1"), task("t2", "s1", node_id="n1"))
    tx = proposer.begin()
    tx.remove(Table.TASK, "t1")
    assert [t.id for t in tx.tasks_of_service("s1")] == ["t2"]
    assert [t.id for t in tx.tasks_of_node("n1")] == ["t2"]
    assert tx.task("t1") is None
    with pytest.raises(NotFound):
        tx.update(task("t1"))
    with pytest.raises(AlreadyExists):
        tx.create(task("t1"))  # ids are never used again


def test_what_was_created_and_removed_again_is_not_proposed(proposer: Proposer) -> None:
    tx = proposer.begin()
    tx.create(task("t1", "s1"))
    tx.remove(Table.TASK, "t1")
    assert tx.is_empty
    assert tx.tasks_of_service("s1") == ()


def test_a_freed_name_may_be_taken_in_the_same_transaction(proposer: Proposer) -> None:
    proposer.create(service("s1", "web"))

    def replace_service(tx):
        tx.remove(Table.SERVICE, "s1")
        tx.create(service("s2", "web"))

    proposer.update(replace_service)
    assert proposer.state.service_by_name("web").id == "s2"


def test_writes_to_one_object_become_one_change(proposer: Proposer) -> None:
    proposer.create(*(task(f"t{number}") for number in range(5)), node("n1"))
    tx = proposer.begin()
    tx.create(task("c1"))
    tx.update(task("c1", slot=3))
    tx.update(task("t0", slot=2))
    tx.update(task("t0", slot=3))
    tx.update(task("t1", slot=2))
    tx.remove(Table.TASK, "t1")
    tx.advance("t2", PENDING)
    tx.assign("t2", "n1", ASSIGNED)
    tx.assign("t3", "n1", ASSIGNED)
    tx.report("n1", "t3", RUNNING)
    tx.report("", "t4", PENDING)
    tx.report("", "t4", RUNNING)
    changes = proposer.command(tx).changes
    kinds = [(type(c), c.object.id) if isinstance(c, Create | Update) else type(c) for c in changes]
    assert kinds == [(Create, "c1"), (Update, "t0"), Remove, (Update, "t2"), (Update, "t3"), Report]
    proposer.commit(tx)
    assert proposer.state.task("c1").slot == 3
    assert proposer.state.task("t0").slot == 3
    assert (proposer.state.task("t2").node_id, proposer.state.task("t2").status.state) == ("n1", TaskState.ASSIGNED)
    assert proposer.state.task("t3").status.state is TaskState.RUNNING
    assert proposer.state.task("t4").status.state is TaskState.RUNNING


def test_assignments_with_one_status_share_it_and_others_stand_apart(proposer: Proposer) -> None:
    proposer.create(task("t1"), task("t2"), task("t3"), node("n1"))
    tx = proposer.begin()
    tx.assign("t1", "n1", ASSIGNED)
    tx.assign("t2", "n1", TaskStatus(state=TaskState.ASSIGNED))
    tx.assign("t3", "n1", replace(ASSIGNED, message="other"))
    changes = proposer.command(tx).changes
    assert [len(c.items) for c in changes if isinstance(c, Assign)] == [2, 1]
    proposer.commit(tx)
    assert proposer.state.task("t1").status is proposer.state.task("t2").status
    assert proposer.state.task("t3").status.message == "other"


def test_an_object_that_is_read_and_written_is_required_only_once(proposer: Proposer) -> None:
    proposer.create(service("s1"), task("t1"))
    tx = proposer.begin()
    tx.update(replace(tx.service("s1"), spec_version=1))
    tx.task("t1")
    tx.report("", "t1", RUNNING)
    kinds = [type(change) for change in proposer.command(tx).changes]
    assert kinds == [Require, Update, Report]  # a report has no base: what was read of its task is required


def test_a_task_gets_a_node_once_and_its_state_never_falls(proposer: Proposer) -> None:
    proposer.create(node("n1"), node("n2"), task("t1", state=TaskState.RUNNING), task("t2"))
    proposer.update(lambda tx: tx.assign("t2", "n1", ASSIGNED))
    tx = proposer.begin()
    with pytest.raises(FailedPrecondition, match="already has node"):
        tx.assign("t2", "n2", ASSIGNED)
    with pytest.raises(FailedPrecondition, match="RUNNING already"):
        tx.advance("t1", PENDING)
    with pytest.raises(FailedPrecondition):
        tx.assign("t1", "n1", ASSIGNED)


def test_advance_changes_the_status_alone(proposer: Proposer) -> None:
    proposer.create(task("t1", "s1", slot=4), task("t2", "s1"))
    proposer.update(lambda tx: [tx.advance(id, PENDING) for id in ("t1", "t2")])
    assert proposer.state.task("t1").status == PENDING
    assert proposer.state.task("t1").slot == 4


REPORTS = {
    "higher state": (RUNNING, "n1", FAILED, True),
    "lower state": (RUNNING, "n1", PENDING, False),
    "the same again": (RUNNING, "n1", replace(RUNNING, at=9.0), False),
    "the same with another message": (RUNNING, "n1", replace(RUNNING, message="x"), True),
    "the same with another error": (RUNNING, "n1", replace(RUNNING, err="x"), True),
    "the same with a container": (RUNNING, "n1", replace(RUNNING, container=ContainerStatus(pid=3)), True),
    "another node": (RUNNING, "n2", FAILED, False),
    "a manager": (RUNNING, "", FAILED, True),
    "failed twice": (FAILED, "n1", TaskStatus(state=TaskState.SHUTDOWN), False),
}


@pytest.mark.parametrize("name", REPORTS)
def test_reports_merge_monotonically(proposer: Proposer, name: str) -> None:
    known, reporter, reported, is_news = REPORTS[name]
    proposer.create(replace(task("t1", node_id="n1"), status=known))
    tx = proposer.begin()
    tx.report(reporter, "t1", reported)
    assert tx.is_empty != is_news
    # The same judgement at apply, for a command that was built without looking.
    command = replace(proposer.command(tx), changes=(Report(reporter, (("t1", reported), ("gone", reported))),))
    proposer.now = 2000.0
    outcome = proposer.apply(replace(command, at=2000.0))
    status = proposer.state.task("t1").status
    assert status == (replace(reported, applied_at=2000.0) if is_news else known)
    assert (proposer.state.task("t1").meta.version == outcome.index) == is_news


def test_reports_of_one_task_in_one_command_merge_in_order(proposer: Proposer) -> None:
    proposer.create(task("t1", node_id="n1"))
    tx = proposer.begin()
    items = (("t1", RUNNING), ("t1", PENDING), ("t1", FAILED))
    proposer.apply(replace(proposer.command(tx), changes=(Report("n1", items),)))
    assert proposer.state.task("t1").status.state is TaskState.FAILED


def test_objects_are_proposed_in_the_form_in_which_they_are_decoded(proposer: Proposer) -> None:
    labels = {"a": "b"}
    given = replace(task("t1"), status=TaskStatus(at=3), labels=labels)
    proposer.create(given, Node(id="n1", description=NodeDescription(features=["x"])))  # type: ignore[arg-type]
    labels["a"] = "changed"
    stored = proposer.state.task("t1")
    assert type(stored.status.at) is float
    assert stored.labels == {"a": "b"}
    assert proposer.state.node("n1").description.features == ("x",)
    proposer.update(lambda tx: tx.report("", "t1", TaskStatus(state=TaskState.RUNNING, at=4)))
    assert type(proposer.state.task("t1").status.at) is float


@pytest.mark.parametrize(
    "object",
    [
        task("t1", slot=1 << 64),
        task("t1", slot="one"),  # type: ignore[arg-type]
        task("\ud800"),
        replace(task("t1"), status=None),
        RUNNING,
    ],
)
def test_what_cannot_be_stored_is_refused(proposer: Proposer, object) -> None:
    with pytest.raises(Invalid):
        proposer.begin().create(object)


def test_an_overlong_idempotency_key_is_refused(proposer: Proposer) -> None:
    with pytest.raises(Invalid):
        proposer.command(proposer.begin(), key=IdempotencyKey(bytes(65), b"", 0))


def test_the_estimate_of_a_transactions_size_is_near(proposer: Proposer) -> None:
    from swarmd.state import encode_command

    tx = proposer.begin()
    empty = len(encode_command(proposer.command(tx)))
    for number in range(100):
        tx.create(task(f"task-{number}", "s1"))
    actual = len(encode_command(proposer.command(tx))) - empty
    assert actual <= tx.bytes_estimate <= 2 * actual
    assert tx.changes_count == 100


def test_new_ids_come_from_the_given_dice(proposer: Proposer) -> None:
    first = proposer.begin().new_id()
    assert len(first) == 25
    assert proposer.begin().new_id() != first


def test_an_id_is_130_random_bits_written_backwards_in_base_36() -> None:
    for number in (0, 35, 36, 1295, 1296, 36**25 - 1, 36**25, (1 << 130) - 1, random.Random(3).getrandbits(130)):
        left, digits = number, []
        for _ in range(25):
            left, digit = divmod(left, 36)
            digits.append(string.digits[digit] if digit < 10 else string.ascii_lowercase[digit - 10])

        class Dice(random.Random):
            def getrandbits(self, bits: int, number: int = number) -> int:
                assert bits == 130
                return number

        assert new_id(Dice()) == "".join(digits)


def test_advance_is_compact(proposer: Proposer) -> None:
    proposer.create(task("t1"))
    tx = proposer.begin()
    tx.advance("t1", PENDING)
    assert proposer.command(tx).changes == (Advance((("t1", 1),), PENDING),)
