"""Daemons, engines and containers killed at random while a service is updated: in the end there is what was asked for.

`SWARM_CHAOS_S` says how long (default 45 s), `SWARM_CHAOS_SEED` which faults.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.machines import Failed, Machine, Swarm, wait_until
from tests.engine.engine import Engine
from tests.engine.images import busybox_image

pytestmark = [pytest.mark.slow, pytest.mark.needs_docker, pytest.mark.needs_root]

DURATION_S: Final = float(os.environ.get("SWARM_CHAOS_S", "45"))
SEED: Final = int(os.environ.get("SWARM_CHAOS_SEED", "1"))
PAUSE_S: Final = 3.0
SETTLE_S_MAX: Final = 150.0
SERVICE: Final = "busy"


class World:
    """Three managers; the first two share an engine that stops its containers when it starts, the third has one that
    leaves them running."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.rng = rng
        self.engines = [Engine(root / "a", network=False), Engine(root / "b", network=False, live_restore=True)]
        self.swarm = Swarm(root)
        self.down: list[Machine] = []
        self.told: list[str] = []

    def start(self) -> None:
        for engine in self.engines:
            engine.start()
            engine.load(busybox_image())
        first = self.swarm.add("node-1", "--listen-remote-api", "127.0.0.1:0", *self.flags(0))
        first.wait_ready()
        for number, engine in ((2, 0), (3, 1)):
            self.swarm.join(f"node-{number}", role="manager", flags=self.flags(engine))
        self.swarm.wait_voters(3)

    def flags(self, engine: int) -> tuple[str, ...]:
        return ("--executor", "docker", "--engine-addr", self.engines[engine].address)

    def stop(self) -> None:
        self.swarm.stop()
        for engine in self.engines:
            engine.stop()

    # -- faults -----------------------------------------------------------------------------------------------------

    def tell(self, what: str) -> None:
        self.told.append(what)

    def kill_daemon(self) -> None:
        """At most one at a time, or nobody could lead."""
        if not self.down:
            machine = self.rng.choice(self.swarm.machines)
            machine.kill_daemon()
            self.down.append(machine)
            self.tell(f"killed the daemon of {machine.name}")

    def start_daemon(self) -> None:
        for machine in self.down:
            machine.start()
            self.tell(f"started {machine.name}")
        self.down.clear()

    def kill_engine(self) -> None:
        """Perhaps one of its containers too, while it is away."""
        engine = self.rng.choice(self.engines)
        pids = [c["State"]["Pid"] for c in _inspect(engine) if c["State"]["Running"]]
        engine.kill()
        self.tell(f"killed engine {engine.directory.name}")
        if pids and self.rng.random() < 0.5:
            self.kill_process(self.rng.choice(pids))
        time.sleep(self.rng.uniform(0, PAUSE_S))
        engine.start()
        self.tell(f"started engine {engine.directory.name}")

    def kill_container(self) -> None:
        running = [c for engine in self.engines for c in _inspect(engine) if c["State"]["Running"]]
        if running:
            self.kill_process(self.rng.choice(running)["State"]["Pid"])

    def kill_process(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.tell(f"killed the container whose process was {pid}")

    def update(self) -> None:
        """More or fewer, or another template."""
        change = self.rng.choice(
            [("--replicas", str(self.rng.randint(3, 9))), ("--env", f"N={self.rng.randint(0, 99)}")]
        )
        done = self.swarm.any_up().ctl("service", "update", SERVICE, *change, "--no-wait", check=False)
        self.tell(f"service update {' '.join(change)}: {done.returncode} {done.stderr.strip()}")

    def kill_engine_at_work(self) -> None:
        """While it makes and removes what an update asks for."""
        self.update()
        time.sleep(self.rng.uniform(0, 1))
        self.kill_engine()

    def faults(self) -> list[Callable[[], None]]:
        return [
            *(self.kill_daemon, self.start_daemon, self.kill_container, self.update, self.update),
            *(self.kill_engine, self.kill_engine_at_work),
        ]

    # -- what is there ------------------------------------------------------------------------------------------------

    def containers(self) -> list[dict[str, Any]]:
        """All containers of both engines, also those that have ended."""
        return [container for engine in self.engines for container in _inspect(engine)]

    def problem(self) -> str:
        """What is not as it should be; empty if all is well."""
        service = self.swarm.any_up().json("service", "inspect", SERVICE)
        tasks = {task["id"]: task for task in self.swarm.any_up().json("task", "ls", "-a")}
        wanted = service["spec"]["mode"]["replicas"]
        if service["running"] != wanted:
            return f"{service['running']} of {wanted} tasks run"
        containers = self.containers()
        orphans = [c["Name"] for c in containers if _task_id(c) not in tasks]
        if orphans:
            return f"containers without a task: {orphans}"
        copies = [id for id, count in Counter(map(_task_id, containers)).items() if count > 1]
        if copies:
            return f"more than one container of {copies}"
        running = [tasks[_task_id(c)] for c in containers if c["State"]["Running"]]
        should = {id for id, task in tasks.items() if task["desired_state"] == "RUNNING"}
        if {task["id"] for task in running} != should:
            return f"running containers are of {sorted(t['id'] for t in running)}, not of {sorted(should)}"
        slots = Counter(task["slot"] for task in running)
        if len(slots) != wanted or max(slots.values()) > 1:
            return f"running containers by slot: {dict(slots)}"
        env = tuple(service["spec"]["task"]["container"].get("env", ()))
        old = [c["Name"] for c in containers if c["State"]["Running"] and not set(env) <= set(c["Config"]["Env"])]
        return f"of an older template: {old}" if old else ""


def _inspect(engine: Engine) -> list[dict[str, Any]]:
    """All containers of an engine that runs. One that goes meanwhile is left out."""
    ids = engine.docker("ps", "-aq", "--no-trunc").split()
    return list(json.loads(engine.docker("inspect", *ids, check=False) or "[]")) if ids else []


def _task_id(container: dict[str, Any]) -> str:
    return str(container["Config"]["Labels"].get("com.docker.swarm.task.id", ""))


@pytest.fixture
def world() -> Iterator[World]:
    root = Path(tempfile.mkdtemp(prefix="chaos-"))
    world = World(root, random.Random(SEED))
    try:
        world.start()
        yield world
    finally:
        world.stop()
        shutil.rmtree(root, ignore_errors=True)


def test_what_was_asked_for_is_there_in_the_end_and_nothing_else(world: World) -> None:
    world.swarm.any_up().ctl(
        "service", "create", "--name", SERVICE, "--image", "busybox", "--replicas", "6", "--restart-delay", "1s",
        "--stop-grace-period", "1s", "--command", "sleep", "--args", "100000", "--wait",
    )  # fmt: skip
    ends_at = time.monotonic() + DURATION_S
    while time.monotonic() < ends_at:
        world.rng.choice(world.faults())()
        time.sleep(world.rng.uniform(0, PAUSE_S))
    world.start_daemon()
    for machine in world.swarm.machines:
        machine.wait_ready()
    # An update that a fault paused is told to go on.
    world.swarm.any_up().ctl("service", "update", SERVICE, "--env", "N=100", "--no-wait")

    def all_is_well() -> bool:
        return not world.problem()

    try:
        wait_until(all_is_well, SETTLE_S_MAX, "not as it should be", world.problem)
    except Failed as failure:
        history = "\n".join(world.told)
        logs = "\n".join(f"--- {m.name}\n{m.tail(40)}" for m in world.swarm.machines)
        pytest.fail(f"{failure}\nseed {SEED}:\n{history}\n{logs}")
