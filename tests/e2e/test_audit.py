"""The audit trail of three real managers: equal on all of them, whole after a restart, and free of secrets."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from swarmd.errors import SwarmError
from swarmd.transport.blocking import BlockingConnection
from swarmd.wire.frames import Headers
from swarmd.wire.methods import RAFT_JOIN
from swarmd.wire.peer import JoinRequest
from tests.e2e.machines import Machine, Swarm, wait_until

pytestmark = pytest.mark.slow

HIDDEN = "hidden-value-of-a-variable"


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    swarm = Swarm(tmp_path_factory.mktemp("audit"))
    try:
        swarm.bootstrap(3)
        yield swarm
    finally:
        swarm.stop()


def trail(machine: Machine, *, own: bool = False) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = machine.json("audit", "--limit", "0")
    return [record for record in records if (record["index"] == 0) is own]


def applied(machine: Machine) -> int:
    status = machine.status()
    return int(status["applied_index"]) if status else 0


def until_all_have(swarm: Swarm, index: int) -> None:
    wait_until(lambda: all(applied(m) >= index for m in swarm.machines), 30, f"not all have applied entry {index}")


def create(machine: Machine, name: str) -> None:
    flags = ("--image", "none", "--command", "true", "--replicas", "0", "--env", f"A={HIDDEN}")
    machine.ctl("service", "create", "--name", name, *flags)


def told(records: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {(r["actor"], c["action"], f"{c['kind']} {c['name']}") for r in records for c in r["changes"]}


def test_the_same_on_all_whoever_was_asked(swarm: Swarm) -> None:
    first, second, third = swarm.machines
    create(first, "one")
    create(second, "two")
    third.ctl("service", "rm", "one")
    third.ctl("node", "drain", "node-2")
    second.ctl("node", "activate", "node-2")
    until_all_have(swarm, max(map(applied, swarm.machines)))
    trails = [trail(machine) for machine in swarm.machines]
    assert trails[0] == trails[1] == trails[2]
    by = {machine.name: f"operator@{machine.node_id} uid:{os.getuid()}" for machine in swarm.machines}
    assert told(trails[0]) >= {
        (by["node-1"], "create", "service one"),
        (by["node-2"], "create", "service two"),
        (by["node-3"], "remove", "service one"),
        (by["node-3"], "update", "node node-2"),
        (by["node-2"], "update", "node node-2"),
        ("anonymous", "create", "node node-2"),
        ("anonymous", "create", "node node-3"),
    }
    drained = next(r for r in trails[0] if r["actor"] == by["node-3"] and r["changes"][0]["action"] == "update")
    assert drained["changes"][0]["fields"] == {"spec.availability": ["active", "drain"]}
    heads = {machine.ctl("audit", "--verify").stdout for machine in swarm.machines}
    assert len(heads) == 1
    assert "the chain holds" in heads.pop()


def test_no_secret_and_no_placement_is_in_it(swarm: Swarm) -> None:
    manager = swarm.machines[0]
    text = manager.ctl("audit", "--limit", "0", "-o", "json").stdout
    assert "A=<redacted>" in text
    tokens = manager.json("cluster", "inspect")["root_ca"]["join_tokens"].values()
    for secret in (HIDDEN, *tokens, *(token.rsplit("-", 1)[1] for token in tokens), "PRIVATE KEY", "CERTIFICATE"):
        assert secret not in text
    assert not [c for r in trail(manager) for c in r["changes"] if c["kind"] == "task"]
    sealed = (manager.state_dir / "raft" / "audit.db").read_bytes()
    assert b"operator@" not in sealed


def test_a_killed_and_a_stopped_manager_tell_the_same_afterwards_and_nothing_twice(swarm: Swarm) -> None:
    first, second, third = swarm.machines
    before = trail(first)
    third.kill_daemon()
    second.stop()
    second.start()
    second.wait_ready()
    create(first, "while-away")
    third.start()
    third.wait_ready()
    create(third, "back-again")
    until_all_have(swarm, max(map(applied, swarm.machines)))
    after = [trail(machine) for machine in swarm.machines]
    assert after[0] == after[1] == after[2]
    assert after[0][: len(before)] == before
    assert [r["changes"][0]["name"] for r in after[0] if r["changes"][0]["kind"] == "service"][-2:] == [
        "while-away",
        "back-again",
    ]
    indexes = [record["index"] for record in after[0]]
    assert indexes == sorted(set(indexes))


def test_a_refused_call_is_told_by_the_manager_that_refused_it_alone(swarm: Swarm) -> None:
    first, second, third = swarm.machines
    with (
        contextlib.closing(BlockingConnection.connect(second.socket, timeout_s=5.0)) as door,
        pytest.raises(SwarmError),
    ):
        door.call(
            RAFT_JOIN, JoinRequest(addresses=("127.0.0.1:1",), incarnation=b"i" * 16), timeout_s=5, headers=Headers()
        )
    (refused,) = [record for record in trail(second, own=True) if record["what"] == "raft.join"]
    assert refused["actor"] == f"operator@{second.node_id} uid:{os.getuid()}"
    assert "is not served on the control socket" in refused["result"]
    assert refused["chain"] == ""
    assert [r for m in (first, third) for r in trail(m, own=True) if r["what"] == "raft.join"] == []


def test_a_wrong_token_is_told_by_the_leader(swarm: Swarm) -> None:
    leader = swarm.leader()
    wrong = swarm.token("worker")
    head, _, secret = wrong.rpartition("-")
    other = secret[:-1] + ("a" if secret[-1] != "a" else "b")
    wrong = f"{head}-{other}"
    door = f"127.0.0.1:{leader.port()}"
    intruder = swarm.add("intruder", "--join-addr", door, "--join-token", wrong, "--listen-remote-api", "127.0.0.1:0")
    try:
        wait_until(lambda: any(r["what"] == "ca.issue" for r in trail(leader, own=True)), 30, "nobody tells of it")
    finally:
        intruder.stop()
        swarm.machines.remove(intruder)
    refused = next(r for r in trail(leader, own=True) if r["what"] == "ca.issue")
    assert refused["actor"] == "anonymous"
    assert refused["address"].startswith("127.0.0.1")
    assert other not in str(refused)
    assert wrong not in leader.ctl("audit", "--limit", "0", "-o", "json").stdout


def test_a_data_key_is_rotated_and_the_trail_stays_readable(swarm: Swarm) -> None:
    manager = swarm.machines[0]
    before = trail(manager)
    assert "no older one is left" in manager.ctl("raft", "rotate-key").stdout
    manager.stop()
    manager.start()
    manager.wait_ready()
    assert trail(manager)[: len(before)] == before
    assert not list((manager.state_dir / "raft").glob("audit.db.damaged-*"))


def test_a_damaged_file_stops_no_manager_and_the_gap_is_told(swarm: Swarm) -> None:
    manager = swarm.machines[2]
    manager.stop()
    raft = manager.state_dir / "raft"
    (raft / "audit.db").write_bytes(b"nothing of use" * 500)
    manager.start()
    manager.wait_ready()
    assert (raft / "audit.db.damaged-1").exists()
    create(manager, "after-damage")
    # No snapshot was taken yet: the whole log is there, and everything is derived from it again.
    until_all_have(swarm, max(map(applied, swarm.machines)))
    assert trail(manager) == trail(swarm.machines[0])
    assert "moved to" in manager.log.read_text()
