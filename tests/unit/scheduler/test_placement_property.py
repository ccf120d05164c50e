"""On random histories every decision equals that of a brute-force twin, and every mask equals its recomputation."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.model import (
    Availability,
    ContainerSpec,
    Meta,
    Node,
    NodeDescription,
    NodeSpec,
    NodeState,
    NodeStatus,
    Placement,
    ResourceLimits,
    ResourceRequirements,
    Resources,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from swarmd.scheduler import Scheduler
from swarmd.scheduler.nodes import unavailable_reason

replace = msgspec.structs.replace


class Twin:
    """What the scheduler should know, recomputed from the objects every time it is asked."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.tasks: dict[str, Task] = {}
        self.failures: list[tuple[str, int, str, float]] = []

    def on_node(self, node_id: str) -> list[Task]:
        return [t for t in self.tasks.values() if t.node_id == node_id and t.status.state <= TaskState.RUNNING]

    def order(self, task: Task, node: Node, now: float) -> tuple[int, int, int, float, str]:
        failures = sum(
            1
            for service_id, version, node_id, at in self.failures
            if service_id
            and (service_id, version, node_id) == (task.service_id, task.spec_version, node.id)
            and at > now - 300
        )
        active = [t for t in self.on_node(node.id) if t.desired_state <= TaskState.COMPLETE]
        count = sum(1 for t in active if task.service_id and t.service_id == task.service_id)
        return (failures if failures >= 5 else 0, count, len(active), node.meta.created_at, node.id)

    def fits(self, task: Task, node: Node) -> bool:
        if unavailable_reason(node):
            return False
        asked = task.spec.resources.reservations
        held = [t.spec.resources.reservations for t in self.on_node(node.id)]
        free_cpus = node.description.resources.nano_cpus - sum(r.nano_cpus for r in held)
        free_memory = node.description.resources.memory_bytes - sum(r.memory_bytes for r in held)
        if (asked.nano_cpus and asked.nano_cpus > free_cpus) or (
            asked.memory_bytes and asked.memory_bytes > free_memory
        ):
            return False
        limit = task.spec.placement.max_replicas
        return not limit or not task.service_id or self.order(task, node, 0.0)[1] < limit

    def best(self, task: Task, now: float) -> str | None:
        fitting = [node for node in self.nodes.values() if self.fits(task, node)]
        return min(fitting, key=lambda node: self.order(task, node, now)).id if fitting else None


