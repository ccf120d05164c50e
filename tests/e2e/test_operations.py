"""What an operator does to a running swarm: stop and start daemons, promote, demote, drain, pause."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.e2e.machines import STOP_S_MAX, Machine, Swarm, wait_until
from tests.e2e.test_crashes import create, keys, node_state, remove, running

pytestmark = pytest.mark.slow


def test_sigterm_stops_a_daemon_and_leaves_its_tasks_running(swarm: Swarm) -> None:
    before = keys(create(swarm, "stays", 4))
    leader = swarm.leader()
    assert leader.stop() == 0, leader.tail()
    assert keys(swarm.processes("stays")) == before
    swarm.any_up().ctl("service", "update", "stays", "--label", "after=stop", "--no-wait")
    leader.start()
    leader.wait_ready()
    swarm.wait_voters(3)
    assert keys(swarm.processes("stays")) == before
    remove(swarm, "stays")


def test_a_second_daemon_on_a_live_state_directory_refuses(swarm: Swarm) -> None:
    machine = swarm.machines[0]
    done = subprocess.run(
        [sys.executable, "-m", "swarmd", "-d", str(machine.state_dir), "--executor", "process"],
        capture_output=True,
        text=True,
        timeout=STOP_S_MAX * 3,
        check=False,
    )
    assert done.returncode != 0
    assert "another swarmd" in done.stderr
    assert "Traceback" not in done.stderr
    assert machine.is_up


def test_a_drained_node_gives_up_its_tasks_and_gets_new_ones_once_active(swarm: Swarm) -> None:
    create(swarm, "drained", 4)
    worker = swarm.machines[3]
    operator = swarm.any_up()
    operator.ctl("node", "drain", worker.name)
    wait_until(lambda: moved_away(swarm, "drained", 4, worker.node_id), 60, "the drained node keeps tasks")
    operator.ctl("node", "activate", worker.name)
    operator.ctl("service", "update", "drained", "--replicas", "8", "--no-wait")
    wait_until(lambda: len(swarm.processes("drained")) == 8, 60, "eight replicas do not run")
    assert any(p.node_id == worker.node_id for p in swarm.processes("drained"))
    remove(swarm, "drained")


def moved_away(swarm: Swarm, name: str, count: int, node_id: str) -> bool:
    """Whether all replicas run, none of them on that node."""
    processes = running(swarm, name, count)
    return bool(processes) and all(p.node_id != node_id for p in processes or [])


def test_a_paused_node_keeps_its_tasks_and_gets_no_new_ones(swarm: Swarm) -> None:
    worker = swarm.machines[3]
    before = [p for p in create(swarm, "paused", 4) if p.node_id == worker.node_id]
    operator = swarm.any_up()
    operator.ctl("node", "pause", worker.name)
    operator.ctl("service", "update", "paused", "--replicas", "10", "--no-wait")
    wait_until(lambda: len(swarm.processes("paused")) == 10, 60, "ten replicas do not run")
    assert keys([p for p in swarm.processes("paused") if p.node_id == worker.node_id]) == keys(before)
    operator.ctl("node", "activate", worker.name)
    remove(swarm, "paused")


def test_a_worker_is_promoted_and_demoted_live_and_keeps_its_tasks(swarm: Swarm) -> None:
    before = keys(create(swarm, "promoted", 4))
    worker = swarm.machines[3]
    swarm.leader().ctl("node", "promote", worker.name, "--no-wait")
    swarm.wait_voters(4)
    wait_until(lambda: is_manager(worker), 60, "the promoted node does not answer as a manager")
    swarm.leader().ctl("node", "demote", worker.name, "--no-wait")
    swarm.wait_voters(3)
    wait_until(lambda: not is_manager(worker), 60, "the demoted node still answers as a manager")
    wait_until(lambda: node_state(swarm, worker.node_id) == "READY", 60, "the demoted node has no session")
    assert keys(swarm.processes("promoted")) == before
    remove(swarm, "promoted")


def is_manager(machine: Machine) -> bool:
    """What the daemon says of itself."""
    status = machine.status()
    return bool(status and status.get("is_manager"))


def test_the_leader_itself_can_be_demoted_and_promoted_again(swarm: Swarm) -> None:
    leader = swarm.leader()
    leader.ctl("node", "demote", leader.name, "--no-wait")
    wait_until(lambda: not is_manager(leader), 60, "the demoted leader still answers as a manager")
    others = [m for m in swarm.machines[:3] if m is not leader]
    others[0].ctl("node", "promote", leader.name, "--no-wait")
    wait_until(lambda: is_manager(leader), 60, "the promoted node does not answer as a manager")
    swarm.wait_voters(3)


def test_a_removed_node_is_refused_and_its_id_stays_refused(swarm: Swarm) -> None:
    extra = swarm.join("node-5", role="worker")
    operator = swarm.any_up()
    refused = operator.ctl("node", "rm", extra.name, check=False)
    assert refused.returncode == 4, refused.stderr
    node_id = extra.node_id
    operator.ctl("node", "rm", node_id, "--force")
    wait_until(lambda: "was removed" in extra.tail(50), 30, "its open connection did not end", lambda: extra.tail())
    extra.stop()
    extra.log.unlink()
    extra.start()
    wait_until(lambda: "was removed" in extra.tail(50), 30, "the removed node was not told", lambda: extra.tail())
    assert node_id not in {n["id"] for n in operator.json("node", "ls")}
    extra.stop()
    swarm.machines.remove(extra)
