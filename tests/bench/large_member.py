"""A manager like any other that is filled and measured from within: stalls of its loop, pauses of its collector,
latency of its commits, messages of its leader. For `large.py`.

One JSON object a line in (`{"do": ...}`), one out.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio
from msgspec.structs import replace

from swarmd.__main__ import set_up_logging
from swarmd.manager.parts import Parts
from swarmd.model import (
    Availability,
    ContainerSpec,
    NodeDescription,
    NodeSpec,
    NodeState,
    NodeStatus,
    Replicated,
    Resources,
    Service,
    ServiceSpec,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
    new_id,
)
from swarmd.model import (
    Node as NodeObject,
)
from swarmd.node.config import Config, parse_endpoint
from swarmd.node.node import Node
from swarmd.state.command import Table
from swarmd.state.transaction import Transaction
from tests.bench.member import a_task, write_for

BATCH: Final = 200
PROBE_S: Final = 0.001
SETTLE_S: Final = 3.0

Answer = dict[str, Any]


def parts_of(node: Node) -> Parts:
    """The manager's insides."""
    assert node.manager is not None
    assert node.manager.parts is not None
    return node.manager.parts


# -- filling -------------------------------------------------------------------------------------------------------
async def fill(node: Node, *, nodes: int, services: int, tasks: int) -> Answer:
    """A swarm at rest: every service has the replicas that it wants, running, on nodes that nobody has given up.

    There are no agents behind them, so the beat is made slow enough for nobody to be missed.
    """
    store, rng = parts_of(node).store, random.Random(1)
    await store.update(_slow_down, actor="bench")
    machines = [new_id(rng) for _ in range(nodes)]
    for start in range(0, nodes, BATCH):
        await store.update(lambda tx, start=start: _machines(tx, machines[start : start + BATCH], start), actor="bench")  # type: ignore[misc]
    replicas = tasks // services
    for number in range(services):
        # In one transaction, so that the orchestrator has nothing to add.
        await store.update(lambda tx, number=number: _service(tx, number, replicas, machines, rng), actor="bench")  # type: ignore[misc]
    await trio.sleep(SETTLE_S)
    found = sum(1 for task in store.state.tasks() if task.desired_state is TaskState.RUNNING)
    if found != services * replicas:
        raise AssertionError(f"{found} tasks instead of {services * replicas}: something was not at rest")
    return {"tasks": found}


async def place(node: Node, *, nodes: int, tasks: int, what: str) -> Answer:
    """How long it takes until all of a service's tasks, or of as many that waited without one, are assigned; what the
    loop's longest stall was meanwhile. Other tasks are removed before."""
    store, rng = parts_of(node).store, random.Random(1)
    await store.update(_slow_down, actor="bench")
    await store.update(_pause_managers, actor="bench")
    for start in range(0, nodes, BATCH):
        await store.update(lambda tx, start=start: _places(tx, start, min(nodes, start + BATCH), False), actor="bench")  # type: ignore[misc]
    for start in range(0, tasks if what == "waiting" else 0, BATCH):
        await store.update(lambda tx, start=start: _waiting(tx, BATCH, rng), actor="bench")  # type: ignore[misc]
    await trio.sleep(SETTLE_S)
    probe, began = Probe(), trio.current_time()
    async with probe.running():
        for start in range(0, nodes, BATCH):
            await store.update(
                lambda tx, start=start: _places(tx, start, min(nodes, start + BATCH), True), actor="bench"
            )  # type: ignore[misc]
        if what == "service":
            service = Service(id=new_id(rng), spec=service_spec(0, tasks), spec_version=1)
            await store.update(lambda tx: tx.create(service), actor="bench")
        while sum(1 for task in store.state.tasks() if task.status.state is TaskState.ASSIGNED) < tasks:  # noqa: ASYNC110
            await trio.sleep(0.25)
    took_s = trio.current_time() - began
    for start in range(0, nodes, BATCH):
        await store.update(lambda tx, start=start: _places(tx, start, min(nodes, start + BATCH), False), actor="bench")  # type: ignore[misc]
    if what == "waiting":
        ids = [task.id for task in store.state.tasks()]
        for start in range(0, len(ids), BATCH):
            await store.update(lambda tx, start=start: _remove(tx, ids[start : start + BATCH]), actor="bench")  # type: ignore[misc]
    return {"took_s": took_s, "stall_ms": probe.answer()["stall_ms"]}


def _pause_managers(tx: Transaction) -> None:
    """Their agents would run what is placed there."""
    for found in tx.nodes():
        if not found.id.startswith("place"):
            tx.update(replace(found, spec=replace(found.spec, availability=Availability.PAUSE)))


