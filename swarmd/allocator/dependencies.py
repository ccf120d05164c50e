"""Whether a service's tasks may begin: what it depends on has come far enough (reference orchestration 11.2).

Only a service of which nothing has begun yet waits; what fails later stops nobody.
"""

from __future__ import annotations

from swarmd.model import (
    DependencyCondition,
    Global,
    GlobalJob,
    Replicated,
    ReplicatedJob,
    Service,
    ServiceDependency,
    Task,
    TaskState,
)
from swarmd.state.transaction import Transaction

_WORDS = {
    DependencyCondition.STARTED: "to be started",
    DependencyCondition.HEALTHY: "to be healthy",
    DependencyCondition.COMPLETED: "to complete",
}


def waits_for(tx: Transaction, service: Service) -> str:
    """What the service waits for, such as `waiting for service db to be healthy`; "" if its tasks may begin."""
    if not service.spec.depends_on or _has_begun(tx.tasks_of_service(service.id, unchecked=True)):
        return ""
    for dependency in service.spec.depends_on:
        other = tx.service_by_name(dependency.service)
        if other is None:
            return f"waiting for service {dependency.service} to exist"
        if not _has_reached(other, tx.tasks_of_service(other.id, unchecked=True), dependency):
            return f"waiting for service {dependency.service} {_WORDS[dependency.condition]}"
    return ""


def _has_begun(tasks: tuple[Task, ...]) -> bool:
    return any(task.status.state > TaskState.NEW and task.desired_state <= TaskState.COMPLETE for task in tasks)


def _has_reached(service: Service, tasks: tuple[Task, ...], dependency: ServiceDependency) -> bool:
    match dependency.condition:
        case DependencyCondition.STARTED:
            return any(task.status.state in (TaskState.RUNNING, TaskState.COMPLETE) for task in tasks)
        case DependencyCondition.HEALTHY:
            return _is_healthy(service, tasks)
        case DependencyCondition.COMPLETED:
            return _is_completed(service, tasks)


def _is_healthy(service: Service, tasks: tuple[Task, ...]) -> bool:
    """Whether everything that is wanted runs, and there is something."""
    wanted = [task for task in tasks if task.desired_state <= TaskState.RUNNING]
    running = [task for task in wanted if task.status.state is TaskState.RUNNING]
    mode = service.spec.mode
    if isinstance(mode, Replicated):
        return len(running) >= mode.replicas > 0
    if isinstance(mode, Global):
        return bool(wanted) and len(running) == len(wanted)
    return any(task.status.state is TaskState.RUNNING for task in tasks) or _is_completed(service, tasks)


def _is_completed(service: Service, tasks: tuple[Task, ...]) -> bool:
    """Whether the job's present iteration is done. A service that is no job never completes; all its tasks may."""
    mode = service.spec.mode
    iteration = service.job_status.job_iteration if service.job_status is not None else 0
    mine = [task for task in tasks if task.job_iteration == iteration]
    done = {
        (task.slot, task.node_id if not task.slot else "") for task in mine if task.status.state is TaskState.COMPLETE
    }
    if isinstance(mode, ReplicatedJob):
        return len(done) >= mode.total_completions
    if isinstance(mode, GlobalJob):
        slots = {task.node_id for task in mine}
        return bool(slots) and slots == {node_id for _, node_id in done}
    last = {task.slot: task for task in mine}
    return bool(last) and all(task.status.state is TaskState.COMPLETE for task in last.values())
