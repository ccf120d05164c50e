"""What a join costs its manager: handshake, token, certificate, and the entry that records the node.

The limit on joins a second is off (`unlimited_daemon`). Joiners run in a process of their own, as many at a time as
asked. The manager's share is read off the account that the kernel keeps of its process, so that what else the machine
does falls out.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import trio

from swarmd.node.enrolment import Enrolment, joining_dial
from swarmd.node.transport import anonymous_hello
from tests.e2e.machines import Failed, Machine, Swarm

JOINS: Final = 300
WARM_UP: Final = 50
CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK")


class UnlimitedMachine(Machine):
    """One that lets everybody in."""

    module = "tests.bench.unlimited_daemon"


class UnlimitedSwarm(Swarm):
    """Machines of that kind."""

    def add(self, name: str, *arguments: str) -> Machine:
        machine = UnlimitedMachine(self.root, name)
        self.machines.append(machine)
        machine.start(*arguments)
        return machine


def measure(root: Path) -> Iterator[dict[str, Any]]:
    """The lines to print: for one joiner at a time, and for sixteen."""
    swarm = UnlimitedSwarm(root)
    try:
        swarm.bootstrap(1)
        manager = swarm.machines[0]
        assert manager.process is not None
        address, token = f"127.0.0.1:{manager.port()}", swarm.token("worker")
        join(address, token, WARM_UP, at_once=4)
        for at_once in (1, 16):
            before = cpu_s(manager.process.pid)
            took_s = join(address, token, JOINS, at_once=at_once)
            used_s = cpu_s(manager.process.pid) - before
            parameters = {"joiners": at_once, "joins": JOINS}
            yield {"bench": "joins.cpu", **parameters, "value": round(used_s / JOINS * 1e3, 2), "unit": "ms/join"}
            yield {"bench": "joins.rate", **parameters, "value": round(JOINS / took_s, 1), "unit": "joins/s"}
    finally:
        swarm.stop()


def cpu_s(pid: int) -> float:
    """User and system time that this process and its threads have had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def join(address: str, token: str, joins: int, *, at_once: int) -> float:
    """Have that many nodes join, from another process; seconds that it took, without its start."""
    command = [sys.executable, "-m", "tests.bench.joins", address, token, str(joins), str(at_once)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"the joiners failed: {done.stderr[-500:]}")
    return float(json.loads(done.stdout)["seconds"])


async def _join_all(address: str, token: str, joins: int, at_once: int) -> float:
    left = iter(range(joins))
    began = time.perf_counter()

    async def one_after_the_other() -> None:
        for number in left:
            await Enrolment(
                (address,),
                token,
                dial=joining_dial(anonymous_hello),
                now=time.time,
                rng=random.Random(number),
                hostname=f"joiner-{number}",
            ).run()

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(one_after_the_other)
    return time.perf_counter() - began


if __name__ == "__main__":
    seconds = trio.run(_join_all, sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    print(json.dumps({"seconds": seconds}))
