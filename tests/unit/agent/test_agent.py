"""An agent with a scripted dispatcher and machine, in virtual time."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.agent.worker import REAP_PERIOD_S
from swarmd.errors import Unavailable
from swarmd.executor import TaskError, TemporaryTaskError
from swarmd.executor.fake import FakeExecutor, FakeMachine, Script
from swarmd.model import ContainerStatus, Node, NodeSpec, NodeStatus, Role, Task, TaskState
from swarmd.storage.errors import StorageFailed
from tests.unit.agent.worlds import FakeDispatcher, MemoryRecords, World, make_task, running, until

S = TaskState


def make_world(*tasks: Task, stored: Iterable[Task] = (), script: Script | None = None) -> World:
    machine = FakeMachine((lambda _task: script) if script is not None else (lambda _task: Script()))
    return World(FakeDispatcher(tasks), FakeExecutor(machine), MemoryRecords(stored))


# -- assignments ------------------------------------------------------------------------------------------------------
async def test_an_assigned_task_runs_and_every_state_is_reported_in_order(autojump_clock: MockClock) -> None:
    world = make_world(make_task(), script=Script(prepare_s=1.0, start_s=1.0))
    async with running(world):
        await until(lambda: world.dispatcher.states.get("task1") is S.RUNNING)
        states = [status.state for status in world.dispatcher.reports_of("task1")]
        assert states == sorted(states)
        assert {S.PREPARING, S.STARTING, S.RUNNING} <= set(states)
        assert world.machine.running == {"task1"}
        assert world.records.tasks["task1"].status.state is S.RUNNING


async def test_a_task_waits_at_ready_until_more_is_wanted(autojump_clock: MockClock) -> None:
    world = make_world(make_task(desired=S.READY))
    async with running(world):
        await until(lambda: world.dispatcher.states.get("task1") is S.READY)
        await trio.sleep(60)
        assert world.machine.running == set()
        world.dispatcher.change(make_task(desired=S.RUNNING))
        await until(lambda: world.machine.running == {"task1"})


async def test_a_jobs_task_is_held_like_any_other_then_runs_to_its_end(autojump_clock: MockClock) -> None:
    world = make_world(make_task(desired=S.READY), script=Script(run_s=30.0))
    async with running(world):
        await until(lambda: world.dispatcher.states.get("task1") is S.READY)
        world.dispatcher.change(make_task(desired=S.COMPLETE))
        await until(lambda: world.machine.running == {"task1"})
        await until(lambda: world.dispatcher.states.get("task1") is S.COMPLETE)
        assert world.machine.running == set()


async def test_a_task_wanted_down_is_shut_down_and_kept(autojump_clock: MockClock) -> None:
    world = make_world(make_task())
    async with running(world):
        await until(lambda: world.dispatcher.states.get("task1") is S.RUNNING)
        world.dispatcher.change(make_task(desired=S.SHUTDOWN))
        await until(lambda: world.dispatcher.states.get("task1") is S.SHUTDOWN)
        assert world.machine.running == set()
        assert "task1" in world.machine.tasks
        last = world.dispatcher.reports_of("task1")[-1]
        assert last.container is not None
        assert last.container.exit_code == 143


async def test_a_task_that_leaves_the_set_is_removed_from_machine_and_store(autojump_clock: MockClock) -> None:
    world = make_world(make_task(1), make_task(2))
    async with running(world):
        await until(lambda: world.machine.running == {"task1", "task2"})
        world.dispatcher.change(removed=("task1", "never-heard-of"))
        await until(lambda: "task1" not in world.machine.tasks)
        assert set(world.records.tasks) == {"task2"}
        assert world.machine.running == {"task2"}


async def test_what_a_complete_set_does_not_list_is_removed(autojump_clock: MockClock) -> None:
    stale = make_task(9, state=S.RUNNING)
    world = make_world(make_task(1), stored=[stale])
    async with running(world):
        await until(lambda: world.machine.running == {"task1"})
        assert set(world.records.tasks) == {"task1"}


async def test_a_paged_set_is_applied_whole(autojump_clock: MockClock) -> None:
    tasks = [make_task(number) for number in range(1, 8)]
    world = make_world(*tasks, stored=tasks)
    world.dispatcher.page_size = 3
    async with running(world):
        await until(lambda: len(world.machine.running) == 7)
        await trio.sleep(30)
        assert len(world.machine.started) == 7


async def test_a_gap_is_not_applied_and_reopens_the_stream(autojump_clock: MockClock) -> None:
    world = make_world(make_task(1))
    async with running(world):
        await until(lambda: world.machine.running == {"task1"})
        world.dispatcher.change(removed=("task1",), applies_to="77")
        world.dispatcher.tasks["task1"] = make_task(1)
        await until(lambda: world.dispatcher.streams == 2)
        await trio.sleep(10)
        assert world.machine.running == {"task1"}
        assert len(world.dispatcher.requests) == 1


async def test_a_lower_desired_state_is_ignored(autojump_clock: MockClock) -> None:
    world = make_world(make_task(desired=S.SHUTDOWN, state=S.RUNNING))
    async with running(world):
        await until(lambda: world.dispatcher.states.get("task1") is S.SHUTDOWN)
        world.dispatcher.change(make_task(desired=S.RUNNING))
        await trio.sleep(5)
        assert world.machine.started == []


async def test_an_update_of_status_alone_disturbs_nothing(autojump_clock: MockClock) -> None:
    world = make_world(make_task())
    async with running(world):
        await until(lambda: world.dispatcher.states.get("task1") is S.RUNNING)
        calls = list(world.machine.tasks["task1"].calls)
        world.dispatcher.change(make_task(state=S.FAILED))
        await trio.sleep(5)
        assert world.machine.tasks["task1"].calls == calls


# -- errors -----------------------------------------------------------------------------------------------------------
async def test_an_exit_is_reported_with_its_code(autojump_clock: MockClock) -> None:
    world = make_world(make_task(), script=Script(run_s=3.0, exit_code=7))
    async with running(world):
        await until(lambda: world.dispatcher.states.get("task1") is S.FAILED)
        last = world.dispatcher.reports_of("task1")[-1]
        assert last.err == "exit status 7"
        assert last.container == ContainerStatus(container_id="task1", pid=1000, exit_code=7)


async def test_a_clean_exit_is_complete(autojump_clock: MockClock) -> None:
    world = make_world(make_task(), script=Script(run_s=3.0))
    async with running(world):
        await until(lambda: world.dispatcher.states.get("task1") is S.COMPLETE)


async def test_a_temporary_error_shows_and_is_retried(autojump_clock: MockClock) -> None:
    world = make_world(make_task(), script=Script(prepare_errors=[TemporaryTaskError("engine away")] * 2))
    async with running(world):
        await until(lambda: world.dispatcher.states.get("task1") is S.RUNNING)
        errors = [(status.state, status.err) for status in world.dispatcher.reports_of("task1")]
        assert (S.PREPARING, "engine away") in errors
        assert errors[-1] == (S.RUNNING, "")


async def test_temporary_errors_without_end_reject_the_task(autojump_clock: MockClock) -> None:
    world = make_world(make_task(), script=Script(prepare_errors=[TemporaryTaskError("engine away")] * 99))
    async with running(world):
        await until(lambda: world.dispatcher.states.get("task1") is S.REJECTED)
        assert world.machine.tasks["task1"].calls.count("prepare") == 10


async def test_news_cuts_a_retry_pause_short(autojump_clock: MockClock) -> None:
    world = make_world(make_task(), script=Script(prepare_errors=[TemporaryTaskError("engine away")] * 9))
    async with running(world):
        await until(lambda: world.machine.tasks["task1"].calls.count("prepare") == 6 if world.machine.tasks else False)
        began = trio.current_time()
        world.dispatcher.change(make_task(desired=S.SHUTDOWN))
        await until(lambda: world.dispatcher.states.get("task1") is S.SHUTDOWN)
        assert trio.current_time() - began < 1.0


async def test_a_shutdown_that_fails_is_never_called_a_shutdown(autojump_clock: MockClock) -> None:
    world = make_world(make_task(), script=Script(shutdown_errors=[TaskError("stuck")] * 20))
    async with running(world):
        await until(lambda: world.dispatcher.states.get("task1") is S.RUNNING)
        world.dispatcher.change(make_task(desired=S.SHUTDOWN))
        await until(lambda: world.dispatcher.reports_of("task1")[-1].err == "stuck")
        assert world.dispatcher.states["task1"] is S.RUNNING
        await until(lambda: world.dispatcher.states["task1"] is S.SHUTDOWN, within_s=900)
        assert world.machine.running == set()


async def test_a_task_the_executor_refuses_is_rejected_with_the_reason(autojump_clock: MockClock) -> None:
    world = make_world(make_task(), script=Script(refuse=TaskError("no command")))
    async with running(world):
        await until(lambda: world.dispatcher.states.get("task1") is S.REJECTED)
        assert world.dispatcher.reports_of("task1")[-1].err == "no command"
        world.dispatcher.change(removed=("task1",))
        await until(lambda: not world.records.tasks)


async def test_a_defect_in_one_task_fails_that_task_alone(autojump_clock: MockClock) -> None:
    scripts = {"task1": Script(start_errors=[ZeroDivisionError("oops")]), "task2": Script()}
    machine = FakeMachine(lambda task: scripts[task.id])
    world = World(FakeDispatcher([make_task(1), make_task(2)]), FakeExecutor(machine), MemoryRecords())
    async with running(world):
        await until(lambda: world.dispatcher.states == {"task1": S.FAILED, "task2": S.RUNNING})
        assert world.dispatcher.reports_of("task1")[-1].err == "oops"


async def test_a_removal_that_fails_is_retried_until_it_succeeds(autojump_clock: MockClock) -> None:
    world = make_world(make_task(), script=Script(remove_errors=[TemporaryTaskError("busy")] * 12))
    async with running(world):
        await until(lambda: world.machine.running == {"task1"})
        world.dispatcher.change(removed=("task1",))
        await until(lambda: "task1" not in world.machine.tasks, within_s=900)


async def test_a_task_that_comes_back_while_it_is_removed_does_not_run_twice(autojump_clock: MockClock) -> None:
    world = make_world(make_task(), script=Script(remove_errors=[TemporaryTaskError("busy")] * 3))
    async with running(world):
        await until(lambda: world.machine.running == {"task1"})
        world.dispatcher.change(removed=("task1",))
        world.dispatcher.change(make_task())
        await until(lambda: "task1" not in world.machine.tasks)
        await trio.sleep(5)
        assert world.machine.started == ["task1"]


# -- a life with and without managers ---------------------------------------------------------------------------------
async def test_stored_tasks_are_adopted_without_any_manager(autojump_clock: MockClock) -> None:
    first = make_world(make_task())
    async with running(first):
        await until(lambda: first.dispatcher.states.get("task1") is S.RUNNING)
    second = first.again()
    second.dispatcher.connect_error = Unavailable("no manager")
    async with running(second):
        await trio.sleep(30)
        assert second.machine.running == {"task1"}
        second.machine.die_now("task1", exit_code=5)
        await trio.sleep(1)
        assert second.records.tasks["task1"].status.state is S.FAILED
        assert second.machine.started == ["task1"]


async def test_a_stored_task_goes_on_where_it_stood(autojump_clock: MockClock) -> None:
    world = make_world(stored=[make_task(state=S.PREPARING)])
    world.dispatcher.connect_error = Unavailable("no manager")
    async with running(world):
        await until(lambda: world.machine.running == {"task1"})


async def test_cancelling_leaves_the_tasks_and_says_goodbye(autojump_clock: MockClock) -> None:
    world = make_world(make_task())
    async with running(world):
        await until(lambda: world.dispatcher.states.get("task1") is S.RUNNING)
    assert world.machine.running == {"task1"}
    assert [goodbye.leaving for goodbye in world.dispatcher.goodbyes] == [False]
    assert world.dispatcher.open_links == 0
    assert world.agent.state == "stopped"


async def test_cancelling_flushes_what_was_not_reported(autojump_clock: MockClock) -> None:
    world = make_world(make_task())
    async with running(world):
        await until(lambda: world.dispatcher.states.get("task1") is S.RUNNING)
        world.machine.die_now("task1")
        await trio.sleep(0.01)
        assert world.dispatcher.states["task1"] is S.RUNNING
    assert world.dispatcher.states["task1"] is S.FAILED


async def test_cancelling_is_bounded_by_a_dispatcher_that_does_not_answer(autojump_clock: MockClock) -> None:
    world = make_world(make_task())

    async def never(_request: object) -> None:
        await trio.sleep_forever()

    async with running(world):
        await until(lambda: world.dispatcher.states.get("task1") is S.RUNNING)
        world.dispatcher.goodbye = never  # type: ignore[method-assign]
        world.dispatcher.update_status = never  # type: ignore[method-assign,assignment]
        world.machine.die_now("task1")
        await trio.sleep(0.01)
        began = trio.current_time()
    assert trio.current_time() - began <= 4.0


async def test_leaving_removes_every_task_and_says_so(autojump_clock: MockClock) -> None:
    world = make_world(make_task(1), make_task(2), script=Script(remove_errors=[TemporaryTaskError("busy")]))
    async with running(world):
        await until(lambda: len(world.machine.running) == 2)
        await world.agent.leave()
        assert world.machine.tasks == {}
        assert world.records.tasks == {}
        await trio.sleep(60)
        assert world.machine.tasks == {}
        assert len(world.dispatcher.connects) == 1
    assert [goodbye.leaving for goodbye in world.dispatcher.goodbyes] == [True]


async def test_assignments_that_arrive_while_leaving_are_ignored(autojump_clock: MockClock) -> None:
    world = make_world(make_task(1), script=Script(stop_s=5.0))
    async with running(world) as nursery:
        await until(lambda: world.machine.running == {"task1"})
        nursery.start_soon(world.agent.leave)
        await trio.sleep(1.0)
        world.dispatcher.change(make_task(2))
        await until(lambda: world.agent.state == "stopped")
        assert world.machine.started == ["task1"]


async def test_leftovers_of_a_lost_store_are_adopted_if_assigned_and_removed_if_not(autojump_clock: MockClock) -> None:
    first = make_world(make_task(1), make_task(2))
    async with running(first):
        await until(lambda: set(first.dispatcher.states.values()) == {S.RUNNING} and len(first.dispatcher.states) == 2)
    second = first.again()
    second.records.tasks.clear()
    second.dispatcher.tasks = {"task1": make_task(1, state=S.RUNNING)}
    second.executor.reap_errors = [TemporaryTaskError("busy")]
    async with running(second):
        await until(lambda: second.machine.running == {"task1"})
        await trio.sleep(5)
        assert second.machine.running == {"task1"}
        assert second.machine.started.count("task1") == 1


async def test_what_turns_up_later_is_reaped_within_a_minute(autojump_clock: MockClock) -> None:
    world = make_world(make_task(1))
    async with running(world):
        await until(lambda: world.machine.running == {"task1"})
        await trio.sleep(5)
        stray = make_task(2)
        controller = world.executor.controller(stray)
        await controller.prepare()
        await controller.start()
        await trio.sleep(REAP_PERIOD_S + 1)
        assert world.machine.running == {"task1"}


async def test_what_an_engine_brings_back_is_reaped_at_once(autojump_clock: MockClock) -> None:
    world = make_world(make_task(1))
    async with running(world):
        await until(lambda: world.machine.running == {"task1"})
        await trio.sleep(5)
        controller = world.executor.controller(make_task(2))
        await controller.prepare()
        world.executor.redescribe(replace(world.executor.description, engine_error="gone"))
        await trio.sleep(1)
        assert set(world.machine.tasks) == {"task1"}


async def test_a_changed_description_is_told_at_once(autojump_clock: MockClock) -> None:
    world = make_world()
    async with running(world):
        await until(lambda: world.agent.state == "connected")
        world.executor.redescribe(replace(world.executor.description, engine_error="gone"))
        await trio.sleep(1)
        assert world.dispatcher.requests[-1].description.engine_error == "gone"


async def test_nothing_is_reaped_before_a_manager_has_spoken(autojump_clock: MockClock) -> None:
    first = make_world(make_task(1))
    async with running(first):
        await until(lambda: first.machine.running == {"task1"})
    second = first.again()
    second.records.tasks.clear()
    second.dispatcher.connect_error = Unavailable("no manager")
    async with running(second):
        await trio.sleep(100)
        assert second.machine.running == {"task1"}


# -- the session ------------------------------------------------------------------------------------------------------
async def test_heartbeats_come_at_once_and_then_as_the_dispatcher_says(autojump_clock: MockClock) -> None:
    world = make_world()
    world.dispatcher.period_s = 3.0
    async with running(world):
        await trio.sleep(10)
        beats = world.dispatcher.heartbeats
        assert [round(beat - beats[0], 3) for beat in beats] == [0, 3, 6, 9]
        assert world.agent.state == "connected"


async def test_backoff_grows_to_its_limit_and_starts_anew_after_a_registration(autojump_clock: MockClock) -> None:
    world = make_world()
    world.dispatcher.connect_error = Unavailable("no leader")
    async with running(world):
        await trio.sleep(100)
        times = world.dispatcher.connects
        waits = [after - before for before, after in pairwise(times)]
        limits = [0.1, 0.3, 0.7, 1.5, 3.1, 6.3] + [8.0] * len(waits)
        assert all(0 <= wait <= limit + 1e-6 for wait, limit in zip(waits, limits, strict=False))
        assert max(waits) > 3.1
        assert world.agent.state == "connecting: no leader"
        world.dispatcher.connect_error = None
        await until(lambda: world.agent.state == "connected")
        world.dispatcher.heartbeat_error = Unavailable("gone")
        tries = len(world.dispatcher.connects)
        await until(lambda: len(world.dispatcher.connects) > tries)
        assert world.dispatcher.connects[-1] - world.dispatcher.heartbeats[-1] <= 0.1 + 1e-6


@pytest.mark.parametrize("loop", ["heartbeat", "assignments", "other session"])
async def test_one_failing_loop_ends_the_session_and_a_new_one_resumes_it(loop: str, autojump_clock: MockClock) -> None:
    world = make_world(make_task())
    async with running(world):
        await until(lambda: world.dispatcher.states.get("task1") is S.RUNNING)
        session = world.dispatcher.session_id
        if loop == "heartbeat":
            world.dispatcher.heartbeat_error = Unavailable("gone")
        elif loop == "assignments":
            world.dispatcher.close_assignments()
        else:
            world.dispatcher.forget_session()
            world.dispatcher.send_session()
        await until(lambda: len(world.dispatcher.requests) == 2)
        assert world.dispatcher.requests[1].session_id == session
        await until(lambda: world.agent.state == "connected")
        assert world.machine.started == ["task1"]


async def test_a_silent_dispatcher_is_given_up_after_five_seconds(autojump_clock: MockClock) -> None:
    world = make_world()
    world.dispatcher.is_silent = True
    async with running(world):
        await trio.sleep(5.2)
        assert world.agent.state == "connecting: no answer within 5 s"
        world.dispatcher.is_silent = False
        await until(lambda: world.agent.state == "connected")


async def test_every_status_is_reported_again_at_each_registration(autojump_clock: MockClock) -> None:
    tasks = [make_task(number) for number in (1, 2)]
    world = make_world(*tasks)
    async with running(world):
        await until(lambda: list(world.dispatcher.states.values()) == [S.RUNNING] * 2)
        world.dispatcher.updates.clear()
        world.dispatcher.forget_session()
        await until(lambda: len(world.dispatcher.requests) == 2)
        await until(lambda: world.dispatcher.states == {"task1": S.RUNNING, "task2": S.RUNNING})


async def test_a_failed_report_is_repeated_and_never_goes_back(autojump_clock: MockClock) -> None:
    world = make_world(make_task(), script=Script(prepare_s=0.2, start_s=0.2))
    async with running(world):
        for _ in range(3):
            world.dispatcher.update_error = Unavailable("try again")
            await trio.sleep(0.3)
        await until(lambda: world.dispatcher.states.get("task1") is S.RUNNING)
        states = [status.state for status in world.dispatcher.reports_of("task1")]
        assert states == sorted(states)


async def test_reports_come_in_batches_of_at_most_a_thousand(autojump_clock: MockClock) -> None:
    world = make_world(*(make_task(number) for number in range(1, 1502)), script=Script(start_s=1.0))
    async with running(world):
        await until(lambda: list(world.dispatcher.states.values()).count(S.RUNNING) == 1501)
        assert max(len(request.updates) for request in world.dispatcher.updates) == 1000
        assert len(world.dispatcher.updates) < 20


async def test_a_changed_description_resumes_the_session_on_the_same_link(autojump_clock: MockClock) -> None:
    world = make_world(make_task())
    async with running(world):
        await until(lambda: world.agent.state == "connected")
        session = world.dispatcher.session_id
        await trio.sleep(60)
        assert len(world.dispatcher.requests) == 1
        world.executor.description = replace(world.executor.description, hostname="renamed")
        await until(lambda: len(world.dispatcher.requests) == 2, within_s=20.5)
        assert world.dispatcher.requests[1].session_id == session
        assert world.dispatcher.requests[1].description.hostname == "renamed"
        assert len(world.dispatcher.connects) == 1


async def test_node_and_root_are_told_once_per_change(autojump_clock: MockClock) -> None:
    world = make_world()
    async with running(world):
        await until(lambda: world.agent.state == "connected")
        world.dispatcher.node = Node(id="node", status=NodeStatus(message="beat"))
        world.dispatcher.send_session()
        await trio.sleep(1)
        assert (len(world.nodes), world.roots) == (1, [b"root"])
        world.dispatcher.node = Node(id="node", spec=NodeSpec(desired_role=Role.MANAGER))
        world.dispatcher.root_ca = b"other"
        world.dispatcher.send_session()
        await trio.sleep(1)
        assert [node.spec.desired_role for node in world.nodes] == [Role.WORKER, Role.MANAGER]
        assert world.roots == [b"root", b"other"]
        assert world.dispatcher.learned == [world.dispatcher.managers] * 3


# -- the store --------------------------------------------------------------------------------------------------------
async def test_a_task_that_cannot_be_stored_is_not_started_until_it_can(autojump_clock: MockClock) -> None:
    world = make_world(make_task())
    world.records.failures = [StorageFailed("disk full")] * 2
    async with running(world):
        await until(lambda: "task store failed" in world.agent.state)
        assert world.machine.started == []
        await until(lambda: world.machine.running == {"task1"})


async def test_a_status_that_cannot_be_stored_is_reported_all_the_same(autojump_clock: MockClock) -> None:
    world = make_world(make_task(), script=Script(start_s=5.0))
    async with running(world):
        await until(lambda: world.dispatcher.states.get("task1") is S.STARTING)
        world.records.failures = [StorageFailed("disk full")]
        await until(lambda: world.dispatcher.states.get("task1") is S.RUNNING)


async def test_a_store_that_cannot_be_read_stops_the_agent(autojump_clock: MockClock) -> None:
    world = make_world()

    def load() -> tuple[Task, ...]:
        raise StorageFailed("unreadable")

    world.records.load = load  # type: ignore[method-assign]
    with pytest.RaisesGroup(StorageFailed, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(world.agent.run)


# -- a start that is cut short ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("turns", range(12))
async def test_a_start_that_is_cancelled_at_any_moment_ends(turns: int) -> None:
    world = make_world(make_task(), stored=(make_task(),))
    with trio.move_on_after(5) as limit:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.agent.run)
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert not limit.cancelled_caught
