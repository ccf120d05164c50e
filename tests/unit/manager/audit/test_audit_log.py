"""The trail beside a running log: written behind the loop, nothing twice, nothing lost in silence, nothing stopped."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
import trio.testing
from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.errors import Unavailable
from swarmd.manager.audit import audit_log
from swarmd.manager.audit.audit_log import RETRY_S, AuditLog
from swarmd.raft import SnapshotMeta
from swarmd.state.command import Table
from swarmd.state.snapshot import SnapshotReader, encode_snapshot
from swarmd.storage.audit_store import Part, open_or_begin
from swarmd.storage.errors import StorageDamaged, StorageFull
from swarmd.storage.sealing import Sealer
from swarmd.wire.audit import AuditRecord, first_broken
from tests.unit.manager.audit.audited import AT, Member, service, task

T = TypeVar("T")


class World:
    """One manager's state and trail in a directory; the thread is this one."""

    def __init__(self, path: Path) -> None:
        self.path = path / "raft" / "audit.db"
        self.sealer = Sealer({1: b"k" * 32}, 1, b"context")
        self.refusal: Exception | None = None
        self.works = 0
        self.log = AuditLog(now=lambda: AT, in_thread=self._in_thread)
        self.member = Member(self.log)
        self.member.state.tap = None

    async def _in_thread(self, work: Callable[[], T]) -> T:
        await trio.lowlevel.checkpoint()
        self.works += 1
        return work()

    def opening(self) -> Any:
        if self.refusal is not None:
            raise self.refusal
        return open_or_begin(self.path, self.sealer)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.log.open(self.opening, self.member.state)
        async with trio.open_nursery() as nursery:
            await nursery.start(self.log.run)
            yield
            nursery.cancel_scope.cancel()

    def next_life(self, *, bodies: list[bytes] | None = None) -> World:
        """The same directory; the log is applied again once it runs."""
        world = World(self.path.parent.parent)
        world.member.bodies = list(self.member.bodies if bodies is None else bodies)
        return world

    def replay(self) -> None:
        self.member.replay(self.member.bodies)

    async def records(self, part: Part = Part.LOG) -> list[AuditRecord]:
        await self.log.until_written()
        return [row.record for row in await self.log.read(part)]

    def create(self, *names: str, **more: Any) -> None:
        for name in names:
            self.member.write(lambda tx, name=name: tx.create(service(name, name)), **more)  # type: ignore[misc]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def names(records: list[AuditRecord]) -> list[str]:
    return [record.changes[0].name if record.changes else record.what for record in records]


async def test_what_is_applied_can_be_read_at_once_and_is_chained(world: World, autojump_clock: MockClock) -> None:
    async with world.running():
        world.create("a", "b")
        world.member.write(lambda tx: tx.remove(Table.SERVICE, "a"))
        found = await world.records()
    assert [(r.index, r.changes[0].action, r.changes[0].name) for r in found] == [
        (1, "create", "a"),
        (2, "create", "b"),
        (3, "remove", "a"),
    ]
    assert all(record.chain for record in found)
    assert first_broken(found) is None


async def test_what_does_not_count_is_not_even_queued(world: World, autojump_clock: MockClock) -> None:
    async with world.running():
        await trio.testing.wait_all_tasks_blocked()
        works = world.works
        for number in range(20):
            made = task(f"t{number}")
            world.member.write(lambda tx, made=made: tx.create(made), actor="leader:orchestrator")  # type: ignore[misc]
        await trio.sleep(10)
        assert world.works == works


async def test_a_burst_is_written_together(world: World, autojump_clock: MockClock) -> None:
    async with world.running():
        await trio.testing.wait_all_tasks_blocked()
        works = world.works
        world.create(*(f"s{n}" for n in range(audit_log.BATCH_MAX)))
        await trio.sleep(1)
        assert world.works == works + 1
        assert len(await world.records()) == audit_log.BATCH_MAX


