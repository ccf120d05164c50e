"""The small files of a node: data keys, identity, known managers, the lock, what is moved aside."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from swarmd.errors import FailedPrecondition, Locked
from swarmd.model import UnlockKey
from swarmd.pki.unlock_key import Owner
from swarmd.storage import data_keys, durable_files
from swarmd.storage.disk_seal import DiskSeal
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.storage.identity_files import IdentityFiles
from swarmd.storage.known_managers import KnownManager, NodeFile, NodeFileContents
from swarmd.storage.lock import hold
from swarmd.storage.quarantine import forget_keys, keep_keys, quarantine
from swarmd.storage.sealing import Sealer
from swarmd.wire import codec


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def crash_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make the n-th rename or sync from now on fail, and all after it, as a power cut there would."""
    left = [0]

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(5, "power cut")
            return function(*arguments)

        return call

    def arm(number: int) -> None:
        left[0] = number

    arm(1000)
    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    return arm


# -- data keys -----------------------------------------------------------------------------------------------------


def test_data_keys_are_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "certificates" / "data-keys.cbor"
    assert data_keys.load(path) is None
    keys = data_keys.load_or_create(path, os.urandom)
    assert data_keys.load_or_create(path, os.urandom) == keys
    assert (mode_of(path), mode_of(path.parent)) == (0o600, 0o700)
    Sealer(keys.by_id, keys.current, b"context")


def test_data_keys_are_32_bytes_of_the_given_dice(tmp_path: Path) -> None:
    keys = data_keys.load_or_create(tmp_path / "keys", lambda count: b"d" * count)
    assert keys.by_id == {1: b"d" * 32}


def test_a_rotated_key_joins_the_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    old = data_keys.load_or_create(path, os.urandom)
    data_keys.save(path, old.with_new(b"n" * 32))
    new = data_keys.load(path)
    assert new is not None
    assert new.current == 2
    assert new.by_id == {1: old.by_id[1], 2: b"n" * 32}


def test_keys_are_never_printed(tmp_path: Path) -> None:
    keys = data_keys.load_or_create(tmp_path / "keys", lambda count: b"secret!!" * (count // 8))
    assert "secret" not in repr(keys)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        codec.encode({"v": 1, "current": 1, "keys": []}),
        codec.encode({"v": 1, "current": 2, "keys": [{"id": 1, "key": b"k" * 32}]}),
        codec.encode({"v": 1, "current": 1, "keys": [{"id": 1, "key": b"short"}]}),
        codec.encode({"v": 1, "current": 1, "keys": [{"id": 1, "key": b"k" * 32}] * 2}),
        codec.encode({"v": 0, "current": 1, "keys": [{"id": 1, "key": b"k" * 32}]}),
        codec.encode({"v": 2, "current": 1, "keys": [{"id": 1, "key": b"k" * 32, "sealed": -1}]}),
    ],
)
def test_data_keys_that_make_no_sense_are_damage_and_never_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(StorageDamaged):
        data_keys.load_or_create(path, os.urandom)
    assert path.read_bytes() == content


def test_locked_or_newer_data_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keys = data_keys.load_or_create(path, os.urandom)
    seal = DiskSeal()
    seal.owner = Owner("swarm", "node")
    seal.use(UnlockKey(version=3, key=b"k" * 32))
    data_keys.save(path, keys, seal)
    with pytest.raises(Locked, match="version 3 "):
        data_keys.load(path)
    path.write_bytes(codec.encode({"v": 4, "something": "else"}))
    with pytest.raises(FailedPrecondition, match="newer swarmd"):
        data_keys.load(path)


# -- identity ------------------------------------------------------------------------------------------------------


def matches(certificate: bytes, key: bytes) -> bool:
    return certificate.removeprefix(b"certificate ") == key.removeprefix(b"-----BEGIN key ")


OLD, NEW = (b"certificate 1", b"-----BEGIN key 1"), (b"certificate 2", b"-----BEGIN key 2")


def test_identity_files_have_their_names_and_modes(tmp_path: Path) -> None:
    files = IdentityFiles(tmp_path / "certificates")
    old = os.umask(0o077)
    try:
        files.save_root(b"root")
        files.save_pair(*OLD)
    finally:
        os.umask(old)
    assert {file.name: mode_of(file) for file in (tmp_path / "certificates").iterdir()} == {
        "swarm-root-ca.crt": 0o644,
        "swarm-node.crt": 0o644,
        "swarm-node.key": 0o600,
    }
    assert mode_of(tmp_path / "certificates") == 0o700
    assert files.root() == b"root"
    assert files.pair(matches) == OLD


