"""The plan of a rebalance: what it moves, that it makes things better, and where it stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.model import (
    ContainerSpec,
    Node,
    NodeSpec,
    Placement,
    PlacementPreference,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from swarmd.orchestrator.rebalance import IMPROVEMENT_MIN, Fits, plan_moves
from swarmd.wire.orchestration import Move

ANYWHERE = Placement()
BY_ZONE = Placement(preferences=(PlacementPreference(spread="node.labels.zone"),))


def node(id: str, zone: str = "") -> Node:
    return Node(id=id, spec=NodeSpec(labels={"zone": zone} if zone else {}))


def tasks_on(**counts: int) -> list[Task]:
    """So many on each node, in slots 1, 2, 3 ..."""
    places = [id for id, count in counts.items() for _ in range(count)]
    return [task(slot, id) for slot, id in enumerate(places, start=1)]


def task(slot: int, node_id: str, state: TaskState = TaskState.RUNNING) -> Task:
    spec = TaskSpec(container=ContainerSpec(image="x"))
    return Task(id=f"t{slot}", slot=slot, node_id=node_id, spec=spec, status=TaskStatus(state=state))


def anything(node: Node, task: Task, arriving: Sequence[Task]) -> bool:
    return True


def planned(
    tasks: Sequence[Task],
    nodes: Sequence[Node],
    placement: Placement = ANYWHERE,
    *,
    fits: Fits = anything,
    limit: int = 0,
) -> list[Move]:
    return list(plan_moves(tasks, nodes, placement, fits, limit=limit))


def after(tasks: Sequence[Task], moves: Sequence[Move]) -> Counter[str]:
    """How many are on each node then."""
    counts = Counter(task.node_id for task in tasks)
    for move in moves:
        counts[move.from_node_id] -= 1
        counts[move.to_node_id] += 1
    return counts


def test_a_node_that_came_back_gets_its_share() -> None:
    tasks = tasks_on(a=3, b=3)
    moves = planned(tasks, [node("a"), node("b"), node("c")])
    assert after(tasks, moves) == {"a": 2, "b": 2, "c": 2}
    assert {move.to_node_id for move in moves} == {"c"}


def test_what_differs_by_one_stays() -> None:
    assert planned(tasks_on(a=2, b=1, c=1), [node("a"), node("b"), node("c")]) == []


def test_the_largest_improvement_comes_first_and_the_limit_holds() -> None:
    tasks = tasks_on(a=2, b=6, c=0)
    (move,) = planned(tasks, [node("a"), node("b"), node("c")], limit=1)
    assert (move.from_node_id, move.to_node_id) == ("b", "c")


def test_tasks_that_do_not_run_go_first_then_high_slots() -> None:
    tasks = [task(1, "a"), task(2, "a", TaskState.STARTING), task(3, "a"), task(4, "a")]
    moves = planned(tasks, [node("a"), node("b")])
    assert [move.slot for move in moves] == [2, 4]


def test_branches_are_levelled_before_nodes() -> None:
    nodes = [node("a1", "a"), node("a2", "a"), node("a3", "a"), node("b1", "b")]
    tasks = tasks_on(a1=2, a2=2, a3=2)
    moves = planned(tasks, nodes, BY_ZONE)
    assert after(tasks, moves) == {"a1": 1, "a2": 1, "a3": 1, "b1": 3}


def test_within_a_branch_nodes_are_levelled_too() -> None:
    nodes = [node("a1", "a"), node("a2", "a"), node("b1", "b")]
    tasks = tasks_on(a1=3, a2=0, b1=3)
    assert after(tasks, planned(tasks, nodes, BY_ZONE)) == {"a1": 2, "a2": 1, "b1": 3}


def test_a_node_without_the_label_is_in_a_branch_of_its_own() -> None:
    tasks = tasks_on(a=4)
    assert after(tasks, planned(tasks, [node("a", "x"), node("b")], BY_ZONE)) == {"a": 2, "b": 2}


def test_nobody_goes_where_it_does_not_fit() -> None:
    def two_at_most(node: Node, task: Task, arriving: Sequence[Task]) -> bool:
        return node.id != "c" and len(arriving) < (1 if node.id == "b" else 2)

    tasks = tasks_on(a=9)
    nodes = [node("a"), node("b"), node("c"), node("d")]
    assert after(tasks, planned(tasks, nodes, fits=two_at_most)) == {"a": 6, "b": 1, "d": 2}


def test_a_full_branch_does_not_hide_the_next_emptiest() -> None:
    nodes = [node("a1", "a"), node("b1", "b"), node("c1", "c")]
    tasks = tasks_on(a1=6, c1=1)
    moves = planned(tasks, nodes, BY_ZONE, fits=lambda node, task, arriving: node.id != "b1")
    assert after(tasks, moves) == {"a1": 4, "c1": 3}


def test_tasks_on_nodes_that_are_not_there_stay() -> None:
    assert planned(tasks_on(gone=5), [node("a"), node("b")]) == []


@given(
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=8),
    zones=st.lists(st.sampled_from("xyz"), min_size=8, max_size=8),
    room=st.lists(st.integers(0, 9), min_size=8, max_size=8),
    is_spread=st.booleans(),
)
def test_at_its_end_no_move_improves_anything(
    counts: list[int], zones: list[str], room: list[int], *, is_spread: bool
) -> None:
    nodes = [node(f"n{number}", zones[number]) for number in range(len(counts))]
    tasks = tasks_on(**{f"n{number}": count for number, count in enumerate(counts)})
    space = {f"n{number}": room[number] for number in range(len(counts))}

    def fits(node: Node, task: Task, arriving: Sequence[Task]) -> bool:
        return len(arriving) < space[node.id]

    moves = planned(tasks, nodes, BY_ZONE if is_spread else Placement(), fits=fits)
    then = after(tasks, moves)
    assert len({move.task_id for move in moves}) == len(moves), "nobody is moved twice"
    assert all(one.from_node_id != one.to_node_id for one in moves)
    arrived = Counter(move.to_node_id for move in moves)
    assert all(arrived[id] <= space[id] for id in arrived)
    left = Counter(task.node_id for task in tasks)
    left.subtract(move.from_node_id for move in moves)
    for fuller, emptier in product(nodes, nodes):
        same_zone = not is_spread or fuller.spec.labels == emptier.spec.labels
        has_one_to_give, takes_one = left[fuller.id] > 0, arrived[emptier.id] < space[emptier.id]
        if same_zone and has_one_to_give and takes_one:
            assert then[fuller.id] - then[emptier.id] < IMPROVEMENT_MIN


def test_many_tasks_on_many_nodes_are_planned_in_little_work() -> None:
    looked_at = 0

    def fits(node: Node, task: Task, arriving: Sequence[Task]) -> bool:
        nonlocal looked_at
        looked_at += 1
        return True

    nodes = [node(f"n{number:04}", "xyz"[number % 3]) for number in range(1_000)]
    tasks = [task(slot, f"n{slot % 100:04}") for slot in range(1, 2_001)]
    moves = planned(tasks, nodes, BY_ZONE, fits=fits)
    assert looked_at == len(moves), "no node is asked that is not chosen"
    then = after(tasks, moves)
    for zone in range(3):
        counts = [then[f"n{number:04}"] for number in range(zone, 1_000, 3)]
        assert max(counts) - min(counts) < IMPROVEMENT_MIN
        assert sum(counts) in (666, 667)


@pytest.mark.parametrize("limit", [1, 3])
def test_a_limited_plan_is_the_beginning_of_the_whole_one(limit: int) -> None:
    tasks, nodes = tasks_on(a=9, b=1), [node("a"), node("b"), node("c")]
    assert planned(tasks, nodes, limit=limit) == planned(tasks, nodes)[:limit]
