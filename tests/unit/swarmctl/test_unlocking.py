"""`cluster unlock-key`, `cluster unlock`, and what `status` says of a locked daemon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from swarmd.model import ClusterSpec, EncryptionConfig
from swarmd.wire.cluster import ClusterView, Unlocked, UnlockKeyReply, UpdateCluster
from tests.unit.swarmctl.fake_daemon import FakeDaemon

SHOWN = "SWMKEY-1-" + "x" * 48


@pytest.fixture
def daemon() -> FakeDaemon:
    daemon = FakeDaemon()
    daemon.cluster = msgspec.structs.replace(
        daemon.cluster, spec=ClusterSpec(encryption=EncryptionConfig(auto_lock_managers=True))
    )
    daemon.handlers["ca.unlock_key"] = lambda request: UnlockKeyReply(key=b"k" * 32, version=3, shown=SHOWN)
    daemon.handlers["cluster.get"] = lambda request: ClusterView(cluster=daemon.cluster)
    daemon.handlers["cluster.update"] = lambda request: ClusterView(cluster=daemon.cluster)
    daemon.handlers["cluster.unlock"] = lambda request: Unlocked(node_id="n" * 25)
    return daemon


def lock(daemon: FakeDaemon) -> None:
    daemon.status = msgspec.structs.replace(daemon.status, locked=True, session="locked", applied_index=0)


def test_the_key_is_shown_with_what_it_is_for_and_alone(daemon: FakeDaemon) -> None:
    shown = daemon.run("cluster", "unlock-key").out
    assert f"\n    {SHOWN}\n" in shown
    assert "swarmctl cluster unlock" in shown
    assert daemon.run("cluster", "unlock-key", "-q").out == f"{SHOWN}\n"
    document = json.loads(daemon.run("cluster", "unlock-key", "-o", "json").out)
    assert document == {"unlock_key": SHOWN, "version": 3}
    assert daemon.asked("cluster.update") == []


def test_rotating_asks_for_a_new_key_of_the_cluster_that_was_read(daemon: FakeDaemon) -> None:
    assert daemon.run("cluster", "unlock-key", "--rotate", "-q").out == f"{SHOWN}\n"
    (request,) = daemon.asked("cluster.update")
    assert request == UpdateCluster(
        id=daemon.cluster.id,
        spec=daemon.cluster.spec,
        version=daemon.cluster.meta.version,
        rotate_unlock_key=True,
    )


@pytest.mark.parametrize("arguments", [(), ("--rotate",), ("-q",)])
def test_without_autolock_there_is_no_key(daemon: FakeDaemon, arguments: tuple[str, ...]) -> None:
    daemon.cluster = msgspec.structs.replace(daemon.cluster, spec=ClusterSpec())
    daemon.handlers["ca.unlock_key"] = lambda request: UnlockKeyReply(version=3)
    done = daemon.run("cluster", "unlock-key", *arguments)
    assert (done.code, done.out) == (4, "")
    assert "autolock is off" in done.err
    assert daemon.asked("cluster.update") == []


def test_the_key_is_typed_without_echo_at_a_terminal(daemon: FakeDaemon) -> None:
    lock(daemon)
    daemon.is_terminal, daemon.typed = True, f"{SHOWN}\n"
    done = daemon.run("cluster", "unlock")
    assert (done.code, done.out) == (0, f"node {'n' * 25} is unlocked\n")
    assert daemon.prompts == ["Unlock key: "]
    assert daemon.asked("cluster.unlock")[0].key == SHOWN


def test_the_key_comes_from_standard_input_or_a_file(daemon: FakeDaemon, tmp_path: Path) -> None:
    lock(daemon)
    daemon.typed = f"{SHOWN}\n"
    assert daemon.run("cluster", "unlock", "-q").out == f"{'n' * 25}\n"
    (tmp_path / "key").write_text(f"{SHOWN}\n")
    daemon.typed = "something else"
    assert daemon.run("cluster", "unlock", "--key-file", str(tmp_path / "key")).code == 0
    assert [request.key for request in daemon.asked("cluster.unlock")] == [SHOWN, SHOWN]
    assert daemon.prompts == []


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_key_file_that_is_none_is_one_clear_error(daemon: FakeDaemon, tmp_path: Path, content: Any) -> None:
    lock(daemon)
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    done = daemon.run("cluster", "unlock", "--key-file", str(tmp_path / "key"))
    assert done.code == 2
    assert "--key-file" in done.err
    assert daemon.asked("cluster.unlock") == []


def test_a_daemon_that_is_not_locked_is_asked_for_nothing(daemon: FakeDaemon) -> None:
    daemon.is_terminal = True
    done = daemon.run("cluster", "unlock")
    assert (done.code, daemon.prompts) == (4, [])
    assert "not locked" in done.err


def test_status_says_locked_and_leaves_out_what_a_locked_daemon_cannot_know(daemon: FakeDaemon) -> None:
    assert "Locked" not in daemon.run("status").out
    lock(daemon)
    lines = daemon.run("status").out.splitlines()
    assert [line.split(":")[1].strip() for line in lines if line.startswith("Locked")] == ["yes"]
    assert not any(line.startswith(("Leader", "Raft")) for line in lines)
    assert json.loads(daemon.run("status", "-o", "json").out)["locked"] is True
