"""What following costs: `python tests/bench/watch.py`. One JSON object a line.

10,000 tasks, each waiting for the events of its own node's tasks, as `watch` does it: a selection, a place in the
sequence, a bell. Wall time from before the entry that concerns one of them is applied until that one's task has its
transaction in hand, and this process's CPU time in between, which other work on the machine does not spoil. Then what a
full history holds in memory, and how long it takes to look through all of it.
"""

from __future__ import annotations

import gc
import json
import random
import time
import tracemalloc
from typing import Any

import trio
import trio.testing

from swarmd.manager.bell import Bell
from swarmd.model import ContainerSpec, Task, TaskSpec, TaskState, TaskStatus, new_id
from swarmd.state import CommandId, State, encode_command
from swarmd.state.selection import Selection
from swarmd.wire.watch import WatchEntry

WATCHERS = 10_000
EVENTS = 2_000
NOW = 1_700_000_000.5
RNG = random.Random(1)
ID = CommandId(1, bytes(16), 1)
SPEC = TaskSpec(container=ContainerSpec(image="registry.example.com/team/web:1.27.3"))


def emit(bench: str, value: float, unit: str, **parameters: Any) -> None:
    print(json.dumps({"bench": bench, **parameters, "value": round(value, 3), "unit": unit}), flush=True)


def make_task(node_id: str) -> Task:
    return Task(id=new_id(RNG), service_id="s", service_name="web", slot=1, node_id=node_id, spec=SPEC)


def report(state: State, task: Task, message: str) -> None:
    tx = state.begin(NOW, RNG)
    tx.report(task.node_id, task.id, TaskStatus(state=TaskState.RUNNING, at=NOW, message=message))
    command = tx.command(ID, actor="bench")
    state.apply(state.index + 1, 1, encode_command(command), command)


def create(state: State, tasks: list[Task]) -> None:
    tx = state.begin(NOW, RNG)
    for task in tasks:
        tx.create(task)
    command = tx.command(ID, actor="bench")
    state.apply(state.index + 1, 1, encode_command(command), command)


async def wakes() -> None:
    """Woken among many."""
    state = State()
    tasks = [make_task(new_id(RNG)) for _ in range(WATCHERS)]
    for start in range(0, WATCHERS, 200):
        create(state, tasks[start : start + 200])
    applied: list[tuple[float, float]] = []
    woken_s: list[float] = []
    used_s: list[float] = []
    told = trio.Event()

    async def follow(node_id: str) -> None:
        nonlocal told
        bell = Bell()
        selection = Selection([WatchEntry(kind="task", node_id=node_id)])
        watcher = state.watch(selection, after=state.index, wake=bell.ring)
        while True:
            if watcher.take():
                woken_s.append(time.perf_counter() - applied[-1][0])
                used_s.append(time.process_time() - applied[-1][1])
                told.set()
            await bell.wait()

    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(follow, task.node_id)
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        gc.freeze()
        for task in RNG.sample(tasks, EVENTS):
            applied.append((time.perf_counter(), time.process_time()))
            report(state, task, "started")
            await told.wait()
            told = trio.Event()
        nursery.cancel_scope.cancel()
    for bench, values in (("watch.woken_ms", woken_s), ("watch.woken_cpu_ms", used_s)):
        values.sort()
        for quantile in (50, 99):
            emit(bench, values[EVENTS * quantile // 100] * 1e3, "ms", watchers=WATCHERS, percentile=quantile)


def memory() -> None:
    """A full history, and one look through all of it."""
    state = State()
    tasks = [make_task("n") for _ in range(1_000)]
    create(state, tasks)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    rounds = 60
    for _number in range(rounds):
        for task in tasks:
            held = state.task(task.id)
            assert held is not None
            tx = state.begin(NOW, RNG)
            tx.update(held)
            command = tx.command(ID, actor="bench")
            state.apply(state.index + 1, 1, encode_command(command), command)
        if state._history.start:
            break
    held_bytes = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    emit("watch.history_mb", held_bytes / 1e6, "MB", entries=len(state._history))
    watcher = state.watch(
        Selection([WatchEntry(kind="task", node_id="other")]), after=state._history.start, wake=lambda: None
    )
    began = time.perf_counter()
    while not watcher.is_current:
        watcher.take()
    emit("watch.resume_ms", (time.perf_counter() - began) * 1e3, "ms", entries=len(state._history))


def main() -> None:
    gc.set_threshold(50_000, 20, 1_000)  # as a manager does once its state is loaded
    trio.run(wakes)
    memory()


if __name__ == "__main__":
    main()
