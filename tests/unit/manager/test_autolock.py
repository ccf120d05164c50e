"""A running manager follows the swarm's unlock key: what is asked of its disk, in which order, and what is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from swarmd.errors import FailedPrecondition, SwarmError, Unavailable
from swarmd.manager.autolock import RENEWAL_S_MAX, RETRY_S, Autolock, not_locked
from swarmd.model import Cluster, ClusterSpec, EncryptionConfig, UnlockKey
from swarmd.pki.unlock_key import parse_unlock_key
from swarmd.state.features import SECURITY
from swarmd.state.transaction import Transaction
from swarmd.storage.disk_keys import InClear
from swarmd.storage.errors import StorageFailed
from swarmd.wire.cluster import GetUnlockKey, Unlock
from tests.unit.manager.local_store import LocalStore

T = TypeVar("T")

CALL = cast("Any", None)
ON = UnlockKey(version=1, key=b"1" * 32)
ROTATED = UnlockKey(version=2, key=b"2" * 32)
OFF = UnlockKey(version=3)


class World:
    """A store, and a disk that notes what is asked of it."""

    def __init__(self) -> None:
        self.store = LocalStore()
        self.kek = UnlockKey()
        self.asked: list[str] = []
        self.clear = InClear(data_key=False, node_key=False)
        self.failures: list[Exception] = []
        self.unavailable: list[SwarmError] = []
        self.autolock = Autolock(
            lambda: self.store.state,
            self,
            linearize=self._linearize,
            rotate_data_key=self._rotate,
            renew=self._renew,
            in_thread=_inline,
        )

    def change(self, wanted: UnlockKey) -> bool:
        if self.failures:
            raise self.failures.pop(0)
        if self.kek == wanted:
            return False
        self.asked.append(f"change to {wanted.version}")
        if wanted.key and not self.kek.key:
            self.clear = InClear(data_key=True, node_key=True)
        self.kek = wanted
        return True

    def in_clear(self) -> InClear:
        return self.clear

    async def _linearize(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.unavailable:
            raise self.unavailable.pop(0)

    async def _rotate(self) -> int:
        await trio.lowlevel.checkpoint()
        self.asked.append("rotate")
        self.clear = InClear(data_key=False, node_key=self.clear.node_key)
        return 2

    def _renew(self) -> None:
        self.asked.append("renew")

    def renewed(self) -> None:
        self.clear = InClear(data_key=self.clear.data_key, node_key=False)

    async def write(self, key: UnlockKey, *, is_on: bool | None = None) -> None:
        spec = ClusterSpec(encryption=EncryptionConfig(auto_lock_managers=bool(key.key) if is_on is None else is_on))

        def change(tx: Transaction) -> None:
            known = tx.cluster()
            assert known is not None
            tx.update(msgspec.structs.replace(known, spec=spec, unlock_key=key))

        if self.store.state.cluster() is None:
            self.store.create(Cluster(id="c" * 25, feature_level=(SECURITY,)))
        await self.store.update(change, actor="test")

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.autolock.run)
            await wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()

    def taken(self) -> list[str]:
        asked, self.asked = self.asked, []
        return asked


async def _inline(work: Callable[[], T]) -> T:
    await trio.lowlevel.checkpoint()
    return work()


@pytest.fixture
def world() -> World:
    return World()


async def test_turned_on_rotated_and_off_the_disk_follows_in_a_safe_order(world: World) -> None:
    await world.write(UnlockKey())
    async with world.following():
        assert world.taken() == []
        await world.write(ON)
        await wait_all_tasks_blocked()
        assert world.taken() == ["change to 1", "rotate", "renew"]
        world.renewed()
        await world.write(ROTATED)
        await wait_all_tasks_blocked()
        assert world.taken() == ["change to 2"]  # nothing was in clear: only wrapped anew
        await world.write(OFF)
        await wait_all_tasks_blocked()
        assert world.taken() == ["change to 3"]


async def test_what_a_crash_interrupted_is_finished_by_the_next_life(world: World) -> None:
    await world.write(ON)
    world.kek, world.clear = ON, InClear(data_key=True, node_key=True)
    async with world.following():
        assert world.taken() == ["rotate", "renew"]


async def test_a_renewal_that_does_not_come_is_asked_for_again(world: World, autojump_clock: MockClock) -> None:
    await world.write(ON)
    async with world.following():
        assert world.taken() == ["change to 1", "rotate", "renew"]
        await trio.sleep(RENEWAL_S_MAX + 1)
        assert world.taken() == ["renew"]
        world.renewed()
        await trio.sleep(10 * RENEWAL_S_MAX)
        assert world.taken() == []


async def test_an_older_state_is_never_gone_back_to(world: World) -> None:
    world.kek = ROTATED
    await world.write(ON)
    async with world.following():
        assert world.kek == ROTATED
        await world.write(OFF)
        await wait_all_tasks_blocked()
        assert world.kek == OFF


async def test_two_keys_of_one_version_change_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.kek = UnlockKey(version=1, key=b"x" * 32)
    await world.write(ON)
    async with world.following():
        assert world.taken() == []
    assert "another unlock key of version 1" in caplog.text


@pytest.mark.parametrize("which", ["failures", "unavailable"])
async def test_a_disk_that_refuses_or_no_leader_is_waited_out(
    world: World, autojump_clock: MockClock, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    await world.write(ON)
    if which == "failures":
        world.failures.append(StorageFailed("no room"))
    else:
        world.unavailable.append(Unavailable("no leader"))
    async with world.following():
        assert world.taken() == []
        await trio.sleep(RETRY_S + 1)
        assert world.taken()[0] == "change to 1"
    assert "do not follow the unlock key yet" in caplog.text
    assert "1111" not in caplog.text


async def test_before_the_cluster_is_known_nothing_is_done(world: World) -> None:
    async with world.following():
        assert world.taken() == []
        with pytest.raises(Unavailable):
            await world.autolock.tell(CALL, GetUnlockKey())


async def test_the_key_is_told_as_it_is_and_as_it_is_shown(world: World) -> None:
    await world.write(ON)
    reply = await world.autolock.tell(CALL, GetUnlockKey())
    assert (reply.key, reply.version, reply.is_on) == (ON.key, 1, True)
    assert parse_unlock_key(reply.shown) == ON.key
    assert "1111" not in repr(reply)
    await world.write(OFF)
    reply = await world.autolock.tell(CALL, GetUnlockKey())
    assert (reply.key, reply.version, reply.is_on, reply.shown) == (b"", 3, False, "")


async def test_the_key_is_never_stale(world: World) -> None:
    await world.write(ON)
    world.unavailable.append(Unavailable("this manager could not confirm that its state is current"))
    with pytest.raises(Unavailable):
        await world.autolock.tell(CALL, GetUnlockKey())


async def test_who_is_not_locked_says_so() -> None:
    with pytest.raises(FailedPrecondition, match="not locked"):
        await not_locked(CALL, Unlock(key="SWMKEY-1-"))
