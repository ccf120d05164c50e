"""One driver on its own: what a defect, a stop or a stranger may do to it, and to whoever calls it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
import pytest
import trio
import trio.testing

from swarmd.errors import OutcomeUnknown, Unavailable
from swarmd.manager.log_disk import LogDisk
from swarmd.manager.raft_driver import APPLY_SLICE_BYTES, RaftDriver
from swarmd.manager.restoring import read_in_slices
from swarmd.manager.waiters import Proposal
from swarmd.raft import (
    ChangeKind,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    MembershipChange,
    Message,
    MessageType,
    RaftCore,
    Settings,
    SnapshotMeta,
)
from swarmd.state.command import Command, CommandId, encode_command
from swarmd.state.snapshot import Contents, encode_snapshot
from swarmd.state.store import State
from swarmd.storage.log_contract import LogBatch
from swarmd.storage.log_writer import LogWriter
from swarmd.storage.memory import MemoryLogStore
from swarmd.wire.raft_codec import EntryRun, decode_run, encode_runs
from tests.unit.manager.raft_cluster import founded_by, member
from tests.unit.manager.test_log_disk import SlowWriter


class Posted:
    """An outbox that keeps what leaves."""

    def __init__(self) -> None:
        self.messages: list[tuple[Message, tuple[EntryRun, ...]]] = []
        self.failure: Exception | None = None

    def post(self, message: Message, runs: Sequence[EntryRun] = ()) -> bool:
        if self.failure is not None:
            raise self.failure
        self.messages.append((message, tuple(runs)))
        return True

    def follow(self, configuration: Configuration) -> None:
        """Nobody is dialed."""

    def of_type(self, type_: MessageType) -> list[Message]:
        return [message for message, _ in self.messages if message.type is type_]


class NoSnapshots:
    def due(self, applied: int) -> bool:
        return False


def driver_on(disk: MemoryLogStore, writer: Any, posted: Posted) -> RaftDriver:
    stored = disk.reopen().load()
    core = RaftCore(
        1,
        Settings(),
        random.Random(1),
        hard_state=stored.hard_state,
        snapshot=stored.snapshot,
        entries=stored.entries,
    )
    return RaftDriver(core, State(), writer, posted, cast("Any", NoSnapshots()))


def append(index: int, term: int, *bodies: bytes) -> tuple[Message, tuple[EntryRun, ...]]:
    """A leader's entries that follow `index` in the founded log."""
    entries = tuple(Entry(at, term, EntryKind.DATA, body) for at, body in enumerate(bodies, index + 1))
    message = Message(
        type=MessageType.APPEND,
        source=2,
        target=1,
        term=term,
        index=index,
        log_term=1 if index == 6 else term,
        entries=entries,
    )
    return message, encode_runs(entries)


def command(sequence: int) -> Command:
    return Command(id=CommandId(1, b"b" * 16, sequence), actor="test", at=0.0)


@pytest.fixture
def posted() -> Posted:
    return Posted()


@pytest.fixture
def writer() -> SlowWriter:
    return SlowWriter()


def lead(driver: RaftDriver) -> None:
    """Two more voters elect it."""
    driver.core.campaign()
    driver._turn()
    for type_ in (MessageType.PRE_VOTE_REPLY, MessageType.VOTE_REPLY):
        term = driver.core.term + (type_ is MessageType.PRE_VOTE_REPLY)
        driver.receive(Message(type=type_, source=2, target=1, term=term))


# -- defects -----------------------------------------------------------------------------------------------------


async def failure_of_run(driver: RaftDriver, cause: Callable[[], None]) -> BaseException:
    """What `run` raises after `cause`, which itself must be spared."""
    is_spared = False
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(driver.run)
            cause()
            is_spared = True
            with trio.fail_after(5):
                await trio.sleep_forever()
    except ExceptionGroup as group:
        assert is_spared
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            (error,) = error.exceptions
        return error
    raise AssertionError("unreachable")


def failing(*_arguments: object) -> Any:
    raise KeyError("a defect")


