from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from swarmd.errors import FailedPrecondition, PermissionDenied, SwarmError, Unavailable
from swarmd.manager import assembly
from swarmd.raft import Configuration, Entry, EntryKind, HardState, Settings
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.storage.log_store import LogBatch, LogIdentity
from swarmd.storage.quarantine import quarantine
from swarmd.storage.sealing import Sealer, sealing_context
from swarmd.wire.peer import JoinReply, JoinRequest
from swarmd.wire.raft_codec import encode_runs

IDENTITY = LogIdentity(swarm_id="s", node_id="n", member_id=5, incarnation=b"i" * 16)


def sealer_of(identity: LogIdentity) -> Sealer:
    return Sealer({1: b"k" * 32}, 1, sealing_context(identity.swarm_id, identity.member_id))


def made(directory: Path, *, entries: int = 0) -> None:
    opened = assembly.create(directory, IDENTITY, sealer_of(IDENTITY))
    if entries:
        noops = [Entry(index, 1, EntryKind.NOOP) for index in range(1, entries + 1)]
        opened.store.write(LogBatch(hard_state=HardState(term=1, commit=1), runs=encode_runs(noops)))
    opened.store.close()


def open_files(directory: Path) -> list[str]:
    links = (Path(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd"))
    return [os.readlink(link) for link in links if link.is_symlink() and str(directory) in os.readlink(link)]


def test_no_log_is_none_and_one_without_entries_is_empty(tmp_path: Path) -> None:
    directory = tmp_path / "raft"
    assert assembly.open_existing(directory, sealer_of) is None
    made(directory)
    opened = assembly.open_existing(directory, sealer_of)
    assert opened is not None
    assert assembly.is_empty(opened)
    assembly.discard(directory, opened)
    assert not directory.exists()


def test_a_log_with_entries_is_rebuilt_as_it_was(tmp_path: Path) -> None:
    made(tmp_path / "raft", entries=3)
    opened = assembly.open_existing(tmp_path / "raft", sealer_of)
    assert opened is not None
    assert not assembly.is_empty(opened)
    core, state = assembly.rebuild(opened, Settings(), random.Random(1))
    assert (core.member_id, core.last_index, core.term, state.index) == (5, 3, 1, 0)
    opened.store.close()


def test_a_damaged_log_is_left_closed_so_that_it_can_be_set_aside(tmp_path: Path) -> None:
    """Left open, SQLite would delete the write-ahead log of the file that takes its place."""
    directory = tmp_path / "raft"
    made(directory, entries=3)
    path = directory / "raft.db"
    content = bytearray(path.read_bytes())
    for offset in range(len(content) // 2, len(content)):
        content[offset] ^= 0xA5
    path.write_bytes(bytes(content))
    with pytest.raises(StorageDamaged):
        assembly.open_existing(directory, sealer_of)
    assert open_files(directory) == []
    aside = quarantine(directory)
    assert (aside / "raft.db").exists()
    assert assembly.open_existing(directory, sealer_of) is None


def test_a_log_that_cannot_be_deleted_is_a_fault_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "raft")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("swarmd.manager.assembly.shutil.rmtree", refuse)
    with pytest.raises(StorageFailed, match="Permission denied"):
        assembly.delete(tmp_path / "raft")


class Managers:
    """Answers joins at its addresses, or not."""

    def __init__(self, *answers: SwarmError | int) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    @asynccontextmanager
    async def dial(self, address: str) -> AsyncIterator[Any]:
        await trio.lowlevel.checkpoint()
        self.asked.append(address)
        yield self

    async def call(self, method: object, request: JoinRequest, *, timeout_s: float) -> JoinReply:
        await trio.lowlevel.checkpoint()
        answer = self.answers.pop(0)
        if isinstance(answer, SwarmError):
            raise answer
        return JoinReply(member_id=answer, configuration=Configuration())

    async def join(self, *addresses: str) -> JoinReply:
        return await assembly.join(
            lambda: addresses,
            JoinRequest(addresses=("a:1",), incarnation=b"i"),
            dial=cast("Any", self.dial),
            rng=random.Random(1),
        )


async def test_managers_out_of_reach_are_asked_for_good(autojump_clock: trio.testing.MockClock) -> None:
    managers = Managers(*[Unavailable("no leader")] * 40, 9)
    assert (await managers.join("a:1", "b:1")).member_id == 9
    assert managers.asked[:4] == ["a:1", "b:1", "a:1", "b:1"]


async def test_a_refusal_is_final(autojump_clock: trio.testing.MockClock) -> None:
    managers = Managers(PermissionDenied("not a manager"), 9)
    with pytest.raises(PermissionDenied):
        await managers.join("a:1")


async def test_a_manager_without_a_log_that_knows_nobody_says_so(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(FailedPrecondition, match="knows no other manager"):
        await Managers().join()
