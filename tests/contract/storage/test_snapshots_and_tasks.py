"""What snapshot stores and task stores must do, on disk and in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from swarmd.model import ContainerSpec, Task, TaskSpec, TaskState, TaskStatus
from swarmd.raft import Configuration, Member, SnapshotMeta
from swarmd.storage.errors import StorageDamaged
from swarmd.storage.memory import MemorySnapshotStore, MemoryTaskStore
from swarmd.storage.sealing import Sealer
from swarmd.storage.snapshot_store import SnapshotStorage, SnapshotStore
from swarmd.storage.task_store import TaskStorage, TaskStore


@pytest.fixture(params=["disk", "memory"])
def snapshots(request: pytest.FixtureRequest, tmp_path: Path) -> SnapshotStorage:
    if request.param == "memory":
        return MemorySnapshotStore()
    return SnapshotStore(tmp_path / "raft", Sealer({1: b"k" * 32}, 1, b"context"))


@pytest.fixture(params=["disk", "memory"])
def tasks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TaskStorage]:
    store: TaskStorage = MemoryTaskStore() if request.param == "memory" else TaskStore.open(tmp_path / "tasks.db")
    yield store
    store.close()


def meta_of(index: int, term: int = 1) -> SnapshotMeta:
    return SnapshotMeta(
        index=index, term=term, configuration=Configuration(members=(Member(member_id=1, node_id="n"),))
    )


def task_of(task_id: str, state: TaskState = TaskState.ASSIGNED) -> Task:
    return Task(id=task_id, spec=TaskSpec(container=ContainerSpec(image="nginx")), status=TaskStatus(state=state))


# -- snapshots -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [(), (b"",), (b"one", b"", b"three"), (bytes(1 << 20), b"x")])
def test_a_snapshot_is_read_as_it_was_saved(snapshots: SnapshotStorage, chunks: tuple[bytes, ...]) -> None:
    snapshots.save(meta_of(5), chunks)
    assert tuple(snapshots.read(meta_of(5))) == chunks


def test_a_snapshot_saved_again_replaces_the_first(snapshots: SnapshotStorage) -> None:
    snapshots.save(meta_of(5), [b"first"])
    snapshots.save(meta_of(5), [b"second"])
    assert list(snapshots.read(meta_of(5))) == [b"second"]


def test_a_snapshot_that_is_not_there_is_damage(snapshots: SnapshotStorage) -> None:
    with pytest.raises(StorageDamaged):
        list(snapshots.read(meta_of(5)))


def test_nothing_is_visible_of_a_snapshot_whose_source_fails(snapshots: SnapshotStorage) -> None:
    def broken() -> Iterator[bytes]:
        yield b"a beginning"
        raise LookupError("the state was closed")

    with pytest.raises(LookupError):
        snapshots.save(meta_of(5), broken())
    with pytest.raises(StorageDamaged):
        list(snapshots.read(meta_of(5)))


def test_pruning_keeps_the_given_snapshot_the_one_before_and_newer_ones(snapshots: SnapshotStorage) -> None:
    for index in (2, 9, 10, 30):
        snapshots.save(meta_of(index), [b"%d" % index])
    snapshots.prune(meta_of(10))
    assert [list(snapshots.read(meta_of(index))) for index in (9, 10, 30)] == [[b"9"], [b"10"], [b"30"]]
    with pytest.raises(StorageDamaged):
        list(snapshots.read(meta_of(2)))


def test_pruning_deletes_nothing_if_the_snapshot_to_keep_is_not_there(snapshots: SnapshotStorage) -> None:
    for index in (1, 2, 3):
        snapshots.save(meta_of(index), [b"x"])
    snapshots.prune(meta_of(8))
    assert list(snapshots.read(meta_of(1))) == [b"x"]


# -- tasks ---------------------------------------------------------------------------------------------------------


def test_a_task_is_loaded_with_the_status_it_was_defined_with(tasks: TaskStorage) -> None:
    tasks.put([task_of("b"), task_of("a")])
    assert tasks.load() == (task_of("a"), task_of("b"))


def test_a_stored_status_outlives_a_new_definition(tasks: TaskStorage) -> None:
    tasks.put([task_of("a")])
    running = TaskStatus(state=TaskState.RUNNING, at=5.0, message="started")
    tasks.put_status([("a", running)])
    stopped = msgspec.structs.replace(task_of("a"), desired_state=TaskState.SHUTDOWN)
    tasks.put([stopped])
    assert tasks.load() == (msgspec.structs.replace(stopped, status=running),)


def test_the_status_of_an_unknown_task_is_ignored(tasks: TaskStorage) -> None:
    tasks.put_status([("ghost", TaskStatus(state=TaskState.RUNNING))])
    assert tasks.load() == ()
    tasks.put([task_of("ghost")])
    assert tasks.load() == (task_of("ghost"),)


def test_a_forgotten_task_forgets_its_status(tasks: TaskStorage) -> None:
    tasks.put([task_of("a"), task_of("b")])
    tasks.put_status([("a", TaskStatus(state=TaskState.RUNNING))])
    tasks.remove(["a", "never there"])
    tasks.put([task_of("a")])
    assert tasks.load() == (task_of("a"), task_of("b"))


def test_nothing_to_store_is_fine(tasks: TaskStorage) -> None:
    tasks.put([])
    tasks.put_status([])
    tasks.remove([])
    assert tasks.load() == ()
