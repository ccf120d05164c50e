"""From tasks that wait to assignments on three managers' disks, with the whole leader at work. `PLACED_TASKS=10000` for
fewer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench.large import LargeMachine, Line
from tests.e2e.machines import Swarm

TASKS: Final = int(os.environ.get("PLACED_TASKS", "100000"))
NODES: Final = 1_000
SERVICE_TASKS: Final = 10_000
"""Of one service: they are created as well, some at a time, with a look at all of them each time."""


def measure(root: Path) -> Iterator[Line]:
    """The lines to print."""
    swarm = Swarm(root)
    try:
        for number in (1, 2, 3):
            machine = LargeMachine(root, f"node-{number}")
            door = f"127.0.0.1:{swarm.machines[0].port()}" if swarm.machines else ""
            token = swarm.token("manager") if swarm.machines else ""
            swarm.machines.append(machine)
            machine.start("127.0.0.1:0", door, token)
            machine.wait_ready()
        swarm.wait_voters(3)
        leader = swarm.leader()
        assert isinstance(leader, LargeMachine)
        for what, tasks in (("waiting", TASKS), ("service", min(TASKS, SERVICE_TASKS))):
            found = leader.ask("place", nodes=NODES, tasks=tasks, what=what)
            for key, value in found.items():
                yield {
                    "bench": f"placements.{key}",
                    "tasks": tasks,
                    "nodes": NODES,
                    "of": what,
                    "value": round(value, 3),
                    "unit": key.rpartition("_")[2],
                }
        _check_equal(swarm)
    finally:
        swarm.stop()


def _check_equal(swarm: Swarm) -> None:
    """All three have applied the same."""
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        found = [machine.status() or {} for machine in swarm.machines]
        if len({status.get("applied_index") for status in found}) == 1:
            assert len({status.get("digest") for status in found}) == 1, "the managers' digests differ"
            return
        time.sleep(0.2)
    raise AssertionError("the managers do not come to the same index")
