"""Data-key rotation on real files: while entries are written, at every point of a crash, and when something refuses."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio

from swarmd.errors import Unavailable
from swarmd.manager.key_rotation import RETRY_S, KeyRotation
from swarmd.manager.snapshots import Snapshots
from swarmd.raft import Entry, EntryKind, HardState, SnapshotMeta
from swarmd.storage import data_keys
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.storage.key_file import KeyFile
from swarmd.storage.log_contract import LogBatch, LogIdentity
from swarmd.storage.log_store import LogStore, LogWriter
from swarmd.storage.memory import InlineLogWriter
from swarmd.storage.sealing import Sealer, sealing_context
from swarmd.storage.snapshot_store import SnapshotStore
from swarmd.wire.raft_codec import encode_runs
from swarmd.wire.raft_status import RotateKey
from tests.unit.manager.raft_cluster import inline

IDENTITY = LogIdentity(swarm_id="swarm", node_id="node", member_id=7, incarnation=b"i" * 16)
CHUNKS = (b"c" * 100_000, b"", b"last")
CALL = cast("Any", None)


def body_of(index: int) -> bytes:
    return b"%d" % index * 500


def run_of(first: int, last: int) -> LogBatch:
    entries = [Entry(index, 1, EntryKind.DATA, body_of(index)) for index in range(first, last + 1)]
    return LogBatch(hard_state=HardState(term=1, commit=first), runs=encode_runs(entries))


class Disk:
    """A manager's key file, log and snapshots in one directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys_path = path / "certificates" / "data-keys.cbor"
        self.raft = path / "raft"

    def sealer(self) -> Sealer:
        return KeyFile(self.keys_path, os.urandom).sealer(sealing_context("swarm", 7))

    def open(self) -> LogStore:
        return LogStore.open(self.raft / "raft.db", self.sealer())

    def fill(self) -> None:
        """200 entries in as many rows, and two snapshots, the newer one of the first 20 entries."""
        store = self.open()
        snapshots = SnapshotStore(self.raft, store.sealer)
        store.initialise(IDENTITY)
        store.write(LogBatch(runs=tuple(run for index in range(1, 201) for run in run_of(index, index).runs)))
        for meta in (SnapshotMeta(index=10, term=1), SnapshotMeta(index=20, term=1)):
            snapshots.save(meta, CHUNKS)
            store.record_snapshot(meta, keep_from=11)
        store.close()

    def check(self, last: int) -> None:
        """As a restart would find it: all entries to `last` at least, and both snapshots."""
        store = self.open()
        try:
            stored = store.load()
            assert stored.identity == IDENTITY
            assert [entry.index for entry in stored.entries] == list(range(11, stored.entries[-1].index + 1))
            assert stored.entries[-1].index >= last
            assert all(entry.body == body_of(entry.index) for entry in stored.entries)
            for index in (10, 20):
                meta = SnapshotMeta(index=index, term=1)
                assert tuple(SnapshotStore(self.raft, store.sealer).read(meta)) == CHUNKS
        finally:
            store.close()

    def copy(self, to: Path) -> Disk:
        shutil.copytree(self.path, to)
        return Disk(to)

    def keys(self) -> set[int]:
        keys = data_keys.load(self.keys_path)
        return set(keys.by_id) if keys is not None else set()

    def keys_named(self) -> set[int]:
        """The key ids that any row or snapshot names. The log must be closed."""
        with closing(sqlite3.connect(self.raft / "raft.db")) as db:
            rows = db.execute("SELECT sealed FROM run UNION ALL SELECT sealed FROM record").fetchall()
        named = {int.from_bytes(row[0][:4], "big") for row in rows}
        for path in self.raft.glob("snapshot-*"):
            content, place = path.read_bytes(), 8
            while place < len(content):
                named.add(int.from_bytes(content[place + 4 : place + 8], "big"))
                place += 4 + int.from_bytes(content[place : place + 4], "big")
        return named


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    disk = Disk(tmp_path / "state")
    disk.fill()
    return disk


def snapshots_of(files: SnapshotStore) -> Snapshots:
    nobody = cast("Any", None)
    return Snapshots(
        files,
        newest=SnapshotMeta(index=20, term=1),
        interval=lambda: 1000,
        dial=nobody,
        on_saved=nobody,
        on_sent=nobody,
        on_received=nobody,
        in_thread=inline,
    )


class Life:
    """A rotation beside a log, from one start to the next. The writer is inline, so that virtual time waits for it."""

    def __init__(self, disk: Disk, *, writer: Callable[[Any], Any] = InlineLogWriter) -> None:
        self.store = disk.open()
        self.files = SnapshotStore(disk.raft, self.store.sealer)
        self.writer = writer(self.store)
        self.rotation = KeyRotation(
            self.store.sealer, self.writer, snapshots_of(self.files).reseal, node_id="node", in_thread=inline
        )
        self.acknowledged = 200

    @property
    def sealer(self) -> Sealer:
        return self.store.sealer

    async def write(self, last: int) -> None:
        """Entries up to `last` in one batch, as the driver would have them written."""
        written = trio.Event()
        errors: list[BaseException | None] = []

        def done(error: BaseException | None) -> None:
            errors.append(error)
            written.set()

        self.writer.submit(run_of(self.acknowledged + 1, last), done)
        await written.wait()
        assert errors == [None]
        self.acknowledged = last


