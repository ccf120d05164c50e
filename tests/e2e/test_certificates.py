"""Certificates of whole nodes: renewed under running tasks; expired and back, workers and all managers at once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.chaos.tools import faketime_library
from tests.e2e.machines import START_S_MAX, Machine, Swarm, wait_until
from tests.e2e.test_crashes import create, keys, remove
from tests.e2e.test_membership import free_port

pytestmark = pytest.mark.slow

ROUNDS = 3 if os.environ.get("SWARM_LONG") else 1
"""Renewals of every node; more in `make nightly`."""
FAR_DAYS = 120
"""Past the 90 days that a certificate holds."""


def fingerprint(machine: Machine) -> str:
    pem = (machine.state_dir / "certificates" / "swarm-node.crt").read_bytes()
    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()


def node(seen_by: Machine, machine: Machine) -> Any:
    return next(n for n in seen_by.json("node", "ls") if n["id"] == machine.node_id)


def seen(seen_by: Machine, machine: Machine) -> str:
    return str(node(seen_by, machine)["status"].get("certificate", ""))


def sessions(machine: Machine) -> list[str]:
    return re.findall(r"session (\w+) with the dispatcher", machine.log.read_text())


def elections(swarm: Swarm) -> tuple[set[int], int]:
    """The terms of the managers, and how often one has lost its link to another."""
    managers = swarm.machines[:3]
    lost = sum(m.log.read_text().count("lost the link to manager") for m in managers)
    return {m.json("raft", "status")["term"] for m in managers}, lost


def test_every_node_renews_under_running_tasks_and_nothing_else_changes(swarm: Swarm) -> None:
    """Same processes, same sessions, no node ever away, no link lost, no election; several times over."""
    leader = swarm.leader()
    before, began = keys(create(swarm, "steady", 8)), elections(swarm)
    held = {m.name: sessions(m)[-1] for m in swarm.machines}
    for _ in range(ROUNDS):
        for machine in swarm.machines:
            old = fingerprint(machine)
            leader.ctl("node", "renew", machine.node_id, "--wait", "--timeout", "20s")
            assert fingerprint(machine) != old
            wait_until(lambda m=machine: seen(leader, m) == fingerprint(m), 10, f"{machine.name} is not seen anew")
    assert keys(swarm.processes("steady")) == before
    for machine in swarm.machines:
        assert sessions(machine)[-ROUNDS - 1 :] == [held[machine.name]] * (ROUNDS + 1)
        status = node(leader, machine)["status"]
        assert (status["state"], status.get("message", "")) == ("READY", "")
        assert f"the connection of node {machine.node_id} was lost" not in leader.log.read_text()
    assert elections(swarm) == began
    remove(swarm, "steady")


@pytest.fixture
def dated(tmp_path: Path) -> Iterator[Swarm]:
    """Three managers and two workers whose wall clocks `set_clock` moves."""
    library = faketime_library()
    assert library is not None, "tests that ask for `dated` are marked needs_chaos_tools"
    swarm = Swarm(tmp_path)
    try:
        first = dated_machine(swarm, "node-1", library)
        first.start("--listen-remote-api", "127.0.0.1:0")
        first.wait_ready()
        door = f"127.0.0.1:{first.port()}"
        for number, role in ((2, "manager"), (3, "manager"), (4, "worker"), (5, "worker")):
            machine = dated_machine(swarm, f"node-{number}", library)
            token = ("--join-addr", door, "--join-token", swarm.token(role))
            machine.start("--listen-remote-api", f"127.0.0.1:{free_port()}", *token)
            machine.wait_ready()
        swarm.wait_voters(3)
        yield swarm
    finally:
        swarm.stop()
    assert swarm.strays() == []


def dated_machine(swarm: Swarm, name: str, library: Path) -> Machine:
    clock = swarm.root / f"{name}.clock"
    clock.write_text("+0\n")
    machine = Machine(
        swarm.root,
        name,
        env={
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_CACHE_DURATION": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        },
    )
    swarm.machines.append(machine)
    return machine


def set_clock(machine: Machine, days: float) -> None:
    """Let its wall clock be so far ahead of the true one."""
    path = machine.state_dir.parent / f"{machine.name}.clock"
    new = path.with_suffix(".new")
    new.write_text(f"{int(days * 86_400):+d}\n")
    new.replace(path)


def not_after(machine: Machine) -> float:
    pem = (machine.state_dir / "certificates" / "swarm-node.crt").read_bytes()
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()


@pytest.mark.needs_chaos_tools
def test_a_swarm_that_was_off_past_every_certificate_comes_back_unaided(dated: Swarm) -> None:
    """All managers and a worker have expired: the managers renew from their own logs, the worker by its old key."""
    managers, workers = dated.machines[:3], dated.machines[3:]
    create(dated, "steady", 4)
    ids = {m.name: m.node_id for m in dated.machines}
    before = {m.name: not_after(m) for m in dated.machines}
    for machine in dated.machines:
        machine.kill()
    for machine in dated.machines:
        set_clock(machine, FAR_DAYS)
    for machine in managers:
        machine.start()
    for machine in managers:
        machine.wait_ready()
        assert "renewed it with the authority's key in its own log" in machine.log.read_text()
    for machine in workers:
        machine.start()
    for machine in workers:
        machine.wait_ready()
    leader = dated.leader()
    wait_until(
        lambda: all(not_after(m) > before[m.name] and seen(leader, m) == fingerprint(m) for m in dated.machines),
        START_S_MAX,
        "some node is not seen with a certificate of these days",
    )
    assert {m.name: m.node_id for m in dated.machines} == ids
    wait_until(lambda: len(dated.processes("steady")) == 4, 60, "the tasks are not back")
    assert all(n["status"]["state"] == "READY" for n in leader.json("node", "ls"))
    remove(dated, "steady")
