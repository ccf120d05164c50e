"""Nodes, tasks, and a scheduler with everything it was told and decided."""

from __future__ import annotations

from collections import Counter
from typing import Any

from msgspec.structs import replace

from swarmd.model import (
    ContainerSpec,
    Driver,
    GenericResource,
    Meta,
    Node,
    NodeDescription,
    NodeSpec,
    NodeState,
    NodeStatus,
    Placement,
    PlacementFailure,
    Platform,
    Plugin,
    ResourceLimits,
    ResourceRequirements,
    Resources,
    Role,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from swarmd.scheduler import Scheduler

S = TaskState
NOW = 1000.0
NO_PLATFORM = Platform()


def make_node(
    id: str,
    *,
    cpus: int = 0,
    memory: int = 0,
    state: NodeState = NodeState.READY,
    confirmed: bool = True,
    features: tuple[str, ...] = (),
    engine_error: str = "",
    generic: tuple[GenericResource, ...] = (),
    platform: Platform = NO_PLATFORM,
    plugins: tuple[Plugin, ...] = (),
    engine_labels: dict[str, str] | None = None,
    addr: str = "",
    role: Role = Role.WORKER,
    **spec: Any,
) -> Node:
    resources = Resources(nano_cpus=cpus, memory_bytes=memory, generic=generic)
    return Node(
        id=id,
        spec=NodeSpec(**spec),
        role=role,
        status=NodeStatus(state=state, confirmed=confirmed, addr=addr),
        description=NodeDescription(
            hostname=id,
            resources=resources,
            features=features,
            engine_error=engine_error,
            platform=platform,
            plugins=plugins,
            engine_labels=engine_labels or {},
        ),
    )


def make_spec(
    *,
    cpus: int = 0,
    memory: int = 0,
    generic: tuple[GenericResource, ...] = (),
    log_driver: str | None = None,
    **placement: Any,
) -> TaskSpec:
    reservations = ResourceLimits(nano_cpus=cpus, memory_bytes=memory, generic=generic)
    return TaskSpec(
        log_driver=None if log_driver is None else Driver(name=log_driver),
        container=ContainerSpec(image="a"),
        resources=ResourceRequirements(reservations=reservations),
        placement=Placement(**placement),
    )


def make_tasks(count: int, service_id: str = "web", *, version: int = 1, prefix: str = "", **spec: Any) -> list[Task]:
    made = make_spec(**spec)
    return [
        Task(
            id=f"{prefix}{service_id}.{i}",
            meta=Meta(version=7),
            service_id=service_id,
            spec=made,
            spec_version=version,
            status=TaskStatus(state=S.PENDING),
        )
        for i in range(count)
    ]


def on_node(task: Task, node_id: str, state: TaskState = S.RUNNING) -> Task:
    return replace(task, node_id=node_id, status=replace(task.status, state=state))


class Swarm:
    """A scheduler with everything it was told and decided."""

    def __init__(self, *nodes: Node, tasks: tuple[Task, ...] = ()) -> None:
        self.scheduler = Scheduler(nodes, tasks)
        self.tasks: dict[str, Task] = {task.id: task for task in tasks}
        self.told: dict[str, str] = {}
        self.failures: dict[str, PlacementFailure] = {}

    def add(self, tasks: list[Task]) -> None:
        for task in tasks:
            self.tasks[task.id] = task
            self.scheduler.task_changed(task, NOW)

    def run(self, now: float = NOW) -> None:
        """Decide everything that can be decided, and see it written."""
        while self.scheduler.has_work:
            placed, unplaced = self.scheduler.place(now, limit=100)
            for decision in placed:
                task = on_node(self.tasks[decision.task_id], decision.node_id, S.ASSIGNED)
                self.tasks[task.id] = replace(task, assigned_generic_resources=decision.generic)
                self.scheduler.task_changed(self.tasks[task.id], now)
            for refusal in unplaced:
                self.told[refusal.task_id] = refusal.explanation
                self.failures[refusal.task_id] = refusal.failure
                task = self.tasks[refusal.task_id]
                self.tasks[task.id] = replace(task, status=replace(task.status, err=refusal.explanation))
                self.scheduler.task_changed(self.tasks[task.id], now)

    def move(self, task_id: str, state: TaskState, now: float = NOW) -> None:
        task = self.tasks[task_id]
        self.tasks[task_id] = replace(task, status=replace(task.status, state=state))
        self.scheduler.task_changed(self.tasks[task_id], now)

    def remove(self, task_id: str) -> None:
        del self.tasks[task_id]
        self.scheduler.task_removed(task_id)

    def counts(self, service_id: str = "web") -> list[int]:
        """Tasks of the service a node, fullest first."""
        return sorted(
            Counter(t.node_id for t in self.tasks.values() if t.service_id == service_id and t.node_id).values()
        )

    def nodes_of(self, service_id: str) -> list[str]:
        return sorted(t.node_id for t in self.tasks.values() if t.service_id == service_id)
