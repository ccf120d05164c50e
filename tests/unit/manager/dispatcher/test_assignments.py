"""What a node is told to run: the complete set, then what changes, in batches, and anew when events were lost."""

import random

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from swarmd.errors import Invalid, Unavailable
from swarmd.manager.dispatcher import streams
from swarmd.manager.dispatcher.assignment_set import TASKS_PER_MESSAGE_MAX, AssignmentSet
from swarmd.manager.dispatcher.streams import AssignmentStream
from swarmd.model import Task, TaskState, TaskStatus
from swarmd.state.command import Table
from swarmd.state.watch import Event
from swarmd.wire.dispatch import AssignmentsMessage, AssignmentsRequest
from tests.unit.manager.dispatcher.world import N1, N2, REGISTER, World, node, task, task_id


async def next_within(stream: AssignmentStream, seconds: float) -> AssignmentsMessage | None:
    with trio.move_on_after(seconds):
        return await stream.__anext__()
    return None


def ids(message: AssignmentsMessage | None) -> list[str]:
    assert message is not None
    return sorted(task.id for task in message.tasks)


class Node1:
    """A registered node with its open assignment stream."""

    def __init__(self, *tasks: Task) -> None:
        self.world = World(node(N1), node(N2))
        if tasks:
            self.world.store.create(*tasks)

    async def run(self, body) -> None:  # type: ignore[no-untyped-def]
        async with self.world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as session:
            first = await session.__anext__()
            async with self.world.assignments(N1, first) as stream:
                await body(stream)


async def test_the_first_message_is_the_complete_set_even_if_empty(autojump_clock: MockClock) -> None:
    async def body(stream: AssignmentStream) -> None:
        message = await stream.__anext__()
        assert message.complete
        assert (message.applies_to, message.more, message.tasks) == ("", False, ())

    await Node1().run(body)


async def test_the_complete_set_is_this_nodes_tasks_from_assigned_on(autojump_clock: MockClock) -> None:
    async def body(stream: AssignmentStream) -> None:
        assert ids(await stream.__anext__()) == [task_id(1), task_id(3)]

    await Node1(
        task(1),
        task(2, state=TaskState.PENDING),
        task(3, state=TaskState.FAILED),
        task(4, node_id=N2),
        task(5, node_id="", state=TaskState.NEW),
    ).run(body)


async def test_an_assignment_after_a_quiet_time_is_told_at_once(autojump_clock: MockClock) -> None:
    fixture = Node1(task(1, node_id="", state=TaskState.PENDING))

    async def body(stream: AssignmentStream) -> None:
        complete = await stream.__anext__()
        await trio.sleep(1)
        fixture.world.store.write(lambda tx: tx.assign(task_id(1), N1, TaskStatus(state=TaskState.ASSIGNED)))
        began = trio.current_time()
        message = await stream.__anext__()
        assert trio.current_time() == began
        assert ids(message) == [task_id(1)]
        assert not message.complete
        assert message.applies_to == complete.results_in
        assert message.results_in not in ("", complete.results_in)

    await fixture.run(body)


async def test_changes_in_close_succession_are_one_message(autojump_clock: MockClock) -> None:
    fixture = Node1()

    async def body(stream: AssignmentStream) -> None:
        await stream.__anext__()
        began = trio.current_time()

        async def create() -> None:
            for number in range(3):
                fixture.world.store.create(task(number))
                await trio.sleep(0.05)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(create)
            message = await stream.__anext__()
        assert ids(message) == [task_id(0), task_id(1), task_id(2)]
        assert trio.current_time() - began == pytest.approx(0.2)

    await fixture.run(body)


async def test_a_steady_drip_waits_no_longer_than_250_ms(autojump_clock: MockClock) -> None:
    fixture = Node1()

    async def body(stream: AssignmentStream) -> None:
        await stream.__anext__()
        began = trio.current_time()

        async def create() -> None:
            for number in range(20):
                fixture.world.store.create(task(number))
                await trio.sleep(0.06)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(create)
            await stream.__anext__()
            assert trio.current_time() - began == pytest.approx(0.25)

    await fixture.run(body)


async def test_a_nodes_own_status_is_not_echoed(autojump_clock: MockClock) -> None:
    fixture = Node1(task(1, state=TaskState.ACCEPTED))

    async def body(stream: AssignmentStream) -> None:
        await stream.__anext__()
        fixture.world.store.write(
            lambda tx: tx.report(N1, task_id(1), TaskStatus(state=TaskState.RUNNING, message="up"))
        )
        assert await next_within(stream, 1) is None

    await fixture.run(body)


