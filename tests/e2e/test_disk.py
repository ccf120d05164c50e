"""Managers whose disks fill up: real daemons, each with its state on a small file system of its own."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machines import Machine, Swarm, wait_until
from tests.e2e.test_membership import member_of

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]

DISK_MB = 96
"""Room for a write-ahead log of full size (17), the reserve (20), and twice as much."""


class SmallDisks(Swarm):
    """A swarm whose machines have a disk each."""

    def add(self, name: str, *arguments: str) -> Machine:
        place = self.root / name
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "disk", place], check=True)
        return super().add(name, *arguments)

    def stop(self) -> None:
        """Stop the daemons, and take the disks away."""
        super().stop()
        for machine in self.machines:
            subprocess.run(["umount", "-l", machine.state_dir], check=True)


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisks]:
    """Three managers; each test leaves them up, with room."""
    swarm = SmallDisks(tmp_path_factory.mktemp("disks"))
    try:
        swarm.bootstrap(3)
        yield swarm
    finally:
        swarm.stop()
    assert swarm.strays() == []


@pytest.fixture
def sole(tmp_path: Path) -> Iterator[Machine]:
    """The only manager of a swarm."""
    swarm = SmallDisks(tmp_path)
    try:
        swarm.bootstrap(1)
        yield swarm.machines[0]
    finally:
        swarm.stop()


@contextmanager
def full(machine: Machine) -> Iterator[None]:
    """Somebody's file takes every byte, and every byte that becomes free."""
    path, done = machine.state_dir / "somebody-elses", threading.Event()

    def fill() -> None:
        with path.open("ab", buffering=0) as file:
            while not done.wait(0.02):
                try:
                    while file.write(bytes(1 << 20)) == 1 << 20:
                        pass
                except OSError:
                    continue

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        wait_until(lambda: os.statvfs(machine.state_dir).f_bavail == 0, 20, "the disk does not fill up")
        yield
    finally:
        done.set()
        thread.join()
        path.unlink()


def disk_seen(machine: Machine, by: Machine) -> Any:
    """What `by` says of the disk of `machine`'s manager; None: nothing is wrong with it."""
    node = next(node for node in by.json("node", "ls") if node["id"] == machine.node_id)
    return (node["manager"] or {}).get("disk")


def condition_seen(machine: Machine, by: Machine) -> str:
    return str((disk_seen(machine, by) or {"condition": "WELL"})["condition"])


