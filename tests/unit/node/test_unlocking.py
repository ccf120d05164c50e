"""A locked daemon: where it looks for the key, what it says meanwhile, and how it is unlocked."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from swarmd.errors import FailedPrecondition, Invalid, Locked, ResourceExhausted
from swarmd.manager.dump import Range
from swarmd.model import RaftConfig, UnlockKey
from swarmd.node.config import Config
from swarmd.node.founding import found
from swarmd.node.identity import IdentityFinder, StateDirectory
from swarmd.node.inspection import dump_lines, verify
from swarmd.node.node import Node
from swarmd.node.transport import anonymous_hello
from swarmd.node.unlocking import CREDENTIAL, PAUSE_S, Unlocking, key_files, read_key_file, unlock_from_files
from swarmd.pki import read_subject
from swarmd.pki.unlock_key import Owner, show_unlock_key
from swarmd.storage.join_request import JoinRequest
from swarmd.transport.dialer import connect_socket
from swarmd.wire.cluster import GetUnlockKey, Unlock
from swarmd.wire.control import ListServices, StatusRequest
from swarmd.wire.methods import CA_UNLOCK_KEY, CLUSTER_UNLOCK, SERVICE_LIST, STATUS
from tests.unit.manager.local_store import EPOCH

CALL = cast("Any", None)
KEK = UnlockKey(version=5, key=b"k" * 32)
SHOWN = show_unlock_key(KEK.key)
STRANGER = show_unlock_key(b"s" * 32)


@pytest.fixture
def locked(tmp_path: Path) -> StateDirectory:
    """A manager's state directory, sealed, as the next start finds it."""
    identity = found(raft=RaftConfig(), now=EPOCH, rng=random.Random(1)).identity
    subject = read_subject(identity.certificate)
    directory = StateDirectory(tmp_path / "state")
    directory.seal.owner = Owner(subject.swarm_id, subject.node_id)
    directory.seal.use(KEK)
    directory.identity.save_root(identity.root)
    directory.identity.save_pair(identity.certificate, identity.key)
    return StateDirectory(directory.path)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


# -- files ---------------------------------------------------------------------------------------------------------