async def test_a_change_of_the_desired_state_is_told(autojump_clock: MockClock) -> None:
    fixture = Node1(task(1, state=TaskState.RUNNING))

    async def body(stream: AssignmentStream) -> None:
        await stream.__anext__()
        fixture.world.update(fixture.world.task(1), desired_state=TaskState.SHUTDOWN)
        message = await stream.__anext__()
        assert [t.desired_state for t in message.tasks] == [TaskState.SHUTDOWN]

    await fixture.run(body)


async def test_a_task_that_is_only_assigned_is_told_again(autojump_clock: MockClock) -> None:
    fixture = Node1(task(1))

    async def body(stream: AssignmentStream) -> None:
        await stream.__anext__()
        fixture.world.update(fixture.world.task(1))
        assert ids(await next_within(stream, 1)) == [task_id(1)]

    await fixture.run(body)


async def test_a_deleted_task_is_removed(autojump_clock: MockClock) -> None:
    fixture = Node1(task(1, state=TaskState.FAILED))

    async def body(stream: AssignmentStream) -> None:
        await stream.__anext__()
        fixture.world.store.write(lambda tx: tx.remove(Table.TASK, task_id(1)))
        message = await stream.__anext__()
        assert (message.tasks, message.removed_tasks) == ((), (task_id(1),))

    await fixture.run(body)


async def test_a_task_of_another_node_wakes_nobody(autojump_clock: MockClock) -> None:
    fixture = Node1()

    async def body(stream: AssignmentStream) -> None:
        await stream.__anext__()
        fixture.world.store.create(task(1, node_id=N2))
        assert await next_within(stream, 1) is None

    await fixture.run(body)


async def test_a_reader_that_fell_behind_gets_the_complete_set_anew(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "EVENTS_QUEUED_MAX", 5)
    fixture = Node1()

    async def body(stream: AssignmentStream) -> None:
        first = await stream.__anext__()
        for number in range(10):
            fixture.world.store.create(task(number))
        message = await stream.__anext__()
        assert message.complete
        assert len(message.tasks) == 10
        assert message.results_in != first.results_in
        await trio.sleep(1)
        fixture.world.store.create(task(77))
        following = await stream.__anext__()
        assert following.applies_to == message.results_in
        assert ids(following) == [task_id(77)]

    await fixture.run(body)


async def test_a_large_set_comes_in_pages(autojump_clock: MockClock) -> None:
    async def body(stream: AssignmentStream) -> None:
        pages = [await stream.__anext__() for _ in range(3)]
        assert [len(page.tasks) for page in pages] == [500, 500, 200]
        assert [page.more for page in pages] == [True, True, False]
        assert {(page.complete, page.applies_to) for page in pages} == {(True, "")}
        assert len({page.results_in for page in pages}) == 1
        assert len({t.id for page in pages for t in page.tasks}) == 1200

    await Node1(*[task(number) for number in range(1200)]).run(body)


async def test_a_change_while_pages_travel_comes_after_them(autojump_clock: MockClock) -> None:
    fixture = Node1(*[task(number) for number in range(600)])

    async def body(stream: AssignmentStream) -> None:
        assert (await stream.__anext__()).more
        fixture.world.store.create(task(9999))
        last_page = await stream.__anext__()
        assert not last_page.more
        assert task_id(9999) not in ids(last_page)
        following = await stream.__anext__()
        assert (following.applies_to, ids(following)) == (last_page.results_in, [task_id(9999)])

    await fixture.run(body)


