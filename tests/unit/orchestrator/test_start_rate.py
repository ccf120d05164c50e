"""A thousand tasks that fail at once are started again at a rate that their nodes can bear."""

from __future__ import annotations

from collections import Counter

from swarmd.model import Global, Replicated, RestartPolicy, TaskState
from swarmd.orchestrator.start_rate import RESTARTS_PER_SECOND
from tests.unit.orchestrator.modes_world import ModesWorld

S = TaskState


def failed_world(replicas: int, nodes: int, services: int = 1) -> ModesWorld:
    """All of it fails at the same moment, and is placed again."""
    world = ModesWorld()
    for number in range(nodes):
        world.add_node(f"n{number}")
    ids = [f"s{number}" for number in range(services)]
    for id in ids:
        world.run(Replicated(replicas=replicas), id)
        world.reconcile(id)
    world.place()
    world.agents()
    for task in tuple(world.state.tasks()):
        world.move(task, S.FAILED)
    for id in ids:
        world.reconcile(id)
    world.place()
    world.agents()
    return world


def released(world: ModesWorld) -> Counter[str]:
    return Counter(t.node_id for t in world.state.tasks() if t.failures and t.desired_state is S.RUNNING)


def test_each_node_gets_so_many_a_second_until_all_run() -> None:
    world = failed_world(replicas=100, nodes=2)
    world.now += 5
    counts = []
    for _ in range(6):
        wake_at = world.reconcile("s0")
        counts.append(released(world))
        world.agents()
        if wake_at is not None:
            assert wake_at - world.now == 1.0
            world.now = wake_at + 0.001
    steps = [RESTARTS_PER_SECOND * number for number in range(1, 6)]
    assert [count["n0"] for count in counts] == [*steps, 50]
    assert [count["n1"] for count in counts] == [*steps, 50]
    assert len(world.running("s0")) == 100


def test_many_services_share_what_a_node_can_bear() -> None:
    world = failed_world(replicas=1, nodes=1, services=35)
    world.now += 5
    wakes = [world.reconcile(f"s{number}") for number in range(35)]
    assert released(world)["n0"] == RESTARTS_PER_SECOND
    assert Counter(None if at is None else at - world.now for at in wakes) == {None: 10, 1.0: 10, 2.0: 10, 3.0: 5}
    for second in range(1, 4):
        world.now += 1.001
        for number in range(35):
            world.reconcile(f"s{number}")
        assert released(world)["n0"] == min(35, RESTARTS_PER_SECOND * (second + 1))


def test_one_look_at_a_node_gives_its_room_away_once() -> None:
    world = ModesWorld()
    world.add_node("n1")
    for number in range(25):
        world.run(Global(), f"s{number}")
        world.reconcile(f"s{number}")
    world.place()
    world.agents()
    for task in tuple(world.state.tasks()):
        world.move(task, S.FAILED)
    assert world.look_at_node("n1") == world.now + 5
    world.place()
    world.now += 5
    assert world.look_at_node("n1") == world.now + 1
    assert released(world)["n1"] == RESTARTS_PER_SECOND


def test_who_waits_for_longest_goes_first() -> None:
    world = failed_world(replicas=5, nodes=1, services=1)
    world.now += 1
    world.run(Replicated(replicas=30), "later")
    world.reconcile("later")
    world.place()
    world.agents()
    for task in world.tasks("later"):
        world.move(task, S.FAILED)
    world.reconcile("later")
    world.place()
    world.now += 10
    world.reconcile("later")
    assert len([t for t in world.tasks("later") if t.failures and t.desired_state is S.RUNNING]) == 5
    world.reconcile("s0")
    assert released(world)["n0"] == RESTARTS_PER_SECOND


def test_first_starts_and_updates_are_not_slowed() -> None:
    world = ModesWorld()
    world.add_node("n1")
    world.run(Replicated(replicas=200))
    world.reconcile()
    world.place()
    world.agents()
    assert len(world.running()) == 200


def test_a_restart_without_delay_is_not_held_the_first_time() -> None:
    world = ModesWorld()
    world.add_node("n1")
    world.run(Replicated(replicas=1), restart=RestartPolicy(delay_s=0))
    world.settle()
    world.move(world.running()[0], S.FAILED)
    world.reconcile()
    assert [t.desired_state for t in world.wanted()] == [S.RUNNING]
