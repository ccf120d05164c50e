"""When a service is what its spec says, and what is missing while it is not."""

from __future__ import annotations

from collections.abc import Sequence

from swarmctl.client import Client
from swarmctl.resolve import task_name
from swarmctl.wait import Progress
from swarmd.model import NodeState, RestartCondition, ServiceSpec, Task, TaskState
from swarmd.wire.control import GetObject, ListNodes, ListTasks
from swarmd.wire.methods import NODE_LIST, SERVICE_GET, TASK_LIST


def service_progress(client: Client, id: str) -> Progress:
    """Done when exactly as many tasks as wanted are to run, all of the present template, all running on live nodes."""
    view = client.read(SERVICE_GET, GetObject(id=id))
    tasks = client.read(TASK_LIST, ListTasks(service_ids=(id,))).tasks
    spec, current = view.service.spec, [task for task in tasks if _occupies_slot(task)]
    running = sum(task.status.state is TaskState.RUNNING and task.spec == spec.task for task in current)
    old = sum(task.spec != spec.task for task in current)
    text = f"{min(running, view.running)}/{view.desired} running" + (f", {old} of an older spec" if old else "")
    done = running == view.desired == len(current) and view.running >= view.desired
    return Progress(done=done, text=text + _reason(spec, current, tasks), stuck="" if done else _stuck(spec, tasks))


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


def _occupies_slot(task: Task) -> bool:
    return task.desired_state <= TaskState.RUNNING and not task.status.state.is_terminal


def _reason(spec: ServiceSpec, current: Sequence[Task], tasks: Sequence[Task]) -> str:
    """What holds the first task that waits: its own error, else how the one before it in its slot failed, else what
    was last said of it."""
    for task in current:
        if task.status.state is not TaskState.RUNNING:
            told = task if task.status.err else _failed_before(spec, task, tasks) or task
            said = told.status.err or told.status.message
            if said:
                return f"; {task_name(told)} {told.status.state.name}: {said}"
    return ""


def _failed_before(spec: ServiceSpec, task: Task, tasks: Sequence[Task]) -> Task | None:
    failed = [
        other
        for other in tasks
        if other.slot == task.slot
        and other.spec == spec.task
        and other.status.state in (TaskState.FAILED, TaskState.REJECTED)
    ]
    return max(failed, key=lambda other: other.meta.created_at, default=None)


def _stuck(spec: ServiceSpec, tasks: Sequence[Task]) -> str:
    """The task that has ended for good and that the restart policy does not replace."""
    condition = spec.task.restart.condition
    if condition is RestartCondition.ANY:
        return ""
    newest: dict[int, Task] = {}
    for task in sorted(tasks, key=lambda task: task.meta.created_at):
        newest[task.slot] = task
    for task in newest.values():
        state = task.status.state
        failed = state in (TaskState.FAILED, TaskState.REJECTED)
        if task.spec == spec.task and (state is TaskState.COMPLETE or (failed and condition is RestartCondition.NONE)):
            reason = task.status.err or task.status.message
            return f"{task_name(task)} is {state.name}" + (f": {reason}" if reason else "")
    return ""