def _places(tx: Transaction, first: int, end: int, takes_tasks: bool) -> None:
    """Nodes with plenty of room, that take tasks or are paused."""
    availability = Availability.ACTIVE if takes_tasks else Availability.PAUSE
    for number in range(first, end):
        id_ = f"place{number:020d}"
        wanted = NodeObject(
            id=id_,
            spec=NodeSpec(availability=availability),
            status=NodeStatus(state=NodeState.READY, confirmed=True),
            description=NodeDescription(hostname=f"place-{number}", resources=Resources(memory_bytes=1 << 50)),
        )
        found = tx.node(id_)
        if found is None:
            tx.create(wanted)
        elif found.spec != wanted.spec or found.status != wanted.status:
            tx.update(replace(found, spec=wanted.spec, status=wanted.status))


def _waiting(tx: Transaction, count: int, rng: random.Random) -> None:
    spec = service_spec(0, 0).task
    for _ in range(count):
        tx.create(Task(id=new_id(rng), spec=spec, status=TaskStatus(state=TaskState.PENDING, at=1.0)))


def _remove(tx: Transaction, ids: list[str]) -> None:
    for id_ in ids:
        tx.remove(Table.TASK, id_)


def _slow_down(tx: Transaction) -> None:
    cluster = tx.cluster()
    assert cluster is not None
    slow = replace(cluster.spec.dispatcher, heartbeat_period_s=3600.0)
    tx.update(replace(cluster, spec=replace(cluster.spec, dispatcher=slow)))


def _machines(tx: Transaction, ids: list[str], first: int) -> None:
    for number, id_ in enumerate(ids, first):
        tx.create(
            NodeObject(
                id=id_,
                spec=NodeSpec(name=f"machine-{number}", labels={"rack": f"r{number % 40}"}),
                description=NodeDescription(hostname=f"machine-{number}"),
            )
        )


def _service(tx: Transaction, number: int, replicas: int, machines: list[str], rng: random.Random) -> None:
    service = Service(id=new_id(rng), spec=service_spec(number, replicas))
    tx.create(service)
    for slot in range(1, replicas + 1):
        tx.create(
            Task(
                id=new_id(rng),
                service_id=service.id,
                service_name=service.spec.name,
                slot=slot,
                node_id=machines[(number * replicas + slot) % len(machines)],
                spec=service.spec.task,
                labels=service.spec.labels,
                status=TaskStatus(state=TaskState.RUNNING, at=1.0, message="started"),
                desired_state=TaskState.RUNNING,
            )
        )


def service_spec(number: int, replicas: int) -> ServiceSpec:
    """About 400 bytes."""
    return ServiceSpec(
        name=f"service-{number}",
        labels={"team": f"team-{number % 30}"},
        task=TaskSpec(
            container=ContainerSpec(
                image=f"registry.example/team/service-{number}:1.2.3",
                command=("/usr/bin/server", "--listen", "0.0.0.0:8080"),
                env=("LOG_LEVEL=info", "REGION=eu-central-1", f"DATABASE=postgres://db-{number}.internal:5432/app"),
                labels={"team": f"team-{number % 30}", "tier": "backend"},
            )
        ),
        mode=Replicated(replicas=replicas),
    )