def test_a_node_without_identity_has_none(tmp_path: Path) -> None:
    files = IdentityFiles(tmp_path / "certificates")
    assert files.root() is None
    assert files.pair(matches) is None


@pytest.mark.parametrize("step", range(8))
def test_a_crash_anywhere_in_saving_leaves_the_old_pair_or_the_new_one(
    tmp_path: Path, crash_at: Callable[[int], None], step: int
) -> None:
    files = IdentityFiles(tmp_path)
    files.save_pair(*OLD)
    crash_at(step)
    with pytest.raises(StorageFailed):
        files.save_pair(*NEW)
    crash_at(1000)
    found = files.pair(matches)
    # Staging file: sync, rename, sync. Key: sync, rename (the fifth), sync. Certificate: rename, sync.
    assert found == (OLD if step < 5 else NEW)
    assert IdentityFiles(tmp_path).pair(matches) == found
    assert not (tmp_path / ".swarm-node.crt").exists()


def test_the_first_pair_ever_is_completed_after_a_crash(tmp_path: Path) -> None:
    files = IdentityFiles(tmp_path)
    (tmp_path / ".swarm-node.crt").write_bytes(OLD[0])
    assert files.pair(matches) is None
    (tmp_path / "swarm-node.key").write_bytes(OLD[1])
    assert files.pair(matches) == OLD
    assert (tmp_path / "swarm-node.crt").read_bytes() == OLD[0]


def test_a_key_that_no_certificate_belongs_to_is_damage_and_stays(tmp_path: Path) -> None:
    files = IdentityFiles(tmp_path)
    files.save_pair(OLD[0], NEW[1])
    with pytest.raises(StorageDamaged):
        files.pair(matches)
    assert (tmp_path / "swarm-node.key").read_bytes() == NEW[1]


# -- known managers ------------------------------------------------------------------------------------------------

MANAGERS = (
    KnownManager(node_id="a", addresses=("10.0.0.1:4242", "[fd00::1]:4242"), last_seen_at=5.0),
    KnownManager(node_id="b", addresses=("10.0.0.2:4242",)),
)


def test_a_node_remembers_what_it_knew(tmp_path: Path) -> None:
    file = NodeFile(tmp_path / "state" / "state.cbor")
    assert file.load() == NodeFileContents()
    contents = NodeFileContents(has_been_member=True, remote_port=4243).with_managers(reversed(MANAGERS))
    file.save(contents)
    assert file.load() == contents
    assert file.load().managers == MANAGERS
    assert mode_of(tmp_path / "state" / "state.cbor") == 0o600


def test_known_managers_are_never_emptied_by_an_empty_list(tmp_path: Path) -> None:
    contents = NodeFileContents(managers=MANAGERS)
    assert contents.with_managers([]) == contents
    file = NodeFile(tmp_path / "state.cbor")
    file.save(contents)
    file.save(NodeFileContents(remote_port=7))
    assert file.load() == NodeFileContents(managers=MANAGERS, remote_port=7)


def test_an_unchanged_node_file_is_not_written_again(tmp_path: Path, crash_at: Callable[[int], None]) -> None:
    file = NodeFile(tmp_path / "state.cbor")
    file.save(NodeFileContents(managers=MANAGERS))
    crash_at(0)
    file.save(NodeFileContents(managers=MANAGERS))
    with pytest.raises(StorageFailed):
        file.save(NodeFileContents(managers=MANAGERS[:1]))
    assert file.load().managers == MANAGERS


def test_a_damaged_or_newer_node_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "state.cbor"
    path.write_bytes(b"\xff\xff")
    with pytest.raises(StorageDamaged):
        NodeFile(path).load()
    path.write_bytes(codec.encode({"v": 2}))
    with pytest.raises(FailedPrecondition, match="newer swarmd"):
        NodeFile(path).load()


# -- the lock ------------------------------------------------------------------------------------------------------


