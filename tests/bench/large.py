"""A manager with 100,000 tasks: does a snapshot stall it, how long is a restart, what does it take in memory, and is
anybody delayed when a new member is sent all of it. `LARGE_TASKS=10000` for a smaller one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from swarmctl.client import Client
from swarmctl.environment import Environment
from swarmd.errors import SwarmError
from swarmd.wire import cluster, methods
from tests.e2e.machines import Failed, Machine, Swarm

TASKS: Final = int(os.environ.get("LARGE_TASKS", "100000"))
NODES: Final = 1_000
SERVICES: Final = 1_000
WATCH_S: Final = 5.0
WRITERS: Final = 8
SERVING_S_MAX: Final = 120.0

Line = dict[str, Any]


class LargeMachine(Machine):
    """A machine whose daemon is measured from within."""

    def start(self, *arguments: str) -> None:
        """Start the manager: (listen, join address, token)."""
        if arguments or not self.arguments:
            self.arguments = list(arguments)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.large_member", str(self.state_dir), self.name, *self.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("ab"),
            start_new_session=True,
        )

    def ask(self, do: str, **command: Any) -> dict[str, Any]:
        """One command and its answer."""
        self.tell(do, **command)
        return self.answer()

    def tell(self, do: str, **command: Any) -> None:
        """One command; `answer` follows."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **command}).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """To the command told last."""
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{self.name} ended, see {self.log}:\n{self.tail()}")
        return dict(json.loads(line))

    def cpu_s(self) -> float:
        """What the daemon has worked since its start: beside wall time on a shared machine."""
        assert self.process is not None
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def until_serving(self) -> None:
        """Until a linearizable read is answered on the control socket."""
        give_up_at = time.monotonic() + SERVING_S_MAX
        while True:
            try:
                with Client(self.socket, Environment()) as client:
                    client.read(methods.CLUSTER_GET, cluster.GetCluster())
                return
            except SwarmError:
                if time.monotonic() > give_up_at or not self.is_up:
                    raise Failed(f"{self.name} does not serve:\n{self.tail()}") from None
                time.sleep(0.01)


def measure(root: Path) -> Iterator[Line]:
    """The lines to print."""
    swarm = Swarm(root)
    try:
        first = LargeMachine(root, "node-1")
        swarm.machines.append(first)
        first.start("127.0.0.1:0", "", "")
        first.wait_ready()
        yield line("fill_s", _timed(lambda: first.ask("fill", nodes=NODES, services=SERVICES, tasks=TASKS)), "s")
        yield from memory(first, "filled")
        yield from snapshots(first)
        yield from memory(first, "after_snapshots")
        first.stop()
        for how in ("stopped", "killed"):
            first.kill_daemon()
            yield line("restart_s", _timed(lambda: (first.start(), first.until_serving())), "s", how=how)
            yield line("restart_cpu_s", first.cpu_s(), "s", how=how)
        yield from memory(first, "restarted")
        yield from snapshots(first)
        yield from memory(first, "restarted_and_snapshots")
        yield line("collect_ms", first.ask("collect")["gc_ms"], "ms", when="restarted")
        yield from joins(root, swarm)
    finally:
        swarm.stop()


def snapshots(machine: LargeMachine) -> Iterator[Line]:
    """Commits beside nothing, beside a snapshot, and beside a rotation of the data key; a snapshot alone."""
    for name, found in (
        ("idle", machine.ask("watch", seconds=WATCH_S, writers=0)),
        ("writes", machine.ask("watch", seconds=WATCH_S, writers=WRITERS)),
        ("snapshot", machine.ask("snapshot", writers=0)),
        ("snapshot_and_writes", machine.ask("snapshot", writers=WRITERS)),
        ("rotation_and_writes", machine.ask("rotate", writers=WRITERS)),
    ):
        for key, value in found.items():
            what, _, unit = key.rpartition("_")
            if unit in ("s", "ms"):
                yield line(f"{what}_{unit}", value, unit, beside=name)


def joins(root: Path, swarm: Swarm) -> Iterator[Line]:
    """Two members join, one after the other; the leader sends each the whole state while changes go on."""
    first = swarm.machines[0]
    assert isinstance(first, LargeMachine)
    for number in (2, 3):
        followers = [m for m in swarm.machines[1:] if isinstance(m, LargeMachine)]
        for follower in followers:
            follower.ask("listen")
        term = (first.status() or {})["term"]
        joiner = LargeMachine(root, f"node-{number}")
        token, port, index = swarm.token("manager"), first.port(), (first.status() or {})["applied_index"]
        swarm.machines.append(joiner)
        began = time.monotonic()
        joiner.start("127.0.0.1:0", f"127.0.0.1:{port}", token)
        joiner.tell("caught_up", index=index)
        first.tell("watch", seconds=WATCH_S, writers=1)
        found = joiner.answer()
        yield line("catch_up_s", time.monotonic() - began, "s", managers=number)
        yield line("restoring_s", found["took_s"], "s", managers=number)
        sender = first.answer()
        for key in ("stall_ms", "busy_ms"):
            yield line(key, found[key], "ms", beside="restoring", managers=number)
            yield line(key, sender[key], "ms", beside="sending", managers=number)
        yield line("p99_ms", sender["p99_ms"], "ms", beside="sending", managers=number)
        joiner.wait_ready()
        swarm.wait_voters(number)
        for follower in followers:
            yield line("heartbeat_gap_ms", follower.ask("gap")["gap_ms"], "ms", beside="sending", managers=number)
        yield line("leader_changes", (first.status() or {})["term"] - term, "terms", managers=number)
        yield from memory(joiner, f"joined as {number}")
        yield line("collect_ms", joiner.ask("collect")["gc_ms"], "ms", when="joined")


def memory(machine: LargeMachine, when: str) -> Iterator[Line]:
    """Resident now and at most."""
    found = machine.ask("memory")
    for key in ("rss_mb", "peak_mb"):
        yield line(key, found[key], "MiB", when=when)


def _timed(work: Any) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def line(what: str, value: float, unit: str, **parameters: Any) -> Line:
    """As every bench prints it."""
    return {"bench": f"large.{what}", "tasks": TASKS, **parameters, "value": round(value, 3), "unit": unit}
