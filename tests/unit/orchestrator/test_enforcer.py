"""What a node that changed must give up (reference orchestration 10, scenario 74)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swarmd.model import (
    Availability,
    ContainerSpec,
    GenericResource,
    Meta,
    Node,
    NodeDescription,
    NodeSpec,
    Placement,
    Platform,
    ResourceLimits,
    ResourceRequirements,
    Resources,
    RestartCondition,
    RestartPolicy,
    Role,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from swarmd.orchestrator.enforcer import ENFORCED_ERROR, enforce, misplaced
from swarmd.orchestrator.facts import ENFORCED_MESSAGE
from tests.unit.orchestrator.world import World

S = TaskState
MIB = 1 << 20


def node(*, labels: dict[str, str] | None = None, role: Role = Role.WORKER, **fields: Any) -> Node:
    description = NodeDescription(
        hostname="n1",
        platform=Platform(architecture="x86_64", os="linux"),
        resources=Resources(nano_cpus=4 * 10**9, memory_bytes=100 * MIB, **fields),
    )
    return Node(id="n1", spec=NodeSpec(labels=labels or {}), role=role, description=description)


def task(
    id: str,
    *constraints: str,
    memory: int = 0,
    cpus: int = 0,
    generic: tuple[GenericResource, ...] = (),
    state: TaskState = S.RUNNING,
    desired: TaskState = S.RUNNING,
    created_at: float = 0.0,
    platforms: tuple[Platform, ...] = (),
) -> Task:
    reservations = ResourceLimits(memory_bytes=memory * MIB, nano_cpus=cpus * 10**9)
    return Task(
        id=id,
        meta=Meta(created_at=created_at),
        node_id="n1",
        spec=TaskSpec(
            container=ContainerSpec(image="a"),
            resources=ResourceRequirements(reservations=reservations),
            placement=Placement(constraints=constraints, platforms=platforms),
        ),
        status=TaskStatus(state=state),
        desired_state=desired,
        assigned_generic_resources=generic,
    )


def turned_out(at: Node, *tasks: Task, rule: Callable[[Task], Placement] = lambda t: t.spec.placement) -> list[str]:
    return [t.id for t in misplaced(at, tasks, rule)]


def gpus(*names: str) -> tuple[GenericResource, ...]:
    return (GenericResource(kind="gpu", names=names),)


def licences(amount: int) -> tuple[GenericResource, ...]:
    return (GenericResource(kind="licence", amount=amount),)


def test_a_node_that_changes_its_role_gives_up_what_was_bound_to_the_old_one() -> None:
    bound, free = task("bound", "node.role==worker"), task("free")
    assert turned_out(node(), bound, free) == []
    assert turned_out(node(role=Role.MANAGER), bound, free) == ["bound"]


def test_a_label_that_goes_takes_its_tasks_with_it() -> None:
    bound = task("bound", "node.labels.disk==ssd")
    assert turned_out(node(labels={"disk": "ssd"}), bound) == []
    assert turned_out(node(), bound) == ["bound"]


def test_another_platform_does_not_keep_what_it_cannot_run() -> None:
    arm = task("arm", platforms=(Platform(architecture="arm64", os="linux"),))
    amd = task("amd", platforms=(Platform(architecture="amd64"),))
    assert turned_out(node(), arm, amd) == ["arm"]


def test_the_services_rule_wins_over_what_the_task_was_made_with() -> None:
    outdated = task("t", "node.labels.zone==eu")
    assert turned_out(node(), outdated, rule=lambda _: Placement()) == []
    assert turned_out(node(), task("t"), rule=lambda _: Placement(constraints=("node.role==manager",))) == ["t"]


def test_memory_that_shrank_turns_out_the_largest_and_of_equals_the_newest() -> None:
    tasks = [
        task("small", memory=20, created_at=9),
        task("old", memory=40, created_at=1),
        task("new", memory=40, created_at=2),
        task("none", created_at=99),
    ]
    assert turned_out(node(), *tasks) == []
    tasks.append(task("large", memory=50, created_at=0))
    assert turned_out(node(), *tasks) == ["large"]
    tasks.append(task("larger", memory=60, created_at=0))
    assert turned_out(node(), *tasks) == ["larger", "large"]
    assert turned_out(node(), *tasks, task("another", memory=30)) == ["larger", "large", "new"]


def test_cpus_that_shrank_count_after_what_memory_turned_out_already() -> None:
    greedy = task("greedy", memory=200, cpus=3)
    assert turned_out(node(), greedy, task("modest", cpus=3)) == ["greedy"]
    assert turned_out(node(), task("a", cpus=3, created_at=1), task("b", cpus=3, created_at=2)) == ["b"]


def test_a_node_that_tells_neither_memory_nor_cpus_is_not_held_to_them() -> None:
    silent = replace(node(), description=NodeDescription(hostname="n1"))
    assert turned_out(silent, task("t", memory=10, cpus=1)) == []


def test_a_member_of_a_set_that_vanished_turns_out_who_had_it_and_all_are_looked_at() -> None:
    had = node(generic=gpus("a", "d"))
    tasks = [task("1", generic=gpus("a")), task("2", generic=gpus("b")), task("3", generic=gpus("c", "d"))]
    assert turned_out(had, *tasks) == ["2", "3"]
    assert turned_out(node(), *tasks) == ["1", "2", "3"]


def test_an_amount_that_shrank_turns_out_as_many_as_it_must() -> None:
    tasks = [task("two", generic=licences(2)), task("a", generic=licences(1), created_at=1), task("b", memory=1)]
    assert turned_out(node(generic=licences(3)), *tasks) == []
    assert turned_out(node(generic=licences(2)), *tasks) == ["two"]


def test_a_kind_that_became_a_set_is_another_kind() -> None:
    assert turned_out(node(generic=licences(3)), task("t", generic=gpus("a"))) == ["t"]
    named = (GenericResource(kind="licence", names=("x", "y")),)
    assert turned_out(node(generic=named), task("t", generic=licences(1))) == ["t"]


@pytest.mark.parametrize(
    "settled",
    [
        task("t", "node.role==manager", memory=200, state=S.COMPLETE, desired=S.COMPLETE),
        task("t", "node.role==manager", memory=200, state=S.RUNNING, desired=S.SHUTDOWN),
        task("t", "node.role==manager", memory=200, state=S.PENDING),
    ],
    ids=["completed job", "being stopped", "not assigned"],
)
def test_what_does_not_run_there_is_neither_charged_nor_turned_out(settled: Task) -> None:
    assert turned_out(node(), settled, task("other", memory=100)) == []


def test_a_jobs_running_task_is_held_to_the_rules_as_well() -> None:
    assert turned_out(node(), task("t", "node.role==manager", desired=S.COMPLETE)) == ["t"]


@given(st.lists(st.integers(0, 60), max_size=12))
def test_what_is_left_fits_and_nobody_goes_without_need(sizes: list[int]) -> None:
    tasks = [task(str(number), memory=size, created_at=number) for number, size in enumerate(sizes)]
    gone = turned_out(node(), *tasks)
    left = sum(size for number, size in enumerate(sizes) if str(number) not in gone)
    assert left <= 100
    if gone:
        assert left + sizes[int(gone[-1])] > 100


# -- through a transaction ---------------------------------------------------------------------------------------------
def labelled(world: World, id: str, **labels: str) -> None:
    found = world.state.node(id)
    assert found is not None
    world.update(lambda tx: tx.update(replace(found, spec=replace(found.spec, labels=labels))))


def bound_world(restart: RestartPolicy = RestartPolicy()) -> World:  # noqa: B008
    world = World()
    world.add_node("n1")
    labelled(world, "n1", disk="ssd")
    world.add_service(restart=restart)
    world.set_service(change=lambda spec: replace(spec, placement=Placement(constraints=("node.labels.disk==ssd",))))
    world.settle()
    return world


def test_a_rejected_task_says_why_and_is_replaced_once_its_node_had_time_to_stop_it() -> None:
    world = bound_world(RestartPolicy(condition=RestartCondition.ON_FAILURE, max_attempts=1, delay_s=1))
    (old,) = world.running()
    labelled(world, "n1")
    world.add_node("n2")
    labelled(world, "n2", disk="ssd")
    assert world.update(lambda tx: enforce(tx, "n1")) is None
    rejected = world.state.task(old.id)
    assert rejected is not None
    assert (rejected.status.state, rejected.status.message, rejected.status.err) == (
        S.REJECTED,
        ENFORCED_MESSAGE,
        ENFORCED_ERROR,
    )
    assert rejected.desired_state is S.RUNNING
    assert world.reconcile() == world.now + 10.0, "its stop grace period: nobody will tell when it stopped"
    world.now += 10.0
    world.reconcile()
    (new,) = world.wanted()
    assert (new.id != old.id, new.desired_state) == (True, S.RUNNING)
    # It was not the task's doing: the one attempt is still there.
    world.update(lambda tx: tx.assign(new.id, "n2", TaskStatus(state=S.ASSIGNED, at=world.now)))
    world.move(replace(new, node_id="n2"), S.FAILED)
    world.reconcile()
    assert len(world.wanted()) == 1


@pytest.mark.parametrize("availability", [Availability.PAUSE, Availability.DRAIN])
def test_only_active_nodes_are_looked_at(availability: Availability) -> None:
    world = bound_world()
    labelled(world, "n1")
    world.set_node("n1", availability=availability)
    before = world.state.index
    world.update(lambda tx: enforce(tx, "n1"))
    assert world.state.index == before


def test_enforcing_twice_or_on_a_node_that_is_gone_changes_nothing() -> None:
    world = bound_world()
    labelled(world, "n1")
    world.update(lambda tx: enforce(tx, "n1"))
    before = world.state.index
    world.update(lambda tx: enforce(tx, "n1"))
    world.update(lambda tx: enforce(tx, "gone"))
    assert world.state.index == before
