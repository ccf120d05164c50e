"""A swarm of one process for orchestrator tests: a real `State`, a clock that is set, and agents that do as told."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec.structs import replace

from swarmd.model import (
    Availability,
    Cluster,
    ClusterSpec,
    ContainerSpec,
    Node,
    NodeDescription,
    NodeSpec,
    NodeState,
    NodeStatus,
    OrchestrationConfig,
    Replicated,
    RestartPolicy,
    Service,
    ServiceSpec,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
    UpdateConfig,
)
from swarmd.node.founding import FEATURES
from swarmd.orchestrator import reap, reconcile_service
from swarmd.orchestrator.revision import updated
from swarmd.state.command import CommandId, Table, Verdict, encode_command
from swarmd.state.store import State
from swarmd.state.transaction import Transaction

T = TypeVar("T")
S = TaskState
DEFAULT_RESTART = RestartPolicy()


class World:
    """Everything takes effect at once. `now` is set by tests."""

    def __init__(self, seed: int = 1) -> None:
        self.state = State()
        self.rng = random.Random(seed)
        self.now = 1000.0
        self.writes = 0

    def update(self, fn: Callable[[Transaction], T]) -> T:
        """Run `fn`, encode, apply."""
        tx = self.state.begin(self.now, self.rng)
        result = fn(tx)
        if not tx.is_empty:
            command = tx.command(CommandId(1, b"boot", self.state.index), actor="test")
            outcome = self.state.apply(self.state.index + 1, 1, encode_command(command), command)
            assert outcome.verdict is Verdict.APPLIED, outcome
            self.writes += 1
        return result

    # -- what users and nodes do -------------------------------------------------------------------------------------
    def add_node(
        self, id: str, state: NodeState = NodeState.READY, availability: Availability = Availability.ACTIVE
    ) -> None:
        node = Node(
            id=id,
            spec=NodeSpec(availability=availability),
            status=NodeStatus(state=state, confirmed=True),
            description=NodeDescription(hostname=id),
        )
        self.update(lambda tx: tx.create(node))

    def set_node(self, id: str, *, state: NodeState | None = None, availability: Availability | None = None) -> None:
        node = self.state.node(id)
        assert node is not None
        if state is not None:
            node = replace(node, status=replace(node.status, state=state))
        if availability is not None:
            node = replace(node, spec=replace(node.spec, availability=availability))
        self.update(lambda tx: tx.update(node))

    def remove_node(self, id: str) -> None:
        """As the control API does: the node's tasks become ORPHANED with it."""

        def remove(tx: Transaction) -> None:
            for task in tx.tasks_of_node(id):
                if task.status.state < S.COMPLETE:
                    tx.update(replace(task, status=replace(task.status, state=S.ORPHANED, at=tx.now)))
            tx.remove(Table.NODE, id)

        self.update(remove)

    def set_history(self, limit: int) -> None:
        spec = ClusterSpec(orchestration=OrchestrationConfig(task_history_retention_limit=limit))
        self.update(lambda tx: tx.create(Cluster(id="cluster", spec=spec)))

    def track(self, *, history: int = 5) -> None:
        """A swarm whose managers all know update statuses."""
        spec = ClusterSpec(orchestration=OrchestrationConfig(task_history_retention_limit=history))
        self.update(lambda tx: tx.create(Cluster(id="cluster", spec=spec, feature_level=tuple(sorted(FEATURES)))))

    def edit(self, change: Callable[[ServiceSpec], ServiceSpec], id: str = "web") -> None:
        """As `swarmctl service update` does."""
        self.update(lambda tx: tx.update(updated(self.service(id), change(self.service(id).spec), self.now)))

    def service(self, id: str = "web") -> Service:
        service = self.state.service(id)
        assert service is not None
        return service

    def add_service(
        self, id: str = "web", *, replicas: int = 1, restart: RestartPolicy = DEFAULT_RESTART, image: str = "a"
    ) -> None:
        task = TaskSpec(container=ContainerSpec(image=image), restart=restart)
        spec = ServiceSpec(name=id, task=task, mode=Replicated(replicas=replicas))
        self.update(lambda tx: tx.create(Service(id=id, spec=spec, spec_version=1)))

    def set_service(
        self,
        id: str = "web",
        *,
        replicas: int | None = None,
        image: str | None = None,
        change: Callable[[TaskSpec], TaskSpec] = lambda spec: spec,
        update: UpdateConfig | None = None,
    ) -> None:
        service = self.state.service(id)
        assert service is not None
        spec = service.spec
        if replicas is not None:
            spec = replace(spec, mode=Replicated(replicas=replicas))
        if image is not None:
            spec = replace(spec, task=replace(spec.task, container=ContainerSpec(image=image)))
        spec = replace(spec, task=change(spec.task), update=update or spec.update)
        version = self.state.index + 1
        self.update(lambda tx: tx.update(replace(service, spec=spec, spec_version=version)))

    def remove_service(self, id: str = "web") -> None:
        self.update(lambda tx: tx.remove(Table.SERVICE, id))

    def move(self, task: Task, state: TaskState) -> None:
        """The agent reports."""
        known = self.state.task(task.id)
        assert known is not None
        running_at = known.status.running_at or (self.now if state is S.RUNNING else 0.0)
        status = TaskStatus(state=state, at=self.now, running_at=running_at)
        self.update(lambda tx: tx.report(task.node_id, task.id, status))

    def add_task(self, task: Task) -> None:
        self.update(lambda tx: tx.create(task))

    # -- what the leader does ----------------------------------------------------------------------------------------
    def reconcile(self, service_id: str = "web") -> float | None:
        """Until it rests for now, as the leader's loop does: when it wants to be called again."""
        for _ in range(100):
            before = self.state.index
            wake_at = self.update(lambda tx: reconcile_service(tx, service_id))
            if self.state.index == before:
                assert wake_at is None or wake_at > self.now, "wants to be called at once, but does nothing"
                return wake_at
        raise AssertionError("does not come to rest")

    def is_at_rest(self, service_id: str = "web") -> bool:
        tx = self.state.begin(self.now, self.rng)
        reconcile_service(tx, service_id)
        return tx.is_empty

    def reap(self, service_id: str = "web") -> None:
        while self.update(lambda tx: reap(tx, service_id)):
            pass

    def place(self) -> None:
        """Allocator and scheduler in one: each waiting task goes to the node with the fewest."""

        def assign(tx: Transaction) -> None:
            load = {n.id: len(tx.tasks_of_node(n.id, unchecked=True)) for n in tx.nodes() if tx.is_node_ready(n.id)}
            status = TaskStatus(state=S.ASSIGNED, at=self.now)
            for task in self.state.tasks():
                if task.status.state < S.ASSIGNED and task.desired_state <= S.RUNNING and load:
                    node_id = min(load, key=lambda id: (load[id], id))
                    load[node_id] += 1
                    tx.assign(task.id, node_id, status)

        self.update(assign)

    def agents(self, outcome: Callable[[Task], TaskState] = lambda _: S.RUNNING) -> None:
        """Each task on a live node gets as far as it is wanted; `outcome` says how a released one ends up."""
        for task in tuple(self.state.tasks()):
            node = self.state.node(task.node_id)
            if node is None or node.status.state is NodeState.DOWN or task.status.state > S.RUNNING:
                continue
            if task.desired_state >= S.SHUTDOWN:
                self.move(task, S.SHUTDOWN)
            elif task.desired_state == S.READY:
                self.move(task, S.READY)
            else:
                self.move(task, outcome(task))

    def turn(self, service_id: str = "web", outcome: Callable[[Task], TaskState] = lambda _: S.RUNNING) -> float | None:
        """Everybody acts once."""
        wake_at = self.reconcile(service_id)
        self.place()
        self.agents(outcome)
        return wake_at

    def settle(self, service_id: str = "web", turns: int = 60) -> None:
        """Everybody acts, and time passes, until nothing changes any more."""
        quiet = 0
        for _ in range(turns):
            before = self.state.index
            wake_at = self.turn(service_id)
            self.reap(service_id)
            if wake_at is not None:
                self.now = max(self.now, wake_at)
            quiet = quiet + 1 if self.state.index == before and wake_at is None else 0
            if quiet == 2:
                return
        raise AssertionError("does not settle")

    # -- what tests ask ------------------------------------------------------------------------------------------------
    def tasks(self, service_id: str = "web", **wanted: Any) -> list[Task]:
        """The service's tasks by slot and creation, those whose fields are as `wanted`."""
        found = [
            t for t in self.state.tasks_of_service(service_id) if all(getattr(t, k) == v for k, v in wanted.items())
        ]
        return sorted(found, key=lambda t: t.slot)

    def wanted(self, service_id: str = "web") -> list[Task]:
        return [t for t in self.tasks(service_id) if t.desired_state <= S.RUNNING]

    def only(self, service_id: str = "web", **wanted: Any) -> Task:
        (task,) = self.tasks(service_id, **wanted)
        return task

    def running(self, service_id: str = "web") -> list[Task]:
        return [t for t in self.tasks(service_id) if t.status.state == S.RUNNING and t.desired_state == S.RUNNING]
