"""A manager like any other, that also takes load commands on standard input: the writers run in the leader's process.

One JSON object a line in: `{"writers": 64, "seconds": 2.0, "objects": 1}`; one out: rate and latencies.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import trio

from swarmd.__main__ import set_up_logging
from swarmd.manager.proposer import Store
from swarmd.model import ContainerSpec, Task, TaskSpec, TaskState, TaskStatus, new_id
from swarmd.node.config import Config, parse_endpoint
from swarmd.node.node import Node
from swarmd.state.command import Table
from swarmd.state.transaction import Transaction
from swarmd.state.watch import Route


def a_task(rng: random.Random) -> Task:
    """About 515 bytes of CBOR, finished, so that no loop wants to do anything about it."""
    return Task(
        id=new_id(rng),
        service_id="",
        service_name="benchmark",
        slot=rng.randrange(1, 10_000),
        node_id=f"node-{rng.randrange(100)}",
        spec=TaskSpec(
            container=ContainerSpec(
                image="registry.example/team/benchmark:1.2.3",
                command=("/usr/bin/server", "--listen", "0.0.0.0:8080"),
                env=("LOG_LEVEL=info", "REGION=eu-central-1", "DATABASE=postgres://db.internal:5432/app"),
                labels={"team": "platform", "tier": "backend"},
            )
        ),
        status=TaskStatus(state=TaskState.COMPLETE, at=1.0, message="finished"),
        desired_state=TaskState.SHUTDOWN,
    )


async def write_for(store: Store, seconds: float, objects: int, rng: random.Random, latencies: list[float]) -> None:
    """One closed-loop writer."""
    ends = trio.current_time() + seconds
    while trio.current_time() < ends:
        tasks = [a_task(rng) for _ in range(objects)]

        def fn(tx: Transaction, tasks: list[Task] = tasks) -> None:
            for task in tasks:
                tx.create(task)

        began = time.perf_counter()
        await store.update(fn, actor="bench")
        latencies.append(time.perf_counter() - began)


async def load(node: Node, command: dict[str, Any]) -> dict[str, Any]:
    """Run the writers; one watcher of every task is on."""
    assert node.manager is not None
    assert node.manager.parts is not None
    store = node.manager.parts.store
    rng = random.Random(time.perf_counter_ns())
    latencies: list[float] = []
    watcher = store.state.subscribe([Route(Table.TASK)], wake=lambda: None, events_max=1_000_000)
    cpu = time.process_time()
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(command["writers"]):
            nursery.start_soon(write_for, store, command["seconds"], command["objects"], rng, latencies)
    took = time.perf_counter() - began
    watcher.close()
    latencies.sort()
    return {
        "rate": len(latencies) / took,
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3,
        "cpu_us": (time.process_time() - cpu) / len(latencies) * 1e6,
        "count": len(latencies),
    }


async def obey(node: Node) -> None:
    """Commands until standard input ends."""
    while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        print(json.dumps(await load(node, json.loads(line))), flush=True)


async def main(state_dir: str, hostname: str, listen: str, join_addr: str, join_token: str) -> None:
    """Run the manager and obey."""
    set_up_logging("warn", "text")
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
