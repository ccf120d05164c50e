"""`make demo`: a swarm of three managers on this machine, a dead leader, nothing lost.

Each step is checked against the processes themselves and against nodes with live sessions; the first that does not hold
ends the demo with status 1. `KEEP=1` leaves the swarm up.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Final

from tests.e2e.machines import Failed, Machine, Swarm, TaskProcess, wait_for, wait_until

SERVICE: Final = "web"
GRACE_S: Final = 15.0
"""Three heartbeats of five seconds; then the tasks of a silent node are replaced."""


class Demo:
    """The steps, in order."""

    def __init__(self, root: Path) -> None:
        self.swarm = Swarm(root)
        self.began = time.monotonic()
        self.steps = 0

    def tell(self, text: str) -> None:
        """One plain line a step, printed once the step was seen to hold."""
        self.steps += 1
        print(f"[{time.monotonic() - self.began:5.1f} s] {self.steps:2}. {text}", flush=True)

    # -- what is looked at ----------------------------------------------------------------------------------------

    def running(self) -> list[TaskProcess]:
        """The service's processes on this machine."""
        return self.swarm.processes(SERVICE)

    def live_nodes(self) -> set[str]:
        """Ids of nodes whose agent has a session with the leader now."""
        nodes = self.swarm.leader().json("node", "ls")
        return {n["id"] for n in nodes if n["status"].get("state") == "READY" and n["status"].get("confirmed")}

    def converged(self, count: int) -> list[TaskProcess] | None:
        """The processes, if there are exactly `count`, each on a node with a live session and known to the swarm."""
        processes = self.running()
        if len(processes) != count or not {p.node_id for p in processes} <= self.live_nodes():
            return None
        tasks = self.swarm.leader().json("task", "ls")
        said = {t["id"] for t in tasks if t["status"].get("state") == "RUNNING" and t["desired_state"] == "RUNNING"}
        return processes if said == {p.task_id for p in processes} else None

    def name_of(self, node_id: str) -> str:
        """The machine that is this node."""
        return next((m.name for m in self.swarm.machines if m.node_id == node_id), node_id)

    def spread(self, processes: list[TaskProcess]) -> str:
        """How many run where."""
        names = sorted(self.name_of(p.node_id) for p in processes)
        return ", ".join(f"{names.count(name)} on {name}" for name in dict.fromkeys(names))

    # -- the steps ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """All of them."""
        self.start_managers()
        processes = self.create_service()
        self.answer_http(processes)
        dead, survivors = self.lose_the_leader(processes)
        self.replace_tasks(dead, survivors)
        self.scale(6)
        self.remove_service()

    def start_managers(self) -> None:
        """Three managers, each its own process."""
        self.swarm.bootstrap(3)
        wait_until(lambda: len(self.live_nodes()) == 3, 20, "three nodes do not have sessions")
        pids = ", ".join(f"{m.name} (pid {m.process.pid if m.process else 0})" for m in self.swarm.machines)
        self.tell(f"three managers run, vote and have live sessions: {pids}; {self.swarm.leader().name} leads")

    def create_service(self) -> list[TaskProcess]:
        """Four replicas of a real program: Python's own web server, each on a free port."""
        program = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
        arguments = ["service", "create", "--name", SERVICE, "--image", "python", "--replicas", "4"]
        arguments += [f"--command={part}" for part in program]
        arguments += ["--dir", str(Path(__file__).resolve().parent), "--no-wait"]
        self.swarm.machines[1].ctl(*arguments)
        processes = wait_for(lambda: self.converged(4), 30, "four replicas do not run")
        if len({p.node_id for p in processes}) < 2:
            raise Failed(f"all replicas run on one node: {self.spread(processes)}")
        self.tell(f"service {SERVICE}: 4 replicas run as real processes, {self.spread(processes)}")
        return processes

    def answer_http(self, processes: list[TaskProcess]) -> None:
        """They do what they are for."""
        for process in processes:
            port = wait_for(lambda p=process: _listening_port(p.pid), 20, f"process {process.pid} does not listen")  # type: ignore[misc]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/demo.py", timeout=10) as reply:
                if b"a dead leader" not in reply.read():
                    raise Failed(f"process {process.pid} serves something else")
        self.tell(f"each of the {len(processes)} answers HTTP with the page it should serve")

    def lose_the_leader(self, processes: list[TaskProcess]) -> tuple[Machine, list[TaskProcess]]:
        """kill -9 of the leader's machine: daemon, supervisors and tasks."""
        leader = self.swarm.leader()
        node_id = leader.node_id
        lost = [p for p in processes if p.node_id == node_id]
        leader.kill()
        began = time.monotonic()
        self.tell(f"kill -9 of {leader.name}'s machine: the daemon that led, and its {len(lost)} tasks")
        new = self.swarm.leader(timeout=10)
        self.tell(f"{new.name} leads, {time.monotonic() - began:.1f} s after the kill")
        return leader, [p for p in processes if p.node_id != node_id]

    def replace_tasks(self, dead: Machine, survivors: list[TaskProcess]) -> None:
        """After the dead node's grace its tasks run elsewhere; the others were never touched."""
        began = time.monotonic()
        processes = wait_for(lambda: self.converged(4), 45, f"the tasks of {dead.name} were not replaced")
        kept = {p.key for p in processes}
        if not {p.key for p in survivors} <= kept:
            raise Failed("a task that was not on the dead node was touched")
        self.tell(
            f"after the grace ({GRACE_S:.0f} s; it took {time.monotonic() - began:.1f} s) the lost run elsewhere: "
            f"{self.spread(processes)}; the other {len(survivors)} are the very same processes"
        )

    def scale(self, count: int) -> None:
        """More of them."""
        before = {p.key for p in self.running()}
        self.swarm.leader().ctl("service", "update", SERVICE, "--replicas", str(count), "--no-wait")
        processes = wait_for(lambda: self.converged(count), 30, f"{count} replicas do not run")
        if not before <= {p.key for p in processes}:
            raise Failed("scaling up touched a running task")
        self.tell(f"scaled to {count}: {self.spread(processes)}")

    def remove_service(self) -> None:
        """None of them. The records of tasks on the dead node stay until it is back or removed: nobody else can say
        that they stopped."""
        self.swarm.leader().ctl("service", "rm", SERVICE)
        wait_until(lambda: not self.running(), 30, "tasks of the removed service still run")
        wait_until(lambda: not self.tasks_on_live_nodes(), 30, "tasks of the removed service are left on live nodes")
        self.tell(f"service {SERVICE} removed: no process is left, and no task on a live node")

    def tasks_on_live_nodes(self) -> list[str]:
        """What the swarm still knows there, finished tasks included."""
        live = self.live_nodes()
        return [t["id"] for t in self.swarm.leader().json("task", "ls", "-a") if t.get("node_id") in live]

    def tell_how_to_go_on(self) -> None:
        """How to talk to the swarm that is left up, and how to end it."""
        pids = " ".join(str(m.process.pid) for m in self.swarm.machines if m.process is not None and m.is_up)
        print(f"\nKEEP=1: the swarm stays up. Talk to it with:\n\nexport SWARM_SOCKET={self.swarm.any_up().socket}\n")
        print(f"Remove your services before you stop it with: kill {pids} && rm -r {self.swarm.root}\n")