@asynccontextmanager
async def living(life: Life) -> AsyncIterator[Life]:
    life.writer.start()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.rotation.run)
            yield life
            nursery.cancel_scope.cancel()
    finally:
        await life.writer.aclose()


async def test_after_a_rotation_nothing_names_the_old_key_and_its_bytes_are_gone(
    disk: Disk, autojump_clock: trio.testing.MockClock
) -> None:
    old = data_keys.load(disk.keys_path)
    assert old is not None
    assert disk.keys_named() == {1}
    async with living(Life(disk)) as life:
        assert await life.rotation.rotate_data_key() == 2
        await life.rotation.until_finished()
    assert (disk.keys(), disk.keys_named()) == ({2}, {2})
    assert old.by_id[1] not in disk.keys_path.read_bytes()
    disk.check(200)


async def test_what_is_written_meanwhile_is_sealed_with_the_new_key_at_once(
    disk: Disk, autojump_clock: trio.testing.MockClock
) -> None:
    async with living(Life(disk)) as life:
        await life.rotation.rotate_data_key()
        await life.write(201)
        sealed = life.store._db.execute("SELECT sealed FROM run WHERE first = 201").fetchall()[0][0]
        assert int.from_bytes(cast("bytes", sealed)[:4], "big") == 2
        await life.rotation.until_finished()
    disk.check(201)


async def test_commits_do_not_wait_for_more_than_one_step(disk: Disk, autojump_clock: trio.testing.MockClock) -> None:
    """200 rows are more than three steps: writes asked for between them are done before the rotation is."""
    async with living(Life(disk)) as life:
        await life.rotation.rotate_data_key()
        steps: list[int] = []
        reseal = life.store.reseal

        def counted(after: int) -> Any:
            steps.append(after)
            return reseal(after)

        cast("Any", life.store).reseal = counted
        while life.sealer.old_keys:
            before = len(steps)
            await life.write(life.acknowledged + 1)
            assert len(steps) <= before + 1
        assert len(steps) >= 2 * 200 // 64
        assert life.acknowledged > 203
    disk.check(life.acknowledged)


async def test_thirty_rotations_under_writes_lose_nothing(disk: Disk) -> None:
    """With the real writer's thread."""
    life = Life(disk, writer=LogWriter)
    with trio.fail_after(60):
        async with living(life), trio.open_nursery() as nursery:

            async def write_for_ever() -> None:
                while True:
                    await life.write(life.acknowledged + 1 + life.acknowledged % 5)

            nursery.start_soon(write_for_ever)
            for number in range(2, 32):
                assert await life.rotation.rotate_data_key() == number
                if number % 3:  # else the next one overtakes it
                    await life.rotation.until_finished()
            await life.rotation.until_finished()
            nursery.cancel_scope.cancel()
    assert (disk.keys(), disk.keys_named()) == ({31}, {31})
    disk.check(life.acknowledged)


# -- crashes -------------------------------------------------------------------------------------------------------


