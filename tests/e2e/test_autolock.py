"""Autolock on three live managers: nothing in clear on any disk, locked after a restart, keys rotated, off again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from swarmctl.client import Client
from swarmctl.environment import Environment
from swarmd.errors import EXIT_LOCKED
from swarmd.model import DispatcherConfig, EncryptionConfig
from swarmd.node.identity import StateDirectory
from swarmd.pki.unlock_key import Wraps, parse_unlock_key, show_unlock_key
from swarmd.storage import data_keys
from swarmd.storage.disk_seal import parse_sealed
from swarmd.wire.cluster import GetCluster, GetUnlockKey, UpdateCluster
from swarmd.wire.methods import CA_UNLOCK_KEY, CLUSTER_GET, CLUSTER_UPDATE
from tests.e2e.machines import Machine, Swarm, wait_for, wait_until
from tests.e2e.test_crashes import create, keys, running

pytestmark = pytest.mark.slow

IN_CLEAR = b"PRIVATE KEY-----"
IS_LONG = bool(os.environ.get("SWARM_LONG"))
"""Set by `make nightly`: every moment instead of every third one."""
MOMENTS_S = (0.0, 0.003, 0.006, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3)[:: 1 if IS_LONG else 3]
"""After a change of keys, when the manager is killed."""


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """Three managers and a worker; the tests follow one another."""
    swarm = Swarm(tmp_path_factory.mktemp("swarm"))
    try:
        swarm.bootstrap(1)
        be_patient(swarm.machines[0])
        for number in (2, 3):
            swarm.join(f"node-{number}", role="manager")
        swarm.wait_voters(3)
        swarm.join("node-4", role="worker")
        yield swarm
    finally:
        swarm.stop()
    assert swarm.strays() == []


def be_patient(machine: Machine) -> None:
    """Give nodes a minute before their tasks are replaced: a locked one looks like one that is down."""
    with Client(machine.socket, Environment()) as client:
        cluster = client.read(CLUSTER_GET, GetCluster()).cluster
        spec = msgspec.structs.replace(cluster.spec, dispatcher=DispatcherConfig(heartbeat_period_s=20.0))
        client.change(CLUSTER_UPDATE, UpdateCluster(id=cluster.id, spec=spec))
    machine.stop()
    machine.start()
    machine.wait_ready()


def set_autolock(machine: Machine, *, is_on: bool, rotate: bool = False) -> None:
    with Client(machine.socket, Environment()) as client:
        cluster = client.read(CLUSTER_GET, GetCluster()).cluster
        spec = msgspec.structs.replace(cluster.spec, encryption=EncryptionConfig(auto_lock_managers=is_on))
        client.change(CLUSTER_UPDATE, UpdateCluster(id=cluster.id, spec=spec, rotate_unlock_key=rotate))


def unlock_key(machine: Machine) -> str:
    return machine.ctl("cluster", "unlock-key", "-q").stdout.strip()


def version_on_disk(machine: Machine) -> int:
    """Of the unlock key that opens the node's key; 0: it is in clear."""
    identity = StateDirectory(machine.state_dir).identity
    content = identity.stored_key()
    assert content is not None
    if IN_CLEAR in content:
        return 0
    (version,) = parse_sealed(content, Wraps.NODE_KEY, identity.key_path).versions
    return version


def opened(machine: Machine, key: str) -> StateDirectory:
    directory = StateDirectory(machine.state_dir)
    directory.keys.unlock(parse_unlock_key(key))
    return directory


def data_keys_of(directory: StateDirectory) -> dict[int, bytes]:
    found = data_keys.load(directory.data_keys, directory.seal)
    assert found is not None
    return found.by_id


def is_settled(machine: Machine, key: str) -> bool:
    """Whether nothing in use ever was on the disk in clear, and only one data key is left."""
    if not version_on_disk(machine):
        return False
    directory = opened(machine, key)
    in_clear = directory.keys.in_clear()
    return not in_clear.data_key and not in_clear.node_key and len(data_keys_of(directory)) == 1


