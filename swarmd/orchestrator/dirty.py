"""Which tasks are not as their service wants them (reference orchestration 2.6, 11.1). Only what changed restarts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from swarmd.model import Node, Placement, PortConfig, PublishMode, Service, Task, TaskState
from swarmd.model.constraints import meets, parsed
from swarmd.model.endpoints import EndpointSpec
from swarmd.model.platforms import runs
from swarmd.orchestrator.facts import FindNode, has_ended
from swarmd.orchestrator.slots import Slot

NO_ENDPOINT: Final = EndpointSpec()


def is_outdated(task: Task, service: Service, find_node: FindNode) -> bool:
    """Whether the task must be replaced to be as the service's spec says.

    Where it may go is not what it is: preferences, strategy and the limit per node (see `outdated_slots`) matter not,
    and new constraints or platforms only if its node does not fit them. Of the endpoint, the ports matter that are
    published on its node; the swarm carries the others. Labels and update settings of the service do not matter.
    """
    if service.spec_version and task.spec_version == service.spec_version:
        return False
    template = service.spec.task
    if task.spec != template:
        old, new = task.spec.placement, template.placement
        if replace(task.spec, placement=new) != template:
            return True
        if (old.constraints, old.platforms) != (new.constraints, new.platforms):
            node = find_node(task.node_id) if task.node_id else None
            if node is None or not admits(node, new):
                return True
    if task.status.state <= TaskState.NEW:  # it gets the service's endpoint when it passes the allocator
        return False
    given = task.endpoint.spec if task.endpoint is not None else NO_ENDPOINT
    return host_ports(given) != host_ports(service.spec.endpoint)


def admits(node: Node, placement: Placement) -> bool:
    """Whether the node meets the constraints and is of one of the platforms."""
    return meets(node, parsed(placement.constraints)) and runs(node.description.platform, placement.platforms)


def host_ports(spec: EndpointSpec) -> tuple[PortConfig, ...]:
    """The ports that each task takes on its own node."""
    return tuple([port for port in spec.ports if port.publish_mode is PublishMode.HOST])


def outdated_slots(slots: Iterable[Slot], service: Service, find_node: FindNode) -> list[Slot]:
    """Slots to be moved: nothing in them is as wanted, or is one too many on its node for the template's limit."""
    limit = service.spec.task.placement.max_replicas
    copies: Counter[str] = Counter()
    found: list[Slot] = []
    for slot in sorted(slots, key=lambda s: (s.number, s.node_id)):
        task = slot.representative
        if task is None:
            continue
        if all(is_outdated(one, service, find_node) for one in slot.wanted or (task,)):
            found.append(slot)
        elif limit and task.node_id and not has_ended(task):
            copies[task.node_id] += 1
            if copies[task.node_id] > limit:
                found.append(slot)
    return found
