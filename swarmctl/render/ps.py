"""`service ps`: of each slot the present task, and under it those before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from swarmctl.render.endpoint import ports_in_short
from swarmctl.render.layout import table
from swarmctl.render.text import one_line, relative_time
from swarmctl.resolve import Names
from swarmd.model import PublishMode, Task, TaskState

ERROR_CHARACTERS_MAX: Final = 60
EARLIER: Final = " \\_ "


def task_history(tasks: Sequence[Task], names: Names, now: float, *, in_full: bool) -> str:
    """By slot (of a global service by node), the newest first. Iterations are told where there are some."""
    has_iterations = any(task.job_iteration for task in tasks)
    header = ["ID", "Name", "Image", "Node", "Desired State", "Current State", "Error", "Ports"]
    rows, seen = [], set()
    for task in sorted(tasks, key=lambda task: (task.service_name, *_place(task, names), *_age(task))):
        slot = (task.service_id, task.slot or task.node_id)
        rows.append(_row(task, names, now, is_earlier=slot in seen, in_full=in_full))
        seen.add(slot)
        if has_iterations:
            rows[-1].append(str(task.job_iteration))
    return table([*header, "Iteration"] if has_iterations else header, rows)


def _place(task: Task, names: Names) -> tuple[int, str]:
    return task.slot, "" if task.slot else names.node(task.node_id)


def _age(task: Task) -> tuple[bool, int, float]:
    """What is to run first, then the newest iteration and the newest task."""
    return task.desired_state > TaskState.COMPLETE, -task.job_iteration, -task.meta.created_at


def _row(task: Task, names: Names, now: float, *, is_earlier: bool, in_full: bool) -> list[str]:
    name = f"{names.service(task)}.{task.slot or names.node(task.node_id)}"
    state = f"{task.status.state.name} {relative_time(task.status.at or task.meta.created_at, now)}".rstrip()
    error = one_line(task.status.err)
    if not in_full and len(error) > ERROR_CHARACTERS_MAX:
        error = error[: ERROR_CHARACTERS_MAX - 3] + "..."
    ports = [port for port in task.endpoint.ports if port.publish_mode is PublishMode.HOST] if task.endpoint else []
    return [
        task.id,
        EARLIER + name if is_earlier else name,
        task.spec.container.image,
        names.node(task.node_id),
        task.desired_state.name,
        state,
        error,
        ports_in_short(ports),
    ]
