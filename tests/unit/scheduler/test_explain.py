"""Why a task fits nowhere, in numbers, and the smallest change that would place it (reference 10: 10, 11, 19)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.model import (
    Availability,
    Endpoint,
    FilterVerdict,
    GenericResource,
    Node,
    NodeState,
    PlacementFailure,
    Platform,
    Plugin,
    PortConfig,
    PublishMode,
    Role,
)
from swarmd.scheduler.remedy import fewest_of
from swarmd.state.features import ORCHESTRATION
from tests.unit.scheduler.world import S, Swarm, make_node, make_tasks, on_node

CPU = 10**9
MIB = 1 << 20
PORT = Endpoint(ports=(PortConfig(target_port=80, published_port=80, publish_mode=PublishMode.HOST),))


def node(id: str, **changes: Any) -> Node:
    changes.setdefault("features", (ORCHESTRATION,))
    return make_node(id, **changes)


def failure(*nodes: Node, **spec: Any) -> PlacementFailure:
    """Of a task that fits nowhere."""
    swarm = Swarm(*nodes)
    swarm.add(make_tasks(1, **spec))
    swarm.run()
    return swarm.failures["web.0"]


def test_each_filter_counts_names_some_nodes_and_gives_its_numbers() -> None:
    down = [node(f"d{i}", state=NodeState.DOWN) for i in range(7)]
    found = failure(*down, node("s1", cpus=2 * CPU), node("s2", cpus=5 * CPU // 2), cpus=4 * CPU)
    assert found == PlacementFailure(
        nodes=9,
        verdicts=(
            FilterVerdict(filter="ready", nodes=7, detail="7 down", examples=("d0", "d1", "d2", "d3", "d4")),
            FilterVerdict(
                filter="resources", nodes=2, detail="needs 4 CPU, largest free 2.5 CPU on s2", examples=("s1", "s2")
            ),
        ),
        fix="lower the reservation to 2.5 CPU, as is free on node s2",
    )


@pytest.mark.parametrize(
    ("nodes", "spec", "filter", "detail"),
    [
        (
            [node("n1", labels={"zone": "us"}), node("n2")],
            {"constraints": ("node.labels.zone==eu", "node.role==worker")},
            "constraint",
            "node.labels.zone==eu on 0 of 2 nodes, node.role==worker on 2 of 2 nodes",
        ),
        (
            [node("n1", platform=Platform(os="linux", architecture="x86_64")), node("n2")],
            {"platforms": (Platform(os="linux", architecture="arm64"),)},
            "platform",
            "needs linux/arm64; 1 node of unknown platform, 1 node linux/amd64",
        ),
        (
            [node("n1", plugins=(Plugin(type="Log", name="syslog"),))],
            {"log_driver": "gelf"},
            "plugin",
            "needs the log driver gelf",
        ),
        (
            [node("n1", generic=(GenericResource(kind="gpu", names=("a",)),))],
            {"generic": (GenericResource(kind="gpu", amount=2), GenericResource(kind="fpga", amount=1))},
            "resources",
            "needs 2 gpu, largest free 1 gpu on n1; needs 1 fpga, none is free",
        ),
        (
            [node("n1", memory=3 * MIB)],
            {"memory": 4 * MIB},
            "resources",
            "needs 4 MiB of memory, largest free 3 MiB",
        ),
        ([make_node("n1")], {"log_driver": "gelf"}, "software", "without orchestration.1"),
    ],
)
def test_details(nodes: list[Node], spec: dict[str, Any], filter: str, detail: str) -> None:
    (verdict,) = failure(*nodes, **spec).verdicts
    assert verdict.filter == filter
    assert verdict.detail.startswith(detail)


@pytest.mark.parametrize(
    ("nodes", "spec", "fix"),
    [
        ([], {}, "add a node"),
        ([], {"cpus": 2 * CPU, "memory": 64 * MIB}, "add a node with 2 CPU and 64 MiB of memory free"),
        (
            [node("n1", state=NodeState.DOWN), node("n2", availability=Availability.DRAIN)],
            {},
            "activate node n2, which is drained",
        ),
        ([node("n1", state=NodeState.DOWN)], {}, "bring back node n1, which is down, or add a node"),
        (
            [node("n1", labels={"zone": "us"}), node("n2")],
            {"constraints": ("node.labels.zone==eu",)},
            "add label zone=eu to node n1",
        ),
        (
            [node("n1", labels={"zone": "us"}), node("n2", labels={"disk": "ssd"})],
            {"constraints": ("node.labels.zone==eu", "node.labels.disk==ssd")},
            "add label zone=eu to node n2",
        ),
        (
            [node("n1", labels={"zone": "us"})],
            {"constraints": ("node.labels.zone!=us",)},
            "take label zone=us off node n1",
        ),
        ([node("n1")], {"constraints": ("node.role==manager",)}, "promote node n1"),
        ([node("n1", role=Role.MANAGER)], {"constraints": ("node.role!=manager",)}, "demote node n1"),
        ([node("n1")], {"constraints": ("node.hostname==n9",)}, "drop the constraint node.hostname==n9"),
        (
            [node("n1")],
            {"constraints": ("engine.labels.disk==ssd",)},
            "start the engine of node n1 with label disk=ssd",
        ),
        (
            [node("n1", memory=8 * MIB), node("n2", memory=12 * MIB), node("n3", memory=9 * MIB)],
            {"memory": 16 * MIB},
            "lower the reservation to 12 MiB of memory, as is free on node n2",
        ),
        (
            [node("n1", memory=2 * MIB)],
            {"memory": 16 * MIB},
            "add a node with 16 MiB of memory free, or free as much on node n1",
        ),
        (
            [node("n1", cpus=CPU, memory=8 * MIB)],
            {"cpus": 2 * CPU, "memory": 16 * MIB},
            "lower the reservation to 1 CPU and 8 MiB of memory, as is free on node n1",
        ),
        (
            [node("n1", generic=(GenericResource(kind="gpu", amount=1),))],
            {"generic": (GenericResource(kind="gpu", amount=3),)},
            "lower the reservation to 1 gpu, as is free on node n1",
        ),
        (
            [node("n1", plugins=(Plugin(type="Log", name="syslog"),))],
            {"log_driver": "gelf"},
            "install the log driver gelf on node n1",
        ),
        ([node("n1")], {"platforms": (Platform(os="linux"),)}, "add a node of linux/any"),
        ([make_node("n1")], {"log_driver": "gelf"}, "upgrade node n1"),
        (  # one change on n2 is less than two on n1
            [
                node("n1", memory=4 * MIB, availability=Availability.DRAIN),
                node("n2", memory=64 * MIB, availability=Availability.PAUSE),
            ],
            {"memory": 16 * MIB},
            "activate node n2, which is paused",
        ),
        (  # nothing less than two
            [node("n1", memory=8 * MIB, labels={"zone": "us"})],
            {"memory": 16 * MIB, "constraints": ("node.labels.zone==eu",)},
            "lower the reservation to 8 MiB of memory, as is free on node n1 and add label zone=eu to node n1",
        ),
        (  # a label is less than a smaller reservation
            [node("n1", memory=8 * MIB, labels={"zone": "eu"}), node("n2", memory=16 * MIB)],
            {"memory": 16 * MIB, "constraints": ("node.labels.zone==eu",)},
            "add label zone=eu to node n2",
        ),
    ],
)
def test_the_smallest_change_that_would_place_it(nodes: list[Node], spec: dict[str, Any], fix: str) -> None:
    assert failure(*nodes, **spec).fix == fix


def test_the_fix_names_the_least_used_node_of_max_replicas_and_the_port_to_free() -> None:
    swarm = Swarm(node("n1"), node("n2"))
    swarm.add([on_node(task, "n1") for task in make_tasks(3, prefix="old")])
    swarm.add([on_node(task, "n2") for task in make_tasks(2, prefix="older")])
    swarm.add(make_tasks(1, max_replicas=1))
    (first, second) = (replace(task, endpoint=PORT) for task in (*make_tasks(1, "a"), *make_tasks(1, "b")))
    swarm.add([on_node(first, "n1"), on_node(replace(first, id="a.1"), "n2"), second])
    swarm.run()
    assert swarm.failures["web.0"].fix == "raise the replicas per node to 3, or add a node"
    assert swarm.failures["web.0"].verdicts[0].detail == "at most 1 of the service on a node"
    assert swarm.failures["b.0"].fix == "free port 80/tcp on node n1"
    assert swarm.failures["b.0"].verdicts[0].detail == "port 80/tcp on 2 nodes, on n1 by a"


def test_a_task_bound_to_a_node_speaks_of_that_one_alone() -> None:
    swarm = Swarm(node("n1"), node("n2", availability=Availability.DRAIN))
    (task,) = make_tasks(1)
    swarm.add([replace(task, node_id="n2"), replace(task, id="lost", node_id="n9")])
    swarm.run()
    assert swarm.told["web.0"] == "no suitable node (1 node not available for new tasks: 1 drained)"
    assert swarm.failures["web.0"].nodes == 1
    assert swarm.failures["web.0"].fix == "activate node n2, which is drained"
    assert swarm.failures["lost"] == PlacementFailure(nodes=0, fix="bring back node n9")


def test_tasks_bound_to_a_node_come_before_the_others_and_influence_their_balance() -> None:
    free, (bound,) = make_tasks(1, "free"), make_tasks(1, "bound")
    swarm = Swarm(node("n1"), node("n2"), tasks=(*free, replace(bound, node_id="n1")))
    placed, _ = swarm.scheduler.place(0.0, limit=10)
    assert [(decision.task_id, decision.node_id) for decision in placed] == [("bound.0", "n1"), ("free.0", "n2")]


def test_the_largest_free_amount_follows_what_is_taken_and_given_back() -> None:
    swarm = Swarm(node("n1", cpus=3 * CPU), node("n2", cpus=2 * CPU))
    swarm.add(make_tasks(1, "huge", cpus=9 * CPU))
    swarm.run()
    assert swarm.failures["huge.0"].fix.endswith("3 CPU, as is free on node n1")
    swarm.add([on_node(task, "n1") for task in make_tasks(1, "big", cpus=2 * CPU)])
    swarm.add(make_tasks(1, "next", cpus=9 * CPU))
    swarm.run()
    assert swarm.failures["next.0"].fix.endswith("2 CPU, as is free on node n2")
    swarm.move("big.0", S.COMPLETE)
    swarm.add(make_tasks(1, "last", cpus=9 * CPU))
    swarm.run()
    assert swarm.failures["last.0"].fix.endswith("3 CPU, as is free on node n1")


def test_a_line_that_stays_is_not_told_again_though_its_numbers_changed() -> None:
    swarm = Swarm(node("n1", cpus=3 * CPU))
    swarm.add(make_tasks(1, cpus=9 * CPU))
    swarm.run()
    swarm.told.clear()
    swarm.scheduler.node_changed(node("n1", cpus=4 * CPU))
    swarm.run()
    assert swarm.told == {}


def test_fewest_of_counts_each_node_in_each_mask() -> None:
    assert fewest_of([0b0011, 0b0101, 0b0001], 0b1111) == (0, 0b1000)
    assert fewest_of([0b0011, 0b0101, 0b0001], 0b0111) == (1, 0b0110)
    assert fewest_of([0b0011, 0b0101, 0b0001], 0b0001) == (3, 0b0001)
    assert fewest_of([], 0b11) == (0, 0b11)
