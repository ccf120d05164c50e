"""Services of every mode on real daemons: nodes that join, a leader that dies half way through a job."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.machines import Swarm, wait_until
from tests.e2e.test_crashes import remove

pytestmark = pytest.mark.slow


def create(swarm: Swarm, name: str, mode: str, *options: str, seconds: str = "100000") -> None:
    swarm.any_up().ctl(
        *("service", "create", "--name", name, "--image", "sleep", "--mode", mode, *options),
        *("--command", "sleep", "--args", seconds, "--no-wait"),
    )


def tasks(swarm: Swarm, name: str) -> list[dict[str, Any]]:
    """Of a service, also those that should no longer run."""
    found = swarm.any_up().json("task", "ls", "--all", "--service", name)
    assert isinstance(found, list)
    return found


def nodes_of(swarm: Swarm, name: str) -> set[str]:
    """Where processes of the service run."""
    return {process.node_id for process in swarm.processes(name)}


def completed(swarm: Swarm, name: str) -> int:
    return sum(task["status"]["state"] == "COMPLETE" for task in tasks(swarm, name))


def test_a_global_service_follows_a_node_that_joins_and_one_that_is_drained(swarm: Swarm) -> None:
    create(swarm, "everywhere", "global")
    wait_until(lambda: len(swarm.processes("everywhere")) == 4, 60, "not every node runs it")
    newcomer = swarm.join("node-5", role="worker")
    wait_until(lambda: newcomer.node_id in nodes_of(swarm, "everywhere"), 60, "the node that joined does not run it")
    swarm.any_up().ctl("node", "drain", newcomer.name)
    wait_until(lambda: newcomer.node_id not in nodes_of(swarm, "everywhere"), 60, "the drained node still runs it")
    swarm.any_up().ctl("node", "activate", newcomer.name)
    wait_until(lambda: len(nodes_of(swarm, "everywhere")) == 5, 60, "the node does not run it again")
    assert len(swarm.processes("everywhere")) == 5
    remove(swarm, "everywhere")


def test_a_job_runs_to_its_end_a_few_at_a_time_though_its_leader_dies(swarm: Swarm) -> None:
    create(swarm, "twenty", "replicated-job", "--replicas", "20", "--max-concurrent", "5", seconds="1")
    wait_until(lambda: completed(swarm, "twenty") >= 5, 60, "the job does not get anywhere")
    assert len(swarm.processes("twenty")) <= 5
    leader = swarm.leader()
    leader.kill_daemon()
    leader.start()
    leader.wait_ready()
    swarm.wait_voters(3)
    wait_until(lambda: completed(swarm, "twenty") == 20, 90, "the job does not end")
    slots = [task["slot"] for task in tasks(swarm, "twenty") if task["status"]["state"] == "COMPLETE"]
    assert sorted(slots) == list(range(1, 21))
    assert swarm.processes("twenty") == []
    remove(swarm, "twenty")


def test_a_global_job_runs_once_on_every_node(swarm: Swarm) -> None:
    nodes = len(swarm.any_up().json("node", "ls"))
    create(swarm, "once", "global-job", seconds="1")
    wait_until(lambda: completed(swarm, "once") == nodes, 60, "not every node ran it")
    assert len({task["node_id"] for task in tasks(swarm, "once")}) == nodes
    remove(swarm, "once")
