from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from swarmd.node.memory import RETRY_S, NodeMemory
from swarmd.storage.errors import StorageFailed
from swarmd.storage.known_managers import NodeFile, NodeFileContents


class CountingFile:
    """A file that saves at once, unless it refuses."""

    def __init__(self) -> None:
        self.saved: list[NodeFileContents] = []
        self.refusals = 0

    def save(self, contents: NodeFileContents) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StorageFailed("no space left on device")
        self.saved.append(contents)


@pytest.fixture(autouse=True)
def inline_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual time leaps over threads, so what they would do is done inline."""

    async def run_sync(work: Any, *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


async def until_saved(file: CountingFile, count: int) -> None:
    with trio.fail_after(300):
        while len(file.saved) < count:  # noqa: ASYNC110 - a thread saves
            await trio.sleep(0.01)


async def test_what_is_noted_is_in_the_file_soon_and_survives(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    file = NodeFile(tmp_path / "state.cbor")
    memory = NodeMemory(file, file.load())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(memory.run)
        memory.note_managers({"b": ("2:2",), "a": ("1:1",)}, 5.0)
        memory.note_port(5000)
        with trio.fail_after(10):
            while file.load().remote_port != 5000:  # noqa: ASYNC110 - a file
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    again = NodeMemory(file, file.load())
    assert [(m.node_id, m.addresses) for m in again.managers] == [("a", ("1:1",)), ("b", ("2:2",))]
    assert again.remote_port == 5000


async def test_the_last_door_is_never_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    memory = NodeMemory(cast("Any", CountingFile()), NodeFileContents())
    memory.note_managers({"a": ("1:1",)}, 5.0)
    memory.note_managers({}, 6.0)
    assert [m.node_id for m in memory.managers] == ["a"]


async def test_membership_is_durable_on_return(autojump_clock: trio.testing.MockClock) -> None:
    file = CountingFile()
    memory = NodeMemory(cast("Any", file), NodeFileContents())
    await memory.save_membership(is_member=True)
    assert file.saved[-1].has_been_member
    file.refusals = 1
    with pytest.raises(StorageFailed):
        await memory.save_membership(is_member=False)


async def test_a_full_disk_keeps_no_member_from_being_one_again(autojump_clock: trio.testing.MockClock) -> None:
    file = CountingFile()
    memory = NodeMemory(cast("Any", file), NodeFileContents())
    file.refusals = 1
    with pytest.raises(StorageFailed):
        await memory.save_membership(is_member=True)
    await memory.save_membership(is_member=True)  # not durable so far: it has to be said again
    file.refusals = 1
    await memory.save_membership(is_member=True)
    assert len(file.saved) == 1


async def test_a_full_disk_ends_nothing_and_is_tried_again(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    file = CountingFile()
    file.refusals = 3
    memory = NodeMemory(cast("Any", file), NodeFileContents())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(memory.run)
        began = trio.current_time()
        memory.note_port(5000)
        await until_saved(file, 1)
        assert trio.current_time() - began >= 3 * RETRY_S
        nursery.cancel_scope.cancel()
    assert len(caplog.records) == 3


async def test_nothing_is_written_for_what_is_known_already(autojump_clock: trio.testing.MockClock) -> None:
    file = CountingFile()
    memory = NodeMemory(cast("Any", file), NodeFileContents(remote_port=7))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(memory.run)
        memory.note_port(7)
        await trio.sleep(1)
        assert file.saved == []
        nursery.cancel_scope.cancel()
