"""Joining without a token: at once from the same machine and user, by an operator's word from elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.machines import START_S_MAX, Machine, Swarm, wait_for, wait_until

pytestmark = pytest.mark.slow

CODE = re.compile(r"swarmctl node accept (\S+)")


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    """One manager, whose runtime directory nobody else has."""
    (tmp_path / "runtime").mkdir(mode=0o700)
    swarm = Swarm(tmp_path)
    manager = Machine(tmp_path, "node-1", env={"XDG_RUNTIME_DIR": str(tmp_path / "runtime")})
    swarm.machines.append(manager)
    try:
        manager.start("--listen-remote-api", "127.0.0.1:0")
        manager.wait_ready()
        yield swarm
    finally:
        swarm.stop()
    assert swarm.strays() == []


def join(swarm: Swarm, name: str, runtime: str) -> Machine:
    """Start a machine that has an address and no token."""
    (swarm.root / runtime).mkdir(mode=0o700, exist_ok=True)
    machine = Machine(swarm.root, name, env={"XDG_RUNTIME_DIR": str(swarm.root / runtime)})
    swarm.machines.append(machine)
    machine.start("--join-addr", f"127.0.0.1:{swarm.machines[0].port()}")
    return machine


def state_of(swarm: Swarm, name: str) -> tuple[str, str] | None:
    """Membership and status of a node, by its hostname."""
    for node in swarm.machines[0].json("node", "ls"):
        if node["description"]["hostname"] == name:
            return node["spec"]["membership"], node["status"]["state"]
    return None


def wait_state(swarm: Swarm, name: str, *wanted: str) -> None:
    wait_until(lambda: state_of(swarm, name) == wanted, START_S_MAX, f"{name} is not {wanted}")


def code_of(machine: Machine) -> str:
    """The code that the waiting machine shows."""

    def find() -> str | None:
        codes = CODE.findall(machine.log.read_text())
        return codes[-1] if codes else None

    return wait_for(find, START_S_MAX, f"{machine.name} shows no code")


def test_from_the_same_machine_and_user_an_address_is_enough(swarm: Swarm) -> None:
    manager = swarm.machines[0]
    join(swarm, "node-2", "runtime")
    wait_state(swarm, "node-2", "ACCEPTED", "READY")
    [token] = list((swarm.root / "runtime" / "swarmd").iterdir())
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text() == swarm.token("worker")
    assert manager.stop() == 0
    assert not token.exists()


def test_from_elsewhere_it_waits_with_nothing_to_do_until_its_code_is_accepted(swarm: Swarm) -> None:
    manager = swarm.machines[0]
    joiner = join(swarm, "node-2", "elsewhere")
    wait_state(swarm, "node-2", "PENDING", "UNKNOWN")
    code = code_of(joiner)
    assert code in manager.ctl("node", "inspect", "node-2").stdout
    manager.ctl("service", "create", "--name", "idle", "--image", "x", "--replicas", "4", "--command", "sleep",
                "--args", "1000", "--wait")  # fmt: skip
    assert {task["node_id"] for task in manager.json("task", "ls")} == {manager.node_id}
    assert not joiner.node_id
    assert joiner.stop() == 0
    joiner.log.write_text("")
    joiner.start()
    assert code_of(joiner) == code
    refused = manager.ctl(
        "node", "accept", "node-2", "--code", code[:-1] + ("2" if code[-1] != "2" else "3"), check=False
    )
    assert refused.returncode == 5
    assert state_of(swarm, "node-2") == ("PENDING", "UNKNOWN")
    manager.ctl("node", "accept", code)
    wait_state(swarm, "node-2", "ACCEPTED", "READY")
    assert not list((joiner.state_dir / "certificates").glob("join-request*"))
    manager.ctl("service", "rm", "idle", "--wait")


def test_turned_away_it_ends_and_says_so(swarm: Swarm) -> None:
    joiner = join(swarm, "node-2", "elsewhere")
    code = code_of(joiner)
    wait_state(swarm, "node-2", "PENDING", "UNKNOWN")
    swarm.machines[0].ctl("node", "reject", code)
    assert state_of(swarm, "node-2") is None
    assert joiner.wait_stopped() == 1
    assert "Error: an operator turned this node away" in joiner.log.read_text()
    assert "Traceback" not in joiner.log.read_text()


def test_a_token_that_an_earlier_swarm_left_is_seen_to_be_old(swarm: Swarm) -> None:
    runtime = swarm.root / "elsewhere" / "swarmd"
    runtime.mkdir(mode=0o700, parents=True)
    namespace = os.stat("/proc/self/ns/net").st_ino
    stale = runtime / f"{namespace}-{swarm.machines[0].port()}.token"
    stale.write_text(f"SWMTKN-1-{'0' * 49}1-{'0' * 24}1")
    stale.chmod(0o600)
    joiner = join(swarm, "node-2", "elsewhere")
    assert code_of(joiner)
    assert "out of date" in joiner.log.read_text()
