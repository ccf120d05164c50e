"""The root is replaced while the swarm works: three managers and two workers, writes and tasks all the time.

Nothing that was acknowledged is lost, no task is restarted, a node that was away comes back, and a leader killed in the
middle is followed by one that finishes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmctl.client import Client
from swarmctl.environment import Environment
from swarmd.errors import SwarmError
from swarmd.model import ContainerSpec, Replicated, ServiceSpec, TaskSpec
from swarmd.pki import Authority, fingerprint
from swarmd.wire import control, methods
from tests.e2e.machines import Machine, Swarm, wait_until
from tests.unit.manager.cfssl import Cfssl
from tests.unit.pki.made_roots import key_of, root_of

pytestmark = pytest.mark.slow

REPLICAS = 6
ROTATION_S_MAX = 60.0
WRITES_MIN = 50


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """Three managers, two workers, tasks on all of them; each test leaves them so, under another root."""
    swarm = Swarm(tmp_path_factory.mktemp("swarm"))
    try:
        swarm.bootstrap(3)
        swarm.join("node-4", role="worker")
        swarm.join("node-5", role="worker")
        words = ("--name", "steady", "--image", "none", "--command", "sleep", "--args", "100000")
        swarm.any_up().ctl("service", "create", *words, "--replicas", str(REPLICAS), "--wait")
        yield swarm
    finally:
        swarm.stop()
    assert swarm.strays() == []


class Writer:
    """Creates services one after the other, through whichever manager answers; remembers what was acknowledged."""

    def __init__(self, machines: list[Machine], name: str) -> None:
        self.acknowledged: list[str] = []
        self.failures: list[str] = []
        self._machines = machines
        self._name = name
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
        while not self._is_over.is_set():
            door = next((machine for machine in self._machines if machine.is_up), None)
            if door is None:
                continue
            with Client(door.socket, Environment()) as client:
                while not self._is_over.is_set() and door.is_up:
                    number += 1
                    name = f"{self._name}-{number}"
                    try:
                        client.change(methods.SERVICE_CREATE, control.CreateService(spec=empty_service(name)))
                    except SwarmError as error:
                        self.failures.append(f"{name}: {error}")
                        break
                    self.acknowledged.append(name)


def empty_service(name: str) -> ServiceSpec:
    return ServiceSpec(
        name=name,
        task=TaskSpec(container=ContainerSpec(image="none", command=("true",))),
        mode=Replicated(replicas=0),
    )


def ca_of(machine: Machine) -> Any:
    return machine.json("cluster", "ca", "show")


def rotate(machine: Machine, *words: str) -> str:
    """Begin a rotation; the fingerprint of the root it goes to."""
    return machine.ctl("cluster", "ca", "rotate", "--detach", "-q", *words).stdout.strip()


def wait_for_root(swarm: Swarm, target: str, *, within_s: float = ROTATION_S_MAX) -> None:
    """Until every manager that is up says that this is the swarm's root."""

    def done() -> bool:
        for machine in swarm.machines[:3]:
            if not machine.is_up:
                continue
            told = machine.ctl("cluster", "ca", "show", "-o", "json", check=False)
            if (
                told.returncode != 0
                or f'"fingerprint": "{target}"' not in told.stdout
                or '"rotation": null' not in (told.stdout)
            ):
                return False
        return True

    wait_until(done, within_s, "the rotation does not end", lambda: progress_of(swarm))


def progress_of(swarm: Swarm) -> str:
    machine = swarm.any_up()
    logs = "\n".join(f"-- {m.name}\n{m.tail(8)}" for m in swarm.machines)
    return machine.ctl("cluster", "inspect", check=False).stdout + logs


def roots_on_disk(swarm: Swarm) -> set[str]:
    return {
        fingerprint((machine.state_dir / "certificates" / "swarm-root-ca.crt").read_bytes())
        for machine in swarm.machines
    }


def leads(machine: Machine) -> bool:
    status = machine.status()
    return status is not None and bool(status["is_leader"])


def tasks(swarm: Swarm) -> set[tuple[str, int, int]]:
    return {process.key for process in swarm.processes("steady")}


