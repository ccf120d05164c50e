"""What the replicated store costs on this machine: `python tests/bench/store.py`. One JSON object a line.

A create or update is everything between a writer's object and the changed tables, the object's making included: a
transaction, its command, all preconditions, all indexes, the running digest over the entry's bytes. The bytes are made
beforehand: encoding has a line of its own. 515-byte tasks with equal specs unless it says "own"; medians of several
rounds.
Averages are of this process's CPU time, because other work may share the machine; percentiles are of wall time.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from swarmd.manager.digests.points import DigestPoints
from swarmd.model import (
    ContainerSpec,
    Node,
    NodeDescription,
    NodeState,
    NodeStatus,
    Service,
    ServiceSpec,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
    new_id,
)
from swarmd.raft import SnapshotMeta
from swarmd.state import (
    Command,
    CommandId,
    Route,
    State,
    Table,
    Transaction,
    decode_command,
    encode_command,
    encode_snapshot,
)
from swarmd.state.digest import hash_slices, is_agreed
from swarmd.state.selectors import ByName, ByNamePrefix, ByReferencedSecret, BySlot, ByTaskState
from swarmd.wire.codec import encode

TASK_BYTES = 515
TASKS = 20_000
BATCH = 200
TRANSACTIONS = 2_000
ROUNDS = 5
WATCHERS = 10_000
NOW = 1_700_000_000.5
RNG = random.Random(1)
ID = CommandId(1, bytes(16), 1)


def emit(bench: str, value: float, unit: str = "us", **parameters: Any) -> None:
    print(json.dumps({"bench": bench, **parameters, "value": round(value, 3), "unit": unit}), flush=True)


def make_task(id: str, service_id: str, padding: int) -> Task:
    container = ContainerSpec(
        image="registry.example.com/team/web:1.27.3",
        command=("/usr/bin/web", "--port", "8080"),
        env=("LOG_LEVEL=info", "PADDING=" + "x" * padding),
        labels={"com.example.team": "web"},
    )
    return Task(
        id=id,
        service_id=service_id,
        service_name="web",
        slot=7,
        spec=TaskSpec(container=container),
        status=TaskStatus(state=TaskState.NEW, at=NOW, message="created"),
        desired_state=TaskState.RUNNING,
    )


def padding_for(bytes_wanted: int) -> int:
    return bytes_wanted - len(encode(make_task(new_id(RNG), new_id(RNG), 0))) - 2


def command_of(state: State, fn: Callable[[Transaction], None]) -> Command:
    tx = state.begin(NOW, RNG)
    fn(tx)
    return tx.command(ID, actor="bench")


def apply(state: State, fn: Callable[[Transaction], None]) -> None:
    command = command_of(state, fn)
    state.apply(state.index + 1, 1, encode_command(command), command)


class Writer:
    """Times transactions without the encoding of their entries: bytes of the right length stand in for it."""

    def __init__(self, state: State, body_bytes: int) -> None:
        self.state = state
        self.body_bytes = body_bytes

    def write(self, per_transaction: int, ids: list[str], change: Callable[[Transaction, str], None]) -> float:
        """Microseconds an object."""
        state, body = self.state, bytes(self.body_bytes * per_transaction)
        began = time.process_time()
        for start in range(0, len(ids), per_transaction):
            tx = state.begin(NOW, RNG)
            for id in ids[start : start + per_transaction]:
                change(tx, id)
            command = tx.command(ID, actor="bench")
            state.apply(state.index + 1, 1, body, command)
        return (time.process_time() - began) / len(ids) * 1e6


def bench_writes(padding: int) -> State:
    results: dict[tuple[str, int], list[float]] = {}
    state = State()
    for _ in range(ROUNDS):
        for per_transaction in (BATCH, 1):
            state = State()
            writer = Writer(state, TASK_BYTES)
            ids = [new_id(RNG) for _ in range(TASKS)]
            services = [new_id(RNG) for _ in range(TASKS // 100)]
            service_of = {id: services[position % len(services)] for position, id in enumerate(ids)}

            def create(tx: Transaction, id: str, service_of: dict[str, str] = service_of) -> None:
                tx.create(make_task(id, service_of[id], padding))

            def update(tx: Transaction, id: str) -> None:
                task = tx.task(id)
                assert task is not None
                tx.update(replace(task, status=TaskStatus(state=TaskState.RUNNING, at=NOW, message="started")))

            def report(tx: Transaction, id: str) -> None:
                tx.report("", id, TaskStatus(state=TaskState.COMPLETE, at=NOW, message="finished"))

            gc.collect()
            gc.freeze()
            results.setdefault(("store.create_us", per_transaction), []).append(
                writer.write(per_transaction, ids, create)
            )
            RNG.shuffle(ids)
            results.setdefault(("store.update_us", per_transaction), []).append(
                writer.write(per_transaction, ids, update)
            )
            results.setdefault(("store.report_us", per_transaction), []).append(
                writer.write(per_transaction, ids, report)
            )
    for (bench, per_transaction), values in results.items():
        emit(bench, statistics.median(values), objects=TASKS, per_transaction=per_transaction)
    return state


def bench_transactions(padding: int) -> None:
    """One object a transaction, all that a manager's process does for it: begin, read, write, command, encoding,
    applying; and what a follower does: decoding and applying. Tasks of a service share a spec; "own" ones do not."""
    results: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for specs in ("own", "shared"):
            for bench, value in transactions_round(padding, shares=specs == "shared").items():
                results.setdefault((bench, specs), []).append(value)
    for (bench, specs), values in results.items():
        emit(bench, statistics.median(values), objects=TRANSACTIONS, per_transaction=1, specs=specs)


def transactions_round(padding: int, *, shares: bool) -> dict[str, float]:
    state, service_id, bodies = State(), new_id(RNG), []
    tasks = [make_task(new_id(RNG), service_id, padding) for _ in range(TRANSACTIONS)]
    if not shares:
        tasks = [replace(task, spec=replace(task.spec, force_update=number)) for number, task in enumerate(tasks)]

    def write(changes: list[Callable[[Transaction], None]]) -> float:
        began = time.process_time()
        for change in changes:
            command = command_of(state, change)
            bodies.append(encode_command(command))
            state.apply(state.index + 1, 1, bodies[-1], command)
        return (time.process_time() - began) / len(changes) * 1e6

    def update(tx: Transaction, id: str) -> None:
        task = tx.task(id)
        assert task is not None
        tx.update(replace(task, status=TaskStatus(state=TaskState.RUNNING, at=NOW, message="started")))

    done = TaskStatus(state=TaskState.COMPLETE, at=NOW, message="finished")
    values = {
        "store.create_transaction_us": write([lambda tx, task=task: tx.create(task) for task in tasks]),  # type: ignore[misc]
        "store.update_transaction_us": write([lambda tx, id=task.id: update(tx, id) for task in tasks]),  # type: ignore[misc]
        "store.report_transaction_us": write([lambda tx, id=task.id: tx.report("", id, done) for task in tasks]),  # type: ignore[misc]
    }
    follower = State()
    began = time.process_time()
    for index, body in enumerate(bodies, 1):
        follower.apply(index, 1, body)
    values["store.follow_transaction_us"] = (time.process_time() - began) / len(bodies) * 1e6
    assert follower.digest == state.digest
    return values


def bench_assign(padding: int) -> None:
    rounds = [assign_round(padding) for _ in range(ROUNDS)]
    emit("store.assign_us", statistics.median(rounds), objects=TASKS, per_transaction=BATCH)


def assign_round(padding: int) -> float:
    state, ids, service_id = State(), [new_id(RNG) for _ in range(TASKS)], new_id(RNG)
    nodes = [new_id(RNG) for _ in range(1_000)]
    ready = NodeStatus(state=NodeState.READY, confirmed=True)
    apply(state, lambda tx: [tx.create(Node(id=node_id, status=ready)) for node_id in nodes] and None)
    writer = Writer(state, 58)
    writer.write(BATCH, ids, lambda tx, id: tx.create(make_task(id, service_id, padding)))
    status = TaskStatus(state=TaskState.ASSIGNED, at=NOW, message="scheduled")
    node_of = {id: nodes[position % len(nodes)] for position, id in enumerate(ids)}
    value = writer.write(BATCH, ids, lambda tx, id: tx.assign(id, node_of[id], status))
    assert all(task.node_id for task in state.tasks())
    return value


def bench_reads(state: State) -> None:
    ids = [task.id for task in state.tasks()]
    RNG.shuffle(ids)
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for id in ids:
            state.task(id)
        rounds.append((time.process_time() - began) / len(ids) * 1e6)
    emit("store.get_us", statistics.median(rounds), objects=len(ids))
    names = [f"service-{position}" for position in range(1_000)]
    for name in names:
        spec = ServiceSpec(name=name, task=TaskSpec(container=ContainerSpec(image="web")))
        apply(state, lambda tx, spec=spec: tx.create(Service(id=new_id(RNG), spec=spec)))  # type: ignore[misc]
    began = time.process_time()
    for name in names:
        state.service_by_name(name)
    emit("store.find_by_name_us", (time.process_time() - began) / len(names) * 1e6, objects=len(names))


def bench_nodes() -> None:
    """SwarmKit's own measurement of its store: 20,000 nodes created, updated, read, and found by name."""
    results: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        state, ids = State(), [new_id(RNG) for _ in range(TASKS)]
        writer = Writer(state, 300)
        ready = NodeStatus(state=NodeState.READY, confirmed=True)

        def create(tx: Transaction, id: str, status: NodeStatus = ready) -> None:
            tx.create(Node(id=id, status=status, description=NodeDescription(hostname=f"host-{id}")))

        def update(tx: Transaction, id: str) -> None:
            node = tx.node(id)
            assert node is not None
            tx.update(replace(node, status=NodeStatus(state=NodeState.READY, confirmed=True, addr="192.0.2.1")))

        results.setdefault("store.node_create_us", []).append(writer.write(BATCH, ids, create))
        RNG.shuffle(ids)
        results.setdefault("store.node_update_us", []).append(writer.write(BATCH, ids, update))
        names = [f"Host-{id}" for id in ids]
        for bench, read, keys in (
            ("store.node_get_us", state.node, ids),
            ("store.node_find_by_name_us", state.nodes_by_hostname, names),
        ):
            began = time.process_time()
            for key in keys:
                read(key)
            results.setdefault(bench, []).append((time.process_time() - began) / TASKS * 1e6)
    for bench, values in results.items():
        emit(bench, statistics.median(values), objects=TASKS, per_transaction=BATCH)


