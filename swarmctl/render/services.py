"""Services: the list and the summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from swarmctl.flags.mode import name_of
from swarmctl.render.endpoint import endpoint_lines, ports_in_short, ports_of
from swarmctl.render.layout import SummaryLine, summary, table
from swarmctl.render.plain import plain
from swarmctl.render.service_settings import (
    dependency_lines,
    driver_lines,
    placement_lines,
    restart_lines,
    update_lines,
)
from swarmctl.render.tasks import container_lines, resource_lines
from swarmctl.render.text import relative_time
from swarmctl.update_status import UNDER_WAY, update_in_words
from swarmd.model import GlobalJob, Replicated, ReplicatedJob, Service
from swarmd.wire.control import ServiceView


def service_document(view: ServiceView) -> Any:
    """A service as plain data, with how it stands."""
    return plain(view.service) | {
        "running": view.running,
        "desired": view.desired,
        "completed": view.completed,
        "failed": view.failed,
        "outdated": view.outdated,
    }


def service_list(views: Sequence[ServiceView], now: float, *, wide: bool) -> str:
    """`service ls`. Modes are told once there is one that is not replicated, ports once one is published."""
    header = ["ID", "Name", "Image", "Replicas"]
    rows = [
        [view.service.id, view.service.spec.name, view.service.spec.task.container.image, _replicas(view)]
        for view in views
    ]
    columns = {
        "Mode": [name_of(view.service.spec.mode) for view in views],
        "Ports": [ports_in_short(ports_of(view.service)) for view in views],
    }
    unsaid = {"Mode": "replicated", "Ports": ""}
    shown = [name for name, cells in columns.items() if wide or any(cell != unsaid[name] for cell in cells)]
    header += shown
    rows = [[*row, *(columns[name][number] for name in shown)] for number, row in enumerate(rows)]
    if wide:
        header += ["Update", "Spec Version", "Updated"]
        services = [view.service for view in views]
        more = [(_state(one), str(one.spec_version), relative_time(one.meta.updated_at, now)) for one in services]
        rows = [[*row, *cells] for row, cells in zip(rows, more, strict=True)]
    return table(header, rows)


def service_summary(view: ServiceView, now: float) -> str:
    """`service inspect`, without the tasks."""
    return summary(_lines(view, now))


def _lines(view: ServiceView, now: float) -> Iterator[SummaryLine]:
    service, spec = view.service, view.service.spec
    yield "ID", service.id
    yield "Name", spec.name
    if spec.labels:
        yield "Labels", None
        yield from ((f"  {key}", spec.labels[key]) for key in sorted(spec.labels))
    yield "Mode", name_of(spec.mode) if not isinstance(spec.mode, Replicated) else ""
    yield "Replicas", _replicas(view)
    yield from _job_lines(view, now)
    yield from _status_lines(view, now)
    yield from update_lines("Update", spec.update)
    yield from update_lines("Rollback", spec.rollback)
    yield from restart_lines(spec.task.restart)
    yield from dependency_lines(spec)
    yield "Template", None
    yield " Container", None
    yield from container_lines(spec.task.container, "  ")
    yield from resource_lines(spec.task.resources, "  ")
    yield from placement_lines(spec.task.placement, "  ")
    yield from endpoint_lines(service)
    yield from driver_lines(spec.task.log_driver)


def _job_lines(view: ServiceView, now: float) -> Iterator[SummaryLine]:
    mode, status = view.service.spec.mode, view.service.job_status
    if not isinstance(mode, ReplicatedJob | GlobalJob):
        return
    yield "  Running", str(view.running)
    yield "  Failed for good", str(view.failed) if view.failed else ""
    if isinstance(mode, ReplicatedJob):
        yield "  Max concurrent", str(mode.max_concurrent) if mode.max_concurrent else "all at once"
    elif mode.follow_nodes:
        yield "  Follows nodes", "yes"
    if status is not None:
        yield "  Iteration", str(status.job_iteration)
        yield "  Begun", relative_time(status.last_execution, now)


def _status_lines(view: ServiceView, now: float) -> Iterator[SummaryLine]:
    status, moves = view.service.update_status, view.service.rebalancing
    if status is not None:
        yield "Update Status", None
        yield "  State", status.state.name
        yield "  Started", relative_time(status.started_at, now)
        yield "  Completed", relative_time(status.completed_at, now)
        yield "  Progress", update_in_words(view)
        yield "  Message", status.message
    if moves is not None:
        yield "Rebalancing", f"{len(moves.task_ids)} tasks, since {relative_time(moves.started_at, now)}"


def _replicas(view: ServiceView) -> str:
    if isinstance(view.service.spec.mode, ReplicatedJob | GlobalJob):
        return f"{view.completed}/{view.desired} completed"
    return f"{view.running}/{view.desired}"


def _state(service: Service) -> str:
    """The update's state; one that is over is none."""
    status = service.update_status
    if status is None or (status.state not in UNDER_WAY and status.completed_at):
        return ""
    return status.state.name
