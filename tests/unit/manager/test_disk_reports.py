"""What managers tell each other of their disks: at once, again and again, and of nobody's but their own."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
import trio.testing

from swarmd.errors import Unauthenticated, Unavailable
from swarmd.manager.disk_health import DiskHealth
from swarmd.manager.disk_reports import REMEMBERED_S, REPEAT_S, DiskReports
from swarmd.model import Role
from swarmd.storage.errors import StorageFull
from swarmd.storage.reserve import Space
from swarmd.wire.disk import DiskCondition, DiskReport
from swarmd.wire.identity import Caller
from swarmd.wire.methods import RAFT_DISK
from tests.unit.manager.swarm_fixture import call_of, identity

GIB = 1 << 30


class World:
    """Managers a, b and c, each at its own name. Those in `away` do not answer."""

    def __init__(self) -> None:
        self.health = {name: DiskHealth(lambda: 1000.0) for name in "abc"}
        self.reports = {name: self._reports_of(name) for name in "abc"}
        self.away: set[str] = set()
        self.calls = 0

    def _reports_of(self, name: str) -> DiskReports:
        others = tuple(sorted(set("abc") - {name}))

        @asynccontextmanager
        async def dial(address: str) -> AsyncIterator[Any]:
            await trio.lowlevel.checkpoint()
            if address in self.away:
                raise Unavailable("nobody there")
            yield _Connection(self, name, address)

        return DiskReports(self.health[name], name, lambda: others, cast("Any", dial))

    @asynccontextmanager
    async def running(self, *names: str) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            for name in names or "abc":
                nursery.start_soon(self.reports[name].run)
            await trio.testing.wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()

    def seen(self, of: str) -> dict[str, DiskCondition | None]:
        reports = {name: reports.of(of) for name, reports in self.reports.items()}
        return {name: report.condition if report is not None else None for name, report in reports.items()}


class _Connection:
    def __init__(self, world: World, source: str, target: str) -> None:
        self._world, self._source, self._target = world, source, target

    async def call(self, method: object, request: DiskReport) -> object:
        assert method is RAFT_DISK
        self._world.calls += 1
        caller = Caller(identity=identity(self._source, Role.MANAGER))
        return await self._world.reports[self._target].receive(call_of(caller), request)


@pytest.fixture
def world(caplog: pytest.LogCaptureFixture) -> World:
    caplog.set_level(logging.CRITICAL)
    return World()


async def test_while_nothing_is_wrong_nothing_is_said(autojump_clock: trio.testing.MockClock, world: World) -> None:
    async with world.running():
        await trio.sleep(100)
    assert world.calls == 0
    assert world.seen("a") == {"a": None, "b": None, "c": None}


async def test_everybody_hears_at_once_and_of_the_end_too(autojump_clock: trio.testing.MockClock, world: World) -> None:
    async with world.running():
        world.health["a"].note_failure(StorageFull("no space"))
        await trio.sleep(0.1)
        assert set(world.seen("a").values()) == {DiskCondition.FULL}
        assert world.seen("b") == {"a": None, "b": None, "c": None}
        told = world.reports["b"].of("a")
        assert told is not None
        assert (told.reason, told.since_at) == ("no space", 1000.0)
        world.health["a"].note_usable()
        await trio.sleep(0.1)
        assert world.seen("a") == {"a": None, "b": None, "c": None}


async def test_what_is_wrong_is_repeated_for_whoever_was_away(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.away = {"b"}
    async with world.running():
        world.health["a"].note_space(Space(0, GIB))
        await trio.sleep(1)
        assert world.seen("a") == {"a": DiskCondition.CRITICAL, "b": None, "c": DiskCondition.CRITICAL}
        world.away.clear()
        await trio.sleep(REPEAT_S)
        assert set(world.seen("a").values()) == {DiskCondition.CRITICAL}
        await trio.sleep(2 * REMEMBERED_S)
        assert set(world.seen("a").values()) == {DiskCondition.CRITICAL}


async def test_who_falls_silent_is_believed_for_a_while_and_then_forgotten(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    async with world.running("a"):
        world.health["a"].note_space(Space(0, GIB))
        await trio.sleep(1)
    await trio.sleep(REMEMBERED_S - 2)
    assert world.seen("a")["b"] is DiskCondition.CRITICAL
    await trio.sleep(2)
    assert world.seen("a") == {"a": DiskCondition.CRITICAL, "b": None, "c": None}


async def test_a_report_without_a_certificate_is_refused(world: World) -> None:
    with pytest.raises(Unauthenticated):
        await world.reports["a"].receive(call_of(Caller(identity=None)), DiskReport(condition=DiskCondition.FULL))