def bench_find(state: State) -> None:
    """What `find` takes where an index answers, where one narrows the search, and where every object is looked at."""
    [task, *_] = state.tasks()
    for by in (
        BySlot(task.service_id, 7),
        ByName(task.name),
        ByReferencedSecret("nobody's"),
        ByNamePrefix("web.7.a"),
        ByTaskState(TaskState.RUNNING),
    ):
        rounds = []
        for _ in range(ROUNDS):
            began = time.process_time()
            state.find(Task, by)
            rounds.append((time.process_time() - began) * 1e3)
        emit("store.find_ms", statistics.median(rounds), "ms", objects=TASKS, by=type(by).__name__)


def bench_events() -> None:
    """One event among 10,000 watchers, each of its own node's tasks: publishing it, and the whole update with it."""
    state, woken = State(), []
    service_id, node_ids = new_id(RNG), [new_id(RNG) for _ in range(WATCHERS)]
    subscriptions = [
        state.subscribe([Route(Table.TASK, "node_id", node_id)], wake=lambda: woken.append(1)) for node_id in node_ids
    ]
    tasks = [replace(make_task(new_id(RNG), service_id, 0), node_id=node_id) for node_id in node_ids[:2_000]]
    for task in tasks:
        apply(state, lambda tx, task=task: tx.create(task))  # type: ignore[misc]
    for subscription in subscriptions:
        subscription.take()
    woken.clear()
    publish, updates = [], []
    for position, task in enumerate(tasks):
        held = state.task(task.id)
        assert held is not None
        began = time.perf_counter()
        state._router.publish(Table.TASK, held, held, state.index)
        state._router.wake()
        publish.append((time.perf_counter() - began) * 1e6)
        subscriptions[position].take()
        changed = TaskStatus(state=TaskState.RUNNING, at=NOW)
        began = time.perf_counter()
        tx = state.begin(NOW, RNG)
        tx.report(task.node_id, task.id, changed)
        state.apply(state.index + 1, 1, bytes(120), tx.command(ID, actor="bench"))
        updates.append((time.perf_counter() - began) * 1e6)
        assert len(subscriptions[position].take()) == 1
    assert len(woken) == 2 * len(tasks)
    for bench, values in (("store.event_us", publish), ("store.update_with_event_us", updates)):
        values.sort()
        for quantile in (50, 99):
            emit(bench, values[len(values) * quantile // 100], watchers=WATCHERS, percentile=quantile)


def bench_encoding(padding: int) -> None:
    state, service_id = State(), new_id(RNG)
    ids = [new_id(RNG) for _ in range(BATCH)]
    command = command_of(state, lambda tx: [tx.create(make_task(id, service_id, padding)) for id in ids] and None)
    body = encode_command(command)
    for bench, work in (
        ("store.encode_us", lambda: encode_command(command)),
        ("store.decode_us", lambda: decode_command(body)),
    ):
        rounds = []
        for _ in range(20):
            began = time.process_time()
            work()
            rounds.append((time.process_time() - began) / BATCH * 1e6)
        emit(bench, statistics.median(rounds), objects=BATCH, bytes_per_object=len(body) // BATCH)


def bench_snapshot(state: State) -> None:
    began = time.perf_counter()
    captured = state.capture()
    emit("store.capture_ms", (time.perf_counter() - began) * 1e3, "ms", objects=len(list(state.tasks())))
    meta, steps, chunks = SnapshotMeta(index=state.index, term=1), [], []
    stream = encode_snapshot(captured, meta)
    while True:
        began = time.perf_counter()
        chunk = next(stream, None)
        steps.append((time.perf_counter() - began) * 1e3)
        if chunk is None:
            break
        chunks.append(chunk)
    steps.sort()
    size = sum(map(len, chunks))
    emit("store.snapshot_step_ms", steps[len(steps) * 99 // 100], "ms", percentile=99, bytes=size)
    emit("store.snapshot_step_ms", steps[-1], "ms", percentile=100, bytes=size)
    began = time.perf_counter()
    other = State()
    other.restore(meta, chunks)
    emit("store.restore_ms", (time.perf_counter() - began) * 1e3, "ms", bytes=size)
    assert other.digest == state.digest


def bench_digests(state: State) -> None:
    """What it costs that members compare their states: the full hash in its steps, and a point an entry."""
    captured, steps = state.capture(), []
    stream = hash_slices(captured)
    while True:
        began = time.process_time()
        try:
            next(stream)
        except StopIteration:
            break
        steps.append((time.process_time() - began) * 1e3)
    emit("digests.hash_us", sum(steps) * 1e3 / TASKS, objects=TASKS, every_entries=state.hash_every)
    steps.sort()
    emit("digests.hash_step_ms", steps[len(steps) * 99 // 100], "ms", percentile=99)
    points, passed, entries = DigestPoints(), State(), 64 * 2_000
    for _ in range(2):  # the second round with as many points as are kept
        spent = 0.0
        for _ in range(entries):
            passed.skip(passed.index + 1, b"")
            if is_agreed(passed.index):
                began = time.process_time()
                points.applied(passed)
                spent += time.process_time() - began
    emit("digests.point_us", spent / entries * 1e6, points=len(points.all))


def bench_floor(padding: int) -> None:
    """What building the object alone takes here: for scale."""
    id, rounds = new_id(RNG), []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(TASKS):
            make_task(id, id, padding)
        rounds.append((time.process_time() - began) / TASKS * 1e6)
    emit("floor.make_task_us", statistics.median(rounds), objects=TASKS)


def main() -> None:
    gc.set_threshold(50_000, 20, 1_000)  # as a manager does once its state is loaded (performance-raft 4, rule 4)
    padding = padding_for(TASK_BYTES)
    bench_floor(padding)
    state = bench_writes(padding)
    bench_transactions(padding)
    bench_nodes()
    bench_find(state)
    bench_reads(state)
    bench_assign(padding)
    bench_events()
    bench_encoding(padding)
    bench_snapshot(state)
    bench_digests(state)


if __name__ == "__main__":
    main()
