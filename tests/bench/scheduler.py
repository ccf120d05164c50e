"""Pure placement, without a store: one JSON line a figure. `python tests/bench/scheduler.py [--rounds N]`."""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
from collections.abc import Callable, Iterator

from swarmd.model import (
    ContainerSpec,
    Meta,
    Node,
    NodeDescription,
    NodeState,
    NodeStatus,
    ResourceLimits,
    ResourceRequirements,
    Resources,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
    new_id,
)
from swarmd.scheduler import Scheduler

CONTAINER = ContainerSpec(image="bench")
PENDING = TaskStatus(state=TaskState.PENDING)


def make_nodes(count: int, rng: random.Random) -> list[Node]:
    """Equal nodes with plenty of room."""
    description = NodeDescription(hostname="n", resources=Resources(nano_cpus=10**15, memory_bytes=1 << 50))
    status = NodeStatus(state=NodeState.READY, confirmed=True)
    return [Node(id=new_id(rng), meta=Meta(version=1), description=description, status=status) for _ in range(count)]


def ungrouped(index: int) -> tuple[str, TaskSpec]:
    """Equal tasks without a service."""
    return "", TaskSpec(container=CONTAINER)


def one_service(index: int) -> tuple[str, TaskSpec]:
    """All of one service."""
    return "service", TaskSpec(container=CONTAINER)


def one_task_services(index: int) -> tuple[str, TaskSpec]:
    """Each its own service."""
    return f"service{index}", TaskSpec(container=CONTAINER)


def own_reservation(index: int) -> tuple[str, TaskSpec]:
    """Each its own CPU reservation."""
    reservations = ResourceLimits(nano_cpus=10**6 + index)
    return "", TaskSpec(container=CONTAINER, resources=ResourceRequirements(reservations=reservations))


SHAPES: dict[str, Callable[[int], tuple[str, TaskSpec]]] = {
    "ungrouped": ungrouped,
    "one_service": one_service,
    "services_of_one": one_task_services,
    "own_reservation": own_reservation,
}
CASES = (
    (1_000, 10_000, "ungrouped"),
    (1_000, 100_000, "ungrouped"),
    (1_000, 100_000, "one_service"),
    (1_000, 100_000, "services_of_one"),
    (1_000, 100_000, "own_reservation"),
    (5_000, 100_000, "one_service"),
)


def measure(nodes: int, tasks: int, shape: str, rng: random.Random) -> float:
    """Seconds from the tasks' events to the last decision, in the chunks that the leader's loop uses."""
    scheduler = Scheduler(make_nodes(nodes, rng), [])
    waiting = [
        Task(id=new_id(rng), meta=Meta(version=2), service_id=service_id, slot=i + 1, spec=spec, status=PENDING)
        for i in range(tasks)
        for service_id, spec in (SHAPES[shape](i),)
    ]
    gc.collect()
    gc.freeze()
    chunk = max(1000, nodes // 8)
    started = time.perf_counter()
    for task in waiting:
        scheduler.task_changed(task, 0.0)
    placed = 0
    while scheduler.has_work:
        placed += len(scheduler.place(0.0, limit=chunk)[0])
    elapsed = time.perf_counter() - started
    gc.unfreeze()
    assert placed == tasks
    return elapsed


def lines(rounds: int) -> Iterator[dict[str, object]]:
    """The best of `rounds` for each case: the machine is shared."""
    for nodes, tasks, shape in CASES:
        best = min(measure(nodes, tasks, shape, random.Random(7)) for _ in range(rounds))
        yield {
            "bench": "scheduler.place_s",
            "nodes": nodes,
            "tasks": tasks,
            "shape": shape,
            "value": round(best, 4),
            "unit": "s",
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    for line in lines(parser.parse_args().rounds):
        print(json.dumps(line), flush=True)
