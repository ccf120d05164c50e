"""Orchestrator, allocator, scheduler and reaper over a real state, each alone and all together."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from swarmd.errors import Conflict, ResourceExhausted, Unavailable
from swarmd.manager.loops import AllocatorLoop, OrchestratorLoop, ReaperLoop, SchedulerLoop
from swarmd.manager.loops import orchestrator as orchestrator_loop
from swarmd.manager.loops import scheduler as scheduler_loop
from swarmd.manager.loops.feed import Feed
from swarmd.model import (
    Availability,
    Cluster,
    ContainerSpec,
    Global,
    Node,
    NodeDescription,
    NodeSpec,
    NodeState,
    NodeStatus,
    Placement,
    Replicated,
    ResourceLimits,
    ResourceRequirements,
    Resources,
    Service,
    ServiceDependency,
    ServiceSpec,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
    UpdateConfig,
    UpdateOrder,
)
from swarmd.orchestrator.revision import updated
from swarmd.state.batch import CHANGES_MAX
from swarmd.state.command import Advance, Assign, Require, Table
from swarmd.state.features import ORCHESTRATION
from swarmd.state.store import State
from swarmd.state.watch import Event, Route
from tests.unit.manager.local_store import LocalStore

S = TaskState
ALL = (OrchestratorLoop, AllocatorLoop, SchedulerLoop, ReaperLoop)


@pytest.fixture
def store() -> LocalStore:
    return LocalStore()


@asynccontextmanager
async def running(store: LocalStore, *loops: Callable[..., Any]) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for loop in loops:
            await nursery.start(loop(store, now=store.now, rng=random.Random(1)).run)
        yield
        nursery.cancel_scope.cancel()


def make_node(id: str, *, memory: int = 0, availability: Availability = Availability.ACTIVE) -> Node:
    return Node(
        id=id,
        spec=NodeSpec(availability=availability),
        status=NodeStatus(state=NodeState.READY, confirmed=True),
        description=NodeDescription(hostname=id, resources=Resources(memory_bytes=memory)),
    )


def make_service(id: str, replicas: int = 1, *, memory: int = 0) -> Service:
    reservations = ResourceLimits(memory_bytes=memory)
    task = TaskSpec(container=ContainerSpec(image="a"), resources=ResourceRequirements(reservations=reservations))
    return Service(id=id, spec=ServiceSpec(name=id, task=task, mode=Replicated(replicas=replicas)), spec_version=1)


def make_task(id: str, state: TaskState = S.PENDING, **fields: Any) -> Task:
    spec = TaskSpec(container=ContainerSpec(image="a"))
    return Task(**{"id": id, "spec": spec, "status": TaskStatus(state=state), "service_id": "web", "slot": 1} | fields)


def change_node(store: LocalStore, id: str, **status: Any) -> None:
    node = store.state.node(id)
    assert node is not None
    store.write(lambda tx: tx.update(replace(node, status=replace(node.status, **status))))


def tasks(store: LocalStore, service_id: str = "web") -> list[Task]:
    return sorted(store.state.tasks_of_service(service_id), key=lambda t: t.slot)


async def agents(store: LocalStore) -> None:
    """Every task on a node gets at once where it is wanted."""
    while True:
        for task in tuple(store.state.tasks()):
            node = store.state.node(task.node_id)
            if node is None or node.status.state is not NodeState.READY or task.status.state > S.RUNNING:
                continue
            wanted = S.SHUTDOWN if task.desired_state > S.RUNNING else task.desired_state
            if wanted > task.status.state:
                store.write(lambda tx, t=task, w=wanted: tx.report(t.node_id, t.id, TaskStatus(state=w)))
        await trio.sleep(0.1)


# -- all together ----------------------------------------------------------------------------------------
async def test_a_service_comes_up_survives_a_dead_node_and_goes(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(make_node("n1"), make_node("n2"), make_node("n3"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agents, store)
        async with running(store, *ALL):
            store.create(make_service("web", 6))
            await trio.sleep(1)
            assert [t.status.state for t in tasks(store)] == [S.RUNNING] * 6
            assert sorted(t.node_id for t in tasks(store)) == ["n1", "n1", "n2", "n2", "n3", "n3"]
            change_node(store, "n2", state=NodeState.DOWN)
            await trio.sleep(1)
            up = [t for t in tasks(store) if t.status.state is S.RUNNING and t.desired_state is S.RUNNING]
            assert sorted(t.slot for t in up) == [1, 2, 3, 4, 5, 6]
            assert {t.node_id for t in up} == {"n1", "n3"}
            store.write(lambda tx: tx.remove(Table.SERVICE, "web"))
            await trio.sleep(2)
            assert {t.node_id for t in tasks(store)} == {"n2"}
            change_node(store, "n2", state=NodeState.READY)
            await trio.sleep(2)
            assert tasks(store) == []
        nursery.cancel_scope.cancel()


async def test_a_failed_task_is_restarted_after_its_delay(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(make_node("n1"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agents, store)
        async with running(store, *ALL):
            store.create(make_service("web"))
            await trio.sleep(1)
            (first,) = tasks(store)
            store.write(lambda tx: tx.report("n1", first.id, TaskStatus(state=S.FAILED)))
            # The report is stamped with the test's clock; the delay counts from the replacement's creation.
            await trio.sleep(4.5)
            assert [t.status.state for t in tasks(store)] == [S.FAILED, S.READY]
            await trio.sleep(1)
            assert [t.status.state for t in tasks(store)] == [S.FAILED, S.RUNNING]
        nursery.cancel_scope.cancel()


async def test_large_services_are_placed_in_bounded_compact_commands(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(*[make_node(f"n{i}") for i in range(5)])
    async with running(store, *ALL):
        store.create(make_service("web", 1500))
        await trio.sleep(2)
    assert [t.status.state for t in tasks(store)] == [S.ASSIGNED] * 1500
    assert {len(store.state.tasks_of_node(f"n{i}")) for i in range(5)} == {300}
    by_actor = {command.actor for command in store.commands}
    assert by_actor == {"test", "leader:orchestrator", "leader:allocator", "leader:scheduler"}
    for command in store.commands:
        if command.actor != "test":
            assert command.term == store.term
            writes = [change for change in command.changes if not isinstance(change, Require)]
            assert sum(len(getattr(change, "items", (1,))) for change in writes) <= CHANGES_MAX
        if command.actor == "leader:scheduler":
            assert all(isinstance(change, Assign) for change in command.changes)
            assert not command.claims
        if command.actor == "leader:allocator":
            assert all(isinstance(change, Advance) for change in command.changes)


@pytest.mark.parametrize("loop", ALL)
async def test_losing_the_lead_ends_the_loop(
    store: LocalStore, autojump_clock: trio.testing.MockClock, loop: Callable[..., Any]
) -> None:
    store.create(make_node("n1"), make_service("web"), make_task("t1"), make_task("t2", S.NEW, slot=2))
    gone = make_task("t3", S.FAILED, desired_state=S.REMOVE)
    store.create(gone)
    store.lead(False)
    with pytest.RaisesGroup(Unavailable, flatten_subgroups=True):
        async with running(store, loop):
            await trio.sleep(1)


async def test_an_old_task_that_keeps_its_successor_out_is_stopped_as_soon_as_the_scheduler_says_so(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(Cluster(id="cluster", feature_level=(ORCHESTRATION,)))
    store.create(make_node("n1"))
    web = make_service("web")
    task = replace(web.spec.task, placement=Placement(max_replicas=1))
    update = UpdateConfig(order=UpdateOrder.START_FIRST, monitor_s=1.0)
    store.create(replace(web, spec=replace(web.spec, task=task, update=update)))
    async with running(store, *ALL):
        await trio.sleep(1)
        (old,) = tasks(store)
        store.write(lambda tx: tx.report("n1", old.id, TaskStatus(state=S.RUNNING)))
        service = store.state.service("web")
        assert service is not None
        changed = replace(service.spec, task=replace(service.spec.task, container=ContainerSpec(image="b")))
        store.write(lambda tx: tx.update(updated(service, changed, store.now())))
        await trio.sleep(1)
        first, second = sorted(tasks(store), key=lambda task: task.meta.created_at)
        assert (first.desired_state, second.desired_state) == (S.SHUTDOWN, S.RUNNING)
        assert (second.node_id, second.status.state) == ("n1", S.ASSIGNED), "what is wanted down counts no more"


# -- allocator -------------------------------------------------------------------------------------------
async def test_tasks_pass_the_gate_at_the_start_and_later(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(make_task("early", S.NEW), make_task("unwanted", S.NEW, slot=2, desired_state=S.REMOVE))
    async with running(store, AllocatorLoop):
        await trio.sleep(1)
        store.create(make_task("late", S.NEW, slot=3))
        await trio.sleep(1)
    states = {task.id: (task.status.state, task.status.message) for task in store.state.tasks()}
    passed = (S.PENDING, "pending task scheduling")
    assert states == {"early": passed, "late": passed, "unwanted": (S.NEW, "")}


async def test_a_task_waits_at_the_gate_for_what_its_service_depends_on(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(Cluster(id="cluster", feature_level=(ORCHESTRATION,)))
    web = make_service("web")
    depends_on = (ServiceDependency(service="db"),)
    store.create(replace(web, spec=replace(web.spec, depends_on=depends_on)))
    store.create(make_task("w1", S.NEW, service_id="web", service_name="web"))
    async with running(store, AllocatorLoop):
        await trio.sleep(1)
        assert tasks(store)[0].status.err == "waiting for service db to exist"
        store.create(make_service("db"))
        await trio.sleep(1)
        assert tasks(store)[0].status.err == "waiting for service db to be started"
        store.create(make_task("d1", S.ASSIGNED, service_id="db", service_name="db", node_id="n1"))
        index = store.state.index
        await trio.sleep(60)
        assert store.state.index == index, "nobody looks again without a reason"
        store.write(lambda tx: tx.report("n1", "d1", TaskStatus(state=S.RUNNING)))
        await trio.sleep(1)
        task = store.state.task("w1")
        assert task is not None
        assert (task.status.state, task.status.err) == (S.PENDING, "")


async def test_a_conflict_at_the_gate_is_tried_again(store: LocalStore, autojump_clock: trio.testing.MockClock) -> None:
    store.failures = [Conflict("busy")]
    store.create(make_task("t1", S.NEW))
    async with running(store, AllocatorLoop):
        await trio.sleep(1)
    assert tasks(store)[0].status.state is S.PENDING


# -- scheduler -------------------------------------------------------------------------------------------
async def test_an_unplaceable_task_says_why_and_goes_on_when_it_can(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(make_task("t1"))
    async with running(store, SchedulerLoop):
        await trio.sleep(1)
        assert tasks(store)[0].status.err == "no suitable node"
        store.create(make_node("n1", availability=Availability.DRAIN))
        await trio.sleep(1)
        drained = "no suitable node (1 node not available for new tasks: 1 drained)"
        assert (tasks(store)[0].status.err, tasks(store)[0].status.state) == (drained, S.PENDING)
        written = len(store.commands)
        store.create(make_task("t2", slot=2))
        await trio.sleep(1)
        assert len(store.commands) == written + 2, "only the new task was told"
        store.create(make_node("n2"))
        await trio.sleep(1)
    assert {(t.node_id, t.status.err, t.status.state) for t in tasks(store)} == {("n2", "", S.ASSIGNED)}


async def test_the_next_leader_does_not_write_the_same_explanation_again(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(make_task("t1"))
    for _ in range(2):
        async with running(store, SchedulerLoop):
            await trio.sleep(1)
    assert [c.actor for c in store.commands] == ["test", "leader:scheduler"]


async def test_what_changed_between_decision_and_write_is_decided_again(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    """A node is drained, a task is given up and another is changed while the assignment is on its way."""
    store.latency_s = 0.5
    store.create(make_node("n1"), make_node("n2"))
    store.create(*[make_task(f"t{i}", slot=i) for i in range(4)])
    async with running(store, SchedulerLoop):
        await trio.sleep(0.2)
        node = store.state.node("n1")
        assert node is not None
        drained = replace(node, spec=NodeSpec(availability=Availability.DRAIN))
        unwanted = replace(tasks(store)[0], desired_state=S.REMOVE)
        touched = replace(tasks(store)[1], labels={"a": "b"})
        store.write(lambda tx: (tx.update(drained), tx.update(unwanted), tx.update(touched)))
        await trio.sleep(5)
    assert [(t.node_id, t.status.state) for t in tasks(store)] == [
        ("", S.PENDING),
        ("n2", S.ASSIGNED),
        ("n2", S.ASSIGNED),
        ("n2", S.ASSIGNED),
    ]


async def test_a_refused_group_is_split_until_the_rest_is_written(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.failures = [Conflict("busy"), Conflict("busy")]
    store.create(make_node("n1"), *[make_task(f"t{i}", slot=i) for i in range(4)])
    async with running(store, SchedulerLoop):
        await trio.sleep(2)
    assert [t.node_id for t in tasks(store)] == ["n1"] * 4


async def test_refused_tasks_keep_no_room(store: LocalStore, autojump_clock: trio.testing.MockClock) -> None:
    store.failures = [Conflict("busy")]
    reservations = ResourceLimits(memory_bytes=10)
    spec = TaskSpec(container=ContainerSpec(image="a"), resources=ResourceRequirements(reservations=reservations))
    store.create(make_node("n1", memory=10), make_task("t1", spec=spec))
    async with running(store, SchedulerLoop):
        await trio.sleep(2)
    assert tasks(store)[0].node_id == "n1"


async def test_a_first_task_is_placed_at_once_and_what_follows_is_gathered(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(make_node("n1"))
    async with running(store, SchedulerLoop):
        await trio.sleep(1)
        before = len(store.commands)
        for i in range(10):
            store.create(make_task(f"t{i}", slot=i))
            await trio.sleep(0.01)
            if i == 0:
                assert tasks(store)[0].node_id == "n1"
        await trio.sleep(1)
    written = [c for c in store.commands[before:] if c.actor == "leader:scheduler"]
    assert len(written) == 2
    assert [t.node_id for t in tasks(store)] == ["n1"] * 10


async def test_an_endless_stream_is_not_gathered_for_longer_than_a_second(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(make_node("n1"))
    async with running(store, SchedulerLoop):
        await trio.sleep(1)
        for i in range(110):
            store.create(make_task(f"t{i}", slot=i))
            await trio.sleep(0.02)
    waited = [c.at for c in store.commands if c.actor == "leader:scheduler"]
    assert len(waited) == 3
    assert waited[1] - waited[0] <= scheduler_loop.GATHER_S_MAX + 0.1


async def test_a_task_whose_constraints_no_node_meets_waits_and_says_so(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    spec = TaskSpec(container=ContainerSpec(image="a"), placement=Placement(constraints=("node.id == n2",)))
    store.create(make_node("n1"), make_task("t1", spec=spec))
    async with running(store, SchedulerLoop):
        await trio.sleep(1)
        waiting = tasks(store)[0].status
        assert waiting.err == "no suitable node (scheduling constraints not satisfied on 1 node)"
        store.create(make_node("n2"))
        await trio.sleep(1)
    assert tasks(store)[0].node_id == "n2"


async def test_a_task_bound_to_a_node_is_confirmed_there(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(make_node("n1"), make_node("n2"), make_task("t1", node_id="n2"))
    async with running(store, SchedulerLoop):
        await trio.sleep(1)
    assert [(t.node_id, t.status.state) for t in tasks(store)] == [("n2", S.ASSIGNED)]


async def test_what_is_gone_is_neither_placed_nor_placed_on(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(store, SchedulerLoop):
        store.create(make_task("t1"), make_task("t2", slot=2))
        await trio.sleep(1)
        store.write(lambda tx: tx.remove(Table.TASK, "t1"))
        store.create(make_node("n1"))
        store.write(lambda tx: tx.remove(Table.NODE, "n1"))
        store.create(make_node("n2"))
        await trio.sleep(1)
    assert [(t.id, t.node_id) for t in tasks(store)] == [("t2", "n2")]


async def test_a_scheduler_that_fell_behind_builds_its_picture_anew(
    store: LocalStore, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(state: State, routes: Iterable[Route]) -> Feed:
        return Feed(state, routes, events_max=3)

    monkeypatch.setattr(scheduler_loop, "Feed", small)
    async with running(store, SchedulerLoop):
        store.create(make_node("n1"), *[make_task(f"t{i}", slot=i) for i in range(20)])
        await trio.sleep(1)
    assert [t.node_id for t in tasks(store)] == ["n1"] * 20


async def test_a_large_picture_is_built_in_slices_and_misses_nothing_that_changes_meanwhile(
    store: LocalStore,
) -> None:
    """100,000 tasks take a third of a second: the leader's heartbeats pass in between."""
    count = 4 * scheduler_loop.SLICE
    store.create(make_node("n1"))
    store.create(*[make_task(f"t{i}", S.RUNNING, slot=i, node_id="n1") for i in range(count)])
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            if turns == 2:  # while the picture is half built
                store.create(make_task("late", slot=count))
            await trio.lowlevel.checkpoint()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            loop = SchedulerLoop(store, now=store.now, rng=random.Random(1))
            await nursery.start(loop.run)
            assert turns >= 4
            while tasks(store)[-1].node_id != "n1":
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()


