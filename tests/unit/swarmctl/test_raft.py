"""`raft status`: what is printed of the group, and the arithmetic of quorums in words."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from swarmctl.quorum import change_in_words, tolerated, warning
from swarmctl.render.raft import quorum_in_words
from swarmd.errors import FailedPrecondition
from swarmd.wire.control import Reachability
from swarmd.wire.disk import DiskCondition, DiskReport
from swarmd.wire.raft_status import KeyRotated, RaftMember, RaftStatusReply
from tests.unit.swarmctl.fake_daemon import FakeDaemon

UP = Reachability.REACHABLE
MEMBERS = (
    RaftMember(
        node_id="a" * 25,
        node_name="node-1",
        member_id=0x1F,
        addresses=("10.0.0.1:4242",),
        is_leader=True,
        reachability=UP,
        match=90,
        lag=0,
        last_contact_s=0.0,
    ),
    RaftMember(
        node_id="b" * 25, node_name="node-2", member_id=0x2F, reachability=UP, match=80, lag=10, last_contact_s=0.12
    ),
    RaftMember(
        node_id="c" * 25,
        member_id=0x3F,
        is_voter=False,
        reachability=Reachability.UNREACHABLE,
        match=0,
        lag=90,
        last_contact_s=312.0,
    ),
)
STATUS = RaftStatusReply(
    node_id="a" * 25,
    member_id=0x1F,
    role="leader",
    term=4,
    leader_node_id="a" * 25,
    leader_contact_s=0.1,
    first_index=11,
    last_index=90,
    commit_index=89,
    applied_index=88,
    snapshot_index=10,
    voters=2,
    needed=2,
    answering=2,
    members=MEMBERS,
)


@pytest.fixture
def daemon() -> FakeDaemon:
    daemon = FakeDaemon()
    daemon.handlers["raft.status"] = lambda request: STATUS
    return daemon


def changed(daemon: FakeDaemon, **fields: Any) -> None:
    daemon.handlers["raft.status"] = lambda request: msgspec.structs.replace(STATUS, **fields)


def test_the_leader_tells_how_far_everybody_is(daemon: FakeDaemon) -> None:
    assert daemon.run("raft", "status").out.splitlines() == [
        f"Member        : 1f (node {'a' * 25}), leader",
        "Term          : 4",
        "Leader        : node-1, a majority answered 0.1s ago",
        "Log           : entries 11 to 90, snapshot at 10",
        "Commit        : 89, applied 88",
        "Quorum        : 2 voters, 2 needed, 2 answer: none may fail",
        "",
        "Node                       Member ID  Vote     Reachability  Match  Lag  Last Contact  Address",
        "----                       ---------  ----     ------------  -----  ---  ------------  -------",
        "node-1 * (this)            1f         voter    REACHABLE     90     0    -             10.0.0.1:4242",
        "node-2                     2f         voter    REACHABLE     80     10   0.1s ago",
        f"{'c' * 25}  3f         learner  UNREACHABLE   0      90   5m12s ago",
    ]


def test_a_follower_says_what_is_the_leaders_to_know(daemon: FakeDaemon) -> None:
    members = tuple(msgspec.structs.replace(m, match=None, lag=None, last_contact_s=None) for m in MEMBERS)
    changed(daemon, role="follower", node_id="b" * 25, member_id=0x2F, members=members, leader_contact_s=0.04)
    out = daemon.run("raft", "status").out
    assert "Leader        : node-1, heard 0.0s ago" in out
    assert out.endswith("\nMatch and lag are the leader's to know, and who answers it: ask there.\n")
    assert "REACHABLE     -      -" in out


def test_without_a_leader_it_still_answers(daemon: FakeDaemon) -> None:
    members = tuple(msgspec.structs.replace(m, is_leader=False) for m in MEMBERS)
    changed(daemon, role="pre_candidate", leader_node_id="", members=members, voters=3, answering=1, snapshot_index=0)
    out = daemon.run("raft", "status").out
    assert "pre-candidate" in out
    assert "Leader        : none known" in out
    assert "snapshot at none" in out
    assert "3 voters, 2 needed, 1 answers: no quorum, 1 more must come back" in out


def test_what_is_wrong_with_a_member_is_shown(daemon: FakeDaemon) -> None:
    members = (
        msgspec.structs.replace(MEMBERS[1], is_rolled_back=True),
        msgspec.structs.replace(MEMBERS[2], is_receiving_snapshot=True),
    )
    changed(daemon, members=members)
    out = daemon.run("raft", "status").out
    assert "ROLLED BACK" in out
    assert "UNREACHABLE (snapshot)" in out


def test_the_leader_says_that_the_states_agree(daemon: FakeDaemon) -> None:
    changed(daemon, digest_index=128, digest=bytes(32), digests_agree_at=64, digests_agreeing=2)
    out = daemon.run("raft", "status").out
    assert "Digest        : agree at 64 (2 of 3 members told theirs)\n" in out
    assert "ALARM" not in out
    document = json.loads(daemon.run("raft", "status", "-o", "json").out)
    assert (document["digest_index"], document["digests_agree_at"], document["alarm"]) == (128, 64, "")
    assert (document["digest"], document["state_hash"]) == ("00" * 32, "")


def test_a_follower_shows_its_own_digest(daemon: FakeDaemon) -> None:
    changed(daemon, role="follower", digest_index=128, digest=bytes.fromhex("ab" * 32))
    assert "Digest        : abababababab at 128\n" in daemon.run("raft", "status").out


def test_an_alarm_and_a_member_that_diverges_stand_out(daemon: FakeDaemon) -> None:
    members = (MEMBERS[0], msgspec.structs.replace(MEMBERS[1], is_diverging=True))
    changed(daemon, members=members, alarm="the managers' states differ at entry 64")
    out = daemon.run("raft", "status").out
    assert "ALARM         : the managers' states differ at entry 64\n" in out
    assert "DIVERGING" in out


def test_scripts_get_every_field(daemon: FakeDaemon) -> None:
    document = json.loads(daemon.run("raft", "status", "-o", "json").out)
    assert (document["term"], document["voters"], document["failures_left"]) == (4, 2, 0)
    assert [member["match"] for member in document["members"]] == [90, 80, 0]
    assert document["members"][0]["reachability"] == "REACHABLE"
    assert daemon.run("raft", "status", "-q").out == "a" * 25 + "\n"
    assert "term: 4" in daemon.run("raft", "status", "-o", "yaml").out


def test_it_is_nobodys_stale_copy(daemon: FakeDaemon) -> None:
    assert daemon.run("raft", "status", "--stale").err == ""


def test_a_worker_says_where_to_ask(daemon: FakeDaemon) -> None:
    daemon.errors["raft.status"] = [FailedPrecondition("this node is not a manager", hint="ask a manager")]
    result = daemon.run("raft", "status")
    assert (result.code, result.err) == (4, "Error: this node is not a manager\nHint: ask a manager\n")


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((3, 2, 3), "3 voters, 2 needed, 3 answer: 1 may fail"),
        ((1, 1, 1), "1 voter, 1 needed, 1 answers: none may fail"),
        ((5, 3, 5), "5 voters, 3 needed, 5 answer: 2 may fail"),
        ((5, 3, 1), "5 voters, 3 needed, 1 answers: no quorum, 2 more must come back"),
    ],
)
def test_a_quorum_in_words(numbers: tuple[int, int, int], words: str) -> None:
    assert quorum_in_words(*numbers) == words


def test_what_a_change_comes_to() -> None:
    assert [tolerated(n) for n in range(8)] == [0, 0, 0, 1, 1, 2, 2, 3]
    assert change_in_words(3, 2) == "managers: 3 -> 2 voters; failures tolerated: 1 -> 0"
    assert [bool(warning(before, before + 1)) for before in (0, 1, 2, 3)] == [False, True, False, False]
    assert not warning(3, 2)


def test_a_rotation_that_is_done_says_so(daemon: FakeDaemon) -> None:
    daemon.handlers["raft.rotate_key"] = lambda request: KeyRotated(node_id="a" * 25, key=2)
    assert daemon.run("raft", "rotate-key").out == (
        "data key 2 seals everything on this manager's disk; no older one is left\n"
    )
    assert daemon.run("raft", "rotate-key", "-q").out == "2\n"
    assert json.loads(daemon.run("raft", "rotate-key", "-o", "json").out)["old_keys"] == []


def test_a_rotation_that_goes_on_says_which_keys_are_still_needed_and_why(daemon: FakeDaemon) -> None:
    daemon.handlers["raft.rotate_key"] = lambda request: KeyRotated(
        node_id="a" * 25, key=4, old_keys=(1, 3), problem="no space left on device"
    )
    assert daemon.run("raft", "rotate-key").out == (
        "data key 4 seals from now on; keys 1, 3 stay until everything is sealed anew, which goes on in the "
        "background (no space left on device): the daemon's log tells when\n"
    )


def test_a_member_whose_disk_is_in_trouble_says_so(daemon: FakeDaemon) -> None:
    report = DiskReport(condition=DiskCondition.FAILED, since_at=1.0)
    changed(daemon, members=(*MEMBERS[:2], msgspec.structs.replace(MEMBERS[2], disk=report)))
    assert "UNREACHABLE (disk failed) " in daemon.run("raft", "status").out
    assert json.loads(daemon.run("raft", "status", "-o", "json").out)["members"][2]["disk"]["condition"] == "FAILED"