def test_a_second_swarmd_is_told_who_holds_the_state_directory(tmp_path: Path) -> None:
    path = tmp_path / "state" / "swarmd.lock"
    with hold(path), pytest.raises(FailedPrecondition) as refused, hold(path):
        pass
    assert refused.value.message == f"another swarmd (pid {os.getpid()}) runs on {tmp_path / 'state'}"
    assert mode_of(path) == 0o600
    with hold(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_the_lock_of_another_process_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "swarmd.lock"
    script = (
        "import sys; from pathlib import Path; from swarmd.storage.lock import hold\n"
        "with hold(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, path], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(FailedPrecondition, match=rf"pid {holder.pid}\)"), hold(path):
            pass
        holder.kill()
    with hold(path):
        pass


# -- moving aside --------------------------------------------------------------------------------------------------


def test_damaged_directories_are_kept_side_by_side(tmp_path: Path) -> None:
    for content in ("first", "second"):
        (tmp_path / "raft").mkdir()
        (tmp_path / "raft" / "raft.db").write_text(content)
        quarantine(tmp_path / "raft")
    assert (tmp_path / "raft.damaged-1" / "raft.db").read_text() == "first"
    assert (tmp_path / "raft.damaged-2" / "raft.db").read_text() == "second"
    assert not (tmp_path / "raft").exists()


def test_moving_aside_what_is_not_there_fails(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed):
        quarantine(tmp_path / "raft")


# -- replacing files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", range(3))
def test_a_replaced_file_is_the_old_one_or_the_new_one(
    tmp_path: Path, crash_at: Callable[[int], None], step: int
) -> None:
    path = tmp_path / "file"
    durable_files.replace_file(path, b"old")
    crash_at(step)
    with pytest.raises(StorageFailed, match="power cut"):
        durable_files.replace_file(path, b"new")
    assert path.read_bytes() == (b"old" if step < 2 else b"new")


def test_directories_on_the_way_are_private(tmp_path: Path) -> None:
    durable_files.make_private_directory(tmp_path / "a" / "b")
    assert (mode_of(tmp_path / "a"), mode_of(tmp_path / "a" / "b")) == (0o700, 0o700)
    (tmp_path / "a" / "b").chmod(0o755)
    durable_files.make_private_directory(tmp_path / "a" / "b")
    assert mode_of(tmp_path / "a" / "b") == 0o755, "somebody else's directory, for all we know"
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed):
        durable_files.make_private_directory(tmp_path / "file" / "below")


def test_space_is_reserved_up_to_the_size_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"begin")
    durable_files.reserve(path, 3_000_000)
    assert path.read_bytes() == b"begin" + bytes(3_000_000 - 5)
    durable_files.reserve(path, 100)
    assert path.stat().st_size == 3_000_000
    monkeypatch.setattr(os, "pwrite", lambda _fd, content, _offset: len(content) - 1)
    with pytest.raises(OSError, match="No space left"):
        durable_files.reserve(path, 5_000_000)
    assert path.stat().st_size == 3_000_000


def test_what_is_set_aside_keeps_the_keys_that_read_it(tmp_path: Path) -> None:
    raft, key_file = tmp_path / "raft", tmp_path / "certificates" / "data-keys.cbor"
    raft.mkdir()
    first = data_keys.load_or_create(key_file, lambda count: b"1" * count)
    aside = quarantine(raft)
    keep_keys(raft, key_file)
    assert data_keys.load(aside / "data-keys.cbor") == first
    assert mode_of(aside / "data-keys.cbor") == 0o600
    data_keys.save(key_file, first.with_new(b"2" * 32).without(frozenset({1})))
    raft.mkdir()
    later = quarantine(raft)
    keep_keys(raft, key_file)
    assert data_keys.load(aside / "data-keys.cbor") == first
    assert data_keys.load(later / "data-keys.cbor") == data_keys.load(key_file) != first
    forget_keys(raft, key_file)
    assert list(aside.iterdir()) == list(later.iterdir()) == []
    assert key_file.exists()


def test_without_data_keys_nothing_is_kept_with_what_was_set_aside(tmp_path: Path) -> None:
    (tmp_path / "raft").mkdir()
    aside = quarantine(tmp_path / "raft")
    keep_keys(tmp_path / "raft", tmp_path / "data-keys.cbor")
    assert list(aside.iterdir()) == []