async def test_an_explanation_that_could_not_be_written_is_tried_again(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.failures = [Conflict("busy"), ResourceExhausted("log is full")]
    store.create(make_task("t1"))
    async with running(store, SchedulerLoop):
        await trio.sleep(1)
    assert tasks(store)[0].status.err == "no suitable node"


# -- orchestrator and reaper -----------------------------------------------------------------------------
async def test_tasks_of_a_service_removed_while_nobody_led_go(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(make_task("t1", S.PENDING))
    async with running(store, OrchestratorLoop, ReaperLoop):
        await trio.sleep(1)
    assert tasks(store) == []


async def test_a_poisoned_service_does_not_hold_up_the_others(
    store: LocalStore,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    real = orchestrator_loop.reconcile

    def poisoned(tx: Any, service_id: str) -> Any:
        if service_id == "bad":
            raise RuntimeError("poison")
        return real(tx, service_id)

    monkeypatch.setattr(orchestrator_loop, "reconcile", poisoned)
    store.create(make_service("bad"), make_service("good"))
    with caplog.at_level(logging.ERROR):
        async with running(store, OrchestratorLoop):
            await trio.sleep(10)
    assert len(tasks(store, "good")) == 1
    assert 3 <= len(caplog.records) <= 6
    assert "service bad failed" in caplog.text


async def test_a_paused_update_is_logged_once(
    store: LocalStore, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    old = make_service("web", 2)
    new = replace(old.spec, task=replace(old.spec.task, container=ContainerSpec(image="b")))
    service = replace(old, spec=new, spec_version=2, previous_spec=old.spec, previous_spec_version=1)
    running_old = make_task("t1", S.RUNNING, node_id="n1", spec_version=1)
    failed = make_task("t2", S.FAILED, node_id="n1", slot=2, spec=new.task, spec_version=2)
    store.create(make_node("n1"), service, running_old, failed)
    async with running(store, OrchestratorLoop):
        await trio.sleep(30)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["update of service web paused: task t2 of the new spec failed"]


async def test_reaping_gathers_for_a_quarter_of_a_second(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(store, ReaperLoop):
        store.create(make_task("t1", S.FAILED, desired_state=S.REMOVE))
        await trio.sleep(0.2)
        assert len(tasks(store)) == 1
        await trio.sleep(0.1)
        assert tasks(store) == []


async def test_a_lost_task_without_a_service_is_deleted_at_once_found_or_heard_of(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    found = replace(make_task("t1", S.ORPHANED, node_id="n1"), service_id="")
    alive = replace(make_task("t2", S.RUNNING, node_id="n1"), service_id="")
    store.create(found, alive)
    async with running(store, ReaperLoop):
        await trio.sleep(1)
        assert [task.id for task in store.state.tasks()] == ["t2"]
        store.write(lambda tx: tx.report("", "t2", TaskStatus(state=S.ORPHANED)))
        await trio.sleep(1)
        assert list(store.state.tasks()) == []


# -- global services ---------------------------------------------------------------------------------------------------
def global_objects(*nodes: str) -> tuple[Any, ...]:
    cluster = Cluster(id="c", feature_level=(ORCHESTRATION,))
    spec = ServiceSpec(name="web", task=TaskSpec(container=ContainerSpec(image="a")), mode=Global())
    service = Service(id="web", spec=spec, spec_version=1)
    return (cluster, *(make_node(id) for id in nodes), service)


def nodes_of(store: LocalStore, service_id: str = "web") -> list[str]:
    return sorted(task.node_id for task in tasks(store, service_id) if task.desired_state <= S.RUNNING)


def count_passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The services that are looked at as a whole from now on."""
    real, seen = orchestrator_loop.reconcile, list[str]()

    def counted(tx: Any, service_id: str) -> Any:
        seen.append(service_id)
        return real(tx, service_id)

    monkeypatch.setattr(orchestrator_loop, "reconcile", counted)
    return seen


async def test_global_services_follow_nodes_that_join_change_and_leave_without_a_pass_over_all_of_them(
    store: LocalStore, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(*global_objects("n1", "n2"))
    async with running(store, *ALL):
        await trio.sleep(1)
        assert nodes_of(store) == ["n1", "n2"]
        assert {task.status.state for task in tasks(store)} == {S.ASSIGNED}
        passes = count_passes(monkeypatch)
        store.create(make_node("n3"))
        await trio.sleep(1)
        assert nodes_of(store) == ["n1", "n2", "n3"]
        store.write(lambda tx: tx.update(make_node("n1", availability=Availability.DRAIN)))
        await trio.sleep(1)
        assert nodes_of(store) == ["n2", "n3"]
        store.write(lambda tx: tx.update(make_node("n1")))
        await trio.sleep(1)
        assert nodes_of(store) == ["n1", "n2", "n3"]
        store.write(lambda tx: tx.remove(Table.NODE, "n2"))
        await trio.sleep(1)
        assert nodes_of(store) == ["n1", "n3"]
        assert passes == []


async def test_a_global_services_failed_task_is_looked_at_alone_and_restarted_after_its_delay(
    store: LocalStore, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(*global_objects("n1", "n2"))
    async with running(store, *ALL):
        await trio.sleep(1)
        passes = count_passes(monkeypatch)
        (victim,) = [task for task in tasks(store) if task.node_id == "n1"]
        store.write(lambda tx: tx.report("n1", victim.id, TaskStatus(state=S.FAILED)))
        await trio.sleep(4)
        (held,) = [task for task in tasks(store) if task.node_id == "n1" and task.desired_state <= S.RUNNING]
        assert (held.desired_state, held.failures) == (S.READY, 1)
        await trio.sleep(3)
        assert [task.desired_state for task in tasks(store) if task.id == held.id] == [S.RUNNING]
        assert passes == []


async def test_a_node_that_is_active_again_makes_its_outdated_task_the_updates_business(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(*global_objects("n1"))
    async with running(store, *ALL):
        await trio.sleep(1)
        store.write(lambda tx: tx.update(make_node("n1", availability=Availability.PAUSE)))
        service = store.state.service("web")
        assert service is not None
        spec = replace(service.spec, task=TaskSpec(container=ContainerSpec(image="b")))
        store.write(lambda tx: tx.update(replace(service, spec=spec, spec_version=2)))
        await trio.sleep(1)
        assert {task.spec.container.image for task in tasks(store)} == {"a"}
        store.write(lambda tx: tx.update(make_node("n1")))
        await trio.sleep(1)
        assert [t.spec.container.image for t in tasks(store) if t.desired_state <= S.RUNNING] == ["b"]


async def test_heartbeats_of_nodes_are_no_reason_to_look_at_anything(store: LocalStore) -> None:
    store.create(*global_objects("n1"))
    loop = OrchestratorLoop(store, now=store.now, rng=random.Random(1))
    assert list(loop.all_keys()) == ["web"]
    old = make_node("n1")
    beaten = replace(old, status=replace(old.status, message="beat", confirmed=False))
    assert list(loop.keys_of(Event(Table.NODE, old, beaten, 1))) == []
    assert list(loop.keys_of(Event(Table.NODE, None, old, 1))) == ["node n1"]
    service = store.state.service("web")
    loop.keys_of(Event(Table.SERVICE, service, None, 2))
    assert list(loop.keys_of(Event(Table.NODE, None, old, 3))) == []
