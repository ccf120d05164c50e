"""Certificates of whole nodes: renewed under running tasks, expired and back, for workers and for all managers at once."""

from __future__ import annotations

import re
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.e2e.machines import Machine, Swarm, wait_until
from tests.e2e.test_crashes import create, keys, remove

pytestmark = pytest.mark.slow

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
    for _ in range(3):
        for machine in swarm.machines:
            old = fingerprint(machine)
            leader.ctl("node", "renew", machine.node_id, "--wait", "--timeout", "20s")
            assert fingerprint(machine) != old
            wait_until(lambda m=machine: seen(leader, m) == fingerprint(m), 10, f"{machine.name} is not seen anew")
    assert keys(swarm.processes("steady")) == before
    for machine in swarm.machines:
        assert sessions(machine)[-4:] == [held[machine.name]] * 4
        status = node(leader, machine)["status"]
        assert (status["state"], status.get("message", "")) == ("READY", "")
        assert f"the connection of node {machine.node_id} was lost" not in leader.log.read_text()
    assert elections(swarm) == began
    remove(swarm, "steady")