async def test_an_assignment_stream_needs_the_present_session(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as session:
        first = await session.__anext__()
        with pytest.raises(Invalid):
            async with dispatcher.assignments(N1, AssignmentsRequest(session_id="other")):
                pass
        async with world.assignments(N1, first) as stream:
            await stream.__anext__()
            async with dispatcher.session(N1, "h:1", REGISTER):
                with pytest.raises(Invalid):
                    await stream.__anext__()


async def test_assignments_end_with_the_reign(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    ends = []

    async def agent() -> None:
        try:
            async with (
                world.dispatcher.session(N1, "h:1", REGISTER) as session,
                world.assignments(N1, await session.__anext__()) as stream,
            ):
                async for _ in stream:
                    pass
        except Unavailable as error:
            ends.append(error)

    async with trio.open_nursery() as nursery, world.reign():
        nursery.start_soon(agent)
        await trio.sleep(1)
    assert len(ends) == 1


# -- the set, without a stream -------------------------------------------------------------------------------------


def test_messages_stay_small_however_large_the_tasks() -> None:
    big = [task(number, env=("X=" + "x" * 100_000,)) for number in range(30)]
    pages = AssignmentSet(N1).complete(big)
    assert len(pages) == 3
    assert all(sum(len(t.spec.container.env[0]) for t in page.tasks) <= 1 << 20 for page in pages)
    assert sum(len(page.tasks) for page in pages) == 30


def test_many_changes_are_chained() -> None:
    tasks = AssignmentSet(N1)
    (begin,) = tasks.complete([task(5000)])
    for number in range(TASKS_PER_MESSAGE_MAX + 1):
        tasks.observe(Event(Table.TASK, None, task(number), 1))
    tasks.observe(Event(Table.TASK, task(5000), None, 2))
    first, second = tasks.changes()
    assert (first.applies_to, second.applies_to) == (begin.results_in, first.results_in)
    assert first.removed_tasks == (task_id(5000),)
    assert second.removed_tasks == ()
    assert tasks.changes() == []


def test_the_newest_version_is_told() -> None:
    tasks = AssignmentSet(N1)
    tasks.complete([task(1, state=TaskState.RUNNING)])
    stopping = task(1, state=TaskState.RUNNING, desired=TaskState.SHUTDOWN)
    failed = task(1, state=TaskState.FAILED, desired=TaskState.SHUTDOWN)
    tasks.observe(Event(Table.TASK, None, stopping, 1))
    tasks.observe(Event(Table.TASK, stopping, failed, 2))
    assert tasks.changes()[0].tasks == (failed,)


def test_nodes_are_not_told_of_failures_before_a_task() -> None:
    tasks = AssignmentSet(N1)
    restarted = msgspec.structs.replace(task(1), failures=3)
    (begin,) = tasks.complete([restarted])
    assert begin.tasks == (task(1),)
    tasks.observe(Event(Table.TASK, None, msgspec.structs.replace(task(2), failures=1), 1))
    assert tasks.changes()[0].tasks == (task(2),)


def test_a_task_that_moves_away_is_removed() -> None:
    tasks = AssignmentSet(N1)
    tasks.complete([task(1)])
    tasks.observe(Event(Table.TASK, task(1), task(1, node_id=N2), 1))
    assert tasks.changes()[0].removed_tasks == (task_id(1),)


STATES = [TaskState.PENDING, TaskState.ASSIGNED, TaskState.ACCEPTED, TaskState.RUNNING, TaskState.FAILED]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_an_agent_that_applies_every_message_ends_with_what_the_state_says(seed: int) -> None:
    """Orders (all but status) of exactly this node's tasks from ASSIGNED on, whatever happened in between."""
    dice = random.Random(seed)
    stored: dict[str, Task] = {}
    view = AssignmentSet(N1)
    agent: dict[str, Task] = {}
    reference = ""

    def deliver(messages: list[AssignmentsMessage]) -> None:
        nonlocal reference
        for message in messages:
            if message.complete:
                if message.results_in != reference:
                    agent.clear()
            else:
                assert message.applies_to == reference
            reference = message.results_in
            agent.update({t.id: t for t in message.tasks})
            for id in message.removed_tasks:
                agent.pop(id, None)

    deliver(view.complete(()))
    for index in range(40):
        id = task_id(dice.randrange(6))
        old = stored.get(id)
        new: Task | None
        if old is None:
            new = task(int(id[4:]), dice.choice([N1, N1, N2]), dice.choice(STATES))
        elif dice.random() < 0.25:
            new = None
        else:
            risen = dice.choice([s for s in STATES if s >= old.status.state])
            new = msgspec.structs.replace(
                old, status=TaskStatus(state=risen), desired_state=dice.choice([TaskState.RUNNING, TaskState.SHUTDOWN])
            )
        stored.pop(id, None)
        if new is not None:
            stored[id] = new
        if any(t is not None and t.node_id == N1 for t in (old, new)):
            view.observe(Event(Table.TASK, old, new, index))
        if dice.random() < 0.3:
            deliver(view.changes())
    deliver(view.changes())

    def orders(tasks: dict[str, Task]) -> dict[str, Task]:
        return {id: msgspec.structs.replace(t, status=TaskStatus()) for id, t in tasks.items()}

    assert orders(agent) == orders(
        {id: t for id, t in stored.items() if t.node_id == N1 and t.status.state >= TaskState.ASSIGNED}
    )
