"""What counts: one table, whole and in step with the model."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.manager.audit.counted import COUNTED, NOTHING, counts, may_count, shown_fields
from swarmd.model import (
    Availability,
    Cluster,
    Node,
    NodeCertificate,
    NodeDescription,
    NodeSpec,
    NodeState,
    NodeStatus,
    RemovedNode,
    Role,
    TaskState,
    TaskStatus,
)
from swarmd.state.command import (
    TYPE_OF_TABLE,
    Advance,
    Assign,
    Command,
    CommandId,
    Create,
    Remove,
    Report,
    Table,
    Update,
)
from tests.unit.manager.audit.audited import OPERATOR, service, task

LEADER = "leader:role-manager"
NODE = Node(id="n1", description=NodeDescription(hostname="h"))
STATUS = TaskStatus(state=TaskState.RUNNING)


def command(*changes: Any, actor: str = LEADER) -> Command:
    return Command(id=CommandId(1, b"", 1), actor=actor, at=1.0, changes=changes)


def test_every_table_is_decided_with_fields_that_exist() -> None:
    assert COUNTED.keys() == set(Table)
    for table, fields in COUNTED.items():
        assert fields <= set(TYPE_OF_TABLE[table].__struct_fields__) - {"id", "meta"}


def test_only_tasks_never_count() -> None:
    assert [table for table, fields in COUNTED.items() if fields == NOTHING] == [Table.TASK]


@pytest.mark.parametrize(
    "change",
    [
        Assign((("t1", 1, "n1"),), STATUS),
        Report("n1", (("t1", STATUS),)),
        Advance((("t1", 1),), STATUS),
        Create(task()),
        Update(task(), 1),
        Remove(Table.TASK, "t1", 1),
    ],
)
def test_the_traffic_of_tasks_is_passed_over_at_the_first_look(change: Any) -> None:
    assert not may_count(command(change))
    assert not may_count(command(change, actor="dispatcher"))
    assert may_count(command(change, actor=OPERATOR))
    assert may_count(command(change, Create(service())))


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (replace(NODE, status=NodeStatus(state=NodeState.READY, addr="10.0.0.1", certificate="f")), False),
        (replace(NODE, description=NodeDescription(hostname="h", engine_version="2")), False),
        (replace(NODE, role=Role.MANAGER), True),
        (replace(NODE, spec=NodeSpec(availability=Availability.DRAIN)), True),
        (replace(NODE, certificate=NodeCertificate(csr=b"new")), True),
    ],
)
def test_of_a_node_power_counts_and_liveness_does_not(new: Node, *, expected: bool) -> None:
    assert counts("dispatcher", Table.NODE, NODE, new) is expected
    assert counts(OPERATOR, Table.NODE, NODE, new)


def test_coming_and_going_counts() -> None:
    assert counts("node:n1", Table.NODE, None, NODE)
    assert counts(LEADER, Table.NODE, NODE, None)
    assert counts(LEADER, Table.REMOVED_NODE, RemovedNode(id="n1"), None)
    assert not counts("leader:reaper", Table.TASK, task(), None)
    assert counts(OPERATOR, Table.TASK, task(), None)


def test_of_the_swarms_own_changes_only_what_counts_is_told() -> None:
    assert set(shown_fields("dispatcher", NODE)) == {"spec", "role", "certificate"}
    assert set(shown_fields(OPERATOR, NODE)) == {
        *("spec", "role", "certificate", "description", "status", "attachments"),
    }
    assert "unlock_key" in shown_fields(LEADER, Cluster(id="c"))
