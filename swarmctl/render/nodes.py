"""Nodes: the list and the summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from swarmctl.render.layout import SummaryLine, summary, table
from swarmctl.render.plain import plain
from swarmctl.render.text import DAY, HOUR, MINUTE, cpus, generic, instant, memory
from swarmctl.resolve import node_name
from swarmd.model import Node, NodeState, Resources, Role
from swarmd.wire.control import NodeView
from swarmd.wire.disk import IN_SHORT, DiskReport

_LEFT_OUT = ("csr", "certificate")


def node_document(view: NodeView) -> Any:
    """A node as plain data, with its part in Raft (null for a worker), its join code (null once it is in) and what its
    tasks take and leave."""
    document = plain(view.node)
    certificate = document["certificate"]
    document["certificate"] = {field: certificate[field] for field in certificate if field not in _LEFT_OUT}
    return document | {
        "manager": plain(view.manager),
        "join_code": view.join_code or None,
        "tasks": view.tasks,
        "reserved": plain(view.reserved),
        "allocatable": plain(view.allocatable),
    }


def node_list(views: Sequence[NodeView], *, wide: bool) -> str:
    """`node ls`."""
    header = ["ID", "Name", "Membership", "Status", "Availability", "Manager Status"]
    rows = [_row(view) for view in views]
    if wide:
        header += ["Address", "Engine Version", "Tasks", "CPUs Free", "Memory Free", "Node Labels"]
        rows = [[*row, *_more(view)] for row, view in zip(rows, views, strict=True)]
    return table(header, rows)


def node_summary(view: NodeView, now: float) -> str:
    """`node inspect`, without the tasks."""
    return summary(_lines(view, now))


def days_left(expires_at: float, now: float) -> str:
    """How long a certificate holds: `in 12 days`, `in 5 hours`, `expired 2 days ago`; empty if there is none."""
    if not expires_at:
        return ""
    left_s = expires_at - now
    for unit_s, word in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
        count = int(abs(left_s) // unit_s)
        if count:
            span = f"{count} {word}{'' if count == 1 else 's'}"
            return f"in {span}" if left_s > 0 else f"expired {span} ago"
    return "in less than a minute" if left_s > 0 else "expired just now"


def _row(view: NodeView) -> list[str]:
    node = view.node
    return [
        node.id,
        node_name(node),
        node.spec.membership.name,
        _status(node),
        node.spec.availability.name,
        _manager_status(view),
    ]


def _status(node: Node) -> str:
    """A node that is up and has nothing to run tasks with must not look ready."""
    is_idle = node.status.state is NodeState.READY and node.description.engine_error
    return "NO ENGINE" if is_idle else node.status.state.name


def _more(view: NodeView) -> list[str]:
    has, left = view.node.description.resources, view.allocatable
    return [
        view.node.status.addr,
        view.node.description.engine_version,
        str(view.tasks),
        f"{cpus(left.nano_cpus)}/{cpus(has.nano_cpus)}",
        f"{memory(left.memory_bytes)} of {memory(has.memory_bytes)}",
        _labels(view.node.spec.labels),
    ]


def _manager_status(view: NodeView) -> str:
    manager = view.manager
    if manager is None:
        return "UNKNOWN" if view.node.spec.desired_role is Role.MANAGER else ""
    learner = "" if manager.is_voter else " (learner)"
    disk = f" ({IN_SHORT[manager.disk.condition]})" if manager.disk is not None else ""
    return manager.reachability.name + learner + disk + (" *" if manager.is_leader else "")


def _lines(view: NodeView, now: float) -> Iterator[SummaryLine]:
    node, manager = view.node, view.manager
    description, resources = node.description, node.description.resources
    yield "ID", node.id
    yield "Name", node.spec.name
    yield "Hostname", description.hostname
    yield "Node Labels", _labels(node.spec.labels)
    yield "Join Code", view.join_code
    yield "Status:", None
    yield "  State", node.status.state.name
    yield "  Message", node.status.message or description.engine_error
    yield "  Availability", node.spec.availability.name
    yield "  Address", node.status.addr
    yield "  Certificate expires", days_left(node.certificate.expires_at, now)
    if manager is not None:
        yield "Manager status:", None
        yield "  Address", ", ".join(manager.addresses)
        yield "  Raft status", manager.reachability.name + ("" if manager.is_voter else " (learner)")
        yield "  Leader", "yes" if manager.is_leader else "no"
        yield "  Disk", _disk(manager.disk) if manager.disk is not None else ""
    yield "Platform:", None
    yield "  Operating System", description.platform.os
    yield "  Architecture", description.platform.architecture
    yield "Resources:", None
    yield "  CPUs", str(resources.nano_cpus // 10**9)
    yield "  Memory", memory(resources.memory_bytes)
    yield "  Generic Resources", generic(resources.generic)
    yield "Tasks", str(view.tasks) if view.tasks else ""
    if view.reserved != Resources():
        yield from _amounts("Reserved:", view.reserved)
        yield from _amounts("Allocatable:", view.allocatable)
    if description.plugins:
        yield "Plugins:", None
        for kind in sorted({plugin.type for plugin in description.plugins}):
            yield f"  {kind}", ", ".join(sorted(one.name for one in description.plugins if one.type == kind))
    yield "Engine Version", description.engine_version
    yield "Engine Labels", _labels(description.engine_labels)


def _amounts(title: str, amounts: Resources) -> Iterator[SummaryLine]:
    yield title, None
    yield "  CPUs", cpus(amounts.nano_cpus)
    yield "  Memory", memory(amounts.memory_bytes)
    yield "  Generic Resources", generic(amounts.generic)


def _disk(report: DiskReport) -> str:
    space = f", {memory(report.free_bytes)} of {memory(report.total_bytes)} free" if report.total_bytes else ""
    reason = f": {report.reason}" if report.reason else ""
    return f"{IN_SHORT[report.condition]} since {instant(report.since_at)}{space}{reason}"


def _labels(labels: Mapping[str, str]) -> str:
    return " ".join(f"{key}={labels[key]}" for key in sorted(labels))