class History:
    """Random events, told to both."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 1000.0
        self.twin = Twin()
        self.scheduler = Scheduler([], [])
        self.serial = 0
        self.services = {name: [self.random_spec(), 1] for name in ("", "a", "b", "c")}

    def random_spec(self) -> TaskSpec:
        rng = self.rng
        reservations = ResourceLimits(nano_cpus=rng.choice((0, 0, 3, 5)), memory_bytes=rng.choice((0, 0, 4, 9)))
        return TaskSpec(
            container=ContainerSpec(image="x"),
            resources=ResourceRequirements(reservations=reservations),
            placement=Placement(max_replicas=rng.choice((0, 0, 0, 1, 3))),
        )

    def random_node(self, id: str, created_at: float) -> Node:
        rng = self.rng
        states = (NodeState.READY,) * 6 + (NodeState.DOWN, NodeState.UNKNOWN, NodeState.DISCONNECTED)
        resources = Resources(nano_cpus=rng.randrange(0, 40), memory_bytes=rng.randrange(0, 60))
        return Node(
            id=id,
            meta=Meta(version=1, created_at=created_at),
            spec=NodeSpec(
                availability=rng.choice((Availability.ACTIVE,) * 4 + (Availability.PAUSE, Availability.DRAIN))
            ),
            status=NodeStatus(state=rng.choice(states), confirmed=rng.random() < 0.9),
            description=NodeDescription(hostname=id, resources=resources),
        )

    def put_task(self, task: Task) -> None:
        self.twin.tasks[task.id] = task
        self.scheduler.task_changed(task, self.now)

    def step(self) -> None:
        self.now += self.rng.random() * 20
        self.serial += 1
        happenings = (self.node_appears, self.node_changes, self.node_goes, self.tasks_appear, self.tasks_appear)
        happenings += (self.task_moves, self.task_moves, self.task_goes, self.respecify)
        self.rng.choice(happenings)()

    def node_appears(self) -> None:
        node = self.random_node(f"n{self.rng.randrange(100):02}x{self.serial}", self.now)
        self.twin.nodes[node.id] = node
        self.scheduler.node_changed(node)

    def node_changes(self) -> None:
        if self.twin.nodes:
            old = self.rng.choice(list(self.twin.nodes.values()))
            node = self.random_node(old.id, old.meta.created_at)
            self.twin.nodes[node.id] = node
            self.scheduler.node_changed(node)

    def node_goes(self) -> None:
        if self.twin.nodes and self.rng.random() < 0.4:
            id = self.rng.choice(list(self.twin.nodes))
            del self.twin.nodes[id]
            self.scheduler.node_removed(id)

    def respecify(self) -> None:
        name = self.rng.choice(list(self.services))
        self.services[name] = [self.random_spec(), self.serial]

    def tasks_appear(self) -> None:
        name = self.rng.choice(list(self.services))
        spec, version = self.services[name]
        for i in range(self.rng.choice((1, 2, 5, 12, 30))):
            self.put_task(
                Task(
                    id=f"t{self.serial}.{i}",
                    meta=Meta(version=self.serial),
                    service_id=name,
                    spec=spec,
                    spec_version=version,
                    status=TaskStatus(state=TaskState.PENDING, at=self.now),
                )
            )

    def task_moves(self) -> None:
        if not self.twin.tasks:
            return
        for task in self.rng.sample(list(self.twin.tasks.values()), k=min(4, len(self.twin.tasks))):
            desired = max(
                task.desired_state, self.rng.choice((TaskState.RUNNING, TaskState.RUNNING, TaskState.SHUTDOWN))
            )
            state = task.status.state
            if task.node_id:
                state = max(state, self.rng.choice((TaskState.RUNNING, TaskState.FAILED, TaskState.SHUTDOWN)))
                if state == TaskState.FAILED and task.status.state <= TaskState.RUNNING:
                    self.twin.failures.append((task.service_id, task.spec_version, task.node_id, self.now))
            status = replace(task.status, state=state)
            self.put_task(replace(task, meta=Meta(version=self.serial), status=status, desired_state=desired))

    def task_goes(self) -> None:
        if self.twin.tasks:
            id = self.rng.choice(list(self.twin.tasks))
            del self.twin.tasks[id]
            self.scheduler.task_removed(id)

    def place(self) -> None:
        """One pass; each decision is judged in the order in which it was taken."""
        placed, _ = self.scheduler.place(self.now, limit=self.rng.choice((3, 1000)))
        for placement in placed:
            task = self.twin.tasks[placement.task_id]
            assert placement.base == task.meta.version
            assert placement.node_id == self.twin.best(task, self.now)
            status = replace(task.status, state=TaskState.ASSIGNED)
            written = replace(task, meta=Meta(version=self.serial), node_id=placement.node_id, status=status)
            self.twin.tasks[task.id] = written
        for placement in placed:
            if self.rng.random() < 0.2:  # the write was refused
                task = self.twin.tasks[placement.task_id]
                status = replace(task.status, state=TaskState.PENDING)
                self.twin.tasks[task.id] = replace(task, node_id="", status=status, meta=Meta(version=placement.base))
                self.scheduler.refused(task.id)
            else:
                self.scheduler.task_changed(self.twin.tasks[placement.task_id], self.now)

    def assert_nothing_left_undone(self) -> None:
        while self.scheduler.has_work:
            self.place()
        for task in self.twin.tasks.values():
            if task.status.state == TaskState.PENDING and task.desired_state <= TaskState.RUNNING:
                assert self.twin.best(task, self.now) is None

    def assert_masks_hold(self) -> None:
        table = self.scheduler._nodes
        for id, node in self.twin.nodes.items():
            info = table.find(id)
            assert info is not None
            bit = 1 << info.number
            on_node = self.twin.on_node(id)
            active = Counter(t.service_id for t in on_node if t.desired_state <= TaskState.COMPLETE)
            assert info.tasks == len(on_node)
            assert info.total == active.total()
            assert info.free_cpus == node.description.resources.nano_cpus - sum(
                t.spec.resources.reservations.nano_cpus for t in on_node
            )
            assert [total for total, mask in table.levels.items() if mask & bit] == [info.total]
            assert bool(table.available & bit) is (not unavailable_reason(node))
            assert table.everyone & bit
            octaves = [key for key, mask in table.memory._masks.items() if mask & bit]
            assert octaves == [max(0, info.free_memory).bit_length()]
            for name in ("a", "b", "c"):
                counts = table.services.get(name)
                held = [] if counts is None else [c for c, mask in counts.by_count.items() if mask & bit]
                assert held == ([active[name]] if active[name] else [])
        assert table.everyone.bit_count() == len(self.twin.nodes)
        assert table.reasons == Counter(r for n in self.twin.nodes.values() if (r := unavailable_reason(n)))


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_decisions_equal_brute_force_on_random_histories(seed: int) -> None:
    history = History(seed)
    for _ in range(40):
        history.step()
        if history.rng.random() < 0.5:
            history.place()
        history.assert_masks_hold()
    history.assert_nothing_left_undone()
    history.assert_masks_hold()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_new_leader_decides_as_the_old_one_would_have(seed: int) -> None:
    history = History(seed)
    for _ in range(30):
        history.step()
    while history.scheduler.has_work:
        history.place()
    heir = Scheduler(
        history.rng.sample(list(history.twin.nodes.values()), k=len(history.twin.nodes)), history.twin.tasks.values()
    )
    heir.place(history.now, limit=10_000)  # explains what cannot be placed
    history.twin.failures.clear()  # failures of deleted records are forgotten
    history.scheduler._failures._times.clear()
    heir._failures._times.clear()
    task = Task(
        id="probe",
        service_id="a",
        spec=history.services[""][0],
        spec_version=9,
        status=TaskStatus(state=TaskState.PENDING),
    )
    for scheduler in (history.scheduler, heir):
        scheduler.task_changed(task, history.now)
    placed, _ = history.scheduler.place(history.now, limit=1000)
    assert [p for p in heir.place(history.now, limit=1000)[0] if p.task_id == "probe"] == [
        p for p in placed if p.task_id == "probe"
    ]
