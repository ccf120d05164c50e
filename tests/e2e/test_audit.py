"""Who changed what, as every manager tells it: the same records, also after one was away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.machines import Machine, Swarm, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    swarm = Swarm(tmp_path_factory.mktemp("swarm"))
    try:
        swarm.bootstrap(3)
        yield swarm
    finally:
        swarm.stop()
    assert swarm.strays() == []


def trail(machine: Machine) -> list[dict[str, Any]]:
    """What this manager tells of the log, without what it noticed by itself."""
    return [record for record in machine.json("audit") if record.get("index")]


def wait_alike(swarm: Swarm) -> list[dict[str, Any]]:
    """All managers' trails, once they are one."""
    wait_until(lambda: len({json.dumps(trail(m)) for m in swarm.machines}) == 1, 20, "the managers' trails differ")
    return trail(swarm.machines[0])


def test_changes_made_anywhere_are_told_alike_everywhere(swarm: Swarm) -> None:
    for number, machine in enumerate(swarm.machines):
        machine.ctl("service", "create", "--name", f"web{number}", "--replicas", "0", "--image", "any", "--no-wait")
    swarm.machines[1].ctl("node", "pause", swarm.machines[2].node_id)
    swarm.machines[1].ctl("node", "activate", swarm.machines[2].node_id)
    swarm.machines[0].ctl("service", "rm", "web2", "--no-wait")
    records = wait_alike(swarm)
    told = [(c["action"], c["kind"], c.get("name", "")) for record in records for c in record.get("changes", ())]
    for expected in (("create", "service", "web0"), ("create", "service", "web2"), ("remove", "service", "web2")):
        assert expected in told
    actors = {record["actor"] for record in records if any(c["kind"] == "service" for c in record.get("changes", ()))}
    assert {actor.split(" ")[0] for actor in actors} == {f"operator@{m.node_id}" for m in swarm.machines}
    (verdict,) = {machine.ctl("audit", "--verify").stdout for machine in swarm.machines}
    assert "the chain holds" in verdict


def test_a_manager_that_was_away_tells_the_same_and_nothing_twice(swarm: Swarm) -> None:
    away = next(m for m in swarm.machines if m is not swarm.leader())
    away.kill_daemon()
    others = [m for m in swarm.machines if m is not away]
    for number in range(5):
        others[0].ctl("service", "create", "--name", f"late{number}", "--replicas", "0", "--image", "any", "--no-wait")
    away.start()
    away.wait_ready()
    swarm.wait_voters(3)
    records = wait_alike(swarm)
    indexes = [record["index"] for record in records]
    assert indexes == sorted(set(indexes))
    assert sum(c.get("name", "").startswith("late") for record in records for c in record.get("changes", ())) == 5


def test_what_is_refused_is_told_by_who_refused_it(swarm: Swarm) -> None:
    manager = swarm.machines[0]
    token = swarm.token("worker")
    wrong = token[:-3] + ("aaa" if token[-3:] != "aaa" else "bbb")
    machine = swarm.add(
        "stranger",
        "--listen-remote-api",
        "127.0.0.1:0",
        "--join-addr",
        f"127.0.0.1:{manager.port()}",
        "--join-token",
        wrong,
    )
    machine.wait_stopped()
    swarm.machines.remove(machine)

    def noted() -> list[dict[str, Any]]:
        found = [m.json("audit") for m in swarm.machines]
        return [record for records in found for record in records if not record.get("index")]

    wait_until(lambda: any(record.get("what") == "ca.issue" for record in noted()), 10, "the refusal is told by nobody")
    for record in noted():
        assert wrong[-25:] not in json.dumps(record)
        assert token[-25:] not in json.dumps(record)