def _listening_port(pid: int) -> int | None:
    """The TCP port that a process (or a child of it) listens on, from /proc."""
    inodes = set()
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            match = re.match(r"socket:\[(\d+)\]", os.readlink(descriptor))
            if match:
                inodes.add(match[1])
    except OSError:
        return None
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:
            return int(fields[1].rsplit(":", 1)[1], 16)
    return None


def main() -> int:
    """Run the demo; 0 only if every step held and nothing was left behind."""
    keep = os.environ.get("KEEP") == "1"
    executor = os.environ.get("EXECUTOR", "process")
    if executor != "process":
        print(f"Error: the demo cannot use the {executor} executor yet; run it without EXECUTOR", file=sys.stderr)
        return 1
    root = Path(tempfile.mkdtemp(prefix="swarm-demo-"))
    demo = Demo(root)
    try:
        demo.run()
        if keep:
            demo.tell_how_to_go_on()
            return 0
        demo.swarm.stop()
        if demo.swarm.strays() or demo.running():
            raise Failed(f"processes were left behind: {demo.swarm.strays()}")
        demo.tell("all daemons stopped; no process is left")
        shutil.rmtree(root)
    except Failed as failure:
        print(f"FAILED: {failure}\nThe logs are in {root}", file=sys.stderr)
        return 1
    finally:
        if not keep:
            demo.swarm.stop()
    print(f"The demo held, in {time.monotonic() - demo.began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
