from __future__ import annotations

from pathlib import Path

import pytest

from swarmctl.client import Client
from swarmctl.environment import Environment
from swarmctl.resolve import Names, find_cluster, find_node, find_service, find_task
from swarmd.errors import Invalid, NotFound, Unavailable
from swarmd.model import Node, TaskState
from swarmd.wire.control import NodeView, StatusReply
from tests.unit.swarmctl.fake_daemon import FakeDaemon, id_of, node_view, service_view, task_for


@pytest.fixture
def daemon() -> FakeDaemon:
    daemon = FakeDaemon()
    daemon.nodes = [
        node_view("aa", "node-1", member=1, leader=True),
        node_view("ab", "node-2", name="blue"),
        node_view("b", "twin"),
        node_view("c", "twin"),
    ]
    daemon.services = [service_view("s1", "web"), service_view("s2", "s1"), service_view("t", "worker")]
    return daemon


@pytest.fixture
def client(daemon: FakeDaemon) -> Client:
    return Client(Path("/socket"), Environment(connect=lambda path: daemon))


@pytest.mark.parametrize(
    ("reference", "expected"),
    [(id_of("aa"), "aa"), ("node-1", "aa"), ("blue", "ab"), ("node-2", "ab"), ("aa", "aa"), ("NODE-1", "aa")],
)
def test_nodes_by_id_name_hostname_and_prefix(client: Client, reference: str, expected: str) -> None:
    assert find_node(client, reference).node.id == id_of(expected)


def test_an_exact_name_wins_over_an_id_prefix(client: Client) -> None:
    assert find_service(client, "s1").service.id == id_of("s2")
    assert find_service(client, "s10").service.id == id_of("s1")


def test_an_exact_id_wins_over_a_name(client: Client, daemon: FakeDaemon) -> None:
    daemon.services.append(service_view("u", id_of("s1")))
    assert find_service(client, id_of("s1")).service.spec.name == "web"


def test_an_exact_name_wins_over_one_in_another_case(client: Client, daemon: FakeDaemon) -> None:
    daemon.nodes.append(node_view("d", "NODE-1"))
    assert find_node(client, "node-1").node.id == id_of("aa")
    with pytest.raises(Invalid, match="ambiguous"):
        find_node(client, "Node-1")


@pytest.mark.parametrize("reference", ["twin", "a"])
def test_ambiguity_lists_the_candidates(client: Client, reference: str) -> None:
    with pytest.raises(Invalid, match=r"ambiguous \(2 matches\)") as caught:
        find_node(client, reference)
    assert caught.value.hint is not None
    assert caught.value.hint.count("(") == 2
    assert caught.value.hint.startswith("one of ")


def test_not_found_suggests_what_is_near(client: Client) -> None:
    with pytest.raises(NotFound, match='service "wbe" not found') as caught:
        find_service(client, "wbe")
    assert caught.value.hint == 'did you mean "web"?   (swarmctl service ls)'
    with pytest.raises(NotFound) as caught:
        find_node(client, "Zzz.org")
    assert caught.value.hint == "swarmctl node ls"


def test_nothing_is_no_reference(client: Client) -> None:
    for find in (find_node, find_service, find_task):
        with pytest.raises(Invalid):
            find(client, "")


def test_self_and_leader(client: Client, daemon: FakeDaemon) -> None:
    daemon.status = StatusReply(node_id=id_of("b"), swarm_id="s", version="1", leader_node_id=id_of("aa"))
    assert find_node(client, "self").node.id == id_of("b")
    assert find_node(client, "leader").node.id == id_of("aa")
    daemon.status = StatusReply(node_id=id_of("b"), swarm_id="s", version="1")
    with pytest.raises(Unavailable, match="no leader"):
        find_node(client, "leader")


def test_tasks_by_id_prefix_and_slot(client: Client, daemon: FakeDaemon) -> None:
    web = daemon.services[0]
    daemon.tasks = [
        task_for(web, "x1", 1, desired_state=TaskState.SHUTDOWN, ago=10.0),
        task_for(web, "x2", 1, ago=60.0),
        task_for(web, "y", 2, desired_state=TaskState.SHUTDOWN, ago=60.0),
        task_for(web, "z", 2, desired_state=TaskState.SHUTDOWN, ago=10.0),
    ]
    assert find_task(client, id_of("x1")).id == id_of("x1")
    assert find_task(client, "y").id == id_of("y")
    assert find_task(client, "web.1").id == id_of("x2")
    assert find_task(client, "web.2").id == id_of("z")
    assert find_task(client, "web.1.x1").id == id_of("x1")
    assert find_task(client, f"web.1.{id_of('x1')}").id == id_of("x1")
    for missing in ("web.3", "web.1.y", "web.", "q"):
        with pytest.raises(NotFound):
            find_task(client, missing)
    for ambiguous in ("x", "web.1.x"):
        with pytest.raises(Invalid, match="ambiguous"):
            find_task(client, ambiguous)


def test_the_cluster_by_name_and_prefix(client: Client, daemon: FakeDaemon) -> None:
    for reference in ("default", daemon.cluster.id, "ccc"):
        assert find_cluster(client, reference) == daemon.cluster
    for reference in ("other", ""):
        with pytest.raises(NotFound):
            find_cluster(client, reference)


def test_names_are_asked_for_once_and_fall_back_to_ids(client: Client, daemon: FakeDaemon) -> None:
    daemon.nodes.append(NodeView(node=Node(id=id_of("e"))))
    names = Names(client, no_resolve=False)
    assert [names.node(id_of(letter)) for letter in ("aa", "ab", "e", "q")] == [
        "node-1",
        "blue",
        id_of("e"),
        id_of("q"),
    ]
    assert names.node("") == ""
    assert len(daemon.asked("node.list")) == 1
    plain = Names(client, no_resolve=True)
    assert plain.node(id_of("aa")) == id_of("aa")
    assert plain.service(task_for(daemon.services[0], "x", 1)) == id_of("s1")


def test_names_that_nobody_answers_for_stay_ids(client: Client, daemon: FakeDaemon) -> None:
    daemon.errors["node.list"] = [Unavailable("no leader")]
    assert Names(client, no_resolve=False).node(id_of("aa")) == id_of("aa")
