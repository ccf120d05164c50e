"""The `World` with services of every mode: nodes have labels, tasks may be bound to their nodes, jobs complete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from swarmd.model import (
    Cluster,
    ClusterSpec,
    ContainerSpec,
    Mode,
    OrchestrationConfig,
    Placement,
    RestartPolicy,
    Service,
    ServiceSpec,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
    UpdateConfig,
)
from swarmd.orchestrator.dirty import admits
from swarmd.orchestrator.global_services import reconcile_node, reconcile_slot
from swarmd.orchestrator.revision import created, updated
from swarmd.state.features import KINDS, ORCHESTRATION, SECURITY
from swarmd.state.transaction import Transaction
from tests.unit.orchestrator.world import DEFAULT_RESTART, World

S = TaskState


class ModesWorld(World):
    """All managers know every mode."""

    def __init__(self, seed: int = 1, *, history: int = 5, level: tuple[str, ...] = (KINDS, ORCHESTRATION, SECURITY)):
        super().__init__(seed)
        spec = ClusterSpec(orchestration=OrchestrationConfig(task_history_retention_limit=history))
        self.update(lambda tx: tx.create(Cluster(id="cluster", spec=spec, feature_level=level)))

    def run(
        self,
        mode: Mode,
        id: str = "web",
        *,
        restart: RestartPolicy = DEFAULT_RESTART,
        constraints: tuple[str, ...] = (),
        update: UpdateConfig | None = None,
    ) -> None:
        task = TaskSpec(
            container=ContainerSpec(image="a"), restart=restart, placement=Placement(constraints=constraints)
        )
        spec = ServiceSpec(name=id, task=task, mode=mode, update=update or UpdateConfig())
        self.update(lambda tx: tx.create(created(id, spec, self.now)))

    def change(self, id: str = "web", **changes: Any) -> None:
        """A new spec: `image`, `mode`, `update`, `constraints`."""
        spec = self.service_of(id).spec
        if "image" in changes:
            spec = replace(spec, task=replace(spec.task, container=ContainerSpec(image=changes.pop("image"))))
        if "constraints" in changes:
            placement = Placement(constraints=changes.pop("constraints"))
            spec = replace(spec, task=replace(spec.task, placement=placement))
        spec = replace(spec, **changes)
        self.update(lambda tx: tx.update(updated(self.service_of(id), spec, self.now)))

    def service_of(self, id: str = "web") -> Service:
        service = self.state.service(id)
        assert service is not None
        return service

    def label(self, id: str, **labels: str) -> None:
        node = self.state.node(id)
        assert node is not None
        self.update(lambda tx: tx.update(replace(node, spec=replace(node.spec, labels=labels))))

    def look_at_node(self, id: str) -> float | None:
        """What the leader does when a node changes."""
        services = [service.id for service in self.state.services()]
        return self.update(lambda tx: reconcile_node(tx, services, id))

    def look_at_slot(self, node_id: str, service_id: str = "web") -> float | None:
        return self.update(lambda tx: reconcile_slot(tx, service_id, node_id))

    def place(self) -> None:
        def assign(tx: Transaction) -> None:
            nodes = [node for node in tx.nodes() if tx.is_node_ready(node.id)]
            load = {node.id: len(tx.tasks_of_node(node.id, unchecked=True)) for node in nodes}
            status = TaskStatus(state=S.ASSIGNED, at=self.now)
            for task in self.state.tasks():
                if task.status.state >= S.ASSIGNED or task.desired_state > S.COMPLETE:
                    continue
                fit = [node.id for node in nodes if admits(node, task.spec.placement)]
                if task.node_id and task.node_id in fit:
                    tx.advance(task.id, status)
                elif not task.node_id and fit:
                    node_id = min(fit, key=lambda id: (load[id], id))
                    load[node_id] += 1
                    tx.assign(task.id, node_id, status)

        self.update(assign)

    def wanted(self, service_id: str = "web") -> list[Task]:
        return [t for t in self.tasks(service_id) if t.desired_state <= S.COMPLETE]

    def live(self, service_id: str = "web") -> list[Task]:
        """Those that are wanted and have not ended."""
        return [t for t in self.wanted(service_id) if not t.status.state.is_terminal]

    def on(self, node_id: str, service_id: str = "web", **wanted: Any) -> list[Task]:
        return [t for t in self.tasks(service_id, **wanted) if t.node_id == node_id]

    def live_on(self, node_id: str, service_id: str = "web") -> Task:
        (task,) = [t for t in self.live(service_id) if t.node_id == node_id]
        return task

    def work(
        self, service_id: str = "web", outcome: Callable[[Task], TaskState] = lambda _: S.COMPLETE, turns: int = 200
    ) -> None:
        """Everybody acts, and time passes, until nothing changes any more. Released tasks run, then end as told."""

        def progress(task: Task) -> TaskState:
            return outcome(task) if task.status.state is S.RUNNING else S.RUNNING

        quiet = 0
        for _ in range(turns):
            before = self.state.index
            wake_at = self.turn(service_id, progress)
            self.reap(service_id)
            if wake_at is not None:
                self.now = max(self.now, wake_at)
            quiet = quiet + 1 if self.state.index == before and wake_at is None else 0
            if quiet == 2:
                return
        raise AssertionError("does not settle")
