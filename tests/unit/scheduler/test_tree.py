"""Spreading over preferences, and packing (reference orchestration 7.7; 10: 6-9)."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.model import Availability, GenericResource, Node, PlacementPreference, PlacementStrategy
from swarmd.state.features import ORCHESTRATION
from tests.unit.scheduler.world import S, Swarm, make_node, make_tasks, on_node

ZONE = PlacementPreference(spread="node.labels.zone")
RACK = PlacementPreference(spread="Node.Labels.rack")
BINPACK = PlacementStrategy.BINPACK


def by_node(swarm: Swarm, service_id: str = "web") -> dict[str, int]:
    return dict(Counter(t.node_id for t in swarm.tasks.values() if t.service_id == service_id and t.node_id))


def test_a_zone_of_one_node_gets_as_much_as_a_zone_of_four() -> None:
    swarm = Swarm(make_node("a1", labels={"zone": "a"}), *[make_node(f"b{i}", labels={"zone": "b"}) for i in range(4)])
    swarm.add(make_tasks(8, preferences=(ZONE,)))
    swarm.run()
    assert by_node(swarm) == {"a1": 4, "b0": 1, "b1": 1, "b2": 1, "b3": 1}


def test_what_a_full_zone_cannot_take_goes_to_the_other_and_is_spread_over_its_racks() -> None:
    def node(id: str, zone: str, rack: str, memory: int, apples: int) -> Node:
        apple = GenericResource(kind="apple", amount=apples)
        labels = {"zone": zone, "rack": rack}
        return make_node(id, labels=labels, memory=memory, generic=(apple,), features=(ORCHESTRATION,))

    swarm = Swarm(
        node("tiny", "a", "r1", 1, 99),
        node("a1", "a", "r1", 100, 2),
        node("a2", "a", "r2", 30, 99),
        node("b1", "b", "r1", 1000, 99),
        node("b2", "b", "r2", 1000, 99),
    )
    apple = (GenericResource(kind="apple", amount=1),)
    swarm.add(make_tasks(12, memory=10, generic=apple, preferences=(ZONE, RACK)))
    swarm.run()
    assert by_node(swarm) == {"a1": 2, "a2": 3, "b1": 4, "b2": 3}


def test_an_uneven_lower_level_takes_no_more_than_its_share() -> None:
    nodes = [
        make_node("a1", labels={"zone": "a", "rack": "1"}),
        make_node("a2", labels={"zone": "a", "rack": "2"}),
        make_node("b1", labels={"zone": "b", "rack": "1"}),
    ]
    where = ["a1"] * 3 + ["a2"] + ["b1"] * 3
    running = tuple(on_node(task, node) for task, node in zip(make_tasks(7, prefix="old"), where, strict=True))
    swarm = Swarm(*nodes, tasks=running)
    swarm.add(make_tasks(2, preferences=(ZONE, RACK)))
    swarm.run()
    new = [swarm.tasks[id].node_id for id in ("web.0", "web.1")]
    assert new == ["b1", "a2"]


def test_nodes_without_the_label_are_a_branch_of_their_own_and_nodes_that_take_nothing_count() -> None:
    swarm = Swarm(make_node("n1"), make_node("a1", labels={"zone": "a"}), make_node("a2", labels={"zone": "a"}))
    swarm.add([on_node(task, "a2") for task in make_tasks(2, prefix="old")])
    swarm.scheduler.node_changed(make_node("a2", labels={"zone": "a"}, availability=Availability.DRAIN))
    swarm.add(make_tasks(4, preferences=(ZONE,)))
    swarm.run()
    assert [swarm.tasks[f"web.{i}"].node_id for i in range(4)] == ["n1", "n1", "n1", "a1"]


def test_an_unknown_preference_is_passed_over() -> None:
    swarm = Swarm(make_node("a1", labels={"zone": "a"}), make_node("b1", labels={"zone": "b"}))
    swarm.add(make_tasks(4, preferences=(PlacementPreference(spread="node.colour"), ZONE)))
    swarm.run()
    assert by_node(swarm) == {"a1": 2, "b1": 2}


def test_engine_labels_make_branches_too() -> None:
    swarm = Swarm(
        make_node("a1", engine_labels={"disk": "ssd"}),
        make_node("b1", engine_labels={"disk": "hdd"}),
        make_node("b2", engine_labels={"disk": "hdd"}),
    )
    swarm.add(make_tasks(4, preferences=(PlacementPreference(spread="engine.labels.disk"),)))
    swarm.run()
    assert by_node(swarm) == {"a1": 2, "b1": 1, "b2": 1}


def test_many_values_are_branches_as_few_are() -> None:
    swarm = Swarm(*[make_node(f"n{i:03}", labels={"rack": f"r{i // 2}"}) for i in range(400)])
    swarm.add(make_tasks(200, preferences=(RACK,)))
    swarm.run()
    racks = Counter(int(node[1:]) // 2 for node in by_node(swarm))
    assert set(racks.values()) == {1}
    assert len(racks) == 200


def test_packing_fills_the_fullest_node_before_it_begins_the_next() -> None:
    swarm = Swarm(make_node("n1", memory=64), make_node("n2", memory=64), make_node("n3", memory=64))
    swarm.add([on_node(task, "n2") for task in make_tasks(1, "old", memory=16)])
    swarm.add(make_tasks(8, memory=16, strategy=BINPACK))
    swarm.run()
    assert by_node(swarm) == {"n2": 3, "n1": 4, "n3": 1}


def test_packing_one_by_one_gives_the_same_as_packing_a_group() -> None:
    swarm = Swarm(make_node("n1", memory=64), make_node("n2", memory=64), make_node("n3", memory=64))
    swarm.add([on_node(task, "n2") for task in make_tasks(1, "old", memory=16)])
    for task in make_tasks(8, memory=16, strategy=BINPACK):
        swarm.add([task])
        swarm.run()
    assert by_node(swarm) == {"n2": 3, "n1": 4, "n3": 1}


def test_packing_still_spreads_over_preferences_and_keeps_to_max_replicas() -> None:
    nodes = [make_node(f"{zone}{i}", labels={"zone": zone}) for zone in "ab" for i in range(3)]
    swarm = Swarm(*nodes)
    swarm.add(make_tasks(8, strategy=BINPACK, preferences=(ZONE,), max_replicas=3))
    swarm.run()
    assert by_node(swarm) == {"a0": 3, "a1": 1, "b0": 3, "b1": 1}


def test_of_equally_used_nodes_the_less_reserved_comes_first() -> None:
    swarm = Swarm(make_node("n1", cpus=100), make_node("n2", cpus=100))
    swarm.add([on_node(make_tasks(1, "big", cpus=50)[0], "n1"), on_node(make_tasks(1, "small", cpus=10)[0], "n2")])
    swarm.add(make_tasks(1))
    swarm.run()
    assert swarm.nodes_of("web") == ["n2"]


@settings(max_examples=60, deadline=None)
@given(
    nodes=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("12"), st.integers(0, 6)), min_size=1, max_size=8),
    tasks=st.integers(1, 30),
)
def test_the_tree_equals_a_naive_walk(nodes: list[tuple[str, str, int]], tasks: int) -> None:
    """Room of each node in tasks; each task goes down the branch with the least count that can take it."""
    swarm = Swarm(
        *[
            make_node(f"n{i}", memory=room, labels={"zone": zone, "rack": rack})
            for i, (zone, rack, room) in enumerate(nodes)
        ]
    )
    swarm.add(make_tasks(tasks, memory=1, preferences=(ZONE, RACK)))
    swarm.run()
    counts = [0] * len(nodes)
    for _ in range(tasks):
        left = list(range(len(nodes)))
        for depth in (0, 1):
            able = {nodes[i][depth] for i in left if counts[i] < nodes[i][2]}
            if not able:
                left = []
                break
            value = min(able, key=lambda v: (sum(counts[i] for i in left if nodes[i][depth] == v), v))
            left = [i for i in left if nodes[i][depth] == value]
        left = [i for i in left if counts[i] < nodes[i][2]]
        if left:
            best = min(left, key=lambda i: (counts[i], counts[i], 64 * counts[i] // nodes[i][2], i))
            counts[best] += 1
    assert by_node(swarm) == {f"n{i}": count for i, count in enumerate(counts) if count}
    assert all(task.status.state in (S.ASSIGNED, S.PENDING) for task in swarm.tasks.values())