async def test_a_log_that_is_applied_again_adds_what_is_missing_and_nothing_twice(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.running():
        world.create("a", "b")
        first = await world.records()
    later = Member()
    later.replay(world.member.bodies)
    later.bodies = list(world.member.bodies)
    later.write(lambda tx: tx.create(service("c", "c")))
    again = world.next_life(bodies=later.bodies)
    async with again.running():
        again.replay()
        found = await again.records()
    assert found[:2] == first
    assert names(found) == ["a", "b", "c"]
    assert first_broken(found) is None


async def test_a_crash_before_the_write_loses_nothing(world: World, autojump_clock: MockClock) -> None:
    await world.log.open(world.opening, world.member.state)
    world.create("a")  # and `run` never came to it
    assert world.log._store is not None
    world.log._store.close()
    again = world.next_life()
    async with again.running():
        again.replay()
        assert names(await again.records()) == ["a"]


async def test_two_members_write_the_same(world: World, autojump_clock: MockClock, tmp_path: Path) -> None:
    other = World(tmp_path / "other")
    async with world.running(), other.running():
        world.create("a", "b", "c")
        other.member.replay(world.member.bodies)
        assert await other.records() == await world.records()


async def test_what_came_as_a_snapshot_is_one_gap(world: World, autojump_clock: MockClock, tmp_path: Path) -> None:
    ahead = Member()
    for name in "abc":
        ahead.write(lambda tx, name=name: tx.create(service(name, name)))  # type: ignore[misc]
    meta = SnapshotMeta(index=3, term=1)
    reader = SnapshotReader()
    for chunk in encode_snapshot(ahead.state.capture(), meta):
        reader.feed(chunk)
    async with world.running():
        world.member.replay(ahead.bodies[:1])
        world.member.state.adopt(reader.finish(meta))
        world.create("d")
        found = await world.records()
    assert [(r.index, r.result) for r in found] == [(1, "applied"), (3, "gap"), (4, "applied")]
    assert found[1].what == "entries 2..3 are not told of: they came as a snapshot"
    assert first_broken(found) is None


async def test_a_start_from_a_snapshot_beyond_the_file_is_a_gap_and_one_within_is_none(
    world: World, autojump_clock: MockClock, tmp_path: Path
) -> None:
    world.create("a", "b")  # before the trail was opened: as if restored
    async with world.running():
        assert [r.what for r in await world.records()] == ["entries 1..2 are not told of: they came as a snapshot"]
    again = world.next_life()
    again.replay()
    async with again.running():
        assert len(await again.records()) == 1


async def test_the_position_moves_with_entries_that_do_not_count(world: World, autojump_clock: MockClock) -> None:
    """Or a snapshot of nothing but task traffic would look like a gap after the next start."""
    kept: list[int] = []
    async with world.running():
        world.create("a")
        world.member.write(lambda tx: tx.create(task()), actor="leader:orchestrator")
        world.log.once_kept(2, lambda: kept.append(2))
        await trio.sleep(1)
        assert kept == [2]
    again = world.next_life()
    again.replay()
    async with again.running():
        assert names(await again.records()) == ["a"]


async def test_a_snapshot_waits_until_the_trail_is_durable(world: World, autojump_clock: MockClock) -> None:
    kept: list[int] = []
    async with world.running():
        world.create("a")
        world.log.once_kept(1, lambda: kept.append(1))
        assert kept == []
        await trio.sleep(1)
        assert kept == [1]
        world.log.once_kept(1, lambda: kept.append(1))
        assert kept == [1, 1]


async def test_too_many_at_once_become_a_gap_that_says_so(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "PENDING_MAX", 3)
    async with world.running():
        world.create(*"abcdef")
        found = await world.records()
        world.create("g")
        after = await world.records()
    assert names(found) == ["a", "b", "c", "entries 4..6 are not told of: there were too many at once"]
    assert names(after[4:]) == ["g"]


async def test_a_full_disk_stops_it_with_one_warning_and_it_goes_on(
    world: World, autojump_clock: MockClock, caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    kept: list[int] = []
    async with world.running():
        world.create("a")
        await world.records()
        assert world.log._store is not None
        world.refusal = StorageFull("no space left")
        world.log._store.write = full  # type: ignore[method-assign]
        world.create("b")
        world.log.once_kept(2, lambda: kept.append(2))
        await trio.sleep(3 * RETRY_S)
        assert kept == [2], "a snapshot does not wait for a disk that refuses"
        with pytest.raises(Unavailable):
            await world.log.read(Part.LOG)
        assert [r.levelname for r in caplog.records if "stops" in r.message] == ["WARNING"]
        world.refusal = None
        world.create("c")
        await trio.sleep(2 * RETRY_S)
        found = await world.records()
    assert names(found) == ["a", "b", "c"]
    assert first_broken(found) is None
    assert [r.message for r in caplog.records][-1] == "the audit trail goes on"


def full(*_: Any, **__: Any) -> None:
    raise StorageFull("no space left")


def damaged(*_: Any, **__: Any) -> None:
    raise StorageDamaged("not what was written")


async def test_a_file_that_goes_bad_is_set_aside_and_begun_anew(world: World, autojump_clock: MockClock) -> None:
    async with world.running():
        world.create("a")
        await world.records()
        store = world.log._store
        assert store is not None
        store.write = damaged  # type: ignore[method-assign]
        close = store.close

        def leave_damage() -> None:
            close()
            world.path.write_bytes(b"no database" * 1000)

        store.close = leave_damage  # type: ignore[method-assign]
        world.create("b")
        found = await world.records()
    assert names(found)[-1] == "b"
    assert found[0].what.startswith("entries 1..1 are not told of: what was kept of them is in audit.db.damaged-1")


async def test_a_file_that_cannot_be_opened_at_the_start_stops_nobody(world: World, autojump_clock: MockClock) -> None:
    world.refusal = StorageFull("no space left")
    async with world.running():
        world.create("a")
        await world.log.until_written()
        world.refusal = None
        await trio.sleep(2 * RETRY_S)
        assert names(await world.records()) == ["a"]


async def test_a_defect_in_telling_ends_nothing(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise TypeError("a defect")

    async with world.running():
        with monkeypatch.context() as patch:
            patch.setattr(audit_log, "derive", broken)
            world.create("a")
            found = await world.records()
        world.create("b")
        assert names(await world.records())[1] == "b"
    assert found[0].what == "entries 1..1 are not told of: it could not be put into words"


async def test_notes_are_kept_apart_also_those_from_before_the_file_was_open(
    world: World, autojump_clock: MockClock
) -> None:
    world.log.note("node.list", "node:w1", "10.0.0.9:1", "node w1 was removed from the swarm")
    async with world.running():
        world.create("a")
        await trio.sleep(2)
        (kept,) = await world.records(Part.OWN)
        assert (kept.index, kept.at, kept.actor, kept.address) == (0, AT, "node:w1", "10.0.0.9:1")
        assert (kept.what, kept.result, kept.chain) == ("node.list", "node w1 was removed from the swarm", "")
        for _ in range(500):
            world.log.note("flood", "anonymous", "", "no")
        await trio.sleep(5)
        flood = (await world.records(Part.OWN))[1:]
        assert len(flood) == 10 + 1
        assert flood[-1].what.startswith("490 more")
        assert len(await world.records()) == 1


async def test_what_is_refused_unseen_is_told_of_in_time_though_nothing_else_happens(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.running():
        for port in range(10):
            world.log.note_repeated("ca.issue", "anonymous", f"10.0.0.9:{port}", "too many wrong join tokens")
        await trio.sleep(120)
        told = await world.records(Part.OWN)
    assert [record.result for record in told] == [
        "too many wrong join tokens",
        "9 more times, the last: too many wrong join tokens",
    ]


async def test_the_end_writes_what_waits(world: World, autojump_clock: MockClock) -> None:
    async with world.running():
        world.create("a")
        world.log.note("cluster.unlock", "operator@n", "", "wrong key")
    again = world.next_life()
    again.replay()
    async with again.running():
        assert names([row.record for row in await again.log.read(Part.LOG)]) == ["a"]
        assert [row.record.what for row in await again.log.read(Part.OWN)] == ["cluster.unlock"]


async def test_another_data_key_seals_everything_anew(world: World, autojump_clock: MockClock) -> None:
    world.sealer = Sealer({1: b"k" * 32, 2: b"l" * 32}, 2, b"context")
    old = Sealer({1: b"k" * 32}, 1, b"context")
    store, _ = open_or_begin(world.path, old)
    store.write([AuditRecord(index=1, at=1.0, actor="x", result="applied")], (), 1, durably=True)
    store.close()
    async with world.running():
        await world.log.reseal()
    new, moved = open_or_begin(world.path, Sealer({2: b"l" * 32}, 2, b"context"))
    assert (moved, new.index) == ("", 1)
    new.close()


async def test_records_of_one_entry_are_told_from_its_own_objects(world: World, autojump_clock: MockClock) -> None:
    """References are queued: what changes afterwards must not show in an earlier record."""
    async with world.running():
        world.create("a")
        old = world.member.state.service("a")
        assert old is not None
        for count in (2, 3):
            spec = replace(old.spec, mode=replace(old.spec.mode, replicas=count))
            world.member.write(lambda tx, spec=spec: tx.update(replace(tx.service("a"), spec=spec)))  # type: ignore[misc]
        found = await world.records()
    assert [record.changes[0].fields["spec.mode.replicas"] for record in found[1:]] == [(1, 2), (2, 3)]
