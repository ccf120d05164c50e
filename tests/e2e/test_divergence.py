"""A manager whose state is another one than the others': found out, removed, its files kept, and healed by the others.

What is wrong is made wrong on the disk of a stopped manager, sealed with its own key, as no checksum can tell.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from swarmctl.client import Client
from swarmctl.environment import Environment
from swarmd.node.identity import StateDirectory
from swarmd.node.offline_log import offline_log, sealer_for
from swarmd.raft import SnapshotMeta
from swarmd.state.snapshot import encode_snapshot
from swarmd.storage.log_store import LogBatch, LogStore
from swarmd.storage.snapshot_store import SnapshotStore
from swarmd.wire import control, methods
from swarmd.wire.raft_codec import encode_runs
from tests.bench.failover import an_idle_service
from tests.e2e.machines import Machine, Swarm, wait_until
from tests.e2e.test_membership import member_of, raft

pytestmark = pytest.mark.slow


@pytest.fixture
def managers() -> int:
    """How many found the swarm."""
    return 3


@pytest.fixture
def swarm(tmp_path_factory: pytest.TempPathFactory, managers: int) -> Iterator[Swarm]:
    """Managers alone, for one test."""
    swarm = Swarm(tmp_path_factory.mktemp("swarm"))
    try:
        swarm.bootstrap(managers)
        yield swarm
    finally:
        swarm.stop()
    assert swarm.strays() == []


def write(machine: Machine, name: str, count: int) -> str:
    """Change the service's label `count` times, making it first if need be; returns the service's id."""
    with Client(machine.socket, Environment()) as client:
        found = client.read(methods.SERVICE_LIST, control.ListServices()).services
        ids = [view.service.id for view in found if view.service.spec.name == name]
        if not ids:
            created = control.CreateService(spec=an_idle_service(name, round="first-0"))
            ids = [client.change(methods.SERVICE_CREATE, created).service.id]
        for number in range(count):
            spec = an_idle_service(name, round=f"round-{number}")
            client.change(methods.SERVICE_UPDATE, control.UpdateService(id=ids[0], spec=spec))
    return ids[0]


@contextmanager
def log_of(machine: Machine, raft_directory: Path | None = None) -> Iterator[LogStore]:
    """What a stopped manager has written (or one that is gone, in a directory set aside), open for more."""
    directory = StateDirectory(machine.state_dir)
    path = (raft_directory or directory.raft) / "raft.db"
    store = LogStore.open(path, sealer_for(path, directory.data_keys))
    try:
        yield store
    finally:
        store.close()


def forge_an_entry(machine: Machine, old: bytes, new: bytes) -> int:
    """Exchange bytes of the entry that holds them, in the log of a stopped manager. Returns the entry's index."""
    assert len(old) == len(new)
    with log_of(machine) as store:
        stored = store.load()
        at = next(n for n, entry in enumerate(stored.entries) if old in entry.body)
        forged = replace(stored.entries[at], body=stored.entries[at].body.replace(old, new))
        store.write(LogBatch(runs=encode_runs((*stored.entries[:at], forged, *stored.entries[at + 1 :]))))
        return forged.index


def forge_an_object(machine: Machine, service_id: str, label: str) -> None:
    """Put a snapshot in the place of a stopped manager's log, in which a service has another label."""
    with log_of(machine) as store:
        log = offline_log(store, StateDirectory(machine.state_dir))
        index = log.known_commit
        state = log.replay(index)
        services = state._tables.services.objects
        service = services[service_id]
        services[service_id] = replace(service, spec=replace(service.spec, labels={"round": label}))
        term = next(entry.term for entry in log.stored.entries if entry.index == index)
        meta = SnapshotMeta(index=index, term=term, configuration=log.configuration(index))
        chunks = [chunk for chunk in encode_snapshot(state.capture(), meta) if chunk]
        SnapshotStore(machine.state_dir / "raft", store.sealer).save(meta, chunks)
        store.record_snapshot(meta, keep_from=index + 1)


def label_here(machine: Machine, name: str) -> str:
    """As this manager itself has it."""
    return str(machine.json("service", "inspect", "--stale", name)["spec"]["labels"]["round"])


