"""Services: the list and the summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from swarmctl.render.layout import SummaryLine, summary, table
from swarmctl.render.plain import plain
from swarmctl.render.tasks import container_lines, resource_lines
from swarmctl.render.text import duration, relative_time
from swarmd.model import UpdateConfig
from swarmd.wire.control import ServiceView


def service_document(view: ServiceView) -> Any:
    """A service as plain data, with how it stands."""
    return plain(view.service) | {"running": view.running, "desired": view.desired}


def service_list(views: Sequence[ServiceView], now: float, *, wide: bool) -> str:
    """`service ls`."""
    header = ["ID", "Name", "Image", "Replicas"]
    rows = [
        [view.service.id, view.service.spec.name, view.service.spec.task.container.image, _replicas(view)]
        for view in views
    ]
    if wide:
        header += ["Spec Version", "Updated"]
        rows = [
            [*row, str(view.service.spec_version), relative_time(view.service.meta.updated_at, now)]
            for row, view in zip(rows, views, strict=True)
        ]
    return table(header, rows)


def service_summary(view: ServiceView) -> str:
    """`service inspect`, without the tasks."""
    return summary(_lines(view))


def _lines(view: ServiceView) -> Iterator[SummaryLine]:
    spec = view.service.spec
    yield "ID", view.service.id
    yield "Name", spec.name
    if spec.labels:
        yield "Labels", None
        yield from ((f"  {key}", spec.labels[key]) for key in sorted(spec.labels))
    yield "Replicas", _replicas(view)
    if spec.update != UpdateConfig():
        yield "Update", None
        yield "  Parallelism", str(spec.update.parallelism) if spec.update.parallelism else "all at once"
        if spec.update.delay_s:
            yield "  Delay", duration(spec.update.delay_s)
    yield "Template", None
    yield " Container", None
    yield from container_lines(spec.task.container, "  ")
    yield from resource_lines(spec.task.resources, "  ")


def _replicas(view: ServiceView) -> str:
    return f"{view.running}/{view.desired}"
