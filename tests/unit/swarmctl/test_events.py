"""`events`: what is printed, which watch a command line asks for, and what interruptions cost: nothing, or one line."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from swarmctl.follow import RECONNECT_S_MAX
from swarmd.errors import Gone, Invalid, SwarmError, Unavailable
from swarmd.model import Membership, NodeState, Role, StoredObject, TaskState, TaskStatus
from swarmd.wire.watch import KINDS, Action, WatchedEvent, WatchEntry, WatchMessage, WatchRequest
from tests.unit.swarmctl.fake_daemon import NOW, FakeDaemon, id_of, node_view, service_view, task_for

WEB = service_view("s", "web", replicas=2)
NODE = node_view("n", "host-1", member=1)
TASK = task_for(WEB, "t", 1, node=NODE)


@pytest.fixture
def daemon() -> FakeDaemon:
    made = FakeDaemon()
    made.services, made.nodes = [WEB], [NODE]
    return made


def fields(object: StoredObject) -> dict[str, Any]:
    return dict(msgspec.to_builtins(object, builtin_types=(bytes,)))


def event(action: str, object: StoredObject, *, old: StoredObject | None = None, has_left: bool = False) -> Any:
    kind = next(kind for kind, type_ in KINDS.items() if isinstance(object, type_))
    before = None if old is None else fields(old)
    return WatchedEvent(kind=kind, action=Action(action), object=fields(object), old=before, has_left=has_left)


def begin(version: int) -> WatchMessage:
    return WatchMessage(version=version, node_id="m1")


def told(version: int, *events: WatchedEvent, is_partial: bool = False) -> WatchMessage:
    return WatchMessage(version=version, at=NOW + 0.25, events=events, is_partial=is_partial)


def lost() -> SwarmError:
    return Unavailable("the connection is gone")


def request(daemon: FakeDaemon, *arguments: str) -> WatchRequest:
    """What is asked of the daemon."""
    result = daemon.run("events", *arguments)
    assert result.code == 130, result.err
    (asked,) = daemon.asked("watch")
    assert isinstance(asked, WatchRequest)
    return asked


# -- what is printed ---------------------------------------------------------------------------------------------------
def test_a_line_says_when_what_and_how_it_is_now(daemon: FakeDaemon) -> None:
    failed = replace(TASK, status=TaskStatus(state=TaskState.FAILED, err="exit 1\n\x1b[31m"))
    daemon.streams = [
        [
            begin(4),
            told(5, event("create", WEB.service), event("create", TASK)),
            told(6, event("update", replace(failed, desired_state=TaskState.SHUTDOWN), old=TASK)),
            told(9, event("update", NODE.node, has_left=True), event("remove", WEB.service)),
        ]
    ]
    result = daemon.run("events")
    assert result.out.splitlines() == [
        "2027-01-15T08:00:00.250Z  service   create  web  2 of redis",
        f"2027-01-15T08:00:00.250Z  task      create  {TASK.name}  RUNNING on {NODE.node.id}",
        f"2027-01-15T08:00:00.250Z  task      update  {TASK.name}  RUNNING on {NODE.node.id} -> "
        f"FAILED, to be SHUTDOWN on {NODE.node.id}: exit 1  [31m",
        "2027-01-15T08:00:00.250Z  node      update  host-1  READY ACTIVE MANAGER (left the filter)",
        "2027-01-15T08:00:00.250Z  service   remove  web  2 of redis",
    ]


def test_json_is_one_object_a_line_with_the_version(daemon: FakeDaemon) -> None:
    daemon.streams = [[begin(4), told(5, event("create", TASK), event("update", TASK, old=TASK))]]
    first, second = (json.loads(line) for line in daemon.run("events", "-o", "json").out.splitlines())
    assert {name: first[name] for name in ("version", "at", "kind", "action", "has_left", "id", "name")} == {
        "version": 5,
        "at": "2027-01-15T08:00:00.250000Z",
        "kind": "task",
        "action": "create",
        "has_left": False,
        "id": TASK.id,
        "name": TASK.name,
    }
    assert first["object"]["status"]["state"] == "RUNNING"
    assert "old" not in first
    assert [line["remaining"] for line in (first, second)] == [1, 0]
    assert second["old"]["id"] == TASK.id


def test_other_formats(daemon: FakeDaemon) -> None:
    def out(*arguments: str) -> str:
        daemon.streams = [[begin(4), told(5, event("create", TASK))]]
        return daemon.run("events", *arguments).out

    assert out("-q") == f"{TASK.id}\n"
    assert out("-o", "name") == f"{TASK.name}\n"
    assert out("-o", "yaml").startswith("---\nversion: 5\n")
    assert out("-o", "wide").split() == ["5", *out().split()[:3], TASK.id, *out().split()[3:]]


# -- which watch is asked for ------------------------------------------------------------------------------------------
def test_without_options_it_is_everything_from_now_on(daemon: FakeDaemon) -> None:
    assert request(daemon) == WatchRequest()


def test_since_and_old(daemon: FakeDaemon) -> None:
    assert request(daemon, "--since", "12", "--old") == WatchRequest(after=12, include_old=True)


@pytest.mark.parametrize(
    ("filters", "entry"),
    [
        (["kind=service"], WatchEntry(kind="service")),
        (["type=removed-node", "event=Remove"], WatchEntry(kind="removed_node", actions=("remove",))),
        (["service=web"], WatchEntry(kind="task", service_id=id_of("s"))),
        (["service=web", "slot=2"], WatchEntry(kind="task", service_id=id_of("s"), slot=2)),
        (["node=host-1", "desired-state=shutdown"], None),
        (["role=manager"], WatchEntry(kind="node", role=Role.MANAGER)),
        (["state=down", "membership=accepted"], None),
        (["kind=task", "id=abc"], WatchEntry(kind="task", id_prefix="abc")),
        (["kind=task", f"id={id_of('t')}"], WatchEntry(kind="task", id=id_of("t"))),
        (["kind=service", "name=we*"], WatchEntry(kind="service", name_prefix="we")),
        (["kind=service", "name=web"], WatchEntry(kind="service", name="web")),
        (["hostname=host-1"], WatchEntry(kind="node", hostname="host-1")),
        ([f"service={id_of('x')}"], WatchEntry(kind="task", service_id=id_of("x"))),
    ],
)
def test_filters(daemon: FakeDaemon, filters: list[str], entry: WatchEntry | None) -> None:
    expected = entry or {
        "node=host-1": WatchEntry(kind="task", node_id=id_of("n"), desired_state=TaskState.SHUTDOWN),
        "state=down": WatchEntry(kind="node", state=NodeState.DOWN, membership=Membership.ACCEPTED),
    }.get(filters[0])
    assert request(daemon, *(word for text in filters for word in ("-f", text))).entries == (expected,)


def test_the_same_key_is_or_and_without_a_kind_it_is_every_kind(daemon: FakeDaemon) -> None:
    entries = request(daemon, "-f", "kind=node", "-f", "kind=task", "-f", "name=a", "-f", "name=b").entries
    assert [(entry.kind, entry.name) for entry in entries] == [
        ("node", "a"),
        ("node", "b"),
        ("task", "a"),
        ("task", "b"),
    ]
    daemon.calls.clear()
    assert {entry.kind for entry in request(daemon, "--filter", "name=a").entries} == set(KINDS)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-f", "colour=red"], 2, 'Error: --filter: "colour=red" is not understood'),
        (["-f", "kind"], 2, 'Error: --filter: "kind" is not understood'),
        (["-f", "kind="], 2, "is not understood"),
        (["-f", "role=king"], 2, 'Error: --filter: "role=king" is not understood'),
        (["-f", "slot=one"], 2, 'Error: --filter slot: "one" is not understood'),
        (["-f", "service=nobody"], 3, 'service "nobody" not found'),
        (["--since", "yesterday"], 2, 'Error: --since: "yesterday" is not understood'),
        ([word for n in range(65) for word in ("-f", f"id=a{n}")], 2, "more than 64 combinations"),
    ],
)
def test_bad_input(daemon: FakeDaemon, arguments: list[str], code: int, message: str) -> None:
    result = daemon.run("events", *arguments)
    assert result.code == code
    assert message in result.err
    assert daemon.asked("watch") == []


# -- interruptions -----------------------------------------------------------------------------------------------------
def versions(out: str) -> list[int]:
    return [json.loads(line)["version"] for line in out.splitlines()]


def test_a_lost_connection_is_resumed_behind_the_last_whole_transaction(daemon: FakeDaemon) -> None:
    one, two = event("create", TASK), event("update", TASK)
    daemon.streams = [
        [begin(4), told(5, one), told(6, one, is_partial=True), lost()],
        [lost()],
        [begin(5), told(6, one, is_partial=True), told(6, two), told(7, one)],
    ]
    result = daemon.run("events", "-o", "json")
    assert versions(result.out) == [5, 6, 6, 7]
    assert [asked.after for asked in daemon.asked("watch")] == [None, 5, 5, 7]
    assert "Note: resumed at version 5, no events missed (the connection is gone)" in result.err
    assert result.code == 130


def test_quiet_times_move_the_place_to_resume_at(daemon: FakeDaemon) -> None:
    daemon.streams = [[begin(4), WatchMessage(version=900), lost()], [begin(900)]]
    daemon.run("events", "-f", "kind=node")
    first, second, *_ = daemon.asked("watch")
    assert second == replace(first, after=900)


def test_a_manager_that_stays_away_ends_it_with_the_version_to_go_on_from(daemon: FakeDaemon) -> None:
    daemon.streams = [[begin(4), told(5, event("create", TASK)), lost()], *[[lost()]] * 100]
    result = daemon.run("events")
    assert result.code == 6
    assert result.err.splitlines() == [
        "Error: the connection is gone",
        "Hint: swarmctl events --since 5 goes on behind what was shown",
    ]
    assert RECONNECT_S_MAX - 3 < daemon.clock <= RECONNECT_S_MAX


def test_what_keeps_it_from_beginning_ends_it_at_once(daemon: FakeDaemon) -> None:
    for error, code in ((lost(), 6), (Invalid("version 9 is in the future", hint="look"), 2)):
        daemon.streams = [[error]]
        result = daemon.run("events", "--since", "9")
        assert (result.code, daemon.pauses) == (code, [])
        assert result.err.startswith(f"Error: {error.message}")


def test_gone_at_the_start_says_so_in_a_line(daemon: FakeDaemon) -> None:
    daemon.streams = [[Gone("what happened after version 3 is not known any more", hint="read anew")]]
    result = daemon.run("events", "--since", "3")
    assert (result.code, result.out) == (4, "")
    assert result.err == "Error: what happened after version 3 is not known any more\nHint: read anew\n"


def test_gone_for_slowness_is_resumed_and_final_only_if_that_fails(daemon: FakeDaemon) -> None:
    slow, forgotten = Gone("not read for 30 s"), Gone("after version 5 is not known any more", hint="read anew")
    daemon.streams = [[begin(4), told(5, event("create", TASK)), slow], [begin(5), slow], [forgotten]]
    result = daemon.run("events", "-o", "json")
    assert versions(result.out) == [5]
    assert result.code == 4
    assert result.err.splitlines()[-2:] == ["Error: after version 5 is not known any more", "Hint: read anew"]


def test_what_cannot_go_on_after_an_interruption_says_where_it_was(daemon: FakeDaemon) -> None:
    from swarmd.errors import FailedPrecondition

    daemon.streams = [[begin(4), lost()], [FailedPrecondition("this node is not a manager", hint="use another socket")]]
    result = daemon.run("events")
    assert result.code == 4
    assert result.err.splitlines()[-2:] == [
        "Error: this node is not a manager",
        "Hint: swarmctl events --since 4 goes on behind what was shown",
    ]


def test_a_watch_that_ends_is_a_lost_one(daemon: FakeDaemon) -> None:
    daemon.streams = [[begin(4)], [begin(4), told(5, event("create", TASK))]]
    assert versions(daemon.run("events", "-o", "json").out) == [5]
