"""Pure placement, without a store: one JSON line a figure. `python tests/bench/scheduler.py [--rounds N] [--shape S]`.

`value` is processor time, the median of the rounds: from the tasks' events to the last decision, in the chunks that the
leader's loop uses; `slice_ms` is the longest that one chunk held the loop. Every placement is checked afterwards, one
by one, against filters written anew.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

import msgspec

from swarmd.model import (
    ContainerSpec,
    Driver,
    Meta,
    Node,
    NodeDescription,
    NodeSpec,
    NodeState,
    NodeStatus,
    Placement,
    PlacementPreference,
    Plugin,
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
from swarmd.state.features import ORCHESTRATION

CONTAINER = ContainerSpec(image="bench")
PENDING = TaskStatus(state=TaskState.PENDING)
ZONES, RACKS = 3, 30
Given = tuple[str, TaskSpec]
"""(service id, template)."""


def make_nodes(count: int, rng: random.Random) -> list[Node]:
    """Nodes with plenty of room; every third has the label and the log driver that some shapes ask for."""
    status = NodeStatus(state=NodeState.READY, confirmed=True)
    resources = Resources(nano_cpus=10**15, memory_bytes=1 << 50)
    nodes = []
    for index in range(count):
        plugin = Plugin(type="Log", name="gelf" if index % 3 == 0 else "syslog")
        description = NodeDescription(
            hostname=f"name{index}", resources=resources, plugins=(plugin,), features=(ORCHESTRATION,)
        )
        labels = {"zone": f"z{index % ZONES}", "rack": f"r{index % RACKS}"}
        labels |= {f"l{bit}": str(index >> bit & 1) for bit in range(8)}
        meta = Meta(version=1, created_at=float(index))
        node = Node(id=new_id(rng), meta=meta, spec=NodeSpec(labels=labels), description=description, status=status)
        nodes.append(node)
    return nodes


def ungrouped(index: int) -> Given:
    """Equal tasks without a service."""
    return "", TaskSpec(container=CONTAINER)


def one_service(index: int) -> Given:
    """All of one service."""
    return "service", TaskSpec(container=CONTAINER)


def one_task_services(index: int) -> Given:
    """Each its own service."""
    return f"service{index}", TaskSpec(container=CONTAINER)


def own_reservation(index: int) -> Given:
    """Each its own CPU reservation."""
    reservations = ResourceLimits(nano_cpus=10**6 + index)
    return "", TaskSpec(container=CONTAINER, resources=ResourceRequirements(reservations=reservations))


def own_constraints(index: int) -> Given:
    """Each its own three constraints."""
    constraints = (
        f"node.labels.l{index % 8}=={index >> 3 & 1}",
        f"node.labels.l{(index + 3) % 8}!={index >> 4 & 1}",
        f"node.hostname!=other{index}",
    )
    return "", TaskSpec(container=CONTAINER, placement=Placement(constraints=constraints))


PLUGIN = TaskSpec(container=CONTAINER, log_driver=Driver(name="gelf"))
CONSTRAINT = TaskSpec(container=CONTAINER, placement=Placement(constraints=("node.labels.zone==z0",)))
LEVELS = tuple(PlacementPreference(spread=f"node.labels.{label}") for label in ("zone", "rack"))
SPREAD = TaskSpec(container=CONTAINER, placement=Placement(preferences=LEVELS))

SHAPES: dict[str, Callable[[int], Given]] = {
    "ungrouped": ungrouped,
    "one_service": one_service,
    "services_of_one": one_task_services,
    "own_reservation": own_reservation,
    "own_constraints": own_constraints,
    "plugin": lambda _: ("", PLUGIN),
    "constraint": lambda _: ("", CONSTRAINT),
    "two_levels": lambda _: ("service", SPREAD),
}
CASES = (
    (1_000, 1_000, "ungrouped", 0.015),
    (1_000, 10_000, "ungrouped", 0.12),
    (1_000, 100_000, "ungrouped", 1.2),
    (1_000, 100_000, "one_service", 1.0),
    (1_000, 100_000, "services_of_one", 1.7),
    (1_000, 100_000, "own_reservation", 3.0),
    (1_000, 100_000, "own_constraints", 3.0),
    (1_000, 100_000, "two_levels", 1.0),
    (5_000, 100_000, "one_service", 1.0),
    (5_000, 100_000, "plugin", 1.2),
    (5_000, 100_000, "constraint", 1.2),
    (5_000, 100_000, "two_levels", 1.0),
    (100_000, 100_000, "ungrouped", 1.5),
    (100_000, 100_000, "services_of_one", 3.5),
)
"""(nodes, tasks, shape, the target in seconds with everything that a pass costs beside)."""


class Run(msgspec.Struct):
    """One measured pass."""

    seconds: float
    slice_ms: float


def measure(nodes: int, tasks: int, shape: str, rng: random.Random) -> Run:
    """Place all tasks, then check every placement."""
    machines = make_nodes(nodes, rng)
    scheduler = Scheduler(machines, [])
    waiting = [
        Task(id=new_id(rng), meta=Meta(version=2), service_id=service_id, slot=i + 1, spec=spec, status=PENDING)
        for i in range(tasks)
        for service_id, spec in (SHAPES[shape](i),)
    ]
    gc.collect()
    gc.freeze()
    chunk = max(1000, nodes // 8)
    started = time.process_time()
    for task in waiting:
        scheduler.task_changed(task, 0.0)
    placed: dict[str, str] = {}
    longest = 0.0
    while scheduler.has_work:
        began = time.process_time()
        decisions = scheduler.place(0.0, limit=chunk)[0]
        longest = max(longest, time.process_time() - began)
        for decision in decisions:
            placed[decision.task_id] = decision.node_id
    elapsed = time.process_time() - started
    gc.unfreeze()
    check(machines, waiting, placed)
    return Run(elapsed, longest * 1000)


def check(nodes: list[Node], tasks: list[Task], placed: dict[str, str]) -> None:
    """Every task is placed, where its own filters let it, and every service evenly over the nodes that it may use."""
    by_id = {node.id: node for node in nodes}
    per_service: dict[str, Counter[str]] = defaultdict(Counter)
    cpus: Counter[str] = Counter()
    for task in tasks:
        node = by_id[placed[task.id]]
        spec, description = task.spec, node.description
        cpus[node.id] += spec.resources.reservations.nano_cpus
        if spec.log_driver is not None:
            assert Plugin(type="Log", name=spec.log_driver.name) in description.plugins
        for constraint in spec.placement.constraints:
            key, operator, value = constraint.partition("==" if "==" in constraint else "!=")
            label = key.removeprefix("node.labels.")
            has = description.hostname if key == "node.hostname" else node.spec.labels.get(label, "")
            assert (has == value) is (operator == "=="), constraint
        if task.service_id:
            per_service[task.service_id][node.id] += 1
    assert all(used <= by_id[id].description.resources.nano_cpus for id, used in cpus.items())
    for service_id, counts in per_service.items():
        if len(counts) > 1:
            spread = next(task.spec.placement.preferences for task in tasks if task.service_id == service_id)
            labels = [one.spread.removeprefix("node.labels.") for one in spread]
            check_evenness(nodes, counts, labels)


def check_evenness(nodes: list[Node], counts: Counter[str], labels: list[str]) -> None:
    """Branches of one level differ by one task at most, and so do nodes at the end."""
    branches: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        branches[node.spec.labels[labels[0]] if labels else node.id].append(node)
    sums = [sum(counts[node.id] for node in branch) for branch in branches.values()]
    assert max(sums) - min(sums) <= 1
    if labels:
        for branch in branches.values():
            check_evenness(branch, counts, labels[1:])


def node_comes_and_goes(rng: random.Random) -> float:
    """Seconds for all decisions after one of 5,000 nodes with 100,000 tasks is lost and its 20 tasks are made anew, and
    it then comes back to a service that waits for it."""
    nodes = make_nodes(5_000, rng)
    spec = TaskSpec(container=CONTAINER)
    running = [
        Task(
            id=new_id(rng),
            meta=Meta(version=2),
            service_id=f"service{i % 5_000}",
            node_id=nodes[i // 20].id,
            spec=spec,
            status=TaskStatus(state=TaskState.RUNNING),
        )
        for i in range(100_000)
    ]
    scheduler = Scheduler(nodes, running)
    lost = nodes[77]
    placement = Placement(constraints=(f"node.hostname=={lost.description.hostname}",))
    tied = Task(id="tied", service_id="tied", spec=TaskSpec(container=CONTAINER, placement=placement), status=PENDING)
    gc.collect()
    gc.freeze()
    started = time.process_time()
    status = NodeStatus(state=NodeState.DOWN)
    scheduler.node_changed(msgspec.structs.replace(lost, status=status))
    scheduler.task_changed(tied, 0.0)
    for task in running[77 * 20 : 78 * 20]:
        scheduler.task_changed(msgspec.structs.replace(task, desired_state=TaskState.SHUTDOWN), 0.0)
        scheduler.task_changed(msgspec.structs.replace(task, id=f"{task.id}x", node_id="", status=PENDING), 0.0)
    placed = drained(scheduler)
    scheduler.node_changed(lost)
    placed += drained(scheduler)
    elapsed = time.process_time() - started
    gc.unfreeze()
    assert placed == 21
    return elapsed


def drained(scheduler: Scheduler) -> int:
    """Decide all that can be; how many got a node."""
    placed = 0
    while scheduler.has_work:
        placed += len(scheduler.place(0.0, limit=1000)[0])
    return placed


def lines(rounds: int, wanted: str) -> Iterator[dict[str, object]]:
    """The median of `rounds` for each case: the machine is shared."""
    for nodes, tasks, shape, target in CASES:
        if wanted not in ("", shape):
            continue
        runs = [measure(nodes, tasks, shape, random.Random(7)) for _ in range(rounds)]
        yield {
            "bench": "scheduler.place_s",
            "nodes": nodes,
            "tasks": tasks,
            "shape": shape,
            "value": round(statistics.median(run.seconds for run in runs), 4),
            "unit": "s",
            "target": target,
            "slice_ms": round(statistics.median(run.slice_ms for run in runs), 1),
        }
    if wanted in ("", "node"):
        value = statistics.median(node_comes_and_goes(random.Random(7)) for _ in range(rounds))
        name = "scheduler.node_comes_and_goes_s"
        yield {"bench": name, "nodes": 5_000, "tasks": 100_000, "value": round(value, 4), "unit": "s", "target": 0.05}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", default="", help="one shape alone, or `node`")
    arguments = parser.parse_args()
    for line in lines(arguments.rounds, arguments.shape):
        print(json.dumps(line), flush=True)
