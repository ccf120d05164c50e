"""Deploys that tell the truth, on a live swarm of three managers and a worker: updates, modes, placement."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from swarmd.errors import EXIT_PAUSED, EXIT_ROLLED_BACK
from tests.e2e.machines import Swarm, wait_for, wait_until

pytestmark = pytest.mark.slow

SLEEP = ("--image", "sleep", "--command", "sleep", "--args", "100000")
ENDS_BADLY = ("--command", "sh", "--args", "-c", "--args", "exit 7")


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """The worker has generic resources; two nodes are in zone a, two in zone b."""
    swarm = Swarm(tmp_path_factory.mktemp("swarm"))
    try:
        swarm.bootstrap(3)
        swarm.join("node-4", role="worker", flags=("--generic-node-resources", "licence=2,gpu=U1,gpu=U2"))
        for machine, zone in zip(swarm.machines, "aabb", strict=True):
            swarm.any_up().ctl("node", "update", machine.name, "--label-add", f"zone={zone}")
        yield swarm
    finally:
        swarm.stop()
    assert swarm.strays() == []


@pytest.fixture
def service(swarm: Swarm, request: pytest.FixtureRequest) -> Iterator[str]:
    """A name; what was created under it is removed afterwards."""
    name = request.node.name.removeprefix("test_")[:30].rstrip("_").replace("_", "-")
    yield name
    swarm.any_up().ctl("service", "rm", name, "--no-wait", check=False)
    wait_until(lambda: not swarm.processes(name), 60, f"{name} still runs")


def create(swarm: Swarm, name: str, *flags: str, wait: bool = True) -> None:
    command = () if "--command" in flags else SLEEP
    swarm.any_up().ctl("service", "create", "--name", name, *command, *flags, "--wait" if wait else "--no-wait")


def status_of(swarm: Swarm, name: str) -> dict[str, Any]:
    return dict(swarm.any_up().json("service", "inspect", name).get("update_status") or {})


def nodes_of(swarm: Swarm, name: str) -> Counter[str]:
    """How many of the service's processes run on each machine."""
    names = {machine.node_id: machine.name for machine in swarm.machines}
    return Counter(names[process.node_id] for process in swarm.processes(name))


def while_it_lasts(done: Callable[[], bool], sample: Callable[[], int], timeout_s: float = 90.0) -> list[int]:
    """Samples, as fast as they come, until it is done."""
    samples = []
    deadline = time.monotonic() + timeout_s
    while not done():
        samples.append(sample())
        assert time.monotonic() < deadline, "it takes too long"
    return samples


def test_a_rolling_update_moves_two_at_a_time(swarm: Swarm, service: str) -> None:
    create(
        swarm, service, "--replicas", "6", "--update-parallelism", "2", "--update-delay", "2s", "--update-monitor", "1s"
    )
    before = {process.task_id for process in swarm.processes(service)}
    swarm.any_up().ctl("service", "update", service, "--env", "A=1", "--no-wait")
    kept = while_it_lasts(
        lambda: status_of(swarm, service).get("message") == "update completed",
        lambda: len({process.task_id for process in swarm.processes(service)} & before),
    )
    assert {6, 4, 2, 0} <= set(kept) | {6}, kept
    running = swarm.processes(service)
    assert len(running) == 6
    assert not before & {process.task_id for process in running}


def test_a_failed_update_rolls_back_and_never_ends_with_0(swarm: Swarm, service: str) -> None:
    create(swarm, service, "--replicas", "3")
    before = {process.task_id for process in swarm.processes(service)}
    done = swarm.any_up().ctl(
        *("service", "update", service, *ENDS_BADLY, "--update-failure-action", "rollback"),
        *("--rollback-monitor", "1s", "--wait"),
        check=False,
        timeout=120,
    )
    assert done.returncode == EXIT_ROLLED_BACK, done.stderr
    wait_until(lambda: status_of(swarm, service).get("message") == "rollback completed", 60, "no rollback")
    wait_until(lambda: len(swarm.processes(service)) == 3, 30, "three do not run again")
    assert len(before & {process.task_id for process in swarm.processes(service)}) == 2, "more than one was touched"


def test_a_paused_update_says_so_and_a_rollback_leads_back(swarm: Swarm, service: str) -> None:
    create(swarm, service, "--replicas", "2")
    done = swarm.any_up().ctl("service", "update", service, *ENDS_BADLY, "--wait", check=False, timeout=120)
    assert done.returncode == EXIT_PAUSED, done.stderr
    assert "update paused due to failure or early termination of task" in done.stderr + done.stdout
    swarm.any_up().ctl("service", "rollback", service, "--wait", timeout=120)
    assert len(swarm.processes(service)) == 2


def test_start_first_leaves_no_gap(swarm: Swarm, service: str) -> None:
    create(swarm, service, "--replicas", "3", "--update-order", "start-first", "--update-monitor", "1s")
    swarm.any_up().ctl("service", "update", service, "--env", "A=1", "--no-wait")
    counts = while_it_lasts(
        lambda: status_of(swarm, service).get("message") == "update completed",
        lambda: len(swarm.processes(service)),
    )
    assert min(counts) >= 3, counts