# -- measuring -----------------------------------------------------------------------------------------------------
class Probe:
    """The longest stall of the loop and the longest pause of the collector while it runs, in seconds.

    A stall is wall time; what the loop's thread itself worked in one go is told beside it, because on a shared machine
    the difference is mostly somebody else's.
    """

    def __init__(self) -> None:
        self.stall_s = 0.0
        self.busy_s = 0.0
        self.pause_s = 0.0
        self.collections = 0
        self._began = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch for as long as the block lasts."""
        gc.callbacks.append(self._collected)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch)
                yield
                await trio.sleep(2 * PROBE_S)  # a stall up to this moment is seen too
                nursery.cancel_scope.cancel()
        finally:
            gc.callbacks.remove(self._collected)

    async def _watch(self) -> None:
        while True:
            began, worked = time.perf_counter(), time.thread_time()
            await trio.sleep(PROBE_S)
            self.busy_s = max(self.busy_s, time.thread_time() - worked)
            self.stall_s = max(self.stall_s, time.perf_counter() - began - PROBE_S)

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.collections += 1
            self.pause_s = max(self.pause_s, time.perf_counter() - self._began)

    def answer(self) -> Answer:
        return {
            "stall_ms": self.stall_s * 1e3,
            "busy_ms": self.busy_s * 1e3,
            "gc_ms": self.pause_s * 1e3,
            "collections": self.collections,
        }


async def measure(node: Node, work: Callable[[], Awaitable[None]], *, writers: int) -> Answer:
    """`work` beside writers: stalls, pauses, and what a commit took meanwhile."""
    probe, latencies, took = Probe(), list[float](), 0.0
    store, rng = parts_of(node).store, random.Random(time.perf_counter_ns())
    async with probe.running(), trio.open_nursery() as nursery:
        for _ in range(writers):
            nursery.start_soon(write_for, store, float("inf"), 1, rng, latencies)
        began = time.perf_counter()
        await work()
        took = time.perf_counter() - began
        nursery.cancel_scope.cancel()
    latencies.sort()
    commits = {}
    if latencies:
        at = [latencies[int(len(latencies) * part)] * 1e3 for part in (0.5, 0.99)]
        commits = {"p50_ms": at[0], "p99_ms": at[1], "max_ms": latencies[-1] * 1e3, "commits": len(latencies)}
    return {"took_s": took, **probe.answer(), **commits}


async def snapshot(node: Node) -> None:
    """Take one of something new and wait until it is recorded and the log is cut."""
    parts = parts_of(node)
    await parts.store.update(lambda tx: tx.create(a_task(random.Random(time.perf_counter_ns()))), actor="bench")
    index = parts.driver.applied
    parts.driver._take_snapshot()
    while parts.driver.core.snapshot.index < index:  # noqa: ASYNC110 - nobody else wants to know, so there is no event
        await trio.sleep(PROBE_S)
    recorded = trio.Event()
    parts.driver._disk._writer.call(lambda store: None, lambda error: recorded.set())  # behind the record
    await recorded.wait()


async def rotate(node: Node) -> None:
    """A new data key, until log and snapshots are sealed with it and the old one is gone."""
    rotation = parts_of(node).key_rotation
    await rotation.rotate_data_key()
    await rotation.until_finished()


async def caught_up(node: Node, index: int) -> None:
    """Until everything up to `index` is applied here."""
    await parts_of(node).driver.wait_applied(index)


class Heartbeats:
    """The longest time without a message from the leader."""

    def __init__(self) -> None:
        self.gap_s = 0.0
        self._last = 0.0

    def listen(self, node: Node) -> None:
        """From now on."""
        driver = parts_of(node).driver
        receive, self._last = driver.receive, time.perf_counter()

        def heard(message: Any, runs: Any = ()) -> None:
            now = time.perf_counter()
            if message.source == driver.leader:
                self.gap_s, self._last = max(self.gap_s, now - self._last), now
            receive(message, runs)

        driver.receive = heard  # type: ignore[method-assign]


def memory() -> Answer:
    """Resident now and at most, in MiB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {"rss_mb": int(lines["VmRSS"].split()[0]) / 1024, "peak_mb": int(lines["VmHWM"].split()[0]) / 1024}


# -- obeying -------------------------------------------------------------------------------------------------------
async def obey_one(node: Node, command: dict[str, Any], heartbeats: Heartbeats) -> Answer:
    """One command."""
    match command.pop("do"):
        case "fill":
            return await fill(node, **command)
        case "place":
            return await place(node, **command)
        case "watch":
            return await measure(node, partial(trio.sleep, command["seconds"]), writers=command["writers"])
        case "snapshot":
            return await measure(node, partial(snapshot, node), writers=command["writers"])
        case "rotate":
            return await measure(node, partial(rotate, node), writers=command["writers"])
        case "listen":
            heartbeats.listen(node)
            return {}
        case "gap":
            return {"gap_ms": heartbeats.gap_s * 1e3}
        case "caught_up":
            while node.manager is None or node.manager.parts is None:  # noqa: ASYNC110 - as above
                await trio.sleep(PROBE_S)
            return await measure(node, partial(caught_up, node, command["index"]), writers=0)
        case "collect":
            probe = Probe()
            async with probe.running():
                gc.collect()
            return probe.answer()
        case "memory":
            return memory()
        case unknown:
            raise ValueError(unknown)


async def obey(node: Node) -> None:
    """Commands until standard input ends."""
    heartbeats = Heartbeats()
    while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        print(json.dumps(await obey_one(node, json.loads(line), heartbeats)), flush=True)


async def main(state_dir: str, hostname: str, listen: str, join_addr: str, join_token: str) -> None:
    """Run the manager and obey."""
    set_up_logging("info", "text")
    path = Path(state_dir)
    node = Node(
        Config(
            state_dir=path,
            control_socket=path / "control.sock",
            hostname=hostname,
            listen=parse_endpoint(listen, flag="listen"),
            join_addr=parse_endpoint(join_addr, flag="join") if join_addr else None,
            join_token=join_token or None,
            executor="process",
        )
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(obey, node)
        await node.run()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:6])
