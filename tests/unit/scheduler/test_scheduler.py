"""Placement and explanations, one sentence a test (reference orchestration 7 and 10)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.model import (
    Availability,
    Membership,
    Meta,
    Node,
    NodeState,
    NodeStatus,
    TaskState,
    TaskStatus,
)
from swarmd.scheduler import Scheduler, profile
from swarmd.scheduler.failures import FAILURE_WINDOW_S
from tests.unit.scheduler.world import NOW, S, Swarm, make_node, make_tasks, on_node


def test_new_tasks_go_to_the_empty_nodes_first() -> None:
    first = on_node(make_tasks(1, "old")[0], "n2")
    swarm = Swarm(*[make_node(id) for id in ("n1", "n2", "n3")], tasks=(first,))
    swarm.add(make_tasks(2))
    swarm.run()
    assert swarm.nodes_of("web") == ["n1", "n3"]
    swarm.remove("old.0")
    swarm.add(make_tasks(1, "next"))
    swarm.run()
    assert swarm.nodes_of("next") == ["n2"]


@pytest.mark.parametrize("group", [18, 1], ids=["as one group", "one by one"])
def test_a_service_is_spread_evenly_and_then_by_all_tasks(group: int) -> None:
    swarm = Swarm(*[make_node(f"n{i}") for i in range(5)])
    tasks = make_tasks(18)
    for start in range(0, 18, group):
        swarm.add(tasks[start : start + group])
        swarm.run()
    assert swarm.counts() == [3, 3, 4, 4, 4]
    swarm.add(make_tasks(2, "second"))
    swarm.run()
    assert swarm.nodes_of("second") == ["n3", "n4"]
    swarm.add(make_tasks(2, prefix="more"))
    swarm.run()
    assert swarm.counts() == [4, 4, 4, 4, 4]


def test_the_services_own_spread_comes_before_the_nodes_load() -> None:
    busy = tuple(on_node(task, "n1") for task in make_tasks(9, "other"))
    swarm = Swarm(make_node("n1"), make_node("n2"), tasks=busy)
    swarm.add(make_tasks(2))
    swarm.run()
    assert swarm.nodes_of("web") == ["n1", "n2"]


def test_a_task_wanted_down_no_longer_counts_but_still_takes_its_room() -> None:
    swarm = Swarm(make_node("n1", memory=10), make_node("n2", memory=10))
    swarm.add(make_tasks(1, memory=6))
    swarm.run()
    first = replace(swarm.tasks["web.0"], desired_state=S.SHUTDOWN)
    assert first.node_id == "n1"
    swarm.add([first])
    swarm.add([on_node(make_tasks(1, "other")[0], "n2")])
    swarm.add(make_tasks(1, "light"))
    swarm.run()
    assert swarm.nodes_of("light") == ["n1"]
    swarm.add(make_tasks(1, "heavy", memory=6))
    swarm.run()
    assert swarm.nodes_of("heavy") == ["n2"]


@pytest.mark.parametrize("ended", [S.SHUTDOWN, S.FAILED, S.COMPLETE, S.ORPHANED])
def test_the_end_of_a_task_lets_a_waiting_one_in(ended: TaskState) -> None:
    swarm = Swarm(make_node("n1", cpus=10))
    swarm.add(make_tasks(2, cpus=6))
    swarm.run()
    assert swarm.tasks["web.1"].node_id == ""
    swarm.move("web.0", ended)
    swarm.run()
    assert swarm.tasks["web.1"].node_id == "n1"


def test_reservations_are_accounted_for_exactly() -> None:
    swarm = Swarm(make_node("n1", memory=16), make_node("n2", memory=11))
    swarm.add(make_tasks(10, memory=4))
    swarm.run()
    assert swarm.counts() == [2, 4]
    assert len(swarm.told) == 4


def test_dead_and_unwanted_tasks_do_not_count_at_the_start() -> None:
    spec = make_tasks(3, memory=10)
    tasks = (
        on_node(spec[0], "n1", S.FAILED),
        replace(spec[1], desired_state=S.REMOVE),
        on_node(spec[2], "n1", S.SHUTDOWN),
    )
    swarm = Swarm(make_node("n1", memory=10), tasks=tasks)
    assert not swarm.scheduler.has_work
    swarm.add(make_tasks(1, "web2", memory=10))
    swarm.run()
    assert swarm.nodes_of("web2") == ["n1"]


def test_a_node_that_appears_or_comes_back_gets_what_waits() -> None:
    swarm = Swarm()
    swarm.add(make_tasks(1))
    swarm.run()
    assert swarm.told == {"web.0": "no suitable node"}
    swarm.scheduler.node_changed(make_node("n1", state=NodeState.DOWN))
    swarm.run()
    assert swarm.tasks["web.0"].node_id == ""
    swarm.scheduler.node_changed(make_node("n1"))
    swarm.run()
    assert swarm.tasks["web.0"].node_id == "n1"


def test_a_removed_node_gets_nothing() -> None:
    swarm = Swarm(make_node("n1"))
    swarm.scheduler.node_removed("n1")
    swarm.add(make_tasks(1))
    swarm.run()
    assert swarm.told == {"web.0": "no suitable node"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": NodeState.DOWN}, "1 down"),
        ({"state": NodeState.UNKNOWN}, "1 unknown"),
        ({"state": NodeState.DISCONNECTED}, "1 disconnected"),
        ({"availability": Availability.PAUSE}, "1 paused"),
        ({"availability": Availability.DRAIN}, "1 drained"),
        ({"membership": Membership.PENDING}, "1 not accepted"),
        ({"confirmed": False}, "1 not yet back in session"),
        ({"engine_error": "no socket"}, "1 without its engine"),
    ],
)
def test_unavailable_nodes_get_nothing_and_the_task_says_why(changes: dict[str, Any], reason: str) -> None:
    changes.setdefault("membership", Membership.ACCEPTED)
    swarm = Swarm(make_node("n1", **changes))
    swarm.add(make_tasks(1))
    swarm.run()
    assert swarm.told["web.0"] == f"no suitable node (1 node not available for new tasks: {reason})"


def test_a_node_that_never_described_itself_gets_nothing() -> None:
    swarm = Swarm(Node(id="n1", status=NodeStatus(state=NodeState.READY, confirmed=True)))
    swarm.add(make_tasks(1))
    swarm.run()
    assert "without a description" in swarm.told["web.0"]


def test_the_explanation_names_each_filter_most_nodes_first() -> None:
    swarm = Swarm(
        make_node("n1", state=NodeState.DOWN, memory=99),
        make_node("n2", availability=Availability.DRAIN, memory=99),
        make_node("n3", memory=3, cpus=99),
    )
    swarm.add(make_tasks(1, memory=4, cpus=1))
    swarm.run()
    assert swarm.told["web.0"] == (
        "no suitable node (2 nodes not available for new tasks: 1 down, 1 drained;"
        " insufficient resources on 1 node: memory)"
    )
    swarm.scheduler.node_changed(make_node("n4", memory=100, cpus=1))
    swarm.run()
    assert swarm.tasks["web.0"].node_id == "n4"


def test_the_explanation_tells_cpu_from_memory() -> None:
    swarm = Swarm(make_node("n1", cpus=1, memory=9), make_node("n2", cpus=9, memory=1))
    swarm.add(make_tasks(1, cpus=2, memory=2))
    swarm.run()
    assert swarm.told["web.0"] == "no suitable node (insufficient resources on 2 nodes: cpu, memory)"


def test_an_explanation_is_told_once_and_again_only_when_it_changes() -> None:
    swarm = Swarm(make_node("n1", state=NodeState.DOWN))
    swarm.add(make_tasks(3))
    swarm.run()
    assert len(swarm.told) == 3
    swarm.told.clear()
    swarm.add(make_tasks(1, prefix="late"))
    swarm.run()
    assert list(swarm.told) == ["lateweb.0"]
    swarm.told.clear()
    swarm.scheduler.node_changed(replace(make_node("n1", state=NodeState.DOWN), meta=Meta(version=9)))
    assert not swarm.scheduler.has_work
    swarm.scheduler.node_changed(make_node("n1", state=NodeState.DISCONNECTED))
    swarm.run()
    assert len(swarm.told) == 4


def test_a_new_leader_repeats_no_explanation() -> None:
    waiting = [replace(t, status=replace(t.status, err="no suitable node")) for t in make_tasks(3)]
    swarm = Swarm(tasks=tuple(waiting))
    swarm.run()
    assert swarm.told == {}


def test_max_replicas_limits_a_node() -> None:
    swarm = Swarm(make_node("n1"))
    swarm.add(make_tasks(2, max_replicas=1))
    swarm.run()
    assert swarm.counts() == [1]
    assert swarm.told == {"web.1": "no suitable node (max replicas per node limit exceed)"}
    swarm.scheduler.node_changed(make_node("n2"))
    swarm.run()
    assert swarm.counts() == [1, 1]


def test_max_replicas_holds_within_one_group() -> None:
    swarm = Swarm(*[make_node(f"n{i}") for i in range(4)])
    swarm.add(make_tasks(20, max_replicas=3))
    swarm.run()
    assert swarm.counts() == [3, 3, 3, 3]
    assert len(swarm.told) == 8


def test_a_task_goes_only_to_nodes_whose_software_has_the_features_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "required_features", lambda spec: ("read-only",))
    swarm = Swarm(make_node("n1"), make_node("n2", features=("other",)))
    swarm.add(make_tasks(1))
    swarm.run()
    assert swarm.told["web.0"] == "no suitable node (software too old for this service on 2 nodes)"
    swarm.scheduler.node_changed(make_node("n2", features=("other", "read-only")))
    swarm.run()
    assert swarm.tasks["web.0"].node_id == "n2"


def fail(swarm: Swarm, node_id: str, times: int, *, now: float = NOW, version: int = 1) -> None:
    for i in range(times):
        (task,) = make_tasks(1, version=version, prefix=f"{node_id}-{version}-{now}-{i}-")
        swarm.add([on_node(task, node_id)])
        swarm.move(task.id, S.FAILED, now)


def test_five_recent_failures_put_a_node_last_for_that_service_and_version() -> None:
    swarm = Swarm(make_node("n1"), make_node("n2"))
    fail(swarm, "n1", 5)
    swarm.add(make_tasks(3))
    swarm.run()
    assert swarm.nodes_of("web").count("n2") == 3
    swarm.add(make_tasks(1, "other"))
    swarm.add(make_tasks(2, version=2, prefix="v2"))
    swarm.run()
    assert swarm.nodes_of("other") == ["n1"]
    assert swarm.tasks["v2web.0"].node_id == "n1"


def test_four_failures_or_old_ones_do_not() -> None:
    swarm = Swarm(make_node("n1"), make_node("n2"))
    fail(swarm, "n1", 4)
    fail(swarm, "n1", 4, now=NOW - FAILURE_WINDOW_S)
    swarm.add(make_tasks(1))
    swarm.run()
    assert swarm.tasks["web.0"].node_id == "n1"


def test_failing_nodes_are_still_used_when_there_is_no_other() -> None:
    swarm = Swarm(make_node("n1"), make_node("n2", state=NodeState.DOWN))
    fail(swarm, "n1", 9)
    swarm.add(make_tasks(10))
    swarm.run()
    assert [task.node_id for task in swarm.tasks.values() if task.status.state is S.ASSIGNED] == ["n1"] * 10


def test_of_failing_nodes_the_least_failing_comes_first() -> None:
    swarm = Swarm(make_node("n1"), make_node("n2"))
    fail(swarm, "n1", 7)
    fail(swarm, "n2", 6)
    swarm.add(make_tasks(10))
    swarm.run()
    assert {task.node_id for task in swarm.tasks.values() if task.status.state is S.ASSIGNED} == {"n2"}


def test_a_new_leader_remembers_recent_failures() -> None:
    failed = tuple(
        replace(on_node(task, "n1", S.FAILED), status=TaskStatus(state=S.FAILED, applied_at=NOW - 10))
        for task in make_tasks(5)
    )
    swarm = Swarm(make_node("n1"), make_node("n2"), tasks=failed)
    swarm.add(make_tasks(1, prefix="next"))
    swarm.run()
    assert swarm.tasks["nextweb.0"].node_id == "n2"


def test_one_report_of_a_failure_is_counted_once() -> None:
    swarm = Swarm(make_node("n1"), make_node("n2"))
    fail(swarm, "n1", 4)
    (task,) = make_tasks(1, prefix="last")
    swarm.add([on_node(task, "n1", S.FAILED)] * 3)  # never seen alive, and repeated
    swarm.add(make_tasks(1))
    swarm.run()
    assert swarm.tasks["web.0"].node_id == "n1"


def test_a_refused_decision_gives_its_room_back_and_is_taken_again_at_the_new_version() -> None:
    scheduler = Scheduler([make_node("n1", memory=10)], make_tasks(1, memory=10))
    (first,), _ = scheduler.place(NOW, limit=10)
    assert not scheduler.has_work
    (task,) = make_tasks(1, memory=10)
    scheduler.task_changed(replace(task, meta=Meta(version=8)), NOW)
    assert not scheduler.has_work, "its assignment is still on the way"
    scheduler.refused(first.task_id)
    (second,), _ = scheduler.place(NOW, limit=10)
    assert (first.base, second.base, second.node_id) == (7, 8, "n1")


def test_a_task_given_up_while_its_assignment_is_on_the_way_gives_its_room_back() -> None:
    tasks = make_tasks(2, memory=10)
    scheduler = Scheduler([make_node("n1", memory=10)], tasks)
    (first,), _ = scheduler.place(NOW, limit=10)
    scheduler.task_changed(replace(tasks[0], desired_state=S.REMOVE), NOW)
    scheduler.refused(first.task_id)
    placed, _ = scheduler.place(NOW, limit=10)
    assert [decision.task_id for decision in placed] == ["web.1"]


def test_the_echo_of_an_assignment_changes_nothing() -> None:
    (task,) = make_tasks(1, memory=10)
    scheduler = Scheduler([make_node("n1", memory=15)], [task])
    scheduler.place(NOW, limit=10)
    for state in (S.ASSIGNED, S.ACCEPTED, S.RUNNING):
        scheduler.task_changed(on_node(task, "n1", state), NOW)
    info = scheduler._nodes.find("n1")
    assert info is not None
    assert (info.tasks, info.total, info.free_memory) == (1, 1, 5)
    assert not scheduler.has_work


def test_a_pass_decides_no_more_than_its_limit() -> None:
    scheduler = Scheduler([make_node("n1")], make_tasks(25))
    sizes = []
    while scheduler.has_work:
        placed, unplaced = scheduler.place(NOW, limit=10)
        sizes.append(len(placed) + len(unplaced))
    assert sizes == [10, 10, 5]


def test_telling_many_is_limited_too_and_ends() -> None:
    scheduler = Scheduler([], [*make_tasks(25), *make_tasks(3, "other")])
    told: list[str] = []
    for _ in range(10):
        _, unplaced = scheduler.place(NOW, limit=10)
        assert len(unplaced) <= 10
        told += [refusal.task_id for refusal in unplaced]
    assert len(told) == len(set(told)) == 28
    assert not scheduler.has_work


def test_one_service_that_fits_nowhere_does_not_hold_up_the_next() -> None:
    swarm = Swarm(make_node("n1", memory=5))
    swarm.add(make_tasks(3, "huge", memory=50))
    swarm.add(make_tasks(1, memory=5))
    swarm.run()
    assert swarm.tasks["web.0"].node_id == "n1"


def test_a_task_bound_to_a_node_goes_there_or_says_why_not() -> None:
    (task,) = make_tasks(1)
    swarm = Swarm(make_node("n1"), make_node("n2"))
    swarm.add([replace(task, node_id="n2"), replace(task, id="lost", node_id="n9")])
    placed, unplaced = swarm.scheduler.place(NOW, limit=10)
    assert [decision.node_id for decision in placed] == ["n2"]
    assert "does not exist" in unplaced[0].explanation


def test_ties_fall_to_the_node_that_joined_first() -> None:
    nodes = [replace(make_node(id), meta=Meta(created_at=at)) for id, at in (("a", 3.0), ("b", 1.0), ("c", 2.0))]
    swarm = Swarm(*nodes)
    swarm.add(make_tasks(1))
    swarm.run()
    assert swarm.nodes_of("web") == ["b"]


def test_a_pass_ends_early_where_each_try_has_to_look_at_every_node() -> None:
    """Own label keys, and requests in every node's own octave: neither may hold the loop for a thousand tries."""
    nodes = [make_node(f"n{i}", memory=1000) for i in range(640)]
    for spec in (
        lambda i: {"constraints": (f"node.labels.x{i}==1",)},
        lambda i: {"memory": 1001 + i},
    ):
        swarm = Swarm(*nodes)
        for i in range(20):
            swarm.add(make_tasks(1, f"s{i}", **spec(i)))
        tries = []
        while swarm.scheduler.has_work:
            tries.append(len(swarm.scheduler.place(NOW, limit=50)[1]))
        assert max(tries) <= 5
        assert sum(tries) == 20


def test_many_full_nodes_of_one_octave_are_passed_over_at_once() -> None:
    nodes = [make_node(f"n{i:03}", memory=1000 + (i == 99)) for i in range(100)]
    swarm = Swarm(*nodes)
    swarm.add(make_tasks(1, memory=1001))
    swarm.run()
    assert swarm.nodes_of("web") == ["n099"]


def test_a_waiting_task_is_forgotten_with_its_service() -> None:
    swarm = Swarm()
    swarm.add(make_tasks(2))
    swarm.run()
    swarm.add([replace(task, desired_state=S.REMOVE) for task in make_tasks(1)])
    swarm.remove("web.1")
    swarm.scheduler.node_changed(make_node("n1"))
    assert swarm.scheduler.waiting_count == 0
    assert swarm.scheduler.place(NOW, limit=10) == ([], [])