def test_the_next_leader_goes_on_with_an_update(swarm: Swarm, service: str) -> None:
    create(swarm, service, "--replicas", "4", "--update-delay", "2s", "--update-monitor", "1s")
    before = {process.task_id for process in swarm.processes(service)}
    swarm.any_up().ctl("service", "update", service, "--env", "A=1", "--no-wait")
    wait_until(lambda: status_of(swarm, service).get("message") == "update in progress", 30, "it does not begin")
    leader = swarm.leader()
    leader.kill_daemon()
    wait_until(lambda: status_of(swarm, service).get("message") == "update completed", 120, "it does not end")
    leader.start()
    leader.wait_ready()
    swarm.wait_voters(3)
    assert not before & {process.task_id for process in swarm.processes(service)}


def test_a_job_of_twenty_runs_five_at_a_time(swarm: Swarm, service: str) -> None:
    create(
        swarm,
        service,
        *("--mode", "replicated-job", "--replicas", "20", "--max-concurrent", "5", "--image", "job"),
        *("--command", "sleep", "--args", "0.7"),
        wait=False,
    )

    def shown() -> str:
        return swarm.any_up().ctl("service", "ls").stdout

    counts = while_it_lasts(lambda: "20/20 completed" in shown(), lambda: len(swarm.processes(service)), 120.0)
    assert 0 < max(counts) <= 5, counts
    time.sleep(2.0)
    assert not swarm.processes(service), "nothing runs once all are done"


def test_constraints_and_preferences_over_labels(swarm: Swarm, service: str) -> None:
    create(swarm, service, "--replicas", "4", "--constraint", "node.labels.zone==b")
    assert nodes_of(swarm, service) == {"node-3": 2, "node-4": 2}
    swarm.any_up().ctl(
        "service", "update", service, "--constraint-rm", "node.labels.zone==b", "--replicas", "4", "--wait"
    )
    swarm.any_up().ctl("node", "update", "node-4", "--label-add", "zone=c")
    try:
        swarm.any_up().ctl(
            *("service", "update", service, "--placement-pref-add", "spread=node.labels.zone", "--force", "--wait"),
            timeout=120,
        )
        found = nodes_of(swarm, service)
        assert found["node-1"] + found["node-2"] in (1, 2), found
        assert found["node-3"] in (1, 2), found
        assert found["node-4"] in (1, 2), found
    finally:
        swarm.any_up().ctl("node", "update", "node-4", "--label-add", "zone=b")


def test_generic_resources_are_counted_and_told_to_the_task(swarm: Swarm, service: str) -> None:
    create(swarm, service, "--replicas", "2", "--generic-resource", "gpu=1")
    assert nodes_of(swarm, service) == {"node-4": 2}
    given = sorted(_environment(process.pid)["DOCKER_RESOURCE_GPU"] for process in swarm.processes(service))
    assert given == ["U1", "U2"]
    swarm.any_up().ctl("service", "scale", f"{service}=3", "--no-wait")

    def waiting() -> dict[str, Any] | None:
        tasks = swarm.any_up().json("service", "ps", service)
        return next(
            (task for task in tasks if task["status"]["state"] == "PENDING" and task["status"].get("err")), None
        )

    task = wait_for(waiting, 30, "the third does not say why it waits")
    assert "gpu" in task["status"]["err"]
    why = swarm.any_up().ctl("task", "why", task["id"]).stdout
    assert "gpu" in why
    assert "node-4" in why


def test_why_names_the_filter_and_what_would_help(swarm: Swarm, service: str) -> None:
    create(swarm, service, "--replicas", "1", "--constraint", "node.labels.zone==nowhere", wait=False)

    def reason() -> str:
        return swarm.any_up().ctl("service", "why", service).stdout

    wait_until(lambda: "constraint" in reason(), 30, "it does not say why", reason)
    document = swarm.any_up().json("service", "why", service)
    assert document
    swarm.any_up().ctl("node", "update", "node-2", "--label-add", "zone=nowhere")
    try:
        wait_until(lambda: nodes_of(swarm, service) == {"node-2": 1}, 10, "it is not placed once it can be")
    finally:
        swarm.any_up().ctl("node", "update", "node-2", "--label-add", "zone=a")
    wait_until(lambda: not swarm.processes(service), 30, "it stays where it must not be")


def test_a_service_waits_for_what_it_depends_on(swarm: Swarm, service: str) -> None:
    create(swarm, f"{service}-db", "--replicas", "0", wait=False)
    try:
        create(swarm, service, "--replicas", "1", "--depends-on", f"{service}-db", wait=False)
        reason = f"waiting for service {service}-db to be started"
        wait_until(
            lambda: [task["status"].get("err") for task in swarm.any_up().json("service", "ps", service)] == [reason],
            30,
            "it does not wait",
        )
        swarm.any_up().ctl("service", "scale", f"{service}-db=1", "--no-wait")
        wait_until(lambda: len(swarm.processes(service)) == 1, 30, "it does not start")
    finally:
        swarm.any_up().ctl("service", "rm", f"{service}-db", "--no-wait")
        wait_until(lambda: not swarm.processes(f"{service}-db"), 60, "db still runs")


def _environment(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/environ", "rb") as file:
        pairs = [entry.decode().partition("=") for entry in file.read().split(b"\0") if entry]
    return {name: value for name, _, value in pairs}
