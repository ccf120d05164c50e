"""How long nobody's changes are accepted when the leader goes: killed, frozen, told to stop, or cut off.

A client writes without pause through another manager's socket. The figure is the longest time between two accepted
writes around the event: what an operator's script would notice. `FAILOVERS=50` for more trials of each.
"""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from swarmctl.client import Client
from swarmctl.environment import Environment
from swarmd.errors import SwarmError
from swarmd.model import ContainerSpec, Replicated, ServiceSpec, TaskSpec
from swarmd.wire import control, methods
from tests.bench.swarmkit import beside
from tests.chaos.members import Group
from tests.chaos.network import Network, unheard_between
from tests.chaos.tools import chaos_tools_missing
from tests.e2e.machines import Failed, Machine, Swarm, wait_until

TRIALS: Final = int(os.environ.get("FAILOVERS", "10"))
BEFORE_S: Final = 0.5
"""Writes flow for so long before something happens."""
AFTER_S_MAX: Final = 20.0
WRITES_AFTER: Final = 20
"""So many in a row, begun after the event and accepted by the next leader, end a trial."""

Line = dict[str, Any]
Act = Callable[[Machine], None]
Ways = dict[str, tuple[Act, Act]]
"""What happens to the leader, and how it is undone."""


def an_idle_service(name: str, **labels: str) -> ServiceSpec:
    """A service without tasks."""
    return ServiceSpec(
        name=name,
        labels=labels,
        task=TaskSpec(container=ContainerSpec(image="none", command=("true",))),
        mode=Replicated(replicas=0),
    )


class Writer:
    """Writes through one manager's socket, one change after the other, until it is stopped."""

    def __init__(self, machine: Machine, service_id: str) -> None:
        self.accepted: list[float] = []
        self.refused: list[str] = []
        self._machine = machine
        self._service_id = service_id
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        with Client(self._machine.socket, Environment()) as client:
            while not self._is_over.is_set():
                number += 1
                spec = an_idle_service("written", number=str(number))
                try:
                    client.change(methods.SERVICE_UPDATE, control.UpdateService(id=self._service_id, spec=spec))
                except SwarmError as error:
                    self.refused.append(str(error))
                else:
                    self.accepted.append(time.monotonic())

    def longest_gap_s(self, began: float) -> float:
        """Between two accepted writes, the first of which may lie before `began`."""
        times = [t for t in self.accepted if t >= began - BEFORE_S]
        return max(later - earlier for earlier, later in pairwise(times))


def compare(root: Path) -> Iterator[Line]:
    """The lines to print: median and worst of each way to lose a leader."""
    swarm = Swarm(root)
    try:
        swarm.bootstrap(3)
        yield from try_ways(swarm, WAYS)
    finally:
        swarm.stop()
    yield from compare_links(root / "linked")


def compare_links(root: Path) -> Iterator[Line]:
    """The same for a leader whose network link goes down: it and the others hear nothing of each other, and no
    connection is closed. Needs root and what `make chaos` needs; else there is no line but one that says so."""
    missing = ["root"] if os.geteuid() else chaos_tools_missing()
    if missing:
        yield {"bench": "raft.failover_s", "way": "link down", "not_measured_for_want_of": missing}
        return
    root.mkdir()
    network = Network(3, name="failover")
    group = Group(root, network, ())
    try:
        network.open()
        group.start()
        swarm = Swarm(root)
        swarm.machines = list(group.managers)

        def cut(leader: Machine) -> None:
            others = [m.number for m in group.managers if m is not leader]
            network.hear(unheard_between(set(network.numbers) - set(others), others))

        yield from try_ways(swarm, {"link down": (cut, lambda leader: network.hear({}))})
    finally:
        group.destroy()
        network.close()


def try_ways(swarm: Swarm, ways: Ways) -> Iterator[Line]:
    """The lines of each way."""
    created = control.CreateService(spec=an_idle_service("written"))
    with Client(swarm.leader().socket, Environment()) as client:
        service_id = client.change(methods.SERVICE_CREATE, created).service.id
    for way, (lose, bring_back) in ways.items():
        gaps = [trial(swarm, service_id, lose, bring_back) for _ in range(TRIALS)]
        for statistic, value in (("median", statistics.median(gaps)), ("max", max(gaps))):
            yield {
                "bench": "raft.failover_s",
                "way": way,
                "managers": 3,
                "trials": TRIALS,
                "statistic": statistic,
                "value": round(value, 4),
                "unit": "s",
                **beside("raft.failover_s", {"way": way}),
            }


def trial(swarm: Swarm, service_id: str, lose: Act, bring_back: Act) -> float:
    """Lose the leader once; seconds without an accepted write."""
    leader = swarm.leader()
    other = next(m for m in swarm.machines if m is not leader)
    with Writer(other, service_id) as writer:
        wait_until(lambda: len(writer.accepted) > 5, AFTER_S_MAX, "no writes are accepted")
        time.sleep(BEFORE_S)
        began = time.monotonic()
        lose(leader)
        written = len(writer.accepted)
        wait_until(
            lambda: len(writer.accepted) >= written + WRITES_AFTER and swarm_leads(other, leader),
            AFTER_S_MAX,
            f"no other manager leads, or takes writes: {writer.refused[-3:]}",
        )
        gap = writer.longest_gap_s(began)
    bring_back(leader)
    leader.wait_ready()
    swarm.wait_voters(3)
    if writer.refused:
        raise Failed(f"a write was refused instead of waiting for the next leader: {writer.refused[0]}")
    return gap


def swarm_leads(asked: Machine, lost: Machine) -> bool:
    """Whether somebody else leads, as `asked` sees it."""
    status = asked.status() or {}
    return bool(status.get("leader_node_id")) and status["leader_node_id"] != lost.node_id


def _kill(leader: Machine) -> None:
    leader.kill_daemon()


def _freeze(leader: Machine) -> None:
    assert leader.process is not None
    leader.process.send_signal(signal.SIGSTOP)


def _thaw(leader: Machine) -> None:
    assert leader.process is not None
    leader.process.send_signal(signal.SIGCONT)


def _start(leader: Machine) -> None:
    leader.wait_stopped()
    leader.start()


WAYS: Final[Ways] = {
    "SIGKILL": (_kill, _start),
    "SIGSTOP": (_freeze, _thaw),
    "SIGTERM": (Machine.terminate, _start),
}
