"""Which events a watch tells, and what is wrong with a request that cannot be judged."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.errors import Invalid
from swarmd.model import Membership, NodeState, Role, StoredObject, Task, TaskState
from swarmd.state import Event, Route, Table
from swarmd.state.selection import ENTRIES_MAX, Selection
from swarmd.wire.watch import Action, WatchEntry
from tests.unit.state.builders import node, service, task

TABLES: dict[type, Table] = {type(node("n")): Table.NODE, type(service("s")): Table.SERVICE, Task: Table.TASK}


def told(entries: list[WatchEntry], old: StoredObject | None, new: StoredObject | None) -> tuple[str, bool] | None:
    """(action, whether it left), or None."""
    known = new if new is not None else old
    selected = Selection(entries).judge(Event(TABLES[type(known)], old, new, 1))
    return None if selected is None else (selected.action.value, selected.has_left)


def fits(object: StoredObject, kind: str, **filters: Any) -> bool:
    return told([WatchEntry(kind=kind, **filters)], None, object) is not None


def test_without_entries_everything_is_told() -> None:
    for object in (node("n1"), service("s1"), task("t1")):
        assert told([], None, object) == ("create", False)
        assert told([], object, object) == ("update", False)
        assert told([], object, None) == ("remove", False)


def test_kinds_and_actions() -> None:
    entries = [WatchEntry(kind="task", actions=("create", "remove")), WatchEntry(kind="node", actions=("update",))]
    t, n = task("t1"), node("n1")
    assert [told(entries, None, t), told(entries, t, t), told(entries, t, None)] == [
        ("create", False),
        None,
        ("remove", False),
    ]
    assert [told(entries, None, n), told(entries, n, n), told(entries, n, None)] == [None, ("update", False), None]
    assert told(entries, None, service("s1")) is None


@pytest.mark.parametrize(
    ("filters", "fitting"),
    [
        ({"id": "n1"}, True),
        ({"id": "n"}, False),
        ({"id_prefix": "n"}, True),
        ({"id_prefix": "N"}, False),
        ({"name": "WORK-1"}, True),
        ({"name": "front"}, True),
        ({"name": "work"}, False),
        ({"name_prefix": "WoRk"}, True),
        ({"name_prefix": "fro"}, True),
        ({"hostname": "Work-1"}, True),
        ({"hostname": "front"}, False),
        ({"role": Role.WORKER}, True),
        ({"role": Role.MANAGER}, False),
        ({"membership": Membership.ACCEPTED}, True),
        ({"membership": Membership.PENDING}, False),
        ({"state": NodeState.READY}, True),
        ({"state": NodeState.DOWN}, False),
        ({"role": Role.WORKER, "name": "front", "state": NodeState.READY}, True),
        ({"role": Role.WORKER, "name": "other", "state": NodeState.READY}, False),
    ],
)
def test_filters_of_nodes(filters: dict[str, Any], fitting: bool) -> None:
    assert fits(node("n1", "work-1", name="front"), "node", **filters) is fitting


@pytest.mark.parametrize(
    ("filters", "fitting"),
    [
        ({"service_id": "s1"}, True),
        ({"service_id": "s2"}, False),
        ({"node_id": "n1"}, True),
        ({"node_id": "n2"}, False),
        ({"service_id": "s1", "slot": 3}, True),
        ({"service_id": "s1", "slot": 0}, False),
        ({"service_id": "s2", "slot": 3}, False),
        ({"desired_state": TaskState.RUNNING}, True),
        ({"desired_state": TaskState.SHUTDOWN}, False),
        ({"name_prefix": "WEB.3."}, True),
        ({"name": "web.3.t1"}, True),
        ({"name": "web"}, False),
    ],
)
def test_filters_of_tasks(filters: dict[str, Any], fitting: bool) -> None:
    made = replace(task("t1", "s1", slot=3, node_id="n1"), service_name="web")
    assert fits(made, "task", **filters) is fitting


def test_entries_are_alternatives() -> None:
    entries = [WatchEntry(kind="service", name="web"), WatchEntry(kind="service", name_prefix="d")]
    assert told(entries, None, service("s1", "web")) == ("create", False)
    assert told(entries, None, service("s2", "db")) == ("create", False)
    assert told(entries, None, service("s3", "cache")) is None


def test_an_update_that_takes_an_object_out_of_the_filter_is_told_as_that() -> None:
    here, there = task("t1", node_id="n1"), task("t1", node_id="n2")
    entries = [WatchEntry(kind="task", node_id="n1")]
    assert told(entries, there, here) == ("update", False)
    assert told(entries, here, there) == ("update", True)
    assert told(entries, there, there) is None
    assert told([*entries, WatchEntry(kind="task", node_id="n2")], here, there) == ("update", False)
    assert told([WatchEntry(kind="task", node_id="n1", actions=("create",))], here, there) is None


def test_the_narrowest_routes_are_taken() -> None:
    def routes(kind: str, **filters: Any) -> tuple[Route, ...]:
        return Selection([WatchEntry(kind=kind, **filters)]).routes

    assert routes("task", node_id="n1", service_id="s1") == (Route(Table.TASK, "node_id", "n1"),)
    assert routes("task", service_id="s1", slot=2) == (Route(Table.TASK, "service_id", "s1"),)
    assert routes("node", id="n1") == (Route(Table.NODE, "id", "n1"),)
    assert routes("service", name="web") == (Route(Table.SERVICE),)


@pytest.mark.parametrize(
    ("entry", "field", "message"),
    [
        ({"kind": ""}, "$.entries[0].kind", "no kind of object is named"),
        ({"kind": "pod"}, "$.entries[0].kind", "no kind of object 'pod'"),
        ({"kind": "task", "actions": ("create", "explode")}, "$.entries[0].actions[1]", "no action 'explode'"),
        ({"kind": "task", "id": "a", "id_prefix": "b"}, "$.entries[0].id_prefix", "conflicting filters"),
        ({"kind": "task", "name": "a", "name_prefix": "b"}, "$.entries[0].name_prefix", "conflicting filters"),
        ({"kind": "node", "service_id": "s1"}, "$.entries[0].service_id", "a node has no service_id"),
        ({"kind": "node", "slot": 0}, "$.entries[0].slot", "a node has no slot"),
        ({"kind": "service", "role": Role.WORKER}, "$.entries[0].role", "a service has no role"),
        ({"kind": "task", "state": NodeState.UNKNOWN}, "$.entries[0].state", "a task has no state"),
        ({"kind": "task", "slot": 1}, "$.entries[0].slot", "a slot is one of a service"),
    ],
)
def test_what_cannot_be_judged_is_refused_with_its_place(entry: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        Selection([WatchEntry(**entry)])
    assert caught.value.field == field


def test_entries_are_limited() -> None:
    Selection([WatchEntry(kind="task")] * ENTRIES_MAX)
    with pytest.raises(Invalid, match="at most 64 entries"):
        Selection([WatchEntry(kind="task")] * (ENTRIES_MAX + 1))


def test_every_action_has_its_word() -> None:
    assert [action.value for action in Action] == ["create", "update", "remove"]
