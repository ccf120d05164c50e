"""The quorum is lost for good: the survivor goes on alone, keeps everything, and the swarm grows again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.machines import Machine, Swarm, wait_until
from tests.e2e.test_crashes import create, keys

pytestmark = pytest.mark.slow


@pytest.fixture
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """Three managers, for one test."""
    swarm = Swarm(tmp_path_factory.mktemp("swarm"))
    try:
        swarm.bootstrap(3)
        yield swarm
    finally:
        swarm.stop()
    assert swarm.strays() == []


def services(machine: Machine) -> list[str]:
    return [service["spec"]["name"] for service in machine.json("service", "ls")]


def test_the_last_manager_goes_on_alone_keeps_its_tasks_and_takes_in_new_managers(swarm: Swarm) -> None:
    create(swarm, "web", 6)
    survivor, *lost = sorted(swarm.machines, key=lambda machine: machine is swarm.machines[0], reverse=True)
    kept = keys([p for p in swarm.processes("web") if p.node_id == survivor.node_id])
    assert kept
    for machine in lost:
        machine.kill()
    wait_until(lambda: not (survivor.status() or {}).get("leader_node_id"), 20, "the survivor still sees a leader")
    told = survivor.ctl("service", "ls", check=False)
    assert told.returncode == 6
    assert "3 voting managers" in told.stderr
    survivor.stop()

    survivor.start(*survivor.arguments, "--force-new-cluster")
    survivor.wait_ready()
    log = survivor.log.read_text()
    assert "all data up to index" in log
    assert "is lost, silently" in log
    assert log.count("removed for good: node-") == 2

    assert services(survivor) == ["web"]
    assert kept <= keys(swarm.processes("web")), "the survivor's tasks were not adopted"
    nodes = {node["id"]: node for node in survivor.json("node", "ls")}
    assert nodes[survivor.node_id]["manager"]["is_leader"]
    for machine in lost:
        ghost = nodes[machine.node_id]
        assert (ghost["role"], ghost["spec"]["desired_role"], ghost["manager"]) == ("WORKER", "WORKER", None)
    survivor.ctl("node", "rm", "--force", lost[0].node_id)
    wait_until(lambda: len(swarm.processes("web")) == 6, 60, "the lost tasks are not replaced")
    assert kept <= keys(swarm.processes("web"))

    swarm.machines = [survivor]
    swarm.join("node-4", role="manager")
    swarm.join("node-5", role="manager")
    swarm.wait_voters(3)
    swarm.machines[1].ctl("service", "update", "web", "--label", "after=recovery", "--no-wait")
    digests = {m.name: m.json("service", "inspect", "web")["spec"]["labels"] for m in swarm.machines}
    assert set(map(json.dumps, digests.values())) == {'{"after": "recovery"}'}
    assert kept <= keys(swarm.processes("web"))

    # What the lost ones had been is refused for ever, and one that comes back lays its log down by itself.
    swarm.machines += lost
    back = lost[1]
    back.start()
    wait_until(lambda: not (back.state_dir / "raft").exists(), 60, "the lost manager keeps its log", back.tail)
    wait_until(lambda: ready(survivor, back), 60, "the lost manager is no worker", back.tail)
    assert lost_voters(survivor) == 3


def ready(operator: Machine, machine: Machine) -> bool:
    node = operator.json("node", "inspect", machine.node_id)
    return bool(node["status"]["state"] == "READY" and node["status"]["confirmed"])


def lost_voters(operator: Machine) -> int:
    return sum(1 for node in operator.json("node", "ls") if node["manager"])


def test_it_is_refused_while_the_others_have_a_leader(swarm: Swarm) -> None:
    follower = next(m for m in swarm.machines if m is not swarm.leader())
    follower.stop()
    arguments = follower.arguments
    follower.start(*arguments, "--force-new-cluster")
    assert follower.wait_stopped() == 1
    assert "the quorum is not lost" in follower.tail()
    follower.start(*arguments)
    follower.wait_ready()
    swarm.wait_voters(3)


def test_of_two_survivors_the_one_with_the_newest_log_goes_on(swarm: Swarm) -> None:
    swarm.join("node-4", role="manager")
    swarm.join("node-5", role="manager")
    swarm.wait_voters(5)
    newest, behind, *lost = swarm.machines
    behind.stop()
    newest.ctl("service", "create", "--name", "late", "--image", "none", "--replicas", "0", "--no-wait")
    for machine in (newest, *lost):
        machine.kill()

    found = {machine.name: verified(machine) for machine in (newest, behind)}
    assert found["node-1"]["last_index"] > found["node-2"]["last_index"]
    common = str(min(each["commit"] for each in found.values()))
    digests = [verified(machine, "--to", common)["digest"] for machine in (newest, behind)]
    assert digests[0] == digests[1], "the survivors' logs differ where both are committed"

    newest.start(*newest.arguments, "--force-new-cluster")
    newest.wait_ready()
    assert services(newest) == ["late"]
    behind.start()
    wait_until(lambda: not (behind.state_dir / "raft").exists(), 60, "the former manager keeps its log", behind.tail)
    wait_until(lambda: ready(newest, behind), 60, "the former manager is no worker", behind.tail)
    swarm.machines = [newest, behind]


def verified(machine: Machine, *arguments: str) -> Any:
    """What `swarmd raft verify` says of a stopped manager."""
    command = [sys.executable, "-m", "swarmd", "raft", "verify", str(machine.state_dir), "-o", "json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    return json.loads(done.stdout)
