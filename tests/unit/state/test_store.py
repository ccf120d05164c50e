"""Reads, writes, stamps, names, and what apply refuses to do at all."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from swarmd.errors import AlreadyExists, Conflict, Internal, Invalid, NotFound
from swarmd.model import Cluster, RemovedNode, Task, TaskState, TaskStatus
from swarmd.state import Command, CommandId, State, Table, Verdict, digest, encode_command
from swarmd.state.command import Create
from swarmd.state.selectors import BySlot
from tests.unit.state.builders import Proposer, node, service, task


def test_created_objects_are_found_by_id_name_and_listing(proposer: Proposer) -> None:
    proposer.create(node("n1", "Alpha"), node("n2", "alpha"), service("s1", "Web"))
    proposer.create(task("t2", "s1", slot=2), task("t1", "s1", slot=1, node_id="n1"))
    state = proposer.state
    assert state.service_by_name("wEB") is state.service("s1")
    assert [n.id for n in state.nodes_by_hostname("ALPHA")] == ["n1", "n2"]
    assert [t.id for t in state.tasks_of_service("s1")] == ["t2", "t1"]
    assert [t.id for t in state.tasks_of_slot("s1", 1)] == ["t1"]
    assert [t.id for t in state.tasks_of_node("n1")] == ["t1"]
    assert state.tasks_of_node("n2") == ()
    assert [o.id for o in state.by_id_prefix(Table.TASK, "t")] == ["t2", "t1"]
    assert [o.id for o in state.by_id_prefix(Table.TASK, "t1")] == ["t1"]
    assert len(list(state.nodes())) == 2
    assert len(list(state.services())) == 1
    assert len(list(state.tasks())) == 2


def test_slot_zero_is_one_of_each_node_and_a_search_finds_them_all(proposer: Proposer) -> None:
    proposer.create(node("n1"), node("n2"), service("s1"), service("s2"))
    for id, service_id, node_id in (("t1", "s1", "n1"), ("t2", "s1", "n2"), ("t3", "s1", "n2"), ("t4", "s2", "n1")):
        proposer.create(task(id, service_id, slot=0, node_id=node_id))
    state = proposer.state
    assert [t.id for t in state.tasks_of_slot("s1", 0, "n2")] == ["t2", "t3"]
    assert state.tasks_of_slot("s1", 0) == ()
    assert [t.id for t in state.find(Task, BySlot("s1", 0))] == ["t1", "t2", "t3"]


def test_a_whole_id_is_found_even_if_it_begins_another(proposer: Proposer) -> None:
    proposer.create(task("t1"), task("t10"))
    assert [o.id for o in proposer.state.by_id_prefix(Table.TASK, "t1")] == ["t1"]


def test_stamps_keep_creation_and_move_with_each_write(proposer: Proposer) -> None:
    created = proposer.create(service("s1"), task("t1", "s1"))
    proposer.now = 2000.0
    updated = proposer.update(lambda tx: tx.update(replace(tx.service("s1"), spec_version=2)))
    meta = proposer.state.service("s1").meta
    assert (meta.version, meta.created_at, meta.updated_at) == (updated.index, 1000.0, 2000.0)
    assert proposer.state.task("t1").meta.version == created.index
    assert created.object_id == "s1"


def test_objects_of_one_transaction_share_their_stamps(proposer: Proposer) -> None:
    proposer.create(task("t1"), task("t2"))
    assert proposer.state.task("t1").meta is proposer.state.task("t2").meta
    proposer.update(lambda tx: [tx.update(replace(tx.task(id), slot=9)) for id in ("t1", "t2")])
    assert proposer.state.task("t1").meta is proposer.state.task("t2").meta


def test_a_name_is_taken_whatever_its_case_and_free_again_after_removal(proposer: Proposer) -> None:
    proposer.create(service("s1", "web"))
    with pytest.raises(AlreadyExists, match="web"):
        proposer.begin().create(service("s2", "WEB"))
    proposer.update(lambda tx: tx.remove(Table.SERVICE, "s1"))
    proposer.create(service("s2", "WEB"))


def test_a_service_may_be_renamed_to_its_own_name_in_another_case(proposer: Proposer) -> None:
    proposer.create(service("s1", "web"))
    proposer.update(lambda tx: tx.update(service("s1", "WEB")))
    assert proposer.state.service_by_name("web").spec.name == "WEB"


def test_two_services_may_swap_names_in_one_transaction_written_through_a_third(proposer: Proposer) -> None:
    proposer.create(service("s1", "a"), service("s2", "b"))

    def swap(tx):
        tx.update(service("s1", "c"))
        tx.update(service("s2", "a"))
        tx.update(service("s1", "b"))

    proposer.update(swap)
    assert proposer.state.service_by_name("a").id == "s2"
    assert proposer.state.service_by_name("b").id == "s1"


def test_there_is_one_cluster(proposer: Proposer) -> None:
    proposer.create(Cluster(id="c1"))
    with pytest.raises(AlreadyExists):
        proposer.begin().create(Cluster(id="c2"))
    assert proposer.state.cluster().id == "c1"


def test_a_removed_node_keeps_its_id_in_its_own_table(proposer: Proposer) -> None:
    proposer.create(node("n1"))

    def remove(tx):
        tx.remove(Table.NODE, "n1")
        tx.create(RemovedNode(id="n1", expires_at=5.0))

    proposer.update(remove)
    assert proposer.state.node("n1") is None
    assert proposer.state.removed_node("n1").expires_at == 5.0
    assert [n.id for n in proposer.state.removed_nodes()] == ["n1"]


def test_an_index_follows_an_object_that_changes_its_key(proposer: Proposer) -> None:
    proposer.create(task("t1", "s1", node_id="n1"))
    proposer.update(lambda tx: tx.update(replace(tx.task("t1"), node_id="n2")))
    assert proposer.state.tasks_of_node("n1") == ()
    assert [t.id for t in proposer.state.tasks_of_node("n2")] == ["t1"]
    proposer.update(lambda tx: tx.remove(Table.TASK, "t1"))
    assert proposer.state.tasks_of_node("n2") == ()
    assert proposer.state.tasks_of_service("s1") == ()
    assert proposer.state.tasks_of_slot("s1", 1) == ()


def test_tasks_without_a_service_or_node_are_listed_under_none(proposer: Proposer) -> None:
    proposer.create(task("t1"))
    assert proposer.state.tasks_of_service("") == ()
    assert proposer.state.tasks_of_node("") == ()


def test_writes_to_what_is_not_there_are_refused_in_the_view(proposer: Proposer) -> None:
    tx = proposer.begin()
    with pytest.raises(NotFound, match="task t1"):
        tx.update(task("t1"))
    with pytest.raises(NotFound):
        tx.remove(Table.TASK, "t1")
    with pytest.raises(NotFound):
        tx.assign("t1", "n1", TaskStatus(state=TaskState.ASSIGNED))
    with pytest.raises(NotFound):
        tx.advance("t1", TaskStatus(state=TaskState.PENDING))
    assert tx.is_empty


def test_an_update_made_from_an_older_version_is_refused_and_a_fresh_one_accepted(proposer: Proposer) -> None:
    proposer.create(service("s1"))
    stale = proposer.state.service("s1")
    proposer.update(lambda tx: tx.update(replace(tx.service("s1"), spec_version=1)))
    with pytest.raises(Conflict, match="version"):
        proposer.begin().update(replace(stale, spec_version=2))
    proposer.update(lambda tx: tx.update(replace(tx.service("s1"), spec_version=2)))
    proposer.update(lambda tx: tx.update(service("s1", spec_version=3)))  # made from no version at all
    assert proposer.state.service("s1").spec_version == 3


def test_a_transaction_whose_function_failed_leaves_nothing(proposer: Proposer) -> None:
    def fail(tx):
        tx.create(service("s1"))
        raise RuntimeError

    before = proposer.state.state_hash()
    with pytest.raises(RuntimeError):
        proposer.update(fail)
    assert proposer.state.state_hash() == before


def test_a_transaction_cannot_be_used_once_the_state_moved_on(proposer: Proposer) -> None:
    tx = proposer.begin()
    proposer.create(service("s1"))
    for use in (
        lambda: tx.service("s1"),
        lambda: tx.service_by_name("s1"),
        lambda: tx.tasks_of_service("s1"),
        lambda: tx.create(service("s2")),
        lambda: tx.nodes(),
        lambda: tx.is_node_ready("n1"),
        lambda: tx.report("", "t1", TaskStatus(state=TaskState.RUNNING)),
    ):
        with pytest.raises(Internal):
            use()


def test_entries_are_applied_without_gaps() -> None:
    state = State()
    state.skip(1, b"")
    with pytest.raises(Internal, match="entry 3"):
        state.skip(3, b"")
    with pytest.raises(Internal):
        state.apply(1, 1, b"")
    assert state.index == 1


def test_bytes_that_are_no_command_change_nothing() -> None:
    state = State()
    before = state.digest
    with pytest.raises(Invalid):
        state.apply(1, 1, b"\xff\x00")
    assert (state.index, state.digest) == (0, before)


def test_noop_and_config_entries_move_index_and_digest() -> None:
    one, other = State(), State()
    one.skip(1, b"x")
    other.skip(1, b"y")
    assert one.index == 1
    assert one.digest != other.digest


def test_a_read_only_transaction_is_empty(proposer: Proposer) -> None:
    tx = proposer.begin()
    assert tx.service("s1") is None
    assert tx.service_by_name("web") is None
    assert tx.is_empty
    assert tx.changes_count == 0


def test_a_refused_command_changes_only_index_and_digest(proposer: Proposer) -> None:
    tx = proposer.begin()
    tx.create(service("s1", "web"))
    proposer.create(service("s2", "WEB"))
    before = proposer.state.digest
    outcome = proposer.commit(tx)
    assert (outcome.verdict, outcome.object_id) == (Verdict.CONFLICT, "s1")
    assert proposer.state.service("s1") is None
    assert proposer.state.digest != before
    assert proposer.state.index == 2


def test_the_digest_covers_index_verdict_body_and_history() -> None:
    start = digest.START
    others = [
        digest.extend(start, 1, Verdict.APPLIED, b"x"),
        digest.extend(start, 1, Verdict.CONFLICT, b"x"),
        digest.extend(start, 2, Verdict.APPLIED, b"x"),
        digest.extend(start, 1, Verdict.APPLIED, b"y"),
        digest.extend(start, 1, digest.SKIPPED, b"x"),
        digest.extend(digest.extend(start, 1, digest.SKIPPED, b""), 1, Verdict.APPLIED, b"x"),
    ]
    assert len(set(others)) == len(others)


def test_a_refusal_stands_in_the_digest(proposer: Proposer) -> None:
    proposer.create(service("s1"))
    before = proposer.state.digest
    command = Command(id=CommandId(1, b"x", 1), actor="a", at=1.0, changes=(Create(service("s1")),))
    proposer.apply(command)
    assert proposer.state.digest == digest.extend(before, 2, Verdict.CONFLICT, encode_command(command))


def test_the_state_hash_covers_content_and_ignores_order() -> None:
    one, other, third = Proposer(), Proposer(), Proposer()
    for proposer, first, second in ((one, "t1", "t2"), (other, "t2", "t1"), (third, "t1", "t3")):
        proposer.create(task(first), task(second))
    assert one.state.state_hash() == other.state.state_hash()
    assert one.state.state_hash() != third.state.state_hash()
