"""What each node says to a task, in the order of the scheduler's filters, with numbers (reference api-and-cli 8.4).

For a reader who asks: judged from the state as it is, node by node, by the exact tests that the scheduler's masks stand
for.
"""

from __future__ import annotations

from collections.abc import Iterator

from swarmd.manager.control_api.usage import Usage, holds_resources, left_of, usage_of
from swarmd.model import GenericResource, Node, Resources, Task, TaskState
from swarmd.model.constraints import attribute_of, matches
from swarmd.model.platforms import runs
from swarmd.scheduler.nodes import unavailable_reason
from swarmd.scheduler.profile import host_ports, plugins, readable, required_features
from swarmd.scheduler.traits import LOG, plugin_key
from swarmd.state.store import State
from swarmd.wire.orchestration import NodeVerdict


def verdicts(state: State, task: Task) -> Iterator[NodeVerdict]:
    """What every node says, or the one alone that the task is bound to; those that would take it are among them."""
    bound_to = state.node(task.node_id)
    for node in state.nodes() if not task.node_id else [bound_to] if bound_to is not None else []:
        name = node.spec.name or node.description.hostname
        filter, detail = verdict(node, state.tasks_of_node(node.id), task)
        yield NodeVerdict(node_id=node.id, node_name=name, filter=filter, detail=detail)


def verdict(node: Node, tasks: tuple[Task, ...], task: Task) -> tuple[str, str]:
    """(filter, detail) of the first that turns the task away; empty if none does. `tasks` are all on the node."""
    if reason := unavailable_reason(node):
        return "ready", reason
    others = tuple([other for other in tasks if other.id != task.id and holds_resources(other)])
    checks = (_software, _resources, _plugins, _constraints, _platform, _host_ports, _max_replicas)
    return next((found for check in checks if (found := check(node, others, task))), ("", ""))


def _software(node: Node, tasks: tuple[Task, ...], task: Task) -> tuple[str, str] | None:
    missing = [name for name in required_features(task.spec) if name not in node.description.features]
    return ("software", f"does not know {', '.join(missing)}") if missing else None


def _resources(node: Node, tasks: tuple[Task, ...], task: Task) -> tuple[str, str] | None:
    wanted = task.spec.resources.reservations
    if not (wanted.nano_cpus or wanted.memory_bytes or wanted.generic):
        return None
    usage, has = usage_of(tasks), node.description.resources
    lacking = [
        f"{kind}: needs {show(need)}, {show(max(0, total - used))} of {show(total)} free"
        for kind, need, total, used, show in (
            ("cpu", wanted.nano_cpus, has.nano_cpus, usage.nano_cpus, _cpus),
            ("memory", wanted.memory_bytes, has.memory_bytes, usage.memory_bytes, _size),
        )
        if need and need > total - used  # an overcommitted node still takes what asks for none of it
    ]
    lacking += _lacking_generic(has, usage, task)
    return ("resources", "; ".join(lacking)) if lacking else None


def _lacking_generic(has: Resources, usage: Usage, task: Task) -> list[str]:
    kinds = {resource.kind: (_count(resource), _count(left_of(resource, usage))) for resource in has.generic}
    lacking = []
    for resource in task.spec.resources.reservations.generic:
        total, free = kinds.get(resource.kind, (0, 0))
        if resource.amount > free:
            lacking.append(f"{resource.kind}: needs {resource.amount}, {free} of {total} free")
    return lacking


def _count(resource: GenericResource) -> int:
    return len(resource.names) or resource.amount


def _plugins(node: Node, tasks: tuple[Task, ...], task: Task) -> tuple[str, str] | None:
    """A node that names no log driver at all is taken to have every one."""
    has = {plugin_key(plugin.type, plugin.name) for plugin in node.description.plugins}
    types = {type for type, _ in has}
    missing = [key for key in plugins(task) if key not in has and (key[0] != LOG or LOG in types)]
    named = ", ".join(f"the {type.lower()} driver {name}" for type, name in missing)
    return ("plugin", f"has not {named}") if missing else None


def _constraints(node: Node, tasks: tuple[Task, ...], task: Task) -> tuple[str, str] | None:
    for constraint in readable(task.spec.placement.constraints):
        if not matches(node, constraint):
            has = node.status.addr if constraint.key == "node.ip" else attribute_of(node, constraint.key)
            return "constraint", f"{constraint} ({f'has {has}' if has else 'has none'})"
    return None


def _platform(node: Node, tasks: tuple[Task, ...], task: Task) -> tuple[str, str] | None:
    wanted, has = task.spec.placement.platforms, node.description.platform
    if runs(has, wanted):
        return None
    needs = ", ".join(f"{one.os or '*'}/{one.architecture or '*'}" for one in wanted)
    return "platform", f"needs {needs}, is {has.os or '?'}/{has.architecture or '?'}"


def _host_ports(node: Node, tasks: tuple[Task, ...], task: Task) -> tuple[str, str] | None:
    wanted = frozenset(host_ports(task))
    for other in tasks if wanted else ():
        if taken := wanted.intersection(host_ports(other)):
            protocol, number = min(taken)
            owner = f"{other.service_name}.{other.slot or other.id}"
            return "host_port", f"port {number}/{protocol.name.lower()} is taken by {owner}"
    return None


def _max_replicas(node: Node, tasks: tuple[Task, ...], task: Task) -> tuple[str, str] | None:
    limit = task.spec.placement.max_replicas
    if not limit or not task.service_id:
        return None
    count = sum(other.service_id == task.service_id and other.desired_state <= TaskState.COMPLETE for other in tasks)
    return ("max_replicas", f"has {count} of at most {limit}") if count >= limit else None


def _cpus(nano: int) -> str:
    return f"{nano / 1e9:g}"


def _size(size: int) -> str:
    """Four digits and a binary unit."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.4g} {unit}"
