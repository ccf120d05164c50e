"""Managers that move, lose their disk, are removed, or lead when they should not: what becomes of their membership."""

from __future__ import annotations

import re
import shutil
from typing import Any

import pytest

from tests.e2e.machines import Machine, Swarm, wait_until
from tests.e2e.test_crashes import create, keys, remove

pytestmark = pytest.mark.slow


def raft(machine: Machine) -> Any:
    return machine.json("raft", "status")


def member_of(machine: Machine, seen_by: Machine) -> Any:
    return next((m for m in raft(seen_by)["members"] if m["node_id"] == machine.node_id), None)


def followers(swarm: Swarm) -> list[Machine]:
    leader = swarm.leader()
    return [m for m in swarm.machines[:3] if m is not leader]


def test_every_manager_tells_how_the_group_stands(swarm: Swarm) -> None:
    leader = swarm.leader()
    seen = raft(leader)
    assert (seen["role"], seen["voters"], seen["needed"], seen["answering"], seen["failures_left"]) == (
        *("leader", 3, 2, 3),
        1,
    )
    wait_until(lambda: all(m["lag"] == 0 for m in raft(leader)["members"]), 20, "the followers lag behind")
    assert all(m["last_contact_s"] < 5 for m in raft(leader)["members"])
    assert "3 voters, 2 needed, 3 answer: 1 may fail" in leader.ctl("raft", "status").stdout

    follower = followers(swarm)[0]
    own = raft(follower)
    assert (own["role"], own["node_id"], own["leader_node_id"]) == ("follower", follower.node_id, leader.node_id)
    assert own["term"] == raft(leader)["term"]
    assert own["leader_contact_s"] < 5
    assert {m["match"] for m in own["members"]} == {None}
    assert "the leader's to know" in follower.ctl("raft", "status").stdout

    worker = swarm.machines[3].ctl("raft", "status", check=False)
    assert worker.returncode == 4
    assert "not a manager" in worker.stderr


def test_a_manager_without_the_others_still_tells_and_says_how_old_its_state_is(swarm: Swarm) -> None:
    left, *others = swarm.machines[:3]
    for machine in others:
        machine.kill_daemon()
    wait_until(lambda: not raft(left)["leader_node_id"], 20, "it still believes in a leader")
    told = left.ctl("raft", "status").stdout
    assert "3 voters, 2 needed, 1 answers: no quorum, 1 more must come back" in told
    stale = left.ctl("service", "ls", "--stale")
    assert re.search(r"as of index \d+ on node \w+, (in touch with a leader|which has heard no leader)", stale.stderr)
    for machine in others:
        machine.start()
    for machine in others:
        machine.wait_ready()
    swarm.wait_voters(3)


def test_a_manager_that_moves_is_found_at_its_new_address(swarm: Swarm) -> None:
    """Its certificate says who it is; the address that it announces is checked by dialing it."""
    mover, other = followers(swarm)
    before = member_of(mover, other)
    assert mover.stop() == 0
    arguments = mover.arguments
    at = arguments.index("--listen-remote-api") + 1
    mover.start(*arguments[:at], f"127.0.0.1:{free_port()}", *arguments[at + 1 :])
    mover.wait_ready()
    wait_until(
        lambda: all(
            (m := member_of(mover, machine))["addresses"] != before["addresses"]
            and m["reachability"] == "REACHABLE"
            and m["member_id"] == before["member_id"]
            for machine in swarm.machines[:3]
        ),
        30,
        "the others do not reach it at its new address",
        mover.tail,
    )
    # Now it is needed: without it there is no quorum.
    other.kill_daemon()
    swarm.leader().ctl("node", "activate", mover.node_id)
    create(swarm, "moved", 1)
    remove(swarm, "moved")
    other.start()
    other.wait_ready()
    swarm.wait_voters(3)