def create(machine: Machine, name: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return machine.ctl("service", "create", "--name", name, "--image", "x", "--replicas", "0", *flags, check=False)


def write_much(door: Machine, prefix: str, until: Callable[[], bool]) -> list[str]:
    """Large services, `until` something is the case; the names that were acknowledged."""
    ballast = [flag for n in range(8) for flag in ("--env", f"B{n}=" + "x" * 120_000)]
    acknowledged = []
    for number in range(60):
        name = f"{prefix}-{number}"
        if create(door, name, *ballast).returncode == 0:
            acknowledged.append(name)
        if until():
            return acknowledged
    raise AssertionError(f"{len(acknowledged)} MB were written, and nothing happened")


def services_at(machine: Machine) -> set[str]:
    """Those that this manager itself knows."""
    return {service["spec"]["name"] for service in machine.json("service", "ls", "--stale")}


def has_all(machine: Machine, names: list[str]) -> bool:
    """Whether this manager itself knows them. One by one: large ones do not fit into one reply."""
    return all(machine.ctl("service", "inspect", name, "--stale", check=False).returncode == 0 for name in names)


def has_the_same_state(machine: Machine, other: Machine) -> bool:
    return (machine.status() or {}).get("digest") == (other.status() or {"digest": "?"})["digest"]


def is_well(machine: Machine, by: Machine) -> bool:
    member = member_of(machine, by)
    return condition_seen(machine, by) == "WELL" and member is not None and member["reachability"] == "REACHABLE"


def test_a_leader_whose_disk_fills_up_hands_over_and_takes_part_again(swarm: SmallDisks) -> None:
    leader = swarm.leader()
    door = next(m for m in swarm.machines if m is not leader)
    before = member_of(leader, door)["member_id"]
    with full(leader):
        wait_until(lambda: (door.status() or {}).get("leader_node_id") not in ("", leader.node_id), 15, "no heir")
        assert create(door, "while-full").returncode == 0
        wait_until(lambda: condition_seen(leader, door) == "CRITICAL", 15, "nobody says so", leader.tail)
        listed = door.ctl("node", "ls").stdout
        assert next(line for line in listed.splitlines() if leader.node_id in line).endswith(
            "REACHABLE (disk nearly full)"
        )
        shown = door.ctl("node", "inspect", leader.node_id).stdout
        assert re.search(r"^ *Disk +: disk nearly full since 2", shown, re.M), shown
        assert swarm.leader() is not leader
    wait_until(lambda: is_well(leader, door), 20, "it is not well again", leader.tail)
    assert member_of(leader, door)["member_id"] == before
    wait_until(lambda: has_all(leader, ["while-full"]), 20, "it lacks what was acknowledged")
    door.ctl("service", "rm", "while-full")


def test_a_follower_that_can_write_no_more_stays_away_and_comes_back_by_itself(swarm: SmallDisks) -> None:
    door = swarm.leader()
    follower = next(m for m in swarm.machines if m is not door)
    before, process = member_of(follower, door), follower.process
    with full(follower):
        # Once it comes back on its reserve; then there is nothing left to come back on.
        acknowledged = write_much(
            door, "large", lambda: "No space left" in (disk_seen(follower, door) or {"reason": ""})["reason"]
        )
        assert condition_seen(follower, door) == "FULL"
        assert not (follower.state_dir / "raft" / "reserve").exists()
        wait_until(lambda: member_of(follower, door)["reachability"] == "UNREACHABLE", 15, "it seems to take part")
        listed = door.ctl("node", "ls").stdout
        assert next(line for line in listed.splitlines() if follower.node_id in line).endswith(
            "UNREACHABLE (disk full)"
        )
        assert " READY " in next(line for line in listed.splitlines() if follower.node_id in line)
        refused = follower.ctl("service", "ls", check=False)
        assert refused.returncode == 6
        assert "while its disk refuses" in refused.stderr
        for name in ("meanwhile-1", "meanwhile-2"):
            assert create(door, name).returncode == 0
            acknowledged.append(name)
    wait_until(lambda: is_well(follower, door), 30, "it does not come back", follower.tail)
    after = member_of(follower, door)
    assert (after["member_id"], after["is_voter"]) == (before["member_id"], True)
    assert follower.process is process
    wait_until(lambda: has_the_same_state(follower, door), 30, "it does not catch up", follower.tail)
    assert has_all(follower, acknowledged)
    wait_until((follower.state_dir / "raft" / "reserve").exists, 20, "the reserve is not made again")
    for name in acknowledged:
        door.ctl("service", "rm", name)


def test_a_manager_whose_log_is_damaged_keeps_it_aside_and_joins_as_a_new_member(swarm: SmallDisks) -> None:
    door = swarm.leader()
    machine = next(m for m in swarm.machines if m is not door)
    before = member_of(machine, door)["member_id"]
    assert create(door, "acknowledged").returncode == 0
    assert machine.stop() == 0
    log = machine.state_dir / "raft" / "raft.db"
    damaged = bytearray(log.read_bytes())
    for position in range(4096 + 2000, len(damaged), 1000):
        damaged[position] ^= 1
    log.write_bytes(damaged)
    machine.start()
    machine.wait_ready()
    wait_until(lambda: (member_of(machine, door) or {}).get("is_voter", False), 40, "it does not vote", machine.tail)
    assert member_of(machine, door)["member_id"] != before
    assert (machine.state_dir / "raft.damaged-1" / "raft.db").read_bytes() == damaged
    wait_until(lambda: has_the_same_state(machine, door), 20, "it does not catch up", machine.tail)
    assert has_all(machine, ["acknowledged"])
    door.ctl("service", "rm", "acknowledged")


def test_the_only_manager_refuses_what_is_new_takes_removals_and_comes_back(sole: Machine) -> None:
    assert create(sole, "kept").returncode == 0
    assert create(sole, "to-remove").returncode == 0
    with full(sole):
        wait_until(lambda: condition_seen(sole, sole) == "CRITICAL", 15, "it does not notice", sole.tail)
        refused = create(sole, "too-much")
        assert refused.returncode == 4
        assert "nothing new is taken while 1 of 1 managers have no space: node-1 (0.0 of 96 MiB free)" in refused.stderr
        sole.ctl("service", "rm", "to-remove")
        sole.ctl("node", "drain", sole.node_id)
        assert services_at(sole) == {"kept"}
    wait_until(lambda: create(sole, "again").returncode == 0, 20, "it stays read-only", sole.tail)
    assert services_at(sole) == {"kept", "again"}


def test_the_only_manager_that_can_write_nothing_waits_and_says_for_what(sole: Machine) -> None:
    assert create(sole, "kept").returncode == 0
    assert sole.stop() == 0
    with full(sole):
        sole.start()
        wait_until(
            lambda: "while its disk refuses" in sole.ctl("service", "ls", check=False).stderr, 30, "no word", sole.tail
        )
        assert create(sole, "more").returncode == 6
        assert (sole.status() or {})["node_id"] == sole.node_id
    wait_until(lambda: create(sole, "again").returncode == 0, 30, "it does not come back", sole.tail)
    assert services_at(sole) == {"kept", "again"}


REFUSES = ("FAILED", "FULL")
"""SQLite says that a sync failed; the page that is synced on trial says why: below, there is no space."""


class LoopDisk:
    """A file system in an image whose own disk may fill up: then writes are taken, and syncing them fails."""

    def __init__(self, root: Path, place: Path) -> None:
        self.below, self.place = root / "below", place
        self.below.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=160m", "below", self.below)
        image = self.below / "image"
        with image.open("wb") as file:
            file.truncate(150 << 20)
        run("mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=0", image)
        place.mkdir()
        # With `discard`, blocks that become free are given back, and are not there when they are wanted again.
        run("mount", "-o", "loop,discard,errors=continue", image, place)

    def fail(self) -> None:
        """No block that was never written, or was given back, can be written."""
        with (self.below / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1 << 16)) == 1 << 16:
                pass

    def mend(self) -> None:
        (self.below / "filler").unlink(missing_ok=True)

    def remove(self) -> None:
        self.mend()
        run("umount", "-l", self.place)
        run("umount", "-l", self.below)


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def with_loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Swarm, LoopDisk]]:
    """Three managers; the third one's state is on a `LoopDisk`. Each test leaves them up and well."""
    tmp_path = tmp_path_factory.mktemp("loop")
    try:
        disk = LoopDisk(tmp_path, tmp_path / "node-3")
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        run("umount", "-l", tmp_path / "below")
        pytest.skip(f"no loop devices, or no mkfs.ext4, here: {error}")
    swarm = Swarm(tmp_path)
    try:
        swarm.bootstrap(3)
        yield swarm, disk
    finally:
        swarm.stop()
        disk.remove()


