"""Why tasks are as they are: a line, a table of nodes, and what would help."""

from __future__ import annotations

from collections.abc import Iterator

from swarmctl.render.layout import table
from swarmctl.render.text import one_line, relative_time
from swarmctl.resolve import Names
from swarmd.model import FilterVerdict, PlacementFailure
from swarmd.wire.orchestration import NodeVerdict, ServiceWhy, TaskWhy

FITS = "fits now"


def task_explained(why: TaskWhy, names: Names, now: float) -> str:
    """`task why`."""
    return "".join(_blocks(why, names, now))


def service_explained(why: ServiceWhy, names: Names, now: float) -> str:
    """`service why`."""
    text = f"{one_line(why.service.service.spec.name)}: {one_line(why.reason)}\n"
    text += "".join(f"\n{task_explained(task, names, now)}" for task in why.tasks)
    if why.tasks_left_out:
        text += f"\nand {why.tasks_left_out} more tasks: swarmctl task why TASK\n"
    if not why.tasks:
        text += "no task is amiss\n"
    return text


def _blocks(why: TaskWhy, names: Names, now: float) -> Iterator[str]:
    task = why.task
    name = f"{names.service(task)}.{task.slot or names.node(task.node_id) or '-'}"
    where = f" on {names.node(task.node_id)}" if task.node_id else ""
    since = relative_time(task.status.at or task.meta.created_at, now)
    yield f"{one_line(f'{name} ({task.id}){where} {why.reason}')}" + (f" ({since})\n" if since else "\n")
    if why.nodes:
        yield table(("Node", "Filter", "Detail"), [_row(verdict, names) for verdict in why.nodes])
        if why.nodes_left_out:
            yield f"and {why.nodes_left_out} more nodes\n"
    elif why.unplaced is not None:
        yield from _summary(why.unplaced, names)
    if any(not verdict.filter for verdict in why.nodes):
        yield "a node would take it now: it is placed with the next pass of the scheduler\n"
    elif why.unplaced is not None and why.unplaced.fix:
        yield f"fix: {one_line(why.unplaced.fix)}\n"


def _row(verdict: NodeVerdict, names: Names) -> tuple[str, str, str]:
    return verdict.node_name or names.node(verdict.node_id), verdict.filter or FITS, verdict.detail


def _summary(failure: PlacementFailure, names: Names) -> Iterator[str]:
    """What the scheduler said, where no node was asked anew."""
    if failure.verdicts:
        yield table(
            ("Filter", "Nodes", "Detail", "Such as"), [_counted(verdict, names) for verdict in failure.verdicts]
        )


def _counted(verdict: FilterVerdict, names: Names) -> tuple[str, str, str, str]:
    return verdict.filter, str(verdict.nodes), verdict.detail, ", ".join(names.node(id) for id in verdict.examples)
