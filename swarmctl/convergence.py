"""When a service is what its spec says, what is missing while it is not, and when it will not become so by itself."""

from __future__ import annotations

from collections.abc import Sequence

from swarmctl.client import Client
from swarmctl.resolve import Names, task_name
from swarmctl.update_status import HALTED, UNDER_WAY, update_in_words
from swarmctl.wait import Progress
from swarmd.model import (
    GlobalJob,
    NodeState,
    ReplicatedJob,
    RestartCondition,
    Service,
    ServiceSpec,
    Task,
    TaskState,
    UpdateState,
    UpdateStatus,
)
from swarmd.wire.control import GetObject, ListNodes, ListTasks, ServiceView
from swarmd.wire.methods import NODE_LIST, SERVICE_GET, TASK_LIST

_FAILED = (TaskState.FAILED, TaskState.REJECTED)


def service_progress(client: Client, id: str, version: int) -> Progress:
    """How far a service is since its spec had this version.

    Done when exactly as many tasks as wanted are to run, none of them outdated, all running on live nodes, and the
    update, if there is one, has watched its new tasks for long enough; a job, when all of it is completed. Stuck when
    the update is paused, or what failed is not tried again; rolled back when a later version is the one before.
    """
    view = client.read(SERVICE_GET, GetObject(id=id))
    tasks = client.read(TASK_LIST, ListTasks(service_ids=(id,))).tasks
    names = Names(client, no_resolve=False)
    if isinstance(view.service.spec.mode, ReplicatedJob | GlobalJob):
        return _job_progress(view, [task for task in tasks if task.job_iteration == _iteration(view.service)], names)
    return _progress(view, tasks, version, names)


def service_gone_progress(client: Client, id: str) -> Progress:
    """Done when no task of a removed service runs any more on a node that can be reached."""
    lost = {
        view.node.id for view in client.read(NODE_LIST, ListNodes()).nodes if view.node.status.state is NodeState.DOWN
    }
    tasks = client.read(TASK_LIST, ListTasks(service_ids=(id,))).tasks
    left = sum(
        TaskState.ASSIGNED <= task.status.state <= TaskState.RUNNING and task.node_id not in lost for task in tasks
    )
    return Progress(done=not left, text=f"{left} task{'' if left == 1 else 's'} left")


# -- services that run on ------------------------------------------------------------------------------------------
def _progress(view: ServiceView, tasks: Sequence[Task], version: int, names: Names) -> Progress:
    spec, status = view.service.spec, view.service.update_status
    current = [task for task in tasks if _occupies_slot(task)]
    is_new = [not view.outdated or task.spec == spec.task for task in current]
    running = sum(new and task.status.state is TaskState.RUNNING for new, task in zip(is_new, current, strict=True))
    text = f"{min(running, view.running)}/{view.desired} running"
    under_way = status is not None and status.state in UNDER_WAY
    if said := update_in_words(view):
        text += f", {said}"
    elif view.outdated:
        text += f", {view.outdated} of an older spec"
    moves = view.service.rebalancing
    if moves is not None:
        left = sum(task.id in moves.task_ids for task in current)
        text += f", {len(moves.task_ids) - left} of {len(moves.task_ids)} moved"
    is_complete = running == view.desired == len(current) and view.running >= view.desired and not view.outdated
    if is_complete and under_way:
        text += "; watching the new tasks"
    done = is_complete and not under_way and moves is None
    if status is not None and view.service.spec_version > version and status.state is UpdateState.ROLLBACK_COMPLETED:
        return Progress(done=False, text=text, rolled_back=_why_rolled_back(status, spec, tasks, names))
    if status is not None and status.state in HALTED:
        return Progress(done=False, text=text, stuck=f"{said}: {status.message}" + _reason(spec, (), tasks, names))
    stuck = "" if done or under_way else _stuck(view, tasks, names)
    return Progress(done=done, text=text + _reason(spec, current, tasks, names), stuck=stuck)


def _occupies_slot(task: Task) -> bool:
    return task.desired_state <= TaskState.COMPLETE and not task.status.state.is_terminal


def _why_rolled_back(status: UpdateStatus, spec: ServiceSpec, tasks: Sequence[Task], names: Names) -> str:
    """The last that failed by the spec that was given up."""
    failed = [task for task in tasks if task.spec != spec.task and task.status.state in _FAILED]
    last = max(failed, key=lambda task: task.meta.created_at, default=None)
    return status.message + (f"; {_said_of(last, names)}" if last is not None else "")


def _reason(spec: ServiceSpec, current: Sequence[Task], tasks: Sequence[Task], names: Names) -> str:
    """What holds the first task that waits: its own error, else how the one before it in its slot failed, else what
    was last said of it. Without any that waits: the last that failed."""
    for task in current:
        if task.status.state is not TaskState.RUNNING:
            told = task if task.status.err else _failed_before(spec, task, tasks) or task
            if told.status.err or told.status.message:
                return f"; {_said_of(told, names)}"
    if not current:
        failed = [task for task in tasks if task.spec == spec.task and task.status.state in _FAILED]
        last = max(failed, key=lambda task: task.meta.created_at, default=None)
        return f"; {_said_of(last, names)}" if last is not None else ""
    return ""


def _failed_before(spec: ServiceSpec, task: Task, tasks: Sequence[Task]) -> Task | None:
    failed = [
        other
        for other in tasks
        if _slot(other) == _slot(task) and other.spec == spec.task and other.status.state in _FAILED
    ]
    return max(failed, key=lambda other: other.meta.created_at, default=None)


def _stuck(view: ServiceView, tasks: Sequence[Task], names: Names) -> str:
    """The task that has ended for good and that the restart policy does not replace."""
    spec = view.service.spec
    condition = spec.task.restart.condition
    for task in _newest(tasks):
        state = task.status.state
        gave_up = state in _FAILED and (condition is RestartCondition.NONE or view.failed)
        completed = state is TaskState.COMPLETE and condition is not RestartCondition.ANY
        if task.spec == spec.task and (gave_up or completed):
            return _said_of(task, names, verb="is ")
    return ""


# -- jobs ----------------------------------------------------------------------------------------------------------
def _job_progress(view: ServiceView, tasks: Sequence[Task], names: Names) -> Progress:
    done = view.completed >= view.desired
    text = f"{view.completed}/{view.desired} completed, {view.running} running"
    current = [task for task in tasks if _occupies_slot(task)]
    if view.failed:
        text += f", {view.failed} failed for good"
    stuck = ""
    if view.failed and not current and not done:
        failed = [task for task in _newest(tasks) if task.status.state in _FAILED]
        stuck = text + "".join(f"; {_said_of(task, names)}" for task in failed[:1])
    return Progress(done=done, text=text + _reason(view.service.spec, current, tasks, names), stuck=stuck)


def _iteration(service: Service) -> int:
    return service.job_status.job_iteration if service.job_status is not None else 0


# -- tasks ---------------------------------------------------------------------------------------------------------
def _newest(tasks: Sequence[Task]) -> Sequence[Task]:
    """The newest of each slot."""
    newest: dict[int | str, Task] = {}
    for task in sorted(tasks, key=lambda task: task.meta.created_at):
        newest[_slot(task)] = task
    return tuple(newest.values())


def _slot(task: Task) -> int | str:
    return task.slot or task.node_id


def _said_of(task: Task, names: Names, *, verb: str = "") -> str:
    name = task_name(task) if task.slot else f"{task.service_name}.{names.node(task.node_id)}"
    said = task.status.err or task.status.message
    return f"{name} {verb}{task.status.state.name}" + (f": {said}" if said else "")
