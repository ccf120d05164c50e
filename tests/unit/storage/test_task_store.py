"""The agent's task file: modes, damage, versions. What any task store must do is in tests/contract/storage."""

from __future__ import annotations

import logging
import sqlite3
import stat
from pathlib import Path

import pytest

from swarmd.errors import FailedPrecondition
from swarmd.model import ContainerSpec, Task, TaskSpec, TaskState, TaskStatus
from swarmd.storage.task_store import TaskStore


def task_of(task_id: str) -> Task:
    return Task(id=task_id, spec=TaskSpec(container=ContainerSpec(image="nginx")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent" / "tasks.db"


def fill(path: Path) -> tuple[Task, ...]:
    store = TaskStore.open(path)
    store.put([task_of("a"), task_of("b")])
    store.put_status([("b", TaskStatus(state=TaskState.RUNNING))])
    found = store.load()
    store.close()
    return found


def test_tasks_survive_and_nobody_else_may_read_them(path: Path) -> None:
    found = fill(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store = TaskStore.open(path)
    assert store.load() == found
    store.close()


def test_statuses_survive_a_crash(path: Path) -> None:
    store = TaskStore.open(path)
    store.put([task_of("a")])
    store.put_status([("a", TaskStatus(state=TaskState.FAILED, err="exit 1"))])
    crashed = path.with_name("crashed.db")
    crashed.write_bytes(path.read_bytes())
    Path(f"{crashed}-wal").write_bytes(Path(f"{path}-wal").read_bytes())
    again = TaskStore.open(crashed)
    assert again.load() == store.load()
    assert again.load()[0].status.err == "exit 1"
    again.close()
    store.close()


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + bytes(600)])
def test_a_file_that_is_no_task_store_is_moved_aside_and_begun_anew(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    store = TaskStore.open(path)
    assert store.load() == ()
    store.put([task_of("a")])
    store.close()
    assert path.with_name("tasks.db.damaged-1").read_bytes() == content
    assert "tasks.db.damaged-1" in caplog.text


def test_a_database_with_broken_pages_is_moved_aside(path: Path) -> None:
    fill(path)
    content = bytearray(path.read_bytes())
    content[4096:4196] = b"\xff" * 100
    path.write_bytes(content)
    store = TaskStore.open(path)
    assert store.load() == ()
    store.close()
    assert path.with_name("tasks.db.damaged-1").exists()


def test_one_unreadable_task_does_not_hide_the_others(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = fill(path)
    db = sqlite3.connect(path)
    db.execute("UPDATE task SET definition = x'ff00' WHERE id = 'a'")
    db.commit()
    db.close()
    store = TaskStore.open(path)
    with caplog.at_level(logging.ERROR):
        assert store.load() == found[1:]
    assert "stored task a is unreadable" in caplog.text
    store.put([task_of("a")])
    assert store.load() == found
    store.close()


def test_a_store_of_a_newer_version_is_left_alone(path: Path) -> None:
    fill(path)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 2")
    db.commit()
    db.close()
    with pytest.raises(FailedPrecondition, match="newer swarmd"):
        TaskStore.open(path)
    assert [file.name for file in path.parent.iterdir()] == ["tasks.db"]
