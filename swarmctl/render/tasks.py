"""Tasks: the table under an inspected object, the list, the summary."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from swarmctl.render.endpoint import ports_in_short
from swarmctl.render.layout import TASK_GAP, SummaryLine, summary, table
from swarmctl.render.plain import plain
from swarmctl.render.text import cpus, generic, instant, memory, relative_time
from swarmctl.resolve import Names
from swarmd.model import ContainerSpec, ResourceLimits, ResourceRequirements, Task, TaskState


def task_document(task: Task) -> Any:
    """A task as plain data, with its computed name."""
    return {"id": task.id, "name": task.name} | plain(task)


def is_current(task: Task) -> bool:
    """Whether the task is meant to run, or as a job's is on its way to its end: what lists show without `-a`."""
    if task.desired_state is TaskState.COMPLETE:
        return task.status.state <= TaskState.RUNNING
    return task.desired_state < TaskState.COMPLETE


def task_list(tasks: Sequence[Task], names: Names, now: float, *, wide: bool) -> str:
    """`task ls`."""
    header = ["ID", "Service", "Desired State", "Last State", "Node"]
    rows = [
        [task.id, f"{names.service(task)}.{task.slot or names.node(task.node_id)}", *_states(task, names, now)]
        for task in tasks
    ]
    if wide:
        header += ["Image", "Reason"]
        rows = [[*row, task.spec.container.image, _reason(task)] for row, task in zip(rows, tasks, strict=True)]
    return table(header, rows)


def task_table(tasks: Iterable[Task], names: Names, now: float) -> str:
    """The table under `service inspect` and `node inspect`: by slot, newest first."""
    header = ("Task ID", "Service", "Slot", "Image", "Desired State", "Last State", "Node")
    ordered = sorted(tasks, key=lambda task: (task.service_name, task.slot, -task.meta.created_at))
    rows = (
        (task.id, names.service(task), str(task.slot), task.spec.container.image, *_states(task, names, now))
        for task in ordered
    )
    return table(header, rows, gap=TASK_GAP)


def task_summary(task: Task, names: Names) -> str:
    """`task inspect`, up to its parents."""
    return summary(
        [
            ("ID", task.id),
            ("Slot", str(task.slot) if task.slot else ""),
            ("Service", names.service(task)),
            ("Iteration", str(task.job_iteration) if task.job_iteration else ""),
            ("Status", None),
            *_status_lines(task),
            *((("Ports", ports_in_short(task.endpoint.ports)),) if task.endpoint is not None else ()),
            ("Node", names.node(task.node_id)),
            ("Assigned", generic(task.assigned_generic_resources)),
            ("Spec", None),
            *container_lines(task.spec.container, "  "),
        ]
    )


def container_lines(spec: ContainerSpec, indent: str) -> Iterator[SummaryLine]:
    """What a task runs."""
    yield f"{indent}Image", spec.image
    yield f"{indent}Command", json.dumps(" ".join(spec.command), ensure_ascii=False) if spec.command else ""
    yield f"{indent}Args", f"[{', '.join(spec.args)}]" if spec.args else ""
    yield f"{indent}Env", f"[{', '.join(spec.env)}]" if spec.env else ""


def resource_lines(spec: ResourceRequirements, indent: str) -> Iterator[SummaryLine]:
    """Reservations and limits, where any are stated."""
    if spec != ResourceRequirements():
        yield f"{indent}Resources", None
        yield from _amount_lines("Reservations:", spec.reservations, indent + " ")
        yield from _amount_lines("Limits:", spec.limits, indent + " ")


def _amount_lines(title: str, amounts: ResourceLimits, indent: str) -> Iterator[SummaryLine]:
    if amounts != ResourceLimits():
        yield f"{indent}{title}", None
        yield f"{indent} CPU", cpus(amounts.nano_cpus) if amounts.nano_cpus else ""
        yield f"{indent} Memory", memory(amounts.memory_bytes) if amounts.memory_bytes else ""
        yield f"{indent} Generic Resources", generic(amounts.generic)


def _status_lines(task: Task) -> Iterator[SummaryLine]:
    status, container = task.status, task.status.container
    yield "  Desired State", task.desired_state.name
    yield "  Last State", status.state.name
    yield "  Timestamp", instant(status.at) or ""
    yield "  Message", status.message
    yield "  Error", status.err
    if container is not None:
        yield "  ContainerID", container.container_id
        yield "  Pid", str(container.pid) if container.pid else ""
        if status.state > TaskState.RUNNING and container.exit_code is not None:
            yield "  ExitCode", str(container.exit_code)


def _states(task: Task, names: Names, now: float) -> tuple[str, str, str]:
    last = f"{task.status.state.name} {relative_time(task.status.at or task.meta.created_at, now)}".rstrip()
    return task.desired_state.name, last, names.node(task.node_id)


def _reason(task: Task) -> str:
    return task.status.err or (task.status.message if task.status.state is not TaskState.RUNNING else "")
