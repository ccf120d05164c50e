"""A session that moves to a new connection because the certificate changed: no gap, no lost task, no new session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from swarmd.errors import Unavailable
from swarmd.executor.fake import FakeExecutor, FakeMachine
from swarmd.model import TaskState
from swarmd.wire import dispatch
from tests.unit.agent.worlds import FakeDispatcher, MemoryRecords, World, make_task, running, until


class Streams(FakeDispatcher):
    """Counts the session streams that are open, and notes whenever there was none."""

    def __init__(self) -> None:
        super().__init__([make_task(1)])
        self.open = 0
        self.open_max = 0
        self.gaps = 0
        self.register_error: Unavailable | None = None

    @asynccontextmanager
    async def session(self, request: dispatch.SessionRequest) -> AsyncIterator[AsyncIterator[dispatch.SessionMessage]]:
        if self.register_error is not None:
            error, self.register_error = self.register_error, None
            raise error
        async with super().session(request) as messages:
            self.open += 1
            self.open_max = max(self.open_max, self.open)
            try:
                yield messages
            finally:
                self.open -= 1
                self.gaps += not self.open


def world_of(dispatcher: FakeDispatcher) -> World:
    return World(dispatcher, FakeExecutor(FakeMachine()), MemoryRecords())


async def test_the_session_goes_on_over_a_new_connection_without_a_gap(autojump_clock: MockClock) -> None:
    dispatcher = Streams()
    world = world_of(dispatcher)
    async with running(world):
        await until(lambda: dispatcher.states.get("task1") is TaskState.RUNNING)
        session_id, opened = dispatcher.session_id, len(dispatcher.heartbeats)
        for turn in range(1, 4):
            world.agent.certificate_changed()
            await until(lambda turn=turn: len(dispatcher.connects) == 1 + turn and dispatcher.open_links == 1)
        assert [request.session_id for request in dispatcher.requests] == ["", *[session_id] * 3]
        assert (dispatcher.open, dispatcher.open_max, dispatcher.gaps) == (1, 2, 0)
        assert world.agent.state == "connected"
        assert dispatcher.states["task1"] is TaskState.RUNNING
        assert dispatcher.goodbyes == []
        await trio.sleep(20)
        assert len(dispatcher.heartbeats) > opened + 3
    assert len(dispatcher.goodbyes) == 1
    assert dispatcher.open_links == 0


async def test_while_no_new_connection_can_be_had_the_old_one_serves(autojump_clock: MockClock) -> None:
    dispatcher = Streams()
    world = world_of(dispatcher)
    async with running(world):
        await until(lambda: world.agent.state == "connected")
        dispatcher.connect_error = Unavailable("nobody there")
        world.agent.certificate_changed()
        before = len(dispatcher.heartbeats)
        await trio.sleep(60)
        assert world.agent.state == "connected"
        assert len(dispatcher.heartbeats) >= before + 10
        assert 5 < len(dispatcher.connects) < 40, "neither given up nor a busy loop"
        assert dispatcher.gaps == 0
        dispatcher.connect_error = None
        await until(lambda: len(dispatcher.requests) == 2)
        await until(lambda: dispatcher.open_links == 1)
        assert dispatcher.gaps == 0


async def test_a_registration_that_fails_over_the_new_connection_is_an_ordinary_loss(
    autojump_clock: MockClock,
) -> None:
    dispatcher = Streams()
    world = world_of(dispatcher)
    async with running(world):
        await until(lambda: world.agent.state == "connected")
        session_id = dispatcher.session_id
        dispatcher.register_error = Unavailable("lost")
        world.agent.certificate_changed()
        await until(lambda: len(dispatcher.requests) == 2 and world.agent.state == "connected")
        assert dispatcher.requests[-1].session_id == session_id


@pytest.mark.parametrize("leaving", [False, True])
async def test_stopping_in_the_middle_of_a_move_still_says_goodbye(autojump_clock: MockClock, *, leaving: bool) -> None:
    dispatcher = Streams()
    world = world_of(dispatcher)
    async with running(world):
        await until(lambda: world.agent.state == "connected")
        dispatcher.is_silent = True
        world.agent.certificate_changed()
        await until(lambda: len(dispatcher.requests) == 2)
        assert dispatcher.open == 2
        async with trio.open_nursery() as nursery:
            if leaving:
                nursery.start_soon(world.agent.leave)
            await trio.sleep(0.1)
            dispatcher.is_silent = False
            dispatcher.send_session()
    assert [goodbye.leaving for goodbye in dispatcher.goodbyes] == [leaving]
    assert dispatcher.goodbyes[0].session_id == dispatcher.session_id


async def test_a_change_while_connecting_costs_at_most_one_more_connection(autojump_clock: MockClock) -> None:
    dispatcher = Streams()
    dispatcher.is_silent = True
    world = world_of(dispatcher)
    async with running(world):
        await until(lambda: len(dispatcher.requests) == 1)
        world.agent.certificate_changed()
        dispatcher.is_silent = False
        dispatcher.send_session()
        await trio.sleep(30)
        assert world.agent.state == "connected"
        assert len(dispatcher.connects) == 2
        assert dispatcher.gaps == 0
