from __future__ import annotations

import logging
from typing import Any, cast

import pytest
import trio
import trio.testing

from swarmd.errors import FailedPrecondition
from swarmd.manager.disk_watch import DiskWatch
from swarmd.raft import ProgressView
from tests.unit.manager.fake_driver import FakeDriver
from tests.unit.manager.raft_cluster import member


class FakeMembers:
    def __init__(self, driver: FakeDriver) -> None:
        self.asked: list[str] = []
        self.refusals = 0
        self._driver = driver

    async def remove_member(self, node_id: str) -> None:
        await trio.lowlevel.checkpoint()
        self.asked.append(node_id)
        if self.refusals:
            self.refusals -= 1
            raise FailedPrecondition("it could cost the quorum")
        self._driver.configure(*(m for m in self._driver.configuration.members if m.node_id != node_id))


def view(member_id: int, *, is_rolled_back: bool = False) -> ProgressView:
    return ProgressView(
        member_id=member_id, match=5, next=6, is_active=True, ticks_since_heard=0, is_rolled_back=is_rolled_back
    )


async def test_a_member_that_lost_what_it_acknowledged_is_removed_once_that_is_safe(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    driver = FakeDriver((member(1), member(2), member(3)))
    members = FakeMembers(driver)
    members.refusals = 2
    driver.core.views = (view(1), view(2), view(3))
    async with trio.open_nursery() as nursery:
        await nursery.start(DiskWatch(cast("Any", driver), cast("Any", members)).run)
        await trio.sleep(11)
        assert members.asked == []
        driver.core.views = (view(1), view(2, is_rolled_back=True), view(3))
        await trio.sleep(30)
        assert members.asked == ["node-2"] * 3
        assert [m.member_id for m in driver.configuration.members] == [1, 3]
        nursery.cancel_scope.cancel()
    assert len(caplog.records) == 1
