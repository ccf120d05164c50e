"""`make demo`: a swarm of three managers on this machine, a dead leader, nothing lost.

Each step is checked against the processes or containers themselves and against nodes with live sessions; the first that
does not hold ends the demo with status 1. `EXECUTOR=docker` (as root) runs the tasks as containers, on a Docker engine
that the demo starts for itself, instead of as processes. `KEEP=1` leaves the swarm up.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.e2e.demo_worlds import WORLDS, CannotRun, Run, World
from tests.e2e.machines import Failed, Machine, wait_for, wait_until
from tests.engine.engine import EngineFailed

SERVICE: Final = "web"
GRACE_S: Final = 15.0
"""Three heartbeats of five seconds; then the tasks of a silent node are replaced."""


class Demo:
    """The steps, in order."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.swarm = world.swarm
        self.began = time.monotonic()
        self.steps = 0

    def tell(self, text: str) -> None:
        """One plain line a step, printed once the step was seen to hold."""
        self.steps += 1
        print(f"[{time.monotonic() - self.began:5.1f} s] {self.steps:2}. {text}", flush=True)

    # -- what is looked at ----------------------------------------------------------------------------------------

    def running(self) -> list[Run]:
        """The service's tasks on this machine."""
        return self.world.running(SERVICE)

    def live_nodes(self) -> set[str]:
        """Ids of nodes whose agent has a session with the leader now."""
        nodes = self.swarm.leader().json("node", "ls")
        return {n["id"] for n in nodes if n["status"].get("state") == "READY" and n["status"].get("confirmed")}

    def converged(self, count: int) -> list[Run] | None:
        """What runs, if it is exactly `count`, each on a node with a live session and known to the swarm."""
        runs = self.running()
        if len(runs) != count or not {run.node_id for run in runs} <= self.live_nodes():
            return None
        tasks = self.swarm.leader().json("task", "ls")
        said = {t["id"] for t in tasks if t["status"].get("state") == "RUNNING" and t["desired_state"] == "RUNNING"}
        return runs if said == {run.task_id for run in runs} else None

    def name_of(self, node_id: str) -> str:
        """The machine that is this node."""
        return next((m.name for m in self.swarm.machines if m.node_id == node_id), node_id)

    def spread(self, runs: list[Run]) -> str:
        """How many run where."""
        names = sorted(self.name_of(run.node_id) for run in runs)
        return ", ".join(f"{names.count(name)} on {name}" for name in dict.fromkeys(names))

    # -- the steps ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """All of them."""
        self.start_managers()
        runs = self.create_service()
        self.answer_http(runs)
        dead, survivors = self.lose_the_leader(runs)
        self.replace_tasks(dead, survivors)
        self.scale(6)
        self.remove_service()

    def start_managers(self) -> None:
        """Three managers, each its own process."""
        self.swarm.bootstrap(3, flags=self.world.flags)
        wait_until(lambda: len(self.live_nodes()) == 3, 20, "three nodes do not have sessions")
        pids = ", ".join(f"{m.name} (pid {m.process.pid if m.process else 0})" for m in self.swarm.machines)
        self.tell(f"three managers run, vote and have live sessions: {pids}; {self.swarm.leader().name} leads")

    def create_service(self) -> list[Run]:
        """Four replicas of a real program, a web server."""
        self.swarm.machines[1].ctl(
            "service", "create", "--name", SERVICE, "--replicas", "4", "--no-wait", *self.world.service()
        )
        runs = wait_for(lambda: self.converged(4), 30, "four replicas do not run")
        if len({run.node_id for run in runs}) < 2:
            raise Failed(f"all replicas run on one node: {self.spread(runs)}")
        self.tell(f"service {SERVICE}: 4 replicas run as real {self.world.many}, {self.spread(runs)}")
        return runs

    def answer_http(self, runs: list[Run]) -> None:
        """They do what they are for."""
        for run in runs:
            self.world.check_answer(run)
        self.tell(f"each of the {len(runs)} answers HTTP with the page it should serve")

    def lose_the_leader(self, runs: list[Run]) -> tuple[Machine, list[Run]]:
        """kill -9 of the leader's machine: its daemon and its tasks."""
        leader = self.swarm.leader()
        node_id = leader.node_id
        lost = [run for run in runs if run.node_id == node_id]
        self.world.kill(leader)
        began = time.monotonic()
        self.tell(f"kill -9 of {leader.name}'s machine: the daemon that led, and its {len(lost)} tasks")
        new = self.swarm.leader(timeout=10)
        self.tell(f"{new.name} leads, {time.monotonic() - began:.1f} s after the kill")
        return leader, [run for run in runs if run.node_id != node_id]

    def replace_tasks(self, dead: Machine, survivors: list[Run]) -> None:
        """After the dead node's grace its tasks run elsewhere; the others were never touched."""
        began = time.monotonic()
        runs = wait_for(lambda: self.converged(4), 45, f"the tasks of {dead.name} were not replaced")
        if not set(survivors) <= set(runs):
            raise Failed("a task that was not on the dead node was touched")
        self.tell(
            f"after the grace ({GRACE_S:.0f} s; it took {time.monotonic() - began:.1f} s) the lost run elsewhere: "
            f"{self.spread(runs)}; the other {len(survivors)} are the very same {self.world.many}"
        )

    def scale(self, count: int) -> None:
        """More of them."""
        before = set(self.running())
        self.swarm.leader().ctl("service", "update", SERVICE, "--replicas", str(count), "--no-wait")
        runs = wait_for(lambda: self.converged(count), 30, f"{count} replicas do not run")
        if not before <= set(runs):
            raise Failed("scaling up touched a running task")
        self.tell(f"scaled to {count}: {self.spread(runs)}")

    def remove_service(self) -> None:
        """None of them. The records of tasks on the dead node stay until it is back or removed: nobody else can say
        that they stopped."""
        self.swarm.leader().ctl("service", "rm", SERVICE)
        live = self.live_nodes()
        wait_until(lambda: not self.world.left(SERVICE, live), 30, "tasks of the removed service still run")
        wait_until(lambda: not self.tasks_on_live_nodes(), 30, "tasks of the removed service are left on live nodes")
        self.tell(f"service {SERVICE} removed: {self.world.nothing_left(SERVICE)}, and no task on a live node")

    def tasks_on_live_nodes(self) -> list[str]:
        """What the swarm still knows there, finished tasks included."""
        live = self.live_nodes()
        return [t["id"] for t in self.swarm.leader().json("task", "ls", "-a") if t.get("node_id") in live]

    def stop(self) -> None:
        """Everything, and nothing is left."""
        left = self.running()
        self.world.stop()
        if left or self.world.remains():
            raise Failed(f"processes were left behind: {left or self.world.remains()}")
        self.tell(self.world.ended)

    def tell_how_to_go_on(self) -> None:
        """How to talk to the swarm that is left up, and how to end it."""
        exports = "\n".join(f"export {name}={value}" for name, value in self.world.environment().items())
        print(f"\nKEEP=1: the swarm stays up. Talk to it with:\n\n{exports}\n")
        print(f"Remove your services before you stop it with: {self.world.stop_command()}\n")


def main() -> int:
    """Run the demo; 0 only if every step held and nothing was left behind."""
    executor = os.environ.get("EXECUTOR", "process")
    if executor not in WORLDS:
        print(f"Error: unknown executor {executor!r}. Hint: EXECUTOR is one of {', '.join(WORLDS)}", file=sys.stderr)
        return 1
    root = Path(tempfile.mkdtemp(prefix="swarm-demo-"))
    return show(Demo(WORLDS[executor](root)), root, keep=os.environ.get("KEEP") == "1")


def show(demo: Demo, root: Path, *, keep: bool) -> int:
    """The demo, from an empty directory on."""
    try:
        demo.world.start()
        demo.run()
        if keep:
            demo.tell_how_to_go_on()
            return 0
        demo.stop()
        shutil.rmtree(root)
    except CannotRun as error:
        print(f"Error: {error}", file=sys.stderr)
        with contextlib.suppress(OSError):  # there are logs
            root.rmdir()
        return 1
    except (Failed, EngineFailed) as failure:
        print(f"FAILED: {failure}\nThe logs are in {root}", file=sys.stderr)
        return 1
    finally:
        if not keep:
            demo.world.stop()
    print(f"The demo held, in {time.monotonic() - demo.began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
