from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from swarmd.errors import FailedPrecondition, Invalid, PermissionDenied, SwarmError
from swarmd.manager.disk_health import PAUSE_S_MAX, DiskHealth
from swarmd.manager.own_membership import MemberReplaced
from swarmd.model import Role
from swarmd.node.identity import StateDirectory
from swarmd.node.manager_part import ManagerPart
from swarmd.node.memory import NodeMemory
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.wire.disk import DiskCondition
from swarmd.wire.identity import Identity


class FakeManager:
    """A life as a manager: opens its log unless `fails_before`, runs until `fails`."""

    def __init__(self, *, fails_before: Exception | None = None) -> None:
        self.log_is_open = trio.Event()
        self.fails_before = fails_before
        self.failing = trio.Event()
        self.failure: Exception | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started()
            if self.fails_before is not None:
                raise self.fails_before
            self.log_is_open.set()
            nursery.start_soon(self._fail)

    async def _fail(self) -> None:
        await self.failing.wait()
        if self.failure is not None:
            raise self.failure

    def fail(self, failure: Exception) -> None:
        self.failure = failure
        self.failing.set()


class FakeDoors:
    def __init__(self) -> None:
        self.open = ""
        self.refusal: SwarmError | None = None

    async def run_as_manager(self, manager: FakeManager, *, task_status: trio.TaskStatus[None]) -> None:
        await self._serve("manager", task_status)

    async def run_as_worker(self, *, task_status: trio.TaskStatus[None]) -> None:
        await self._serve("worker", task_status)

    async def _serve(self, name: str, task_status: trio.TaskStatus[None]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.open = name
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self.open = ""


class FakeCredentials:
    def __init__(self, role: Role) -> None:
        self.identity = Identity(node_id="own", role=role, swarm_id="s")


class World:
    def __init__(self, path: Path, role: Role) -> None:
        self.directory = StateDirectory(path)
        self.credentials = FakeCredentials(role)
        self.doors = FakeDoors()
        self.memory = NodeMemory(self.directory.node_file, self.directory.node_file.load())
        self.others: tuple[str, ...] = ("10.0.0.2:4242",)
        self.managers: list[FakeManager] = []
        self.next: list[FakeManager] = []
        self.sharing: list[FakeManager] = []
        self.disk = DiskHealth(lambda: 0.0)
        self.part = ManagerPart(
            self.directory,
            cast("Any", self.credentials),
            self.memory,
            cast("Any", self.doors),
            make_manager=cast("Any", self._make),
            others=lambda: self.others,
            share=cast("Any", self._share),
            disk=self.disk,
        )

    async def _share(self, manager: FakeManager) -> None:
        self.sharing.append(manager)
        try:
            await trio.sleep_forever()
        finally:
            self.sharing.remove(manager)

    def _make(self) -> FakeManager:
        self.managers.append(self.next.pop(0) if self.next else FakeManager())
        return self.managers[-1]

    def become(self, role: Role) -> None:
        self.credentials.identity = Identity(node_id="own", role=role, swarm_id="s")
        self.part.certificate_changed()

    def write_log(self) -> None:
        self.directory.raft.mkdir()
        (self.directory.raft / "raft.db").write_text("a log")
        self.directory.certificates.mkdir(exist_ok=True)
        self.directory.data_keys.write_text("keys")

    async def until(self, condition: Any) -> None:
        with trio.fail_after(60):
            while not condition():  # noqa: ASYNC110 - virtual time, and files that threads touch
                await trio.sleep(0.05)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.part.run)
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def inline_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual time leaps over threads, so what they would do is done inline."""

    async def run_sync(work: Any, *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


@pytest.fixture
def manager_world(tmp_path: Path) -> World:
    return World(tmp_path, Role.MANAGER)


@pytest.fixture
def worker_world(tmp_path: Path) -> World:
    return World(tmp_path, Role.WORKER)


def running(world: World, count: int) -> bool:
    return len(world.managers) == count and world.managers[-1].log_is_open.is_set() and world.doors.open == "manager"


async def test_that_there_is_a_log_is_remembered_before_anything_is_promised(
    autojump_clock: trio.testing.MockClock, manager_world: World
) -> None:
    world = manager_world
    async with world.running():
        await world.until(lambda: running(world, 1))
        assert world.directory.node_file.load().has_been_member
        assert cast("Any", world.part.manager) is world.managers[0]


async def test_a_log_is_erased_only_once_the_certificate_says_worker(
    autojump_clock: trio.testing.MockClock, manager_world: World
) -> None:
    world = manager_world
    world.write_log()
    async with world.running():
        await world.until(lambda: running(world, 1))
        world.part.certificate_changed()  # renewed, the same role
        await trio.sleep(1)
        assert world.directory.raft.exists()
        assert world.managers[0].log_is_open.is_set()
        world.become(Role.WORKER)
        await world.until(lambda: world.doors.open == "worker")
        assert not world.directory.raft.exists()
        assert not world.directory.data_keys.exists()
        assert not world.directory.node_file.load().has_been_member
        assert world.part.manager is None


async def test_the_data_keys_are_gone_before_a_demoted_managers_own_key_is_unsealed(
    autojump_clock: trio.testing.MockClock, manager_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = manager_world
    world.write_log()
    erased: list[bool] = []
    monkeypatch.setattr(
        world.directory.keys, "lay_down", lambda is_managers: erased.append(not world.directory.data_keys.exists())
    )
    async with world.running():
        await world.until(lambda: running(world, 1))
        assert erased == []
        world.become(Role.WORKER)
        await world.until(lambda: world.doors.open == "worker")
    assert erased == [True]


async def test_a_worker_that_is_promoted_begins_without_a_log(
    autojump_clock: trio.testing.MockClock, worker_world: World
) -> None:
    world = worker_world
    async with world.running():
        await world.until(lambda: world.doors.open == "worker")
        world.become(Role.MANAGER)
        await world.until(lambda: running(world, 1))
        assert not world.directory.raft.exists()


@pytest.mark.parametrize("failure", [StorageDamaged("a bad seal"), MemberReplaced("member 5 is 7 now")])
async def test_a_log_that_must_not_be_used_is_set_aside_and_the_node_joins_anew(
    autojump_clock: trio.testing.MockClock, manager_world: World, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    world = manager_world
    world.write_log()
    async with world.running():
        await world.until(lambda: running(world, 1))
        world.managers[0].fail(failure)
        await world.until(lambda: running(world, 2))
        assert not world.directory.raft.exists()
        aside = world.directory.path / "raft.damaged-1"
        assert (aside / "raft.db").read_text() == "a log"
        assert world.directory.data_keys.exists()
        assert (aside / "data-keys.cbor").read_text() == "keys"  # a rotation deletes them from the file in use
        world.become(Role.WORKER)
        await world.until(lambda: world.doors.open == "worker")
        assert [path.name for path in aside.iterdir()] == ["raft.db"]


async def test_the_only_manager_refuses_to_start_on_a_damaged_log_and_changes_nothing(
    autojump_clock: trio.testing.MockClock, manager_world: World
) -> None:
    world = manager_world
    world.write_log()
    world.others = ()
    world.next = [FakeManager(fails_before=StorageDamaged("a bad seal"))]
    with pytest.raises(FailedPrecondition, match="only manager is damaged: a bad seal"):
        await world.part.run()
    assert (world.directory.raft / "raft.db").read_text() == "a log"


async def test_a_fault_of_the_disk_stops_the_manager_part_and_it_comes_back(
    autojump_clock: trio.testing.MockClock, manager_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    world = manager_world
    world.write_log()
    async with world.running():
        await world.until(lambda: running(world, 1))
        pauses = []
        for life in range(12):
            failed_at = trio.current_time()
            world.managers[life].fail(StorageFailed("no space left on device"))
            await world.until(lambda: world.part.manager is None)
            assert world.disk.report.condition is DiskCondition.FAILED
            await world.until(partial(running, world, life + 2))
            pauses.append(round(trio.current_time() - failed_at, 3))
        # The next life waits for the disk with open doors; one that lies about being well is left alone ever longer.
        assert pauses[0] < 1
        assert pauses == sorted(pauses)
        assert pauses[-1] == pytest.approx(PAUSE_S_MAX, abs=1)
        assert (world.directory.raft / "raft.db").exists()


async def test_an_address_in_use_refuses_the_start(
    autojump_clock: trio.testing.MockClock, manager_world: World
) -> None:
    manager_world.next = [FakeManager(fails_before=FailedPrecondition("the address 0.0.0.0:4242 is in use"))]
    with pytest.raises(FailedPrecondition, match="in use"):
        await manager_world.part.run()


async def test_a_busy_control_socket_refuses_the_start(
    autojump_clock: trio.testing.MockClock, worker_world: World
) -> None:
    worker_world.doors.refusal = FailedPrecondition("another daemon serves it")
    with pytest.raises(FailedPrecondition, match="another daemon"):
        await worker_world.part.run()


async def test_once_up_an_address_in_use_is_tried_again_and_ends_no_daemon(
    autojump_clock: trio.testing.MockClock, worker_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    world = worker_world
    world.next = [FakeManager(fails_before=FailedPrecondition("the address 0.0.0.0:4242 is in use"))]
    async with world.running():
        await world.until(lambda: world.doors.open == "worker")
        world.become(Role.MANAGER)
        await world.until(lambda: running(world, 2))


async def test_a_demoted_manager_that_may_not_join_waits_for_its_new_certificate(
    autojump_clock: trio.testing.MockClock, manager_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    world = manager_world
    world.next = [FakeManager(fails_before=PermissionDenied("not (any more) a manager")) for _ in range(50)]
    async with world.running():
        await trio.sleep(100)
        assert 2 <= len(world.managers) <= 8
        world.become(Role.WORKER)
        await world.until(lambda: world.doors.open == "worker")


async def test_what_the_log_cannot_mean_to_this_version_stops_the_node(
    autojump_clock: trio.testing.MockClock, manager_world: World
) -> None:
    world = manager_world
    with pytest.RaisesGroup(Invalid, flatten_subgroups=True):
        async with world.running():
            await world.until(lambda: running(world, 1))
            world.managers[0].fail(Invalid("an entry with an unknown field"))
            await trio.sleep_forever()