def check_nothing_was_lost(swarm: Swarm, writer: Writer, before: set[tuple[str, int, int]]) -> None:
    """Every acknowledged write is there on every manager, and every task is the very process it was."""
    assert len(writer.acknowledged) >= WRITES_MIN, (len(writer.acknowledged), writer.failures[:3])
    for machine in swarm.machines[:3]:
        names = {view["spec"]["name"] for view in machine.json("service", "ls")}
        assert set(writer.acknowledged) <= names, machine.name
    assert tasks(swarm) == before
    assert len(before) == REPLICAS
    down = [n["id"] for n in swarm.any_up().json("node", "ls") if n["status"]["state"] != "READY"]
    assert down == []


def new_worker_joins_and_leaves(swarm: Swarm, name: str) -> None:
    """With the tokens of now."""
    machine = swarm.join(name, role="worker")
    swarm.machines.remove(machine)
    node_id = machine.node_id
    machine.stop()
    for pid in machine.other_pids():
        raise AssertionError(f"{name} left process {pid}")
    swarm.any_up().ctl("node", "rm", "--force", node_id)


def test_a_rotation_under_load_loses_no_write_and_no_task(swarm: Swarm) -> None:
    before, old = tasks(swarm), ca_of(swarm.machines[0])
    tokens = swarm.machines[0].json("cluster", "inspect")["root_ca"]["join_tokens"]
    with Writer(swarm.machines[:3], "load") as writer:
        target = rotate(swarm.machines[1])
        assert target != old["fingerprint"]
        began = time.monotonic()
        wait_for_root(swarm, target)
        took_s = time.monotonic() - began
        wait_until(
            lambda: roots_on_disk(swarm) == {target}, 30, "a node keeps the old root", lambda: progress_of(swarm)
        )
    check_nothing_was_lost(swarm, writer, before)
    assert writer.failures == []
    after = swarm.machines[0].json("cluster", "inspect")["root_ca"]["join_tokens"]
    assert not set(tokens.values()) & set(after.values())
    new_worker_joins_and_leaves(swarm, "late-1")
    print(f"rotated in {took_s:.1f} s, {len(writer.acknowledged)} writes meanwhile")


def test_a_node_that_was_away_is_waited_for_and_comes_back_unaided(swarm: Swarm) -> None:
    away = swarm.machines[4]
    away.stop()  # its tasks go on without it
    before = tasks(swarm)
    target = rotate(swarm.machines[0])

    def is_told() -> bool:
        rotation = ca_of(swarm.machines[0])["rotation"]
        waiting = [node["hostname"] for node in rotation["waiting"]] if rotation else []
        return bool(rotation) and waiting == ["node-5"] and (rotation["done"], rotation["total"]) == (4, 5)

    wait_until(is_told, ROTATION_S_MAX, "it is not the last one", lambda: progress_of(swarm))
    away.start()
    away.wait_ready()
    wait_for_root(swarm, target)
    wait_until(lambda: roots_on_disk(swarm) == {target}, 30, "a node keeps the old root", lambda: progress_of(swarm))
    assert tasks(swarm) == before


def test_a_leader_killed_in_the_middle_is_followed_by_one_that_finishes(swarm: Swarm) -> None:
    before = tasks(swarm)
    away = swarm.machines[3]
    away.stop()  # so that the rotation cannot be over before the leader is killed
    leader = swarm.leader()
    others = [machine for machine in swarm.machines[:3] if machine is not leader]
    with Writer(others, "reign") as writer:
        target = rotate(others[0])
        wait_until(lambda: ca_of(others[0])["rotation"]["done"] >= 1, ROTATION_S_MAX, "nobody follows")
        leader.kill_daemon()
        away.start()
        wait_until(lambda: any(leads(machine) for machine in others), 30, "nobody else leads")
        time.sleep(1)
        leader.start()
        leader.wait_ready()
        away.wait_ready()
        wait_for_root(swarm, target)
        wait_until(
            lambda: roots_on_disk(swarm) == {target}, 30, "a node keeps the old root", lambda: progress_of(swarm)
        )
    check_nothing_was_lost(swarm, writer, before)


