"""From any state, and under any agents, reconcile comes to rest with exactly the wanted replicas."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.model import (
    Availability,
    ContainerSpec,
    NodeState,
    RestartCondition,
    RestartPolicy,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from tests.unit.orchestrator.world import World

S = TaskState
NODES = ("n1", "n2", "n3", "n4")
OBSERVED = [state for state in TaskState if state is not S.REMOVE]
DESIRED = [S.READY, S.RUNNING, S.RUNNING, S.SHUTDOWN, S.REMOVE]


def random_task(world: World, rng: random.Random, specs: list[TaskSpec]) -> Task:
    observed = rng.choice(OBSERVED)
    return Task(
        id=world.update(lambda tx: tx.new_id()),
        service_id="web",
        service_name="web",
        slot=rng.randrange(1, 6),
        node_id=rng.choice((*NODES, "removed")) if observed >= S.ASSIGNED else "",
        spec=rng.choice(specs),
        spec_version=rng.choice((1, 2)),
        status=TaskStatus(state=observed, at=world.now - rng.random() * 30),
        desired_state=rng.choice(DESIRED),
    )


def random_world(rng: random.Random) -> World:
    world = World(rng.getrandbits(32))
    for id in NODES:
        state = rng.choice((NodeState.READY, NodeState.READY, NodeState.DOWN, NodeState.DISCONNECTED))
        world.add_node(id, state, rng.choice(list(Availability)))
    restart = RestartPolicy(
        condition=rng.choice((RestartCondition.ANY, RestartCondition.ON_FAILURE)),
        delay_s=rng.choice((0, 5, 90)),
    )
    world.add_service(replicas=rng.randrange(5), restart=restart)
    service = world.state.service("web")
    assert service is not None
    old = TaskSpec(container=ContainerSpec(image="old"), restart=RestartPolicy(condition=RestartCondition.ANY))
    for _ in range(rng.randrange(12)):
        world.add_task(random_task(world, rng, [service.spec.task, old]))
        world.now += rng.random()
    return world


def assert_one_a_slot(world: World) -> None:
    slots = [t.slot for t in world.wanted()]
    assert len(slots) == len(set(slots))


def disturb(world: World, rng: random.Random) -> None:
    what = rng.randrange(6)
    if what == 0:
        world.set_service(replicas=rng.randrange(5))
    elif what == 1:
        world.set_service(image=rng.choice("abc"))
    elif what == 2:
        nodes = list(world.state.nodes())
        state = rng.choice((NodeState.READY, NodeState.DOWN, NodeState.UNKNOWN))
        world.set_node(rng.choice(nodes).id, state=state, availability=rng.choice(list(Availability)))
    elif what == 3:
        candidates = [t for t in world.tasks() if S.ASSIGNED <= t.status.state <= S.RUNNING]
        if candidates:
            world.move(rng.choice(candidates), rng.choice((S.COMPLETE, S.FAILED, S.REJECTED, S.SHUTDOWN)))
    elif what == 4:
        world.reap()
    world.now += rng.choice((0, 0.5, 3, 70))


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_once_the_world_keeps_still_exactly_the_wanted_replicas_run(seed: int) -> None:
    rng = random.Random(seed)
    world = random_world(rng)
    for _ in range(12):
        disturb(world, rng)
        world.reconcile()
        assert_one_a_slot(world)
        world.place()
        if rng.random() < 0.7:
            world.agents()
    for node in tuple(world.state.nodes()):
        world.set_node(node.id, state=NodeState.READY, availability=Availability.ACTIVE)
    world.set_service(image="final", change=lambda spec: TaskSpec(container=spec.container))
    service = world.state.service("web")
    assert service is not None
    world.settle(turns=400)
    assert_one_a_slot(world)
    assert len(world.running()) == service.spec.mode.replicas
    assert {t.spec.container.image for t in world.running()} <= {"final"}
    assert world.is_at_rest()
    # Nobody will ever report on a removed node's tasks; the API makes them ORPHANED, these here only look so.
    heard_of = [t.slot for t in world.tasks() if t.node_id != "removed"]
    assert all(heard_of.count(slot) <= 5 for slot in heard_of)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_removed_service_leaves_nothing(seed: int) -> None:
    rng = random.Random(seed)
    world = random_world(rng)
    world.remove_service()
    world.reconcile()
    assert {t.desired_state for t in world.tasks()} <= {S.REMOVE}
    for node in tuple(world.state.nodes()):
        world.set_node(node.id, state=NodeState.READY)
    world.agents()
    world.reap()
    assert [t for t in world.tasks() if t.node_id != "removed"] == []