async def test_a_defect_in_the_core_ends_run_and_not_the_peers_connection(
    posted: Posted, writer: SlowWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = driver_on(founded_by([1, 2, 3]), writer, posted)
    monkeypatch.setattr(driver.core, "step", failing)
    error = await failure_of_run(driver, lambda: driver.receive(*append(6, 2, b"x")))
    assert isinstance(error, KeyError)


async def test_a_defect_after_a_write_ends_run_and_not_the_writer(posted: Posted, writer: SlowWriter) -> None:
    driver = driver_on(founded_by([1, 2, 3]), writer, posted)

    def acknowledge() -> None:
        driver.receive(*append(6, 2, b"x"))
        posted.failure = KeyError("a defect")
        writer.finish()

    assert isinstance(await failure_of_run(driver, acknowledge), KeyError)


async def test_proposals_whose_batch_meets_a_defect_are_told(
    posted: Posted, writer: SlowWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = driver_on(founded_by([1, 2, 3]), writer, posted)
    proposals: list[Proposal] = []

    def propose() -> None:
        lead(driver)
        while writer.jobs:
            writer.finish()
        monkeypatch.setattr(driver.core, "propose", failing)
        proposals.append(driver.propose(command(1)))

    assert isinstance(await failure_of_run(driver, propose), KeyError)
    assert proposals[0].done.is_set()
    with pytest.raises(Unavailable):
        proposals[0].result()


# -- the end -----------------------------------------------------------------------------------------------------


async def test_after_the_end_nobody_waits_for_ever(posted: Posted, writer: SlowWriter) -> None:
    driver = driver_on(founded_by([1, 2, 3]), writer, posted)
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        lead(driver)
        while writer.jobs:
            writer.finish()
        assert driver.core.is_leader
        nursery.cancel_scope.cancel()
    change = MembershipChange(kind=ChangeKind.REMOVE, member=member(3))
    with trio.fail_after(1):
        with pytest.raises(Unavailable):
            await driver.commit(command(1))
        with pytest.raises(Unavailable):
            await driver.change_membership(change, force=True)


async def test_after_the_end_nothing_is_said_written_or_agreed(posted: Posted, writer: SlowWriter) -> None:
    driver = driver_on(founded_by([1, 2, 3]), writer, posted)
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        driver.receive(*append(6, 2, b"x"))
        driver.receive(*append(7, 2, b"y"))
        nursery.cancel_scope.cancel()
    said = len(posted.messages)
    assert len(writer.jobs) == 1
    writer.finish()
    driver.receive(*append(8, 2, b"z"))
    driver.snapshot_saved(SnapshotMeta(index=6, term=1), keep_entries=0, recorded=lambda: None)
    assert not writer.jobs
    assert len(posted.messages) == said


class _HeldStore(MemoryLogStore):
    """Writes once it may."""

    def __init__(self, gate: Callable[[], None]) -> None:
        super().__init__()
        self._gate = gate

    def write(self, batch: Any) -> None:
        self._gate()
        super().write(batch)


async def test_a_writer_that_closes_with_writes_queued_above_it_brings_nothing_down(posted: Posted) -> None:
    may_write = threading.Event()
    disk = _HeldStore(lambda: may_write.wait(5) and None)
    founded = founded_by([1, 2, 3])
    disk.hard_state, disk.runs = founded.hard_state, founded.runs
    writer = LogWriter(disk)
    driver = driver_on(disk, writer, posted)
    writer.start()
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        driver.receive(*append(6, 2, b"x"))
        driver.receive(*append(7, 2, b"y"))  # waits for the first one's callback
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.aclose)
        await trio.testing.wait_all_tasks_blocked()
        may_write.set()


# -- bytes -------------------------------------------------------------------------------------------------------


async def test_entries_that_the_log_did_not_take_never_stand_for_its_own(posted: Posted, writer: SlowWriter) -> None:
    driver = driver_on(founded_by([1, 2, 3]), writer, posted)
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        lead(driver)
        while writer.jobs:
            writer.finish()
        core = driver.core
        strange, runs = append(core.last_index, core.term, b"strange")
        driver.receive(msgspec.structs.replace(strange, source=99), runs)
        driver.propose(command(1))
        await trio.testing.wait_all_tasks_blocked()
        (batch, _) = writer.jobs[0]
        assert isinstance(batch, LogBatch)
        written = [entry.body for run in batch.runs for entry in decode_run(run)]
        assert written == [encode_command(command(1))]
        nursery.cancel_scope.cancel()


def test_entries_that_come_without_their_bytes_are_written_all_the_same(posted: Posted, writer: SlowWriter) -> None:
    driver = driver_on(founded_by([1, 2, 3]), writer, posted)
    driver.receive(append(6, 2, b"x")[0])
    batch = writer.finish()
    assert isinstance(batch, LogBatch)
    assert [(run.first, run.last) for run in batch.runs] == [(7, 7)]


def test_a_disk_that_failed_is_asked_nothing_more(writer: SlowWriter) -> None:
    failures: list[BaseException] = []
    durable: list[str] = []
    disk = LogDisk(writer, failures.append)  # type: ignore[arg-type]
    disk.write(HardState(term=1), (), lambda: durable.append("first"))
    disk.write(HardState(term=2), (), lambda: durable.append("queued"))
    writer.finish(OSError("no space"))
    disk.write(None, (), lambda: durable.append("nothing to write"))
    assert durable == []
    assert not writer.jobs
    assert len(failures) == 1


# -- Ready's order -----------------------------------------------------------------------------------------------


async def test_an_acknowledgement_waits_for_every_earlier_write(posted: Posted, writer: SlowWriter) -> None:
    driver = driver_on(founded_by([1, 2, 3]), writer, posted)
    driver.receive(*append(6, 2, b"x"))
    driver.receive(*append(6, 2, b"x"))  # a repetition: nothing to write, and an acknowledgement of the same
    assert posted.of_type(MessageType.APPEND_REPLY) == []
    writer.finish()
    acknowledged = [message.index for message in posted.of_type(MessageType.APPEND_REPLY)]
    assert acknowledged == [7, 7]


async def test_a_peers_snapshot_is_acknowledged_once_the_log_names_it(posted: Posted, writer: SlowWriter) -> None:
    driver = driver_on(founded_by([1, 2, 3]), writer, posted)
    meta = SnapshotMeta(index=50, term=2, configuration=driver.configuration)
    driver.receive(Message(type=MessageType.SNAPSHOT, source=2, target=1, term=2, snapshot=meta))
    assert posted.of_type(MessageType.APPEND_REPLY) == []
    assert writer.finish() == "call"
    assert posted.of_type(MessageType.APPEND_REPLY) == []
    writer.finish()
    assert [m.index for m in posted.of_type(MessageType.APPEND_REPLY)] == [50]


class SlowSnapshots(NoSnapshots):
    """Their chunks come when told, and may be of the state that a test says."""

    def __init__(self) -> None:
        self.chunks_of: dict[int, list[bytes]] = {}
        self.read: list[int] = []
        self.may_go_on = trio.Event()

    async def chunks(self, meta: SnapshotMeta) -> list[bytes]:
        self.read.append(meta.index)
        if len(self.read) == 1:
            await self.may_go_on.wait()
        return self.chunks_of[meta.index]


def snapshot_of(index: int, configuration: Configuration) -> tuple[SnapshotMeta, list[bytes]]:
    """Of a state in which nothing happened, `index` times."""
    state = State()
    for at in range(1, index + 1):
        state.skip(at, b"")
    meta = SnapshotMeta(index=index, term=2, configuration=configuration)
    return meta, list(encode_snapshot(state.capture(), meta))


async def test_while_a_snapshot_is_read_heartbeats_are_answered_and_entries_stored(
    posted: Posted, writer: SlowWriter, autojump_clock: trio.testing.MockClock
) -> None:
    """A large one takes seconds: a leader that is not answered for so long may lose its quorum."""
    snapshots = SlowSnapshots()
    driver = driver_on(founded_by([1, 2, 3]), writer, posted)
    driver._snapshots = cast("Any", snapshots)
    meta, snapshots.chunks_of[50] = snapshot_of(50, driver.configuration)
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        driver.receive(Message(type=MessageType.SNAPSHOT, source=2, target=1, term=2, snapshot=meta))
        await trio.testing.wait_all_tasks_blocked()
        assert snapshots.read == [50]
        driver.receive(Message(type=MessageType.HEARTBEAT, source=2, target=1, term=2, commit=50))
        assert len(posted.of_type(MessageType.HEARTBEAT_REPLY)) == 1
        following = append(50, 2, encode_command(command(1)))
        driver.receive(msgspec.structs.replace(following[0], commit=51), following[1])
        while writer.jobs:
            writer.finish()
        assert [m.index for m in posted.of_type(MessageType.APPEND_REPLY)][-1] == 51
        assert driver.applied < 50, "what follows is applied after it"
        snapshots.may_go_on.set()
        with trio.fail_after(5):
            await driver.wait_applied(51)
        nursery.cancel_scope.cancel()


async def test_a_newer_snapshot_takes_the_place_of_one_that_is_still_read(
    posted: Posted, writer: SlowWriter, autojump_clock: trio.testing.MockClock
) -> None:
    snapshots = SlowSnapshots()
    driver = driver_on(founded_by([1, 2, 3]), writer, posted)
    driver._snapshots = cast("Any", snapshots)
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        for index in (50, 60):
            meta, snapshots.chunks_of[index] = snapshot_of(index, driver.configuration)
            driver.receive(Message(type=MessageType.SNAPSHOT, source=2, target=1, term=2, snapshot=meta))
            await trio.testing.wait_all_tasks_blocked()
        applied: list[int] = []
        driver.state.adopt = _noting(driver.state.adopt, applied)  # type: ignore[method-assign]
        snapshots.may_go_on.set()
        with trio.fail_after(5):
            await driver.wait_applied(60)
        nursery.cancel_scope.cancel()
    assert (snapshots.read, applied) == ([50, 60], [60])


def _noting(adopt: Callable[[Contents], None], seen: list[int]) -> Callable[[Contents], None]:
    def noted(contents: Contents) -> None:
        seen.append(contents.header.index)
        adopt(contents)

    return noted


async def test_others_get_a_turn_while_a_large_snapshot_is_read() -> None:
    state = State()
    for at in range(1, 6):
        state.skip(at, b"")
    meta = SnapshotMeta(index=5, term=1)
    chunks = [bytes((byte,)) for byte in b"".join(encode_snapshot(state.capture(), meta))]
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        assert (await read_in_slices(chunks, meta)).header.index == 5
        nursery.cancel_scope.cancel()
    assert turns >= len(chunks) - 1 > 100


async def test_a_change_that_a_stalled_disk_keeps_out_of_the_log_is_answered_as_not_done(
    posted: Posted, writer: SlowWriter, autojump_clock: trio.testing.MockClock
) -> None:
    driver = driver_on(founded_by([1, 2, 3]), writer, posted)
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        lead(driver)
        while writer.jobs:
            writer.finish()
        first, second = driver.propose(command(1)), driver.propose(command(2))
        await trio.testing.wait_all_tasks_blocked()
        assert writer.jobs, "the first batch is on its way to a disk that does not answer"
        kept_out = driver.propose(command(3))

        async def followers_answer() -> None:
            while True:  # so that this member goes on leading
                for source in (2, 3):
                    term, last = driver.core.term, driver.core.commit
                    driver.receive(
                        Message(type=MessageType.HEARTBEAT_REPLY, source=source, target=1, term=term, index=last)
                    )
                await trio.sleep(0.5)

        nursery.start_soon(followers_answer)
        await kept_out.done.wait()
        with pytest.raises(Unavailable, match="disk") as told:
            kept_out.result()
        assert not isinstance(told.value, OutcomeUnknown)
        for proposal in (first, second):
            await proposal.done.wait()
            with pytest.raises(OutcomeUnknown):
                proposal.result()
        nursery.cancel_scope.cancel()


async def test_large_entries_are_applied_few_at_a_time(posted: Posted, writer: SlowWriter) -> None:
    """128 entries of 200 objects each would hold the loop for a quarter of a second."""
    driver = driver_on(founded_by([1, 2, 3]), writer, posted)
    large = msgspec.structs.replace(command(1), actor="a" * (APPLY_SLICE_BYTES // 2))
    message, runs = append(6, 2, *[encode_command(large)] * 20)
    driver.receive(msgspec.structs.replace(message, commit=26), runs)
    writer.finish()
    applied = driver.applied
    assert applied < 26
    driver._turn()
    assert driver.applied == applied + 2
