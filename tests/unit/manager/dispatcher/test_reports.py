"""Statuses: committed before they are answered, in large pieces under load, never for another node's task."""

import math

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.errors import Invalid, OutcomeUnknown, Unavailable
from swarmd.model import ContainerStatus, PlacementFailure, TaskState, TaskStatus
from swarmd.wire.dispatch import ReportedStatus, SessionMessage, UpdateStatusRequest
from tests.unit.manager.dispatcher.world import N1, N2, REGISTER, World, node, task, task_id

RUNNING = TaskStatus(state=TaskState.RUNNING, at=5.0, message="started", container=ContainerStatus(pid=42))


async def test_a_status_is_in_the_state_when_the_reply_comes(autojump_clock: MockClock) -> None:
    world = World(node(N1), latency_s=0.01)
    world.store.create(task(1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        first = await stream.__anext__()
        reply = await world.report(N1, first, (1, RUNNING))
        status = world.task(1).status
        assert (status.state, status.message, status.container) == (TaskState.RUNNING, "started", RUNNING.container)
        assert status.applied_by == N1
        assert status.applied_at > 0
        assert reply.refused == ()
        assert world.store.commands[-1].term == world.store.term


async def test_an_idle_store_is_written_at_once(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    world.store.create(task(1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        first = await stream.__anext__()
        began = trio.current_time()
        await world.report(N1, first, (1, RUNNING))
        assert trio.current_time() == began


async def test_reports_during_a_commit_share_the_next_entry(autojump_clock: MockClock) -> None:
    count = 100
    ids = [f"{number:025d}" for number in range(count)]
    world = World(*[node(id) for id in ids])
    world.store.create(*[task(number, node_id=id) for number, id in enumerate(ids)])
    firsts: dict[str, SessionMessage] = {}

    async def register(id: str) -> None:
        async with world.dispatcher.session(id, "h:1", REGISTER) as stream:
            firsts[id] = await stream.__anext__()
            await trio.sleep_forever()

    async with world.reign(), trio.open_nursery() as agents:
        for id in ids:
            agents.start_soon(register, id)
        await trio.sleep(1)
        world.store.latency_s = 0.01
        before = world.store.state.index
        async with trio.open_nursery() as reporters:
            for number, id in enumerate(ids):
                reporters.start_soon(world.report, id, firsts[id], (number, RUNNING))
        assert all(world.task(number).status.state is TaskState.RUNNING for number in range(count))
        assert world.store.state.index - before <= 3
        agents.cancel_scope.cancel()


async def test_foreign_tasks_are_left_out_and_listed_and_the_rest_is_written(autojump_clock: MockClock) -> None:
    world = World(node(N1), node(N2))
    world.store.create(task(1), task(2, node_id=N2))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        first = await stream.__anext__()
        reply = await world.report(N1, first, (1, RUNNING), (2, RUNNING), (3, RUNNING))
        assert reply.refused == (task_id(2),)
        assert world.task(1).status.state is TaskState.RUNNING
        assert world.task(2).status.state is TaskState.ASSIGNED


@pytest.mark.parametrize("state", [TaskState.NEW, TaskState.PENDING, TaskState.REMOVE, TaskState.ORPHANED])
async def test_states_that_are_not_a_nodes_to_report_are_refused(autojump_clock: MockClock, state: TaskState) -> None:
    world = World(node(N1))
    world.store.create(task(1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        reply = await world.report(N1, await stream.__anext__(), (1, TaskStatus(state=state)))
        assert reply.refused == (task_id(1),)
        assert world.task(1).status.state is TaskState.ASSIGNED


async def test_a_state_never_falls_and_nothing_new_writes_nothing(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    world.store.create(task(1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        first = await stream.__anext__()
        await world.report(N1, first, (1, RUNNING))
        index = world.store.state.index
        await world.report(N1, first, (1, RUNNING))
        await world.report(N1, first, (1, TaskStatus(state=TaskState.STARTING)))
        await world.report(N1, first)
        assert world.store.state.index == index
        assert world.task(1).status.state is TaskState.RUNNING


async def test_the_last_word_on_a_task_within_a_call_counts_unless_it_falls(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    world.store.create(task(1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        first = await stream.__anext__()
        failed = TaskStatus(state=TaskState.FAILED, err="exit 1")
        await world.report(N1, first, (1, RUNNING), (1, failed), (1, RUNNING))
        assert world.task(1).status.err == "exit 1"


async def test_more_than_1000_statuses_in_a_call_are_invalid(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        first = await stream.__anext__()
        update = ReportedStatus(task_id=task_id(1), status=RUNNING)
        request = UpdateStatusRequest(session_id=first.session_id, updates=(update,) * 1001)
        with pytest.raises(Invalid):
            await dispatcher.update_status(N1, request)


async def test_a_failed_commit_is_the_callers_error_and_the_next_report_works(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    world.store.create(task(1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        first = await stream.__anext__()
        world.store.failures = [OutcomeUnknown("who knows")]
        with pytest.raises(OutcomeUnknown, match="who knows"):
            await world.report(N1, first, (1, RUNNING))
        await world.report(N1, first, (1, RUNNING))
        assert world.task(1).status.state is TaskState.RUNNING


async def test_a_report_under_way_when_the_reign_ends_is_unavailable(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    world.store.create(task(1))
    refused = []

    async def agent() -> None:
        async with world.dispatcher.session(N1, "h:1", REGISTER) as stream:
            first = await stream.__anext__()
            world.store.latency_s = 60.0
            try:
                await world.report(N1, first, (1, RUNNING))
            except Unavailable as error:
                refused.append(error)

    async with trio.open_nursery() as nursery, world.reign():
        nursery.start_soon(agent)
        await trio.sleep(1)
    assert len(refused) == 1


async def test_long_texts_are_cut_and_large_calls_split_into_entries_that_fit(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    count = 600
    world.store.create(*[task(number) for number in range(count)])
    long = TaskStatus(state=TaskState.FAILED, message="m" * 5000, err="\N{SNOWMAN}" * 2000)
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        first = await stream.__anext__()
        before = world.store.state.index
        await world.report(N1, first, *[(number, long) for number in range(count)])
        assert world.store.state.index - before == 6
        assert all(world.task(number).status.state is TaskState.FAILED for number in range(count))
        assert len(world.task(7).status.message) == 4096
        assert world.task(7).status.err == long.err


@pytest.mark.parametrize(
    ("status", "field"),
    [
        (replace(RUNNING, at=math.nan), "at"),
        (replace(RUNNING, at=math.inf), "at"),
        (replace(RUNNING, at=-1.0), "at"),
        (replace(RUNNING, running_at=1e300), "running_at"),
        (replace(RUNNING, container=ContainerStatus(container_id="x" * 129)), "container.container_id"),
        (replace(RUNNING, container=ContainerStatus(pid=-1)), "container.pid"),
        (replace(RUNNING, container=ContainerStatus(pid=1 << 40)), "container.pid"),
        (replace(RUNNING, container=ContainerStatus(exit_code=1 << 63)), "container.exit_code"),
    ],
)
async def test_what_no_node_observes_is_refused_and_nothing_of_the_call_is_written(
    autojump_clock: MockClock, status: TaskStatus, field: str
) -> None:
    """A time that is no number would differ from itself for ever, and could not be shown."""
    world = World(node(N1))
    world.store.create(task(1), task(2))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        first = await stream.__anext__()
        before = world.store.state.index
        with pytest.raises(Invalid) as refused:
            await world.report(N1, first, (1, RUNNING), (2, status))
        assert refused.value.field == f"$.updates[1].status.{field}"
        assert world.store.state.index == before
        await world.report(N1, first, (1, RUNNING), (2, RUNNING))


async def test_one_nodes_huge_report_does_not_hold_up_those_of_others(autojump_clock: MockClock) -> None:
    """A container's id of megabytes burst the entry that its report shared with others', again and again."""
    world = World(node(N1), node(N2), latency_s=0.01)
    world.store.create(task(1, N1), task(2, N2))
    huge = replace(RUNNING, container=ContainerStatus(container_id="x" * 3_000_000))
    async with (
        world.reign() as dispatcher,
        dispatcher.session(N1, "h:1", REGISTER) as mallory,
        dispatcher.session(N2, "h:2", REGISTER) as honest,
    ):
        bad, good = await mallory.__anext__(), await honest.__anext__()

        async def report_it() -> None:
            with pytest.raises(Invalid):
                await world.report(N1, bad, (1, huge))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(report_it)
            nursery.start_soon(world.report, N2, good, (2, RUNNING))
        assert world.task(2).status.state is TaskState.RUNNING
        assert world.task(1).status.state is TaskState.ASSIGNED


async def test_why_a_task_found_no_place_is_not_a_nodes_to_say(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    world.store.create(task(1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        await world.report(N1, await stream.__anext__(), (1, replace(RUNNING, unplaced=PlacementFailure())))
    assert world.task(1).status.unplaced is None
    assert world.task(1).status.state is TaskState.RUNNING
