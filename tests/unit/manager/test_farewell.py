"""Managers whose disks fail, in virtual time: who leads then, what is acknowledged, what becomes of the failed one."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
import trio.testing

from swarmd.errors import OutcomeUnknown, Unavailable
from swarmd.manager.farewell import FAREWELL_S_MAX
from swarmd.model import Node
from swarmd.raft import Message, MessageType
from swarmd.storage.errors import StorageFailed, StorageFull
from tests.unit.manager.raft_cluster import Cluster, FakeManager, founded_by, open_cluster
from tests.unit.manager.test_log_disk import SlowWriter
from tests.unit.manager.test_raft_driver import Posted, append, driver_on, failure_of_run, lead

FAILURES = [StorageFull("no space left on device"), StorageFailed("a sync failed")]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


async def write(manager: FakeManager, name: str) -> None:
    await manager.store.update(lambda tx: tx.create(Node(id=name)), actor="test")


def others(cluster: Cluster, manager: FakeManager) -> list[int]:
    return [member_id for member_id in cluster.managers if member_id != manager.member_id]


async def ended(cluster: Cluster, manager: FakeManager) -> BaseException:
    """What it ended with, once it has; the cluster then forgets that."""
    await cluster.until(lambda: not manager.is_running)
    failure: Any = manager.failure
    manager.failure = None
    while isinstance(failure, BaseExceptionGroup):
        (failure,) = failure.exceptions
    assert isinstance(failure, BaseException)
    return failure


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_leader_whose_disk_fails_hands_over_before_it_stops(
    autojump_clock: trio.testing.MockClock, failure: StorageFailed
) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        await write(leader, "before")
        leader.disk.fail_with(failure)
        failed_at = trio.current_time()
        # It was on its way to the others before the own disk refused it: they make it good.
        await write(leader, "in-flight")
        heir = await cluster.leader(*others(cluster, leader))
        assert trio.current_time() - failed_at < 0.2, "an election takes a second at least"
        found = await ended(cluster, leader)
        assert type(found) is type(failure)
        await write(heir, "after")

        await cluster.start(leader.member_id)
        await cluster.until_applied(heir.driver.applied, leader.member_id)
        assert {node.id for node in leader.driver.state.nodes()} == {"before", "in-flight", "after"}
        assert leader.driver.state.digest == heir.driver.state.digest


async def test_a_leader_without_anybody_to_hand_over_to_stops_at_once_and_tells_no_lie(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster(1) as cluster:
        leader = await cluster.leader()
        await write(leader, "kept")
        leader.disk.fail_with(FAILURES[0])
        with pytest.raises(OutcomeUnknown):
            await write(leader, "never-durable")
        assert type(await ended(cluster, leader)) is StorageFull
        await cluster.start(leader.member_id)
        await cluster.leader()
        assert [node.id for node in leader.driver.state.nodes()] == ["kept"]


async def test_of_two_managers_neither_leads_while_one_cannot_write(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster(2) as cluster:
        leader = await cluster.leader()
        await write(leader, "kept")
        leader.disk.fail_with(FAILURES[1])
        failed_at = trio.current_time()
        with pytest.raises(Unavailable):
            await write(leader, "in-doubt")
        await ended(cluster, leader)
        assert trio.current_time() - failed_at <= FAREWELL_S_MAX + 0.5
        await trio.sleep(10)
        (left,) = (cluster.managers[member_id] for member_id in others(cluster, leader))
        assert not left.driver.is_leading
        await cluster.start(leader.member_id)
        again = await cluster.leader()
        await write(again, "after")


async def test_a_follower_whose_disk_fails_leaves_the_others_alone(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        term = leader.driver.core.term
        failing = cluster.managers[others(cluster, leader)[0]]
        failing.disk.fail_with(FAILURES[0])
        for number in range(20):
            await write(leader, f"node-{number}")
        assert type(await ended(cluster, failing)) is StorageFull
        assert leader.driver.core.term == term
        await cluster.start(failing.member_id)
        await cluster.until_applied(leader.driver.applied, failing.member_id)
        assert failing.driver.state.digest == leader.driver.state.digest
        assert leader.driver.core.term == term


# -- what it says meanwhile ----------------------------------------------------------------------------------------


@pytest.fixture
def writer() -> SlowWriter:
    return SlowWriter()


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_member_whose_write_failed_acknowledges_nothing(writer: SlowWriter, failure: StorageFailed) -> None:
    posted = Posted()
    driver = driver_on(founded_by([1, 2, 3]), writer, posted)

    def fail() -> None:
        driver.receive(*append(6, 2, b"x"))
        writer.finish(failure)
        driver.receive(*append(7, 2, b"y"))

    assert type(await failure_of_run(driver, fail)) is type(failure)
    assert posted.of_type(MessageType.APPEND_REPLY) == []
    assert writer.jobs == []


async def test_a_member_whose_write_failed_votes_for_nobody(writer: SlowWriter) -> None:
    posted = Posted()
    driver = driver_on(founded_by([1, 2, 3]), writer, posted)

    def fail() -> None:
        for source in (2, 3):
            driver.receive(
                Message(type=MessageType.VOTE, source=source, target=1, term=source + 1, index=6, log_term=1)
            )
            if writer.jobs:
                writer.finish(FAILURES[1])

    assert type(await failure_of_run(driver, fail)) is StorageFailed
    assert posted.of_type(MessageType.VOTE_REPLY) == []


async def test_a_leader_that_says_farewell_counts_its_own_disk_for_nothing(writer: SlowWriter) -> None:
    posted = Posted()
    driver = driver_on(founded_by([1, 2, 3]), writer, posted)

    def fail() -> None:
        lead(driver)
        assert driver.core.is_leader
        noop, term = driver.core.last_index, driver.core.term
        writer.finish()  # its vote for itself
        writer.finish(FAILURES[0])  # the first entry of its reign
        for source, is_committed in ((2, False), (3, True)):
            driver.receive(Message(type=MessageType.APPEND_REPLY, source=source, target=1, term=term, index=noop))
            assert (driver.core.commit >= noop) is is_committed

    assert type(await failure_of_run(driver, fail)) is StorageFull