def test_a_leader_whose_sync_fails_hands_over_and_nothing_acknowledged_is_lost(
    with_loop: tuple[Swarm, LoopDisk],
) -> None:
    swarm, disk = with_loop
    door, other, machine = swarm.machines
    for drained in (door, other):
        drained.ctl("node", "drain", drained.node_id)
    wait_until(lambda: swarm.leader() is machine, 30, "it does not lead", machine.tail)
    for drained in (door, other):
        drained.ctl("node", "activate", drained.node_id)
    before = member_of(machine, door)
    disk.fail()
    acknowledged = write_much(door, "synced", lambda: condition_seen(machine, door) in REFUSES)
    assert swarm.leader() is not machine
    assert create(door, "after").returncode == 0
    assert "handing the lead to member" in machine.log.read_text()
    disk.mend()
    wait_until(lambda: is_well(machine, door), 40, "it does not come back", machine.tail)
    assert member_of(machine, door)["member_id"] == before["member_id"]
    wait_until(lambda: has_the_same_state(machine, door), 20, "it does not catch up", machine.tail)
    assert has_all(door, acknowledged)
    for name in (*acknowledged, "after"):
        door.ctl("service", "rm", name)


def test_a_manager_whose_syncs_fail_stays_away_and_comes_back_by_itself(with_loop: tuple[Swarm, LoopDisk]) -> None:
    swarm, disk = with_loop
    door, machine = swarm.machines[0], swarm.machines[2]
    before = member_of(machine, door)
    assert machine.stop() == 0
    disk.fail()
    machine.start()
    wait_until(lambda: condition_seen(machine, door) in REFUSES, 40, "nobody says so", machine.tail)
    listed = door.ctl("node", "ls").stdout
    assert next(line for line in listed.splitlines() if machine.node_id in line).endswith(
        ("UNREACHABLE (disk failed)", "UNREACHABLE (disk full)")
    )
    for name in ("meanwhile-1", "meanwhile-2"):
        assert create(door, name).returncode == 0
    # Not at once: it gives its reserve up to come back, and serves until the next write fails.
    refuses = "while its disk refuses"
    wait_until(lambda: refuses in machine.ctl("service", "ls", check=False).stderr, 20, "it serves", machine.tail)
    process = machine.process
    disk.mend()
    wait_until(lambda: is_well(machine, door), 40, "it does not come back", machine.tail)
    assert (member_of(machine, door)["member_id"], machine.process) == (before["member_id"], process)
    wait_until(lambda: has_the_same_state(machine, door), 20, "it does not catch up", machine.tail)
    assert services_at(machine) == {"meanwhile-1", "meanwhile-2"}
