"""A manager's data key is rotated while changes are made, and the daemon killed in the middle: nothing is lost."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from swarmctl.client import Client
from swarmctl.environment import Environment
from swarmd.errors import SwarmError
from swarmd.model import ContainerSpec, Replicated, ServiceSpec, TaskSpec
from swarmd.node.identity import StateDirectory
from swarmd.node.inspection import verify
from swarmd.storage import data_keys
from swarmd.wire import control, methods
from swarmd.wire.raft_status import RotateKey
from tests.e2e.machines import Machine, Swarm, wait_until

pytestmark = pytest.mark.slow

BEFORE = 300
"""Changes before the first rotation, each a row of the log: more than a step of sealing anew takes."""


@pytest.fixture
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """One manager, for one test."""
    swarm = Swarm(tmp_path_factory.mktemp("swarm"))
    try:
        swarm.bootstrap(1)
        yield swarm
    finally:
        swarm.stop()


class Writer:
    """Changes a label without pause, through kills and starts; remembers the last one acknowledged."""

    def __init__(self, machine: Machine, service_id: str, acknowledged: int) -> None:
        self.acknowledged = acknowledged
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
        with Client(self._machine.socket, Environment()) as client:
            while not self._is_over.is_set():
                change_label(client, self._service_id, self.acknowledged + 1)
                self.acknowledged += 1


def change_label(client: Client, service_id: str, number: int) -> None:
    client.change(methods.SERVICE_UPDATE, control.UpdateService(id=service_id, spec=spec(number)))


def spec(number: int) -> ServiceSpec:
    return ServiceSpec(
        name="written",
        labels={"number": str(number)},
        task=TaskSpec(container=ContainerSpec(image="none", command=("true",))),
        mode=Replicated(replicas=0),
    )


def label(machine: Machine) -> int:
    return int(machine.json("service", "inspect", "written")["spec"]["labels"]["number"])


def keys(machine: Machine) -> dict[int, bytes]:
    found = data_keys.load(StateDirectory(machine.state_dir).data_keys)
    assert found is not None
    return found.by_id


def ask_to_rotate(machine: Machine) -> None:
    """The daemon may be killed before it answers."""
    try:
        with Client(machine.socket, Environment()) as client:
            client.read(methods.RAFT_ROTATE_KEY, RotateKey())
    except SwarmError:
        return


def key_ids_in_the_log(machine: Machine) -> set[int]:
    """Of a stopped daemon."""
    with closing(sqlite3.connect(machine.state_dir / "raft" / "raft.db")) as db:
        rows = db.execute("SELECT sealed FROM run UNION ALL SELECT sealed FROM record").fetchall()
    return {int.from_bytes(row[0][:4], "big") for row in rows}


def test_kill_9_in_the_middle_of_a_rotation_loses_nothing_and_the_old_key_goes_all_the_same(swarm: Swarm) -> None:
    machine = swarm.machines[0]
    with Client(machine.socket, Environment()) as client:
        created = client.change(methods.SERVICE_CREATE, control.CreateService(spec=spec(0)))
        service_id = created.service.id
        for number in range(1, BEFORE):
            change_label(client, service_id, number)
    acknowledged, seen = BEFORE - 1, keys(machine)
    caught = 0
    for delay_s in (0.0, 0.005, 0.01, 0.02):
        newest = max(keys(machine))
        with Writer(machine, service_id, acknowledged) as writer:
            asking = threading.Thread(target=ask_to_rotate, args=(machine,))
            asking.start()
            wait_until(lambda n=newest: max(keys(machine)) > n, 10, "no new key")  # type: ignore[misc]
            time.sleep(delay_s)
            machine.kill_daemon()
            asking.join()
            caught += len(keys(machine)) > 1
            seen |= keys(machine)
            verify(machine.state_dir)
            machine.start()
            machine.wait_ready()
        assert label(machine) == writer.acknowledged > acknowledged
        acknowledged = writer.acknowledged
        wait_until(lambda n=newest: set(keys(machine)) == {n + 1}, 30, "the old key stays", machine.tail)  # type: ignore[misc]
    assert caught, "no kill met a rotation"

    done = machine.ctl("raft", "rotate-key")
    current = max(keys(machine))
    assert done.stdout == f"data key {current} seals everything on this manager's disk; no older one is left\n"
    assert label(machine) == acknowledged
    machine.stop()
    assert key_ids_in_the_log(machine) == {current}
    key_file = StateDirectory(machine.state_dir).data_keys.read_bytes()
    assert [key_id for key_id, key in seen.items() if key in key_file] == []
    assert len(seen) == 5
    assert verify(machine.state_dir).objects["service"] == 1