def verified(machine: Machine) -> Any:
    """`swarmd raft verify` of a stopped manager."""
    command = [sys.executable, "-m", "swarmd", "raft", "verify", "-o", "json", str(machine.state_dir)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def wait_healed(swarm: Swarm, machine: Machine, before: int) -> None:
    """Until the machine votes again, as another member."""

    def is_back() -> bool:
        member = member_of(machine, swarm.leader())
        return member is not None and member["member_id"] != before and member["is_voter"]

    wait_until(is_back, 90, "it does not come back", machine.tail)


def assert_equal_again(swarm: Swarm) -> None:
    """All members have told the same digest at an index that all passed since; stopped, they hold the same."""
    leader = swarm.leader()
    write(leader, "other", 130)
    told = ""

    def all_told() -> bool:
        nonlocal told
        told = leader.ctl("raft", "status").stdout  # one answer: by the next one a newer index may be the agreed one
        return "(3 of 3 members told theirs)" in told

    wait_until(all_told, 30, "not all have told theirs", leader.tail)
    assert "ALARM" not in told
    for machine in swarm.machines:
        assert machine.stop() == 0
    found = [verified(machine) for machine in swarm.machines]
    last = min(each["commit"] for each in found)
    assert last > 64
    command = [sys.executable, "-m", "swarmd", "raft", "verify", "-o", "json", "--to", str(last)]
    hashes = set()
    for machine in swarm.machines:
        out = subprocess.run([*command, str(machine.state_dir)], check=True, capture_output=True, text=True).stdout
        hashes.add((json.loads(out)["digest"], json.loads(out)["state_hash"]))
    assert len(hashes) == 1


def test_a_manager_that_applied_another_entry_is_found_out_and_heals(swarm: Swarm) -> None:
    leader = swarm.leader()
    wrong = next(m for m in swarm.machines if m is not leader)
    write(leader, "first", 0)
    write(leader, "other", 70)
    before = member_of(wrong, leader)["member_id"]
    wait_until(lambda: raft(leader)["digests_agreeing"] == 3, 20, "not all have told theirs", leader.tail)
    wrong.stop()
    forged = forge_an_entry(wrong, b"first-0", b"forged!")
    wrong.start()
    wrong.wait_ready()

    leader = swarm.leader()
    wait_until(lambda: "diverges from members" in leader.log.read_text(), 30, "nobody notices", wrong.tail)
    assert label_here(wrong, "first") == "forged!"
    wait_healed(swarm, wrong, before)

    log = leader.log.read_text()
    assert f"manager {wrong.node_id} (member {before:x}) diverges from members" in log
    assert f"another history at entry {64 * (forged // 64 + 1)}" in log
    own = wrong.log.read_text()
    assert "the state here is not the one that a quorum of managers holds" in own
    (aside,) = wrong.state_dir.glob("raft.damaged-*")
    assert f"the log is set aside as {aside}, joining anew" in own
    with log_of(wrong, aside) as kept:
        assert b"forged!" in b"".join(entry.body for entry in kept.load().entries)
    assert [path.name for path in aside.glob("snapshot-*")], "the state in memory was not kept"
    wait_until(lambda: label_here(wrong, "first") == "first-0", 30, "it is not healed", wrong.tail)
    assert_equal_again(swarm)


def test_a_leader_whose_state_is_wrong_hands_over_and_is_removed_by_the_next(swarm: Swarm) -> None:
    """The same history, and another object: only the hash of everything tells."""
    wrong = next(m for m in swarm.machines if m is not swarm.leader())
    others = [m for m in swarm.machines if m is not wrong]
    service_id = write(wrong, "first", 0)
    before = member_of(wrong, wrong)["member_id"]
    wrong.stop()
    forge_an_object(wrong, service_id, "forged!")
    wrong.start()
    wrong.wait_ready()
    for machine in others:
        machine.ctl("node", "drain", machine.node_id)
    wait_until(lambda: swarm.leader() is wrong, 20, "it does not lead", wrong.tail)
    assert label_here(wrong, "first") == "forged!"
    while not raft(wrong)["state_hash_index"]:
        write(wrong, "other", 50)
    wait_until(lambda: "the leader diverges from members" in wrong.log.read_text(), 30, "it leads on", wrong.tail)
    for machine in others:
        machine.ctl("node", "activate", machine.node_id)
    wait_healed(swarm, wrong, before)
    new = swarm.leader()
    assert new is not wrong
    assert any("another content at entry" in machine.log.read_text() for machine in others)
    wait_until(lambda: label_here(wrong, "first") == "first-0", 30, "it is not healed", wrong.tail)
    assert [label_here(machine, "first") for machine in others] == ["first-0"] * 2
    assert_equal_again(swarm)


@pytest.mark.parametrize("managers", [2])
def test_two_managers_that_differ_raise_an_alarm_and_go_on(swarm: Swarm) -> None:
    leader = swarm.leader()
    wrong = next(m for m in swarm.machines if m is not leader)
    write(leader, "first", 0)
    write(leader, "other", 70)
    wait_until(lambda: raft(leader)["digests_agreeing"] == 2, 20, "not both have told theirs", leader.tail)
    members = [m["member_id"] for m in raft(leader)["members"]]
    wrong.stop()
    forge_an_entry(wrong, b"first-0", b"forged!")
    wrong.start()
    wrong.wait_ready()
    wait_until(lambda: bool(raft(swarm.leader())["alarm"]), 40, "no alarm", lambda: swarm.leader().tail())
    told = swarm.leader().ctl("raft", "status").stdout
    assert "ALARM         : the managers' states differ at entry" in told
    assert "no side is a quorum: member " in told
    write(swarm.leader(), "other", 5)
    assert [m["member_id"] for m in raft(swarm.leader())["members"]] == members
