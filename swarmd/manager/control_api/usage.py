"""What tasks take of a node: counted anew from the state, so that any manager can say it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from swarmd.model import GenericResource, Node, Resources, Task, TaskState
from swarmd.state.store import State


class Usage:
    """What the tasks on one node take together. `generic` are amounts by kind, `names` members of sets."""

    __slots__ = ("generic", "memory_bytes", "names", "nano_cpus", "tasks")

    def __init__(self) -> None:
        self.tasks = 0
        self.nano_cpus = 0
        self.memory_bytes = 0
        self.generic: dict[str, int] = {}
        self.names: dict[str, list[str]] = {}

    def add(self, task: Task) -> None:
        """One task more; nothing if it has no node yet, or has stopped."""
        if not holds_resources(task):
            return
        self.tasks += 1
        reservations = task.spec.resources.reservations
        self.nano_cpus += reservations.nano_cpus
        self.memory_bytes += reservations.memory_bytes
        for resource in task.assigned_generic_resources:
            if resource.names:
                self.names.setdefault(resource.kind, []).extend(resource.names)
            else:
                self.generic[resource.kind] = self.generic.get(resource.kind, 0) + resource.amount


class NodeRoom(msgspec.Struct, frozen=True, gc=False):
    """How much of a node is taken, and what is left."""

    tasks: int
    reserved: Resources
    allocatable: Resources


def holds_resources(task: Task) -> bool:
    """Whether something is set aside for the task on its node: from its assignment until it has stopped."""
    return TaskState.ASSIGNED <= task.status.state <= TaskState.RUNNING


def usage_of(tasks: Iterable[Task]) -> Usage:
    """What these tasks, all of one node, take together."""
    usage = Usage()
    for task in tasks:
        usage.add(task)
    return usage


def usage_by_node(state: State) -> dict[str, Usage]:
    """The same for every node that has any, in one look at each task."""
    usages: dict[str, Usage] = {}
    for task in state.tasks():
        if task.node_id and holds_resources(task):
            usage = usages.get(task.node_id)
            if usage is None:
                usage = usages[task.node_id] = Usage()
            usage.add(task)
    return usages


def room_of(node: Node, usage: Usage) -> NodeRoom:
    """How much of the node is taken. Nothing is left of what was given away beyond what the node has."""
    has = node.description.resources
    return NodeRoom(
        tasks=usage.tasks,
        reserved=Resources(
            nano_cpus=usage.nano_cpus,
            memory_bytes=usage.memory_bytes,
            generic=tuple([_taken(kind, usage) for kind in sorted({*usage.generic, *usage.names})]),
        ),
        allocatable=Resources(
            nano_cpus=max(0, has.nano_cpus - usage.nano_cpus),
            memory_bytes=max(0, has.memory_bytes - usage.memory_bytes),
            generic=tuple([left_of(resource, usage) for resource in has.generic]),
        ),
    )


def _taken(kind: str, usage: Usage) -> GenericResource:
    names = tuple(sorted(usage.names.get(kind, ())))
    return GenericResource(kind=kind, names=names) if names else GenericResource(kind=kind, amount=usage.generic[kind])


def left_of(resource: GenericResource, usage: Usage) -> GenericResource:
    """What a node can still give out of a kind, as the scheduler reckons it: members that nobody holds, or the amount
    less the amounts held. What is held of a kind that was of the other sort, or of members that are gone, is no loss.
    """
    if resource.names:
        taken = frozenset(usage.names.get(resource.kind, ()))
        return GenericResource(kind=resource.kind, names=tuple([name for name in resource.names if name not in taken]))
    return GenericResource(kind=resource.kind, amount=max(0, resource.amount - usage.generic.get(resource.kind, 0)))