def files_with(directory: Path, *needles: bytes) -> list[tuple[Path, bytes]]:
    found = []
    for path in directory.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found += [(path, needle) for needle in needles if needle in content]
    return found


def ctl_with_input(machine: Machine, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "swarmctl", "-s", str(machine.socket), *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def wait_locked(machine: Machine) -> None:
    wait_until(lambda: bool((machine.status() or {}).get("locked")), 30, f"{machine.name} is not locked", machine.tail)


def unlock(machine: Machine, key: str) -> None:
    done = ctl_with_input(machine, f"{key}\n", "cluster", "unlock")
    assert done.returncode == 0, done.stderr + machine.tail()
    assert "is unlocked" in done.stdout
    machine.wait_ready()


def managers(swarm: Swarm) -> list[Machine]:
    return swarm.machines[:3]


def test_turned_on_it_leaves_nothing_on_any_managers_disk_in_clear(swarm: Swarm) -> None:
    assert "autolock is off" in swarm.any_up().ctl("cluster", "unlock-key", check=False).stderr
    before = keys(create(swarm, "stays", 4))
    old = {machine.name: data_keys_of(StateDirectory(machine.state_dir)) for machine in managers(swarm)}
    pems = {machine.name: StateDirectory(machine.state_dir).identity.stored_key() for machine in managers(swarm)}
    set_autolock(swarm.any_up(), is_on=True)
    key = unlock_key(swarm.any_up())
    for machine in managers(swarm):
        wait_until(lambda m=machine: is_settled(m, key), 60, f"{machine.name} is not sealed", machine.tail)  # type: ignore[misc]
        now = data_keys_of(opened(machine, key))
        assert set(now.values()).isdisjoint(old[machine.name].values())
        pem = pems[machine.name]
        assert pem is not None
        body = b"".join(pem.splitlines()[1:-1])
        needles = (IN_CLEAR, body[:40], parse_unlock_key(key), key.encode(), *old[machine.name].values(), *now.values())
        assert files_with(machine.state_dir, *needles) == []
        assert key not in machine.log.read_text()
    assert version_on_disk(swarm.machines[3]) == 0  # a worker's key is always in clear
    assert keys(swarm.processes("stays")) == before


def test_a_restarted_manager_is_locked_until_it_is_given_the_key(swarm: Swarm, tmp_path: Path) -> None:
    before = keys(swarm.processes("stays"))
    key, machine = unlock_key(swarm.any_up()), swarm.leader()
    machine.kill_daemon()
    offline = [sys.executable, "-m", "swarmd", "raft", "verify", str(machine.state_dir)]
    refused = subprocess.run(offline, capture_output=True, text=True, check=False)
    assert (refused.returncode, "Traceback" in refused.stderr) == (EXIT_LOCKED, False), refused.stderr
    key_file = tmp_path / "key"
    key_file.write_text(key + "\n")
    verified = subprocess.run(
        [*offline, "--unlock-key-file", str(key_file)], capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stderr
    alone = [
        sys.executable,
        "-m",
        "swarmd",
        "-d",
        str(machine.state_dir),
        "--force-new-cluster",
        "--executor",
        "process",
    ]
    assert subprocess.run(alone, capture_output=True, check=False).returncode == EXIT_LOCKED
    machine.start()
    wait_locked(machine)
    assert machine.stop() == 0
    machine.start()
    wait_locked(machine)
    assert re.search(r"^Locked +: yes$", machine.ctl("status").stdout, re.MULTILINE)
    other = machine.ctl("node", "ls", check=False)
    assert other.returncode == 4
    assert "this manager is locked" in other.stderr
    assert "swarmctl cluster unlock" in other.stderr
    typo = key[:-1] + ("A" if key[-1] != "A" else "B")
    stranger = show_unlock_key(os.urandom(32))
    for text, reason in ((typo, "typing error"), (stranger, "is not the unlock key"), ("", "empty")):
        done = ctl_with_input(machine, f"{text}\n", "cluster", "unlock")
        assert done.returncode == 2
        assert reason in done.stderr
        assert not text or text not in done.stderr
    wait_for(
        lambda: ctl_with_input(machine, f"{key}\n", "cluster", "unlock").returncode == 0 or None, 10, "not unlocked"
    )
    machine.wait_ready()
    swarm.wait_voters(3)
    assert "not locked" in ctl_with_input(machine, f"{key}\n", "cluster", "unlock").stderr
    assert all(text not in machine.log.read_text() for text in (key, typo, stranger))
    assert keys(swarm.processes("stays")) == before


def test_a_manager_that_was_down_during_a_rotation_needs_the_old_key_once(swarm: Swarm, tmp_path: Path) -> None:
    before = keys(swarm.processes("stays"))
    old, down = unlock_key(swarm.any_up()), swarm.machines[2]
    down.kill_daemon()
    swarm.leader()
    assert swarm.any_up().ctl("cluster", "unlock-key", "--rotate", "-q").stdout.strip() == unlock_key(swarm.any_up())
    new = unlock_key(swarm.any_up())
    assert new != old
    for machine in swarm.machines[:2]:
        wait_until(lambda m=machine: version_on_disk(m) == 2, 30, f"{machine.name} keeps the old key", machine.tail)  # type: ignore[misc]
        assert len(data_keys_of(opened(machine, new))) == 1
    key_file = tmp_path / "key"
    key_file.write_text(new)
    arguments = list(down.arguments)
    down.start(*arguments, "--unlock-key-file", str(key_file))
    wait_locked(down)
    assert "was sealed with version 1" in down.log.read_text()
    unlock(down, old)
    wait_until(lambda: version_on_disk(down) == 2, 30, "it does not catch up", down.tail)
    down.kill_daemon()
    down.start()  # the file holds the key of today
    down.wait_ready()
    swarm.wait_voters(3)
    down.arguments = arguments
    assert keys(swarm.processes("stays")) == before


class Lookout:
    """Reads a key file as fast as it can for as long as it runs; whether it was ever in clear."""

    def __init__(self, machine_dir: Path) -> None:
        self._directory = machine_dir / "certificates"
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.seen = 0
        self.in_clear: list[str] = []

    def __enter__(self) -> Lookout:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.is_set():
            for name in ("swarm-node.key", ".swarm-node.key.new", "data-keys.cbor"):
                try:
                    content = (self._directory / name).read_bytes()
                except OSError:
                    continue
                self.seen += 1
                if IN_CLEAR in content or (name == "data-keys.cbor" and content and not data_keys.is_sealed(content)):
                    self.in_clear.append(name)


def test_a_new_manager_and_a_promoted_worker_never_save_their_keys_in_clear(swarm: Swarm) -> None:
    before = keys(running(swarm, "stays", 4) or [])
    key = unlock_key(swarm.any_up())
    with Lookout(swarm.root / "node-5") as lookout:
        joined = swarm.join("node-5", role="manager")
        swarm.wait_voters(4)
    assert (lookout.in_clear, lookout.seen > 0) == ([], True)
    assert is_settled(joined, key)
    worker = swarm.machines[3]
    swarm.leader().ctl("node", "promote", worker.name, "--no-wait")
    swarm.wait_voters(5)
    wait_until(lambda: is_settled(worker, key), 30, "the promoted node is not sealed", worker.tail)
    assert files_with(worker.state_dir, IN_CLEAR) == []
    joined.kill_daemon()
    joined.start()
    wait_locked(joined)
    unlock(joined, key)
    for machine in (worker, joined):
        swarm.leader().ctl("node", "demote", machine.node_id, "--no-wait")
        wait_until(lambda m=machine: version_on_disk(m) == 0, 60, "a worker's key stays sealed", machine.tail)  # type: ignore[misc]
        assert not StateDirectory(machine.state_dir).data_keys.exists()
    swarm.wait_voters(3)
    worker.kill_daemon()
    worker.start()
    worker.wait_ready()
    assert keys(swarm.processes("stays")) == before


def test_turned_off_managers_start_without_a_key_again(swarm: Swarm) -> None:
    before = keys(swarm.processes("stays"))
    set_autolock(swarm.any_up(), is_on=False)
    for machine in managers(swarm):
        wait_until(lambda m=machine: version_on_disk(m) == 0, 30, "a key stays sealed", machine.tail)  # type: ignore[misc]
    assert "autolock is off" in swarm.any_up().ctl("cluster", "unlock-key", check=False).stderr
    machine = swarm.leader()
    machine.kill_daemon()
    machine.start()
    machine.wait_ready()
    swarm.wait_voters(3)
    assert keys(swarm.processes("stays")) == before


def test_a_manager_killed_in_the_middle_of_any_change_comes_back_with_one_key_or_none(swarm: Swarm) -> None:
    before = keys(swarm.processes("stays"))
    leader = swarm.leader()
    victim = next(machine for machine in managers(swarm) if machine is not leader)
    shown: dict[int, str] = {}
    found: list[int] = []
    for number, delay_s in enumerate(MOMENTS_S):
        set_autolock(leader, is_on=number % 3 != 2, rotate=number % 3 == 1)
        time.sleep(delay_s)
        victim.kill_daemon()
        with Client(leader.socket, Environment()) as client:
            reply = client.read(CA_UNLOCK_KEY, GetUnlockKey())
        shown[reply.version] = reply.shown
        on_disk = version_on_disk(victim)
        found.append(reply.version - on_disk)
        victim.start()
        if on_disk:
            wait_locked(victim)
            unlock(victim, shown[on_disk])
        victim.wait_ready()
        if reply.key:
            wait_until(
                lambda r=reply: version_on_disk(victim) == r.version and is_settled(victim, r.shown),  # type: ignore[misc]
                60,
                "it does not follow",
                victim.tail,
            )
        else:
            wait_until(lambda: version_on_disk(victim) == 0, 30, "it stays sealed", victim.tail)
    if IS_LONG:
        assert len(set(found)) > 1, f"every kill met the same moment: {found}"
    swarm.wait_voters(3)
    assert keys(swarm.processes("stays")) == before


def test_a_survivor_forms_a_new_cluster_with_the_key_and_a_credential_unlocks_it_from_then_on(
    tmp_path: Path,
) -> None:
    swarm = Swarm(tmp_path / "swarm")
    (tmp_path / "swarm").mkdir()
    try:
        swarm.bootstrap(2)
        first, second = swarm.machines
        own = {process.key for process in create(swarm, "survives", 2) if process.node_id == first.node_id}
        set_autolock(first, is_on=True)
        key = unlock_key(first)
        for machine in (first, second):
            wait_until(lambda m=machine: is_settled(m, key), 60, f"{machine.name} is not sealed", machine.tail)  # type: ignore[misc]
        (tmp_path / "credentials").mkdir()
        (tmp_path / "credentials" / "swarmd-unlock-key").write_text(f"{key}\n")
        second.kill_daemon()
        first.kill_daemon()
        arguments = list(first.arguments)
        first.start(
            *arguments, "--force-new-cluster", "--unlock-key-file", str(tmp_path / "credentials" / "swarmd-unlock-key")
        )
        first.wait_ready()
        assert is_settled(first, key)
        first.stop()
        first.env = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
        first.start(*arguments)
        first.wait_ready()
        assert unlock_key(first) == key
        assert own <= keys(swarm.processes("survives"))
    finally:
        swarm.stop()
    assert swarm.strays() == []