def test_a_root_is_brought_and_replaced_before_it_is_there_and_the_last_wish_holds(
    swarm: Swarm, tmp_path: Path
) -> None:
    before = tasks(swarm)
    for kind in ("p384", "rsa2048"):
        (tmp_path / f"{kind}.crt").write_bytes(root_of(kind, name="corporate"))
        (tmp_path / f"{kind}.key").write_bytes(key_of(kind))
    words = [
        ("--ca-cert", str(tmp_path / f"{kind}.crt"), "--ca-key", str(tmp_path / f"{kind}.key"))
        for kind in ("p384", "rsa2048")
    ]
    first = rotate(swarm.machines[0], *words[0])
    second = rotate(swarm.machines[1], *words[1])
    assert first != second == fingerprint((tmp_path / "rsa2048.crt").read_bytes())
    wait_for_root(swarm, second)
    wait_until(lambda: roots_on_disk(swarm) == {second}, 30, "a node keeps the old root", lambda: progress_of(swarm))
    assert tasks(swarm) == before
    new_worker_joins_and_leaves(swarm, "late-2")


def test_a_rotation_is_called_off_and_nobody_notices(swarm: Swarm) -> None:
    before, present = tasks(swarm), ca_of(swarm.machines[0])["fingerprint"]
    away = swarm.machines[4]
    away.stop()
    rotate(swarm.machines[0])
    wait_until(lambda: ca_of(swarm.machines[0])["rotation"]["done"] >= 1, ROTATION_S_MAX, "nobody follows")
    done = swarm.machines[0].ctl("cluster", "ca", "rotate", "--abort")
    assert "no rotation is under way" in done.stderr
    away.start()
    away.wait_ready()
    for machine in swarm.machines[:3]:
        wait_until(lambda m=machine: ca_of(m)["rotation"] is None, 10, "it goes on")  # type: ignore[misc]
        assert ca_of(machine)["fingerprint"] == present
    assert tasks(swarm) == before
    assert roots_on_disk(swarm) == {present}
    new_worker_joins_and_leaves(swarm, "late-3")


def test_an_external_ca_signs_for_the_swarm_and_is_left_again(swarm: Swarm, tmp_path: Path) -> None:
    """Internal -> external -> internal, the signer a real one over HTTPS, down for a while when a worker joins."""
    before = tasks(swarm)
    root, key = root_of("p521", name="external"), key_of("p521")
    (tmp_path / "root.crt").write_bytes(root)
    trusts = root + swarm.machines[0].ctl("cluster", "ca", "show").stdout.encode()
    with Cfssl(tmp_path, root, key, trusts=trusts).serving() as signer:
        external = f"protocol=cfssl,url={signer.url}"
        target = rotate(swarm.machines[0], "--ca-cert", str(tmp_path / "root.crt"), "--external-ca", external)
        wait_for_root(swarm, target)
        assert ca_of(swarm.machines[0])["has_key"] is False
        assert len(signer.requests) >= 5

        signer.is_up = False
        late = swarm.join("late-4", role="worker", wait=False)
        wait_until(lambda: any(r["subject"]["CN"] for r in signer.requests[5:]), 20, "nobody asks the external CA")
        signer.is_up = True
        late.wait_ready()
        node_id = late.node_id
        swarm.machines.remove(late)
        late.stop()
        swarm.any_up().ctl("node", "rm", "--force", node_id)

        back = Authority.create(time.time())
        (tmp_path / "back.crt").write_bytes(back.certificate)
        (tmp_path / "back.key").write_bytes(back.key)
        words = ("--ca-cert", str(tmp_path / "back.crt"), "--ca-key", str(tmp_path / "back.key"))
        target = rotate(swarm.machines[2], *words)
        assert [r["profile"] for r in signer.requests].count("CA") == 1
        wait_for_root(swarm, target)
    assert ca_of(swarm.machines[0])["has_key"] is True
    assert tasks(swarm) == before
