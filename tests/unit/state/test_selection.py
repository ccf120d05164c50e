"""Which events a watch tells, and what is wrong with a request that cannot be judged."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.errors import Invalid
from swarmd.model import Membership, NodeState, Role, StoredObject, TaskState
from swarmd.state import Event, Route, Table
from swarmd.state.command import TABLE_OF_TYPE
from swarmd.state.selection import ENTRIES_MAX, Selection
from swarmd.wire.watch import Action, WatchEntry
from tests.unit.state.builders import (
    config,
    extension,
    indices,
    network,
    node,
    resource,
    secret,
    service,
    task,
    template,
    volume,
)


def told(entries: list[WatchEntry], old: StoredObject | None, new: StoredObject | None) -> tuple[str, bool] | None:
    """(action, whether it left), or None."""
    known = new if new is not None else old
    selected = Selection(entries).judge(Event(TABLE_OF_TYPE[type(known)], old, new, 1))
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


@pytest.mark.parametrize(
    ("filters", "fitting"),
    [
        ({"network_id": "net1"}, True),
        ({"network_id": "net2"}, False),
        ({"secret_id": "sec1"}, True),
        ({"secret_id": "con1"}, False),
        ({"config_id": "con1"}, True),
        ({"config_id": "sec1"}, False),
    ],
)
def test_what_templates_refer_to_selects_tasks_and_services(filters: dict[str, Any], fitting: bool) -> None:
    spec = template(networks=["net1"], secrets=["sec1", "sec3"], configs=["con1"])
    web = service("s1")
    assert fits(replace(task("t1"), spec=spec), "task", **filters) is fitting
    assert fits(replace(web, spec=replace(web.spec, task=spec)), "service", **filters) is fitting
    assert not fits(task("t1"), "task", **filters)


@pytest.mark.parametrize(
    ("filters", "fitting"),
    [
        ({"index": "tier"}, True),
        ({"index": "none"}, False),
        ({"index": "tier", "index_value": "front"}, True),
        ({"index": "tier", "index_value": "fro"}, False),
        ({"index": "tier", "index_prefix": "fro"}, True),
        ({"index": "tier", "index_prefix": "b"}, False),
        ({"index": "team", "index_value": "front"}, False),
    ],
)
def test_custom_indices_of_any_kind(filters: dict[str, Any], fitting: bool) -> None:
    entries = indices(("tier", "front"), ("team", "blue"))
    assert fits(node("n1", indices=entries), "node", **filters) is fitting
    assert fits(network("net1", indices=entries), "network", **filters) is fitting
    assert fits(resource("r1", "gpu", indices=entries), "resource", **filters) is fitting


def test_every_named_kind_is_found_by_its_name() -> None:
    made = [
        network("x1", "Web"),
        secret("x2", "Web"),
        config("x3", "Web"),
        volume("x4", "Web"),
        extension("x5", "Web"),
        resource("x6", "gpu", "Web"),
    ]
    for object in made:
        kind = TABLE_OF_TYPE[type(object)].name.lower()
        assert fits(object, kind, name="wEB"), kind
        assert fits(object, kind, name_prefix="we"), kind
        assert not fits(object, kind, name="other"), kind


def test_resources_by_their_kind() -> None:
    assert fits(resource("r1", "Gpu"), "resource", resource_kind="gPU")
    assert not fits(resource("r1", "Gpu"), "resource", resource_kind="fpga")


def test_secrets_that_the_swarm_made_for_itself_are_told_to_nobody() -> None:
    own = replace(secret("s1"), internal=True)
    assert fits(secret("s1"), "secret")
    assert not fits(own, "secret")
    assert not fits(own, "secret", id="s1")
    assert told([], None, own) is None
    assert told([], None, secret("s1")) == ("create", False)


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
        ({"kind": "task", "slot": 1}, "$.entries[0].slot", "slot says nothing without service_id"),
        ({"kind": "node", "index_value": "x"}, "$.entries[0].index_value", "nothing without index"),
        (
            {"kind": "node", "index": "i", "index_value": "x", "index_prefix": "y"},
            "$.entries[0].index_prefix",
            "conflicting filters",
        ),
        ({"kind": "node", "secret_id": "x"}, "$.entries[0].secret_id", "a node has no secret_id"),
        ({"kind": "task", "resource_kind": "x"}, "$.entries[0].resource_kind", "a task has no resource_kind"),
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
