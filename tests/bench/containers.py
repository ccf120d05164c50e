"""A service of 50 containers beside `docker run -d` of the same 50, eight at a time, on one engine, round by round.

`running_s` is from starting the command (the first of the commands) until the last of the containers started, as the
engine itself noted it (`State.StartedAt`): the benchmark does not poll. `told_s` is until who asked was told: until
`swarmctl service create --wait` ended, and until the last `docker run -d` did. Removing is not timed.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.e2e.machines import Machine, Swarm, wait_until
from tests.engine.engine import Engine, EngineFailed
from tests.engine.images import NoImage, busybox_image

CONTAINERS: Final = 50
AT_A_TIME: Final = 8
ROUNDS: Final = 5
SERVICE: Final = "fifty"
GONE_S_MAX: Final = 120.0
PROGRAMS: Final = ("dockerd", "docker", "containerd", "runc")

Line = dict[str, Any]


class Times(NamedTuple):
    """One round, in seconds from its start."""

    running_s: float
    told_s: float


class Unavailable(Exception):
    """No engine can be had here; the message says why."""


def compare(root: Path) -> Iterator[Line]:
    """The lines to print: medians, least and most of both, and the ratios; or one that says why there are none."""
    try:
        with ExitStack() as stack:
            engine = stack.enter_context(an_engine())
            machine = stack.enter_context(a_manager(root, engine))
            swarm, docker = alternate(engine, machine)
    except Unavailable as reason:
        yield {"bench": "docker", "skipped": str(reason)}
        return
    for name in Times._fields:
        yield from report(name, [getattr(t, name) for t in swarm], [getattr(t, name) for t in docker])


def report(name: str, swarm: list[float], docker: list[float]) -> Iterator[Line]:
    """Both distributions of one figure, and how they compare."""
    common = {"containers": CONTAINERS, "rounds": ROUNDS}
    for side, times in (("swarm", swarm), ("docker", docker)):
        least, most = round(min(times), 4), round(max(times), 4)
        median = round(statistics.median(times), 4)
        yield {
            "bench": f"docker.{name}",
            "side": side,
            **common,
            "min": least,
            "max": most,
            "value": median,
            "unit": "s",
        }
    ratio = round(statistics.median(swarm) / statistics.median(docker), 4)
    yield {"bench": f"docker.{name}_ratio", **common, "value": ratio, "unit": "swarm/docker"}


# -- what it runs on ---------------------------------------------------------------------------------------------------


@contextmanager
def an_engine() -> Iterator[Engine]:
    """An engine of our own with busybox. Raises `Unavailable`."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        raise Unavailable(f"needs root and a Docker engine to start; missing: {', '.join(missing) or 'root'}")
    # Not below the benchmark's directory, which may be long: a socket's path has 107 bytes.
    engine = Engine(Path(tempfile.mkdtemp(prefix="bench-engine-")))
    try:
        try:
            engine.start()
            engine.load(busybox_image())
        except (EngineFailed, NoImage) as error:
            raise Unavailable(str(error)) from error
        yield engine
    finally:
        engine.stop()


@contextmanager
def a_manager(root: Path, engine: Engine) -> Iterator[Machine]:
    """A swarm of one, whose tasks are the engine's containers."""
    swarm = Swarm(root)
    try:
        swarm.bootstrap(1, flags=("--executor", "docker", "--engine-addr", engine.address))
        yield swarm.machines[0]
    finally:
        swarm.stop()


# -- rounds ------------------------------------------------------------------------------------------------------------


def alternate(engine: Engine, machine: Machine) -> tuple[list[Times], list[Times]]:
    """The times of the swarm and of docker. Which of them goes first changes from round to round."""
    swarm: list[Times] = []
    docker: list[Times] = []
    sides: list[tuple[list[Times], Callable[[], Times]]] = [
        (swarm, lambda: a_service(engine, machine)),
        (docker, lambda: docker_runs(engine)),
    ]
    for number in range(ROUNDS):
        for times, measure in sides if number % 2 == 0 else reversed(sides):
            times.append(measure())
    return swarm, docker


def a_service(engine: Engine, machine: Machine) -> Times:
    """One `service create --wait`; the service is gone afterwards."""

    def create() -> None:
        machine.ctl(
            *("service", "create", "--name", SERVICE, "--image", "busybox", "--replicas", str(CONTAINERS)),
            *("--command", "sleep", "--args", "100000", "--stop-grace-period", "1s", "--wait"),
            timeout=300,
        )

    times = timed(engine, create)
    machine.ctl("service", "rm", SERVICE)
    wait_until(lambda: not engine.docker("ps", "-aq").split(), GONE_S_MAX, "the swarm's containers do not go")
    wait_until(lambda: not machine.json("task", "ls", "-a"), GONE_S_MAX, "the tasks do not go")
    return times


def docker_runs(engine: Engine) -> Times:
    """50 `docker run -d`, eight at a time; the containers are gone afterwards."""

    def run(_: int) -> None:
        engine.docker("run", "-d", "busybox", "sleep", "100000")

    def run_all() -> None:
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(run, range(CONTAINERS)))

    times = timed(engine, run_all)
    engine.remove_containers()
    return times


def timed(engine: Engine, work: Callable[[], None]) -> Times:
    """How long `work` took, and until the last container had started. The engine shares this machine's clock."""
    began, ticks = time.time(), time.monotonic()
    work()
    told_s = time.monotonic() - ticks
    states = [container["State"] for container in engine.containers()]
    running = sum(1 for state in states if state["Running"])
    assert running == len(states) == CONTAINERS, f"{running} of {len(states)} containers run, not {CONTAINERS}"
    last = max(datetime.fromisoformat(state["StartedAt"]) for state in states)
    return Times(running_s=last.timestamp() - began, told_s=told_s)