async def test_a_crash_at_any_point_leaves_all_readable_and_the_next_life_finishes(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """The files are copied at every seal, sync and rename: before a transaction, inside it, and after it."""
    copies: list[tuple[Disk, int]] = []
    life = Life(disk)
    steps = 0

    def crash_here() -> None:
        nonlocal steps
        steps += 1
        if steps % 11 == 0 or steps < 30:
            copies.append((disk.copy(tmp_path / f"crash-{steps}"), life.acknowledged))

    def with_crash(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            crash_here()
            result = function(*arguments)
            crash_here()
            return result

        return call

    async with living(life):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", with_crash(Path.replace))
            patch.setattr(os, "fsync", with_crash(os.fsync))
            patch.setattr(Sealer, "seal", with_crash(Sealer.seal))
            await life.rotation.rotate_data_key()
            await life.write(203)
            await life.rotation.until_finished()
        copies.append((disk.copy(tmp_path / "crash-last"), life.acknowledged))
    assert len(copies) > 40
    found = {frozenset(copy.keys()) for copy, _ in copies}
    assert found == {frozenset({1}), frozenset({1, 2}), frozenset({2})}
    for copy, acknowledged in copies:
        had = copy.keys()
        copy.check(acknowledged)
        async with living(Life(copy)) as next_life:
            await next_life.rotation.until_finished()
        copy.check(acknowledged)
        assert copy.keys() == copy.keys_named() == {max(had)}
        assert not list(copy.raft.glob("*.unfinished"))


async def test_a_used_up_key_is_rotated_by_itself(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr("swarmd.storage.key_file.BLOBS_PER_KEY_MAX", 0)
    life = Life(disk)
    async with living(life):
        await life.write(201)
        assert life.sealer.current_key == 2
        await life.rotation.until_finished()
    assert (disk.keys(), disk.keys_named()) == ({2}, {2})
    disk.check(201)


async def test_a_rotation_that_is_overtaken_drops_no_key_that_is_still_named(
    disk: Disk, autojump_clock: trio.testing.MockClock
) -> None:
    life = Life(disk)
    reseal = life.files.reseal
    rotations = [3, 4]

    def reseal_and_rotate() -> None:
        reseal()
        if rotations:
            assert life.sealer.rotate() == rotations.pop(0)

    cast("Any", life.files).reseal = reseal_and_rotate
    async with living(life):
        await life.rotation.rotate_data_key()
        await life.rotation.until_finished()
    assert (disk.keys(), disk.keys_named()) == ({4}, {4})
    disk.check(200)


@pytest.mark.parametrize("kept", [1, 2])
def test_in_the_middle_of_a_rotation_neither_key_alone_opens_the_log(disk: Disk, kept: int) -> None:
    store = disk.open()
    store.sealer.rotate()
    store.write(run_of(201, 201))
    store.close()
    keys = data_keys.load(disk.keys_path)
    assert keys is not None
    alone = tuple(key for key in keys.keys if key.id == kept)
    data_keys.save(disk.keys_path, msgspec.structs.replace(keys, current=kept, keys=alone))
    with pytest.raises(StorageDamaged, match=f"data key {3 - kept}, which we do not have"):
        disk.open().load()
    data_keys.save(disk.keys_path, keys)
    disk.check(201)


async def test_a_key_file_from_before_the_rotation_opens_nothing_and_costs_nothing(
    disk: Disk, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    before = disk.copy(tmp_path / "before")
    async with living(Life(disk)) as life:
        await life.rotation.rotate_data_key()
        await life.rotation.until_finished()
    after = disk.keys_path.read_bytes()
    shutil.copyfile(before.keys_path, disk.keys_path)
    with pytest.raises(StorageDamaged, match="data key 2, which we do not have"):
        disk.open()
    disk.keys_path.write_bytes(after)
    disk.check(200)


# -- what refuses --------------------------------------------------------------------------------------------------


async def test_a_damaged_row_keeps_the_old_key_and_the_manager_goes_on(
    disk: Disk, autojump_clock: trio.testing.MockClock
) -> None:
    with closing(sqlite3.connect(disk.raft / "raft.db")) as db:
        db.execute(
            "UPDATE run SET sealed = CAST(substr(sealed, 1, length(sealed) - 1) || x'00' AS BLOB) WHERE first = 100"
        )
        db.commit()
    async with living(Life(disk)) as life:
        answer = await life.rotation.handle(CALL, RotateKey())
        assert (answer.key, answer.old_keys) == (2, (1,))
        assert "entries 100..100" in answer.problem
        await life.write(201)  # the log is not given up for it
        assert life.sealer.old_keys == {1}
        # A snapshot makes the row superfluous; then the next try succeeds.
        meta = SnapshotMeta(index=150, term=1)
        life.files.save(meta, CHUNKS)
        life.store.record_snapshot(meta, keep_from=151)
        began = trio.current_time()
        await life.rotation.until_finished()
        assert trio.current_time() - began <= RETRY_S
    assert (disk.keys(), disk.keys_named()) == ({2}, {2})


async def test_a_full_disk_keeps_the_old_key_until_there_is_room(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    life = Life(disk)
    save = life.files.save

    def full(*_: object) -> Path:
        raise StorageFailed("no space left on device")

    cast("Any", life.files).save = full
    async with living(life):
        answer = await life.rotation.handle(CALL, RotateKey())
        assert (answer.old_keys, answer.problem) == ((1,), "no space left on device")
        cast("Any", life.files).save = save
        await life.rotation.until_finished()
    assert (disk.keys(), disk.keys_named()) == ({2}, {2})
    disk.check(200)


async def test_a_key_that_cannot_be_stored_is_told_and_the_present_one_goes_on(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async with living(Life(disk)) as life:
        await life.write(201)

        def full(*_: object) -> None:
            raise StorageFailed("no space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(data_keys, "replace_file", full)
            with pytest.raises(Unavailable, match="no space left"):
                await life.rotation.handle(CALL, RotateKey())
        await life.write(202)
    assert (disk.keys(), disk.keys_named()) == ({1}, {1})
    disk.check(202)


async def test_the_operator_is_answered_once_the_old_key_is_gone(
    disk: Disk, autojump_clock: trio.testing.MockClock
) -> None:
    async with living(Life(disk)) as life:
        answer = await life.rotation.handle(CALL, RotateKey())
    assert (answer.node_id, answer.key, answer.old_keys, answer.problem) == ("node", 2, (), "")
    assert disk.keys() == {2}


def test_a_snapshot_that_does_not_open_stays_as_it_is(disk: Disk) -> None:
    path = disk.raft / "snapshot-20-1"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    sealer = disk.sealer()
    sealer.rotate()
    with pytest.raises(StorageDamaged):
        SnapshotStore(disk.raft, sealer).reseal()
    assert path.read_bytes() == content
