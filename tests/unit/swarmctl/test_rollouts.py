"""Following a service to the end of its update: converged, paused, rolled back, given up; what is told meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.model import (
    Global,
    JobStatus,
    Mode,
    Rebalancing,
    Replicated,
    ReplicatedJob,
    RestartCondition,
    RestartPolicy,
    Task,
    TaskState,
    TaskStatus,
    UpdateState,
    UpdateStatus,
)
from swarmd.wire.control import ServiceView
from swarmd.wire.orchestration import Move, RebalanceReply
from tests.unit.swarmctl.fake_daemon import NOW, FakeDaemon, id_of, node_view, service_view, task_for

RUNNING, FAILED, COMPLETE = TaskState.RUNNING, TaskState.FAILED, TaskState.COMPLETE
Step = Callable[[], None]
UPDATE = ("service", "update", "web", "--image", "redis:7", "--wait")


@pytest.fixture
def daemon() -> FakeDaemon:
    daemon = FakeDaemon()
    daemon.nodes = [node_view("a", "node-1", member=1, leader=True), node_view("b", "node-2")]
    daemon.services = [service_view("s", "web", replicas=3, running=3)]
    daemon.tasks = [task_for(daemon.services[0], f"x{slot}", slot, node=daemon.nodes[0]) for slot in (1, 2, 3)]
    return daemon


def play(daemon: FakeDaemon, *steps: Step) -> None:
    """Let one step happen at each pause between two looks."""
    left, sleep = list(steps), daemon._sleep

    def pause(seconds: float) -> None:
        sleep(seconds)
        if left:
            left.pop(0)()

    daemon._sleep = pause  # type: ignore[method-assign]


def stands(daemon: FakeDaemon, state: UpdateState | None, message: str = "", **view: Any) -> Step:
    """The service as it is then. `failed`: slots whose new task failed."""

    def step() -> None:
        failed = tuple(str(slot) for slot in view.pop("failed_slots", ()))
        now = daemon.services[0]
        status = None
        if state is not None:
            status = UpdateStatus(state=state, started_at=NOW, message=message, total=3, failed=failed)
        version = now.service.spec_version + (view.pop("version_up", 0))
        service = replace(now.service, update_status=status, spec_version=version)
        daemon.services[0] = replace(now, service=service, **view)

    return step


def tasks(daemon: FakeDaemon, *states: TaskState, err: str = "") -> Step:
    """Tasks of the present spec in these states."""

    def step() -> None:
        view = daemon.services[0]
        daemon.tasks = [
            task_for(view, f"y{slot}", slot, node=daemon.nodes[0], status=TaskStatus(state=state, err=err))
            for slot, state in enumerate(states, start=1)
        ]

    return step


def both(*steps: Step) -> Step:
    def step() -> None:
        for one in steps:
            one()

    return step


def test_an_update_is_followed_until_its_new_tasks_were_watched(daemon: FakeDaemon) -> None:
    all_new = tasks(daemon, RUNNING, RUNNING, RUNNING)
    play(
        daemon,
        stands(daemon, UpdateState.UPDATING, outdated=2, running=2),
        both(all_new, stands(daemon, UpdateState.UPDATING, outdated=0, running=3)),
        stands(daemon, UpdateState.COMPLETED, outdated=0, running=3),
    )
    result = daemon.run(*UPDATE)
    assert result.code == 0, result.err
    assert result.err.splitlines() == [
        "service web: 0/3 running, 3 of an older spec",
        "service web: 0/3 running, 1 of 3 updated",
        "service web: 3/3 running, 3 of 3 updated; watching the new tasks",
        "service web: 3/3 running",
    ]


def test_a_paused_update_ends_the_wait_and_says_which_task_failed(daemon: FakeDaemon) -> None:
    message = "update paused due to failure or early termination of task y1"
    play(
        daemon,
        both(
            tasks(daemon, FAILED, err="non-zero exit (1)"),
            stands(daemon, UpdateState.PAUSED, message, outdated=2, running=2, failed_slots=(1,)),
        ),
    )
    result = daemon.run(*UPDATE)
    assert result.code == 10
    assert result.err.splitlines()[-1] == (
        "Error: service web will not converge: 0 of 3 updated, 1 failed: "
        + message
        + "; web.1 FAILED: non-zero exit (1)"
    )


def test_an_update_that_is_rolled_back_is_followed_until_all_is_as_before(daemon: FakeDaemon) -> None:
    play(
        daemon,
        stands(daemon, UpdateState.UPDATING, outdated=2, running=2),
        stands(
            daemon,
            UpdateState.ROLLBACK_STARTED,
            "update rolled back due to failure of task y1",
            outdated=1,
            version_up=1,
        ),
        stands(daemon, UpdateState.ROLLBACK_COMPLETED, "rollback completed", outdated=0, running=3),
    )
    result = daemon.run(*UPDATE)
    assert result.code == 9
    assert "service web: 0/3 running, 2 of 3 rolled back" in result.err
    assert result.err.splitlines()[-1].startswith("Error: service web was rolled back: rollback completed")


def test_a_rollback_that_pauses_is_no_success(daemon: FakeDaemon) -> None:
    play(
        daemon,
        stands(daemon, UpdateState.ROLLBACK_PAUSED, "rollback paused", outdated=1, version_up=1, failed_slots=(2,)),
    )
    result = daemon.run(*UPDATE)
    assert result.code == 10
    assert "1 of 3 rolled back, 1 failed: rollback paused" in result.err


def test_a_rollback_that_was_asked_for_is_a_success(daemon: FakeDaemon) -> None:
    assert daemon.run(*UPDATE[:-1]).code == 0
    play(
        daemon,
        stands(daemon, UpdateState.ROLLBACK_STARTED, outdated=2, running=3),
        both(tasks(daemon, RUNNING, RUNNING, RUNNING), stands(daemon, UpdateState.ROLLBACK_COMPLETED, outdated=0)),
    )
    result = daemon.run("service", "rollback", "web", "--wait")
    assert (result.code, result.out) == (0, f"{id_of('s')}\n")
    assert daemon.services[0].service.spec.task.container.image == "redis"
    assert result.err.splitlines()[-1] == "service web: 3/3 running"


def test_what_was_rolled_back_long_ago_does_not_fail_a_scale(daemon: FakeDaemon) -> None:
    stands(daemon, UpdateState.ROLLBACK_COMPLETED, "rollback completed")()
    play(
        daemon,
        both(
            tasks(daemon, RUNNING, RUNNING, RUNNING, RUNNING), stands(daemon, UpdateState.ROLLBACK_COMPLETED, running=4)
        ),
    )
    assert daemon.run("service", "scale", "web=4", "--wait").code == 0


def test_an_update_that_moves_nothing_is_over_at_once(daemon: FakeDaemon) -> None:
    def keeps_tasks(request: Any) -> ServiceView:
        view = replace(daemon.update(request), outdated=0)
        daemon.services[0] = view
        return view

    daemon.handlers["service.update"] = keeps_tasks
    result = daemon.run("service", "update", "web", "--constraint-add", "node.role==worker", "--wait")
    assert (result.code, result.err) == (0, "service web: 3/3 running\n")


def test_what_used_up_its_attempts_is_not_waited_for(daemon: FakeDaemon) -> None:
    view = daemon.services[0]
    policy = RestartPolicy(condition=RestartCondition.ANY, max_attempts=2)
    spec = replace(view.service.spec, task=replace(view.service.spec.task, restart=policy))
    daemon.services[0] = replace(view, service=replace(view.service, spec=spec))
    play(daemon, both(tasks(daemon, RUNNING, RUNNING, FAILED, err="boom"), stands(daemon, None, failed=1, outdated=0)))
    result = daemon.run("service", "update", "web", "--force", "--wait")
    assert result.code == 10
    assert "web.3 is FAILED: boom" in result.err


def test_a_global_service_names_nodes_where_there_are_no_slots(daemon: FakeDaemon) -> None:
    view = replace(daemon.services[0], desired=2, running=1)
    daemon.services[0] = replace(view, service=replace(view.service, spec=replace(view.service.spec, mode=Global())))

    def step() -> None:
        service = daemon.services[0]
        status = TaskStatus(state=TaskState.PREPARING, err="no such image")
        daemon.tasks = [
            task_for(service, "g1", 0, node=daemon.nodes[0]),
            task_for(service, "g2", 0, node=daemon.nodes[1], status=status),
        ]
        daemon.services[0] = replace(service, outdated=0, desired=2, running=1)

    play(daemon, step)
    result = daemon.run(*UPDATE, "--timeout", "5s")
    assert result.code == 7
    assert "1/2 running; web.node-2 PREPARING: no such image" in result.err


# -- jobs --------------------------------------------------------------------------------------------------------------
def job(daemon: FakeDaemon, mode: Mode, **view: Any) -> None:
    service = daemon.services[0].service
    spec = replace(service.spec, mode=mode)
    daemon.services[0] = ServiceView(
        service=replace(service, spec=spec, job_status=JobStatus(job_iteration=1)), desired=3, **view
    )


def of_job(daemon: FakeDaemon, letter: str, slot: int, state: TaskState, **fields: Any) -> Task:
    wanted = {
        "desired_state": COMPLETE,
        "job_iteration": 1,
        "status": TaskStatus(state=state, err=fields.pop("err", "")),
    }
    return task_for(daemon.services[0], letter, slot, node=daemon.nodes[0], **wanted, **fields)


def test_a_job_is_done_when_all_of_it_is_completed(daemon: FakeDaemon) -> None:
    job(daemon, ReplicatedJob(max_concurrent=2, total_completions=3))

    def completed(count: int, running: int) -> Step:
        def step() -> None:
            daemon.services[0] = replace(daemon.services[0], completed=count, running=running, outdated=0)

        return step

    daemon.tasks = []
    play(daemon, completed(1, 2), completed(3, 0))
    result = daemon.run("service", "update", "web", "--force", "--wait")
    assert result.code == 0
    assert result.err.splitlines() == [
        "service web: 0/3 completed, 0 running",
        "service web: 1/3 completed, 2 running",
        "service web: 3/3 completed, 0 running",
    ]


def test_a_job_with_a_task_that_gave_up_ends_once_nothing_else_runs(daemon: FakeDaemon) -> None:
    job(daemon, ReplicatedJob(max_concurrent=2, total_completions=3))
    others = [of_job(daemon, "j1", 1, FAILED, err="exit 3"), of_job(daemon, "j2", 2, RUNNING)]

    def first() -> None:
        daemon.tasks = others
        daemon.services[0] = replace(daemon.services[0], completed=1, running=1, failed=1, outdated=0)

    def then() -> None:
        daemon.tasks = [others[0], of_job(daemon, "j2", 2, COMPLETE)]
        daemon.services[0] = replace(daemon.services[0], completed=2, running=0)

    daemon.tasks = []
    play(daemon, first, then)
    result = daemon.run("service", "update", "web", "--force", "--wait")
    assert result.code == 10
    lines = result.err.splitlines()
    assert lines[1] == "service web: 1/3 completed, 1 running, 1 failed for good"
    assert lines[-1] == (
        "Error: service web will not converge: 2/3 completed, 0 running, 1 failed for good; web.1 FAILED: exit 3"
    )


# -- scale and rollback ------------------------------------------------------------------------------------------------
def test_scale_of_several_services_and_modes(daemon: FakeDaemon) -> None:
    jobs = service_view("t", "batch")
    spec = replace(jobs.service.spec, mode=ReplicatedJob(max_concurrent=2, total_completions=4))
    daemon.services.append(ServiceView(service=replace(jobs.service, spec=spec)))
    result = daemon.run("service", "scale", "web=5", "batch=9")
    assert (result.code, result.out) == (0, f"{id_of('s')}\n{id_of('t')}\n")
    assert result.err == "web scaled to 5\nbatch scaled to 9\n"
    web, batch = (view.service.spec.mode for view in daemon.services)
    assert web == Replicated(replicas=5)
    assert batch == ReplicatedJob(max_concurrent=2, total_completions=9)


@pytest.mark.parametrize("target", ["web", "web=", "=3", "web=many", "web=-1"])
def test_a_malformed_scale_changes_nothing(daemon: FakeDaemon, target: str) -> None:
    result = daemon.run("service", "scale", "web=5", target)
    assert result.code == 2
    assert daemon.calls == []


def test_a_scale_that_cannot_be_does_not_hold_up_the_others(daemon: FakeDaemon) -> None:
    everywhere = service_view("t", "agent")
    spec = replace(everywhere.service.spec, mode=Global())
    daemon.services.append(ServiceView(service=replace(everywhere.service, spec=spec)))
    result = daemon.run("service", "scale", "agent=2", "nope=1", "web=5")
    assert result.code == 3
    assert "--replicas does not go with a service in mode global" in result.err
    assert daemon.services[0].service.spec.mode == Replicated(replicas=5)


def test_rollback_says_which_version_it_was_read_at(daemon: FakeDaemon) -> None:
    assert daemon.run("service", "rollback", "web").code == 4
    daemon.run(*UPDATE[:-1])
    assert daemon.run("service", "update", "web", "--rollback").code == 0
    assert daemon.run("service", "rollback", "web", "--version", "17").code == 0
    assert [request.spec_version for request in daemon.asked("service.rollback")] == [3, 4, 17]


def test_rollback_goes_with_no_other_change(daemon: FakeDaemon) -> None:
    result = daemon.run("service", "update", "web", "--rollback", "--replicas", "3")
    assert result.code == 2
    assert "--rollback goes with no other change" in result.err
    assert daemon.calls == []


# -- rebalance ---------------------------------------------------------------------------------------------------------
def moving(daemon: FakeDaemon, *, is_begun: bool) -> RebalanceReply:
    moves = (
        Move(task_id=id_of("x3"), slot=3, from_node_id=id_of("a"), to_node_id=id_of("b")),
        Move(task_id=id_of("x2"), slot=2, from_node_id=id_of("a"), to_node_id="gone"),
    )
    if is_begun:
        view = daemon.services[0]
        rebalancing = Rebalancing(started_at=NOW, task_ids=tuple(move.task_id for move in moves))
        daemon.services[0] = replace(view, service=replace(view.service, rebalancing=rebalancing))
    return RebalanceReply(service=daemon.services[0], moves=moves)


def test_the_plan_of_a_rebalance_asks_and_changes_nothing(daemon: FakeDaemon) -> None:
    daemon.handlers["service.rebalance_plan"] = lambda request: moving(daemon, is_begun=False)
    result = daemon.run("service", "rebalance", "web", "--plan", "--max-moves", "2", "--wait")
    assert (result.code, result.err) == (0, "")
    assert [line.split() for line in result.out.splitlines()[2:]] == [
        ["web.3", id_of("x3"), "node-1", "node-2"],
        ["web.2", id_of("x2"), "node-1", "gone"],
    ]
    assert [request.max_moves for request in daemon.asked("service.rebalance_plan")] == [2]
    document = json.loads(daemon.run("service", "rebalance", "web", "--plan", "-o", "json").out)
    assert (document["service_id"], document["moves"][0]["slot"]) == (id_of("s"), 3)


def test_a_rebalance_is_followed_until_its_moves_are_made(daemon: FakeDaemon) -> None:
    def one_moved() -> None:
        daemon.tasks[2] = replace(daemon.tasks[2], id=id_of("new3"))

    def all_moved() -> None:
        daemon.tasks[1] = replace(daemon.tasks[1], id=id_of("new2"))
        view = daemon.services[0]
        daemon.services[0] = replace(view, service=replace(view.service, rebalancing=None))

    daemon.handlers["service.rebalance"] = lambda request: moving(daemon, is_begun=True)
    play(daemon, one_moved, all_moved)
    result = daemon.run("service", "rebalance", "web", "--wait")
    assert result.code == 0
    assert result.err.splitlines() == [
        "service web: 3/3 running, 0 of 2 moved",
        "service web: 3/3 running, 1 of 2 moved",
        "service web: 3/3 running",
    ]


def test_a_rebalance_that_finds_nothing_to_move_says_so(daemon: FakeDaemon) -> None:
    daemon.handlers["service.rebalance"] = lambda request: RebalanceReply(service=daemon.services[0])
    result = daemon.run("service", "rebalance", "web")
    assert (result.code, result.err) == (0, "service web is spread already: no moves\n")
    assert daemon.run("service", "rebalance", "web", "--max-moves", "some").code == 2
