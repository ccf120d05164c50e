"""A node with a new certificate goes on over a new connection, and nobody takes it for lost meanwhile."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from swarmd.errors import Unavailable
from swarmd.model import TaskState
from tests.unit.agent.worlds import make_task, make_world, running, until


async def test_the_new_link_resumes_the_session_before_the_old_one_is_left(autojump_clock: MockClock) -> None:
    world = make_world(make_task())
    dispatcher = world.dispatcher
    async with running(world):
        await until(lambda: dispatcher.states.get("task1") is TaskState.RUNNING)
        session = dispatcher.session_id
        dispatcher.registration_s = 0.5
        world.agent.renew_link()
        await trio.sleep(0.25)
        assert world.agent.state == "connected", "the dispatcher ended the old stream, and the new one is on its way"
        await trio.sleep(0.5)
        assert dispatcher.open_links == 1
        assert [request.session_id for request in dispatcher.requests] == ["", session]
        assert (world.agent.state, dispatcher.session_id) == ("connected", session)
        assert dispatcher.goodbyes == []
        assert world.machine.started == ["task1"]
        await trio.sleep(60)
        assert len(dispatcher.connects) == 2, "and that is all"
        assert dispatcher.heartbeats[-1] > trio.current_time() - 10


async def test_a_link_that_cannot_be_renewed_goes_on(autojump_clock: MockClock) -> None:
    world = make_world()
    dispatcher = world.dispatcher
    async with running(world):
        await until(lambda: world.agent.state == "connected")
        dispatcher.connect_error = Unavailable("no route")
        world.agent.renew_link()
        await trio.sleep(20)
        assert (world.agent.state, dispatcher.open_links) == ("connected", 1)
        assert len(dispatcher.requests) == 1
        assert 3 < len(dispatcher.connects) < 30
        dispatcher.connect_error = None
        await until(lambda: len(dispatcher.requests) == 2, within_s=10)
        assert world.agent.state == "connected"


async def test_several_renewals_and_a_stop_in_the_middle_of_one(autojump_clock: MockClock) -> None:
    world = make_world()
    dispatcher = world.dispatcher
    async with running(world):
        await until(lambda: world.agent.state == "connected")
        for _ in range(3):
            world.agent.renew_link()
            await trio.sleep(1)
        assert (len(dispatcher.requests), dispatcher.open_links) == (4, 1)
        dispatcher.registration_s = 2.0
        world.agent.renew_link()
        await trio.sleep(0.5)
    assert dispatcher.open_links == 0


async def test_the_link_is_lost_while_a_new_one_is_tried(autojump_clock: MockClock) -> None:
    world = make_world()
    dispatcher = world.dispatcher
    async with running(world):
        await until(lambda: world.agent.state == "connected")
        dispatcher.connect_error = Unavailable("no route")
        world.agent.renew_link()
        dispatcher.heartbeat_error = Unavailable("gone")
        dispatcher.close_assignments()
        await trio.sleep(3)
        assert world.agent.state.startswith("connecting")
        dispatcher.connect_error = None
        await until(lambda: world.agent.state == "connected", within_s=20)