def test_a_leader_that_moves_announces_itself_too(swarm: Swarm) -> None:
    leader = swarm.leader()
    before = member_of(leader, leader)
    arguments = leader.arguments
    leader.stop()
    at = arguments.index("--listen-remote-api") + 1
    leader.start(*arguments[:at], f"127.0.0.1:{free_port()}", *arguments[at + 1 :])
    leader.wait_ready()
    door = followers(swarm)[0]
    wait_until(
        lambda: member_of(leader, door)["addresses"] != before["addresses"], 30, "its address stays", leader.tail
    )
    swarm.wait_voters(3)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_manager_whose_log_is_gone_comes_back_as_another_member(swarm: Swarm) -> None:
    wiped, other = followers(swarm)
    before = member_of(wiped, other)["member_id"]
    refused = raft(other)["removed_members"]
    wiped.kill_daemon()
    shutil.rmtree(wiped.state_dir / "raft")
    wiped.start()
    wiped.wait_ready()
    swarm.wait_voters(3)
    wait_until(lambda: (member_of(wiped, other) or {}).get("is_voter", False), 30, "it does not vote", wiped.tail)
    assert member_of(wiped, other)["member_id"] != before
    assert before not in [m["member_id"] for m in raft(other)["members"]]
    wait_until(lambda: raft(other)["removed_members"] == refused + 1, 10, "its old id is not refused")
    create(swarm, "after-wipe", 2)
    digest = {(m.status() or {}).get("swarm_id") for m in swarm.machines[:3]}
    assert len(digest) == 1
    remove(swarm, "after-wipe")


def test_a_leader_that_is_drained_or_told_to_stop_hands_over_at_once(swarm: Swarm) -> None:
    leader = swarm.leader()
    term = raft(leader)["term"]
    leader.ctl("node", "drain", leader.node_id)
    wait_until(lambda: swarm.leader() is not leader, 10, "the drained leader leads on", leader.tail)
    heir = swarm.leader()
    assert raft(heir)["term"] == term + 1
    leader.ctl("node", "activate", leader.node_id)

    heir.stop()
    log = heir.tail(30)
    next_ = swarm.leader(timeout=5)
    assert raft(next_)["term"] == term + 2, log
    heir.start()
    heir.wait_ready()
    swarm.wait_voters(3)


def test_a_change_of_managers_says_what_it_costs(swarm: Swarm) -> None:
    door, spare = swarm.leader(), swarm.machines[3]
    told = door.ctl("node", "promote", spare.node_id, "--wait")
    assert "managers: 3 -> 4 voters; failures tolerated: 1 -> 1" in told.stderr
    swarm.wait_voters(4)
    told = door.ctl("node", "demote", spare.node_id, "--wait")
    assert "managers: 4 -> 3 voters; failures tolerated: 1 -> 1" in told.stderr

    away, other = followers(swarm)
    away.kill_daemon()
    wait_until(lambda: raft(door)["answering"] == 2, 20, "the leader does not notice")
    refused = door.ctl("node", "demote", other.node_id, check=False)
    assert refused.returncode == 4
    assert "managers: 3 -> 2 voters; failures tolerated: 1 -> 0" in refused.stderr
    # The wish stands, nothing breaks, and it comes true when that is safe.
    before = keys(create(swarm, "meanwhile", 2))
    forced = door.ctl("node", "demote", "--force", other.node_id, "--no-wait")
    assert "managers: 3 -> 2 voters" in forced.stderr
    assert (member_of(other, door) or {}).get("is_voter")
    assert before == keys(swarm.processes("meanwhile"))
    away.start()
    away.wait_ready()
    wait_until(lambda: member_of(other, door) is None, 40, "the demotion is never carried out", door.tail)
    door.ctl("node", "promote", other.node_id, "--wait")
    swarm.wait_voters(3)
    remove(swarm, "meanwhile")


def test_a_removed_manager_is_refused_for_ever(swarm: Swarm) -> None:
    """Last, because it costs a machine."""
    removed = followers(swarm)[1]
    door = next(m for m in swarm.machines[:3] if m is not removed)
    removed.kill_daemon()
    wait_until(
        lambda: door.ctl("node", "demote", removed.node_id, check=False).returncode == 0, 20, "it cannot be demoted"
    )
    wait_until(lambda: member_of(removed, door) is None, 30, "it stays a member", door.tail)
    door.ctl("node", "rm", "--force", removed.node_id)
    members = [m["member_id"] for m in raft(door)["members"]]
    removed.start()
    wait_until(lambda: "was removed from the swarm" in removed.log.read_text(), 40, "nobody refuses it", removed.tail)
    terms = {raft(m)["term"] for m in swarm.machines[:3] if m is not removed}
    assert [m["member_id"] for m in raft(door)["members"]] == members
    assert len(terms) == 1
    swarm.machines.remove(removed)
    removed.stop()
    for pid in removed.other_pids():
        raise AssertionError(f"process {pid} of the removed machine is left")
