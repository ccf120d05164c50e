"""Tells the leader what this member's state was at agreed indexes: at each new one, and whoever begins to lead."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from swarmd.errors import SwarmError
from swarmd.manager.bell import Bell
from swarmd.manager.digests.points import DigestPoints, hash_form
from swarmd.manager.raft_driver import RaftDriver
from swarmd.raft import Member
from swarmd.transport.connection import Connection
from swarmd.wire.methods import RAFT_DIGEST
from swarmd.wire.peer import DigestReply, DigestReport

log = logging.getLogger(__name__)

PAUSE_S: Final = 1.0
"""Between two reports: what a busy swarm passes meanwhile goes into one."""
RETRY_S: Final = 5.0
REPORT_S_MAX: Final = 5.0


class DigestReporter:
    """One instance per manager.

    Args:
        connect: a connection to the leader; see `proxy.LeaderLink`.
        heard: told what the leader answers.
    """

    def __init__(
        self,
        driver: RaftDriver,
        points: DigestPoints,
        connect: Callable[[Member], Awaitable[Connection]],
        *,
        heard: Callable[[DigestReply], None],
    ) -> None:
        self._driver = driver
        self._points = points
        self._connect = connect
        self._heard = heard
        self._hash_form = hash_form()
        self._told: tuple[object, ...] = ()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Report until cancelled."""
        news = Bell()
        self._points.tell(news)
        news.ring()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ring_with_each_leader, news)
            task_status.started()
            while True:
                is_told = await self._tell_leader()
                await trio.sleep(PAUSE_S)
                with trio.move_on_after(math.inf if is_told else RETRY_S):
                    await news.wait()

    async def _ring_with_each_leader(self, news: Bell) -> None:
        while True:
            await self._driver.changed.wait()
            news.ring()

    async def _tell_leader(self) -> bool:
        """False: try again later."""
        driver, points = self._driver, self._points.all
        own, leader = driver.core.member_id, driver.configuration.member(driver.leader)
        if leader is None or leader.member_id == own or driver.configuration.member(own) is None or not points:
            return True
        news = (driver.core.term, points)
        if news == self._told:
            return True
        report = DigestReport(member_id=own, points=tuple(points.values()), hash_form=self._hash_form)
        try:
            connection = await self._connect(leader)
            self._heard(await connection.call(RAFT_DIGEST, report, timeout_s=REPORT_S_MAX))
        except SwarmError as error:
            log.debug("the leader was not told the digests: %s", error)
            return False
        self._told = news
        return True