def test_the_flag_comes_before_the_credential(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    assert key_files(Config(), {}) == ()
    assert key_files(Config(unlock_key_file=flag), {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == (flag,)
    credential = write(tmp_path / CREDENTIAL, SHOWN)
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert key_files(Config(unlock_key_file=flag), environment) == (flag, credential)
    assert key_files(Config(), environment) == (credential,)


def test_a_key_file_may_end_in_a_line_end(tmp_path: Path) -> None:
    assert read_key_file(write(tmp_path / "key", f"{SHOWN}\n")) == KEK.key


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"SWMKEY-1-", SHOWN.encode() * 2, b"x" * 100_000])
def test_a_file_without_a_key_is_one_clear_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(Invalid, match=str(path)) as caught:
        read_key_file(path)
    assert SHOWN[10:40] not in str(caught.value)
    with pytest.raises(Invalid, match="cannot read"):
        read_key_file(tmp_path / "none")


def test_the_first_file_that_fits_unlocks_and_the_others_are_told(
    locked: StateDirectory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong, right = write(tmp_path / "wrong", STRANGER), write(tmp_path / "right", SHOWN)
    assert not unlock_from_files(locked, ())
    assert not unlock_from_files(locked, (wrong, tmp_path / "none"))
    assert "version 5" in caplog.text
    assert "other users may read" not in caplog.text
    right.chmod(0o640)
    assert unlock_from_files(locked, (wrong, right))
    assert f"{right} holds the unlock key, and other users may read it" in caplog.text
    assert locked.keys.kek == KEK
    assert unlock_from_files(locked, (wrong,))
    assert all(text not in caplog.text for text in (SHOWN, STRANGER))


def test_a_directory_that_is_not_locked_needs_no_file(tmp_path: Path) -> None:
    assert unlock_from_files(StateDirectory(tmp_path), (tmp_path / "none",))


# -- the socket ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def waiting(directory: StateDirectory) -> AsyncIterator[tuple[Any, trio.Event]]:
    """A locked daemon's connection, and the event of its end."""
    owner = directory.keys.locked_for()
    assert owner is not None
    config = Config(control_socket=directory.path / "s")
    ended = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await Unlocking(config, directory, owner).run()
            ended.set()

        nursery.start_soon(run)
        with trio.fail_after(5):
            while not (directory.path / "s").is_socket():
                await trio.lowlevel.checkpoint()
        async with connect_socket(directory.path / "s", anonymous_hello()) as connection:
            yield connection, ended
        nursery.cancel_scope.cancel()


async def test_it_says_that_it_is_locked_and_refuses_everything_else(locked: StateDirectory) -> None:
    async with waiting(locked) as (connection, _):
        status = await connection.call(STATUS, StatusRequest())
        owner = locked.keys.locked_for()
        assert owner is not None
        assert (status.locked, status.is_manager, status.node_id) == (True, True, owner.node_id)
        with pytest.raises(FailedPrecondition, match="this manager is locked") as caught:
            await connection.call(SERVICE_LIST, ListServices())
        assert caught.value.hint == "swarmctl cluster unlock"
        with pytest.raises(FailedPrecondition, match="this manager is locked"):
            await connection.call(CA_UNLOCK_KEY, GetUnlockKey())


async def test_the_right_key_answers_and_ends_the_wait(locked: StateDirectory) -> None:
    async with waiting(locked) as (connection, ended):
        for text, reason in (("SWMKEY-1-x", "characters"), (STRANGER, "version 5"), ("", "empty")):
            with pytest.raises(Invalid, match=reason):
                await connection.call(CLUSTER_UNLOCK, Unlock(key=text))
        assert not ended.is_set()
        await trio.sleep(PAUSE_S)
        reply = await connection.call(CLUSTER_UNLOCK, Unlock(key=f" {SHOWN}\n"))
        assert reply.node_id == locked.seal.owner.node_id
        with trio.fail_after(5):
            await ended.wait()
    assert locked.keys.kek == KEK


async def test_one_try_a_second(locked: StateDirectory, autojump_clock: MockClock) -> None:
    owner = locked.keys.locked_for()
    assert owner is not None
    unlocking = Unlocking(Config(), locked, owner)
    with pytest.raises(Invalid):
        await unlocking.unlock(CALL, Unlock(key=STRANGER))
    for _ in range(3):
        with pytest.raises(ResourceExhausted, match="one try a second"):
            await unlocking.unlock(CALL, Unlock(key=SHOWN))
    assert locked.keys.locked_for() == owner
    await trio.sleep(PAUSE_S)
    await unlocking.unlock(CALL, Unlock(key=SHOWN))
    assert locked.keys.locked_for() is None


# -- the whole node ------------------------------------------------------------------------------------------------


async def test_a_new_cluster_is_not_forced_on_a_locked_disk(locked: StateDirectory, tmp_path: Path) -> None:
    config = Config(state_dir=locked.path, force_new_cluster=True, control_socket=tmp_path / "s")
    with pytest.RaisesGroup(Locked, flatten_subgroups=True, allow_unwrapped=True):
        await Node(config, now=lambda: EPOCH).run()
    assert not (tmp_path / "s").exists()


async def test_an_identity_is_only_found_once_it_is_unlocked(locked: StateDirectory) -> None:
    finder = IdentityFinder(Config(), locked, hello=anonymous_hello, now=lambda: EPOCH, rng=random.Random(1))
    with pytest.raises(Locked):
        await finder.find()
    locked.keys.unlock(KEK.key)
    locked.join_request.save(JoinRequest(key=b"a key", csr=b"", root=b""))  # as a crash may leave it
    assert b"PRIVATE KEY" in (await finder.find()).key
    assert not (locked.certificates / "join-request.pem").exists()


def test_reading_a_locked_log_offline_needs_the_key_too(locked: StateDirectory, tmp_path: Path) -> None:
    with pytest.raises(Locked, match="version 5"):
        verify(locked.path)
    lines = dump_lines(locked.path, Range(), unredacted=True, key_file=write(tmp_path / "key", STRANGER))
    with pytest.raises(Locked, match="not the unlock key"):
        next(lines)
    with pytest.raises(Locked, match="not the unlock key"):
        verify(locked.path, key_file=write(tmp_path / "key", STRANGER))
    with pytest.raises(FailedPrecondition, match="no Raft log"):  # it got that far
        verify(locked.path, key_file=write(tmp_path / "key", SHOWN))
