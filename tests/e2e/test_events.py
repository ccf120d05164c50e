"""`swarmctl events` on real managers: leaders and daemons are killed under writes, the watch moves from one manager to
another, and what was printed in all is every change, once, in order."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmctl.client import Client
from swarmctl.environment import Environment
from swarmd.errors import SwarmError
from swarmd.model import ContainerSpec, Replicated, ServiceSpec, TaskSpec
from swarmd.wire.control import CreateService
from swarmd.wire.methods import SERVICE_CREATE
from tests.e2e.machines import Machine, Swarm, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """Three managers."""
    swarm = Swarm(tmp_path_factory.mktemp("swarm"))
    try:
        swarm.bootstrap(3)
        yield swarm
    finally:
        swarm.stop()
    assert swarm.strays() == []


class Writer:
    """Creates services of no tasks, one after another, through one manager; notes what was acknowledged, and as what
    version."""

    def __init__(self, machine: Machine, prefix: str) -> None:
        self.acknowledged: dict[str, int] = {}
        self._socket = machine.socket
        self._prefix = prefix
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        with Client(self._socket, Environment()) as client:
            while not self._stop.is_set():
                name = f"{self._prefix}-{number}"
                number += 1
                spec = ServiceSpec(
                    name=name, task=TaskSpec(container=ContainerSpec(image="none")), mode=Replicated(replicas=0)
                )
                try:
                    view = client.change(SERVICE_CREATE, CreateService(spec=spec))
                except SwarmError:
                    continue  # it may have happened or not: the swarm's own list says
                self.acknowledged[name] = view.service.meta.version

    def wait(self, more: int) -> None:
        """Until so many more were acknowledged."""
        wanted = len(self.acknowledged) + more
        wait_until(lambda: len(self.acknowledged) >= wanted, 60, f"{more} writes are not acknowledged")


class Events:
    """A running `swarmctl events`, and the lines it has printed."""

    def __init__(self, machine: Machine, directory: Path, *arguments: str) -> None:
        self._path = directory / f"events-{machine.name}-{time.monotonic_ns()}"
        self._complaints = self._path.with_suffix(".err")
        with self._path.open("wb") as out, self._complaints.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "swarmctl", "-s", str(machine.socket), "events", "-o", "json", *arguments],
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                # Whoever runs the tests in the background of a shell ignores it, and so would this.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def lines(self) -> list[dict[str, Any]]:
        """Every whole line so far."""
        whole, _, _ = self._path.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def wait_for(self, name: str) -> None:
        """Until an event of this service was printed."""
        wait_until(lambda: any(line["name"] == name for line in self.lines()), 60, f"{name} is not told")

    def interrupt(self) -> tuple[list[dict[str, Any]], str]:
        """Ctrl-C: what it had printed of whole transactions, and its complaints."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        err = self._complaints.read_text()
        assert self.process.returncode == 130, err
        lines = self.lines()
        while lines and lines[-1]["remaining"]:
            lines.pop()
        return lines, err

    def end(self) -> None:
        """Whatever became of the test."""
        self.process.kill()
        self.process.wait()


Follow = Callable[..., Events]


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Follow]:
    """Starts `swarmctl events` on a machine, with these arguments."""
    started: list[Events] = []

    def start(machine: Machine, *arguments: str) -> Events:
        started.append(Events(machine, tmp_path, *arguments))
        return started[-1]

    yield start
    for events in started:
        events.end()


def last(events: list[dict[str, Any]], otherwise: int) -> int:
    return int(events[-1]["version"]) if events else otherwise


def created(swarm: Swarm, prefix: str) -> list[tuple[int, str]]:
    """Every service of this writer that there is: (version, name), in order."""
    services = swarm.any_up().json("service", "ls")
    return sorted((s["meta"]["version"], s["spec"]["name"]) for s in services if s["spec"]["name"].startswith(prefix))


def of_writer(events: list[dict[str, Any]], prefix: str) -> list[tuple[int, str]]:
    return [(e["version"], e["name"]) for e in events if e["name"].startswith(prefix) and e["action"] == "create"]


def test_a_watch_moves_between_managers_under_a_leader_change_without_gap_or_duplicate(
    swarm: Swarm, follow: Follow
) -> None:
    leader = swarm.leader()
    one, two = (machine for machine in swarm.machines if machine is not leader)
    start = int((one.status() or {})["applied_index"])
    told: list[dict[str, Any]] = []
    with Writer(two, "moving") as writer:
        events = follow(one, "--since", str(start), "-f", "kind=service")
        writer.wait(20)
        leader.kill_daemon()
        writer.wait(20)
        events.wait_for("moving-30")
        part, _ = events.interrupt()
        told += part

        events = follow(two, "--since", str(last(told, start)), "-f", "kind=service")
        writer.wait(10)
        leader.start()
        leader.wait_ready()
        writer.wait(10)
        part, _ = events.interrupt()
        told += part

        events = follow(leader, "--since", str(last(told, start)), "-f", "kind=service")
        writer.wait(20)
    newest = list(writer.acknowledged)[-1]
    events.wait_for(newest)
    part, _ = events.interrupt()
    told += part

    versions = [event["version"] for event in told]
    assert versions == sorted(set(versions))
    seen = of_writer(told, "moving")
    assert seen == created(swarm, "moving")
    assert {name: version for version, name in seen}.items() >= writer.acknowledged.items()
    assert len(writer.acknowledged) >= 80


def test_a_watch_outlives_the_daemon_it_watches_through(swarm: Swarm, follow: Follow) -> None:
    watched = next(machine for machine in swarm.machines if machine is not swarm.leader())
    other = next(machine for machine in swarm.machines if machine is not watched)
    start = int((watched.status() or {})["applied_index"])
    events = follow(watched, "--since", str(start), "-f", "kind=service", "-f", "action=create")
    with Writer(other, "outliving") as writer:
        events.wait_for("outliving-3")
        watched.kill_daemon()
        writer.wait(20)
        watched.start()
        watched.wait_ready()
        writer.wait(10)
    events.wait_for(list(writer.acknowledged)[-1])
    told, complaints = events.interrupt()
    assert "resumed at version" in complaints
    seen = of_writer(told, "outliving")
    assert seen == created(swarm, "outliving")
    assert {name: version for version, name in seen} == writer.acknowledged


def test_a_version_of_another_time_is_refused_in_one_line(swarm: Swarm) -> None:
    done = swarm.any_up().ctl("events", "--since", "99999999", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: version 99999999 is in the future: the swarm is at ")
