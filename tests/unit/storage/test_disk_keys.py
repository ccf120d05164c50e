"""A manager's secrets on its disk under changing unlock keys: one key opens everything, whenever the power fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.errors import FailedPrecondition, Locked
from swarmd.model import UnlockKey
from swarmd.pki.unlock_key import Owner, Wraps, WrongUnlockKey
from swarmd.storage import data_keys
from swarmd.storage.disk_keys import DiskKeys, InClear
from swarmd.storage.disk_seal import DiskSeal, encode_sealed, parse_sealed
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.storage.identity_files import IdentityFiles
from swarmd.storage.key_file import KeyFile
from swarmd.storage.quarantine import keep_keys
from swarmd.wire import codec

OWNER = Owner("swarm", "node")
PEM = b"-----BEGIN PRIVATE KEY-----\nnumber %d\n-----END PRIVATE KEY-----\n"
OFF = UnlockKey()
KEKS = (
    OFF,
    UnlockKey(version=1, key=b"1" * 32),
    UnlockKey(version=2, key=b"2" * 32),
    UnlockKey(version=3),
    UnlockKey(version=4, key=b"4" * 32),
)


class Disk:
    """A manager's disk and what a running daemon has in its hands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.raft = path / "raft"
        self.start()

    def start(self) -> None:
        """A new daemon, which knows no unlock key."""
        self.seal = DiskSeal()
        self.identity = IdentityFiles(self.path / "certificates", self.seal)
        self.data_keys = self.path / "certificates" / "data-keys.cbor"
        self.keys = DiskKeys(self.identity, self.data_keys, self.raft, self.seal)
        self.key_file = KeyFile(self.data_keys, os.urandom, self.seal)

    def found(self, kek: UnlockKey = OFF) -> None:
        """As a founding or a joining leaves it."""
        self.seal.owner = OWNER
        self.seal.use(kek)
        self.identity.save_pair(b"certificate 0", PEM % 0)
        self.key_file.grant()

    def pem(self) -> bytes:
        key = self.identity.key()
        assert key is not None
        return key.pem

    def by_id(self) -> dict[int, bytes]:
        keys = data_keys.load(self.data_keys, self.seal)
        assert keys is not None
        return keys.by_id

    def everything(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self.path.rglob("*")) if path.is_file())


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    disk = Disk(tmp_path)
    disk.found()
    return disk


# -- on, rotated, off ----------------------------------------------------------------------------------------------


def test_sealed_it_holds_nothing_in_clear_and_opens_with_the_key_alone(disk: Disk) -> None:
    pem, by_id = disk.pem(), disk.by_id()
    assert disk.keys.locked_for() is None
    assert disk.keys.change(KEKS[1])
    content = disk.everything()
    assert b"PRIVATE KEY" not in content
    assert KEKS[1].key not in content
    assert all(key not in content for key in by_id.values())
    assert (disk.pem(), disk.by_id()) == (pem, by_id)
    disk.start()
    assert disk.keys.locked_for() == OWNER
    with pytest.raises(Locked, match="version 1 "):
        disk.keys.refuse_if_locked()
    with pytest.raises(Locked):
        disk.identity.pair(lambda certificate, key: True)
    with pytest.raises(WrongUnlockKey, match="version 1"):
        disk.keys.unlock(b"x" * 32)
    assert disk.keys.locked_for() == OWNER
    assert disk.keys.unlock(KEKS[1].key) == OWNER
    assert disk.keys.kek == KEKS[1]
    assert (disk.pem(), disk.by_id()) == (pem, by_id)


def test_a_change_that_is_made_already_writes_nothing(disk: Disk) -> None:
    for kek in KEKS[1:]:
        assert disk.keys.change(kek)
        before = disk.everything()
        assert not disk.keys.change(kek)
        assert disk.everything() == before


def test_in_clear_again_it_is_as_an_older_version_knows_it(disk: Disk) -> None:
    pem = disk.pem()
    disk.keys.change(KEKS[1])
    disk.keys.change(KEKS[3])
    assert disk.identity.stored_key() == pem
    disk.start()
    assert disk.keys.locked_for() is None
    assert disk.keys.kek == KEKS[3]  # the version is remembered, or an old state could seal it again


def test_what_never_was_in_clear_is_remembered_and_forgotten(disk: Disk) -> None:
    assert disk.keys.in_clear() == InClear(data_key=True, node_key=True)
    disk.keys.change(KEKS[1])
    assert disk.keys.in_clear() == InClear(data_key=True, node_key=True)
    disk.key_file.rotate()
    disk.identity.save_pair(b"certificate 1", PEM % 1)
    assert disk.keys.in_clear() == InClear(data_key=False, node_key=False)
    disk.keys.change(KEKS[2])
    disk.start()
    disk.keys.unlock(KEKS[2].key)
    disk.key_file.forget(frozenset({1}))
    assert disk.keys.in_clear() == InClear(data_key=False, node_key=False)
    disk.keys.change(KEKS[3])
    disk.keys.change(KEKS[4])
    assert disk.keys.in_clear() == InClear(data_key=True, node_key=True)
    disk.key_file.grant()  # by one who remembers the key from before it was in clear
    assert disk.keys.in_clear() == InClear(data_key=True, node_key=True)


def test_a_disk_that_is_sealed_from_the_first_write_on_was_never_in_clear(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.found(KEKS[1])
    assert disk.keys.in_clear() == InClear(data_key=False, node_key=False)


def test_a_worker_has_its_key_in_clear_and_no_data_keys(disk: Disk) -> None:
    disk.keys.change(KEKS[1])
    disk.data_keys.unlink()
    disk.keys.lay_down(lambda certificate: True)  # it was promoted again meanwhile
    assert disk.keys.kek == KEKS[1]
    assert b"PRIVATE" not in disk.everything()
    disk.keys.lay_down(lambda certificate: False)
    disk.start()
    assert disk.keys.locked_for() is None
    assert disk.identity.stored_key() == PEM % 0
    assert disk.keys.in_clear() == InClear(data_key=False, node_key=True)


def test_a_first_pair_that_could_not_be_saved_leaves_the_key_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path)
    disk.seal.owner = OWNER

    def refuse(*_: object) -> None:
        raise OSError(28, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(StorageFailed):
            disk.keys.save_first_pair(b"certificate", PEM % 1, KEKS[1])
    assert disk.keys.kek == OFF
    disk.keys.save_first_pair(b"certificate", PEM % 1, KEKS[1])
    assert b"PRIVATE" not in disk.everything()
    assert disk.pem() == PEM % 1


# -- the power fails -----------------------------------------------------------------------------------------------


class Power:
    """Makes the n-th rename or sync from now on fail, and all after it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left = 1 << 30
        patch.setattr(Path, "replace", self._counted(Path.replace))
        patch.setattr(os, "fsync", self._counted(os.fsync))

    def _counted(self, function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            self.left -= 1
            if self.left < 0:
                raise OSError(5, "power cut")
            return function(*arguments)

        return call

    def fails_after(self, steps: int) -> None:
        self.left = steps

    def is_back(self) -> None:
        self.left = 1 << 30


@pytest.fixture(scope="module")
def power() -> Iterator[Power]:
    with pytest.MonkeyPatch.context() as patch:
        yield Power(patch)


def openers(path: Path, candidates: tuple[UnlockKey, ...]) -> list[UnlockKey]:
    """Those of these keys that open everything there; "off" if nothing needs one."""
    found = []
    for kek in candidates:
        disk = Disk(path)
        try:
            if disk.keys.locked_for() is None:
                return [OFF]
            disk.keys.unlock(kek.key)
            disk.pem()
            disk.by_id()
        except (WrongUnlockKey, StorageDamaged, ValueError):
            continue
        found.append(kek)
    return found


@pytest.mark.parametrize("step", range(13))
@pytest.mark.parametrize(("old", "new"), [(0, 1), (1, 2), (2, 3), (3, 4), (1, 4), (0, 3)])
def test_at_every_point_of_a_change_the_old_key_or_the_new_one_opens_both_files(
    tmp_path: Path, power: Power, old: int, new: int, step: int
) -> None:
    disk = Disk(tmp_path)
    disk.found(KEKS[old])
    pem, by_id = disk.pem(), disk.by_id()
    power.fails_after(step)
    try:
        disk.keys.change(KEKS[new])
    except StorageFailed:
        pass
    finally:
        power.is_back()
    (opener,) = openers(tmp_path, (KEKS[old], KEKS[new]))
    disk.start()
    if opener.key:
        disk.keys.unlock(opener.key)
        assert disk.keys.kek == opener
    disk.seal.owner = OWNER
    assert (disk.pem(), disk.by_id()) == (pem, by_id)
    disk.keys.change(KEKS[new])
    assert openers(tmp_path, KEKS) == [KEKS[new] if KEKS[new].key else OFF]
    assert (disk.pem(), disk.by_id()) == (pem, by_id)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.integers(1, 4), st.integers(0, 14)),
        st.tuples(st.just("rotate"), st.just(0), st.integers(0, 4)),
        st.tuples(st.just("renew"), st.integers(1, 99), st.integers(0, 9)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(operations=OPERATIONS)
def test_whatever_fails_in_whatever_order_some_key_opens_everything_and_nothing_is_lost(
    power: Power, operations: list[tuple[str, int, int]]
) -> None:
    with TemporaryDirectory() as directory:
        disk, path = Disk(Path(directory)), Path(directory)
        disk.found()
        known = disk.by_id()
        pems = {PEM % 0}
        for what, number, step in operations:
            power.fails_after(step if step < 14 else 1 << 30)
            try:
                if what == "change":
                    disk.keys.change(KEKS[number])
                elif what == "rotate":
                    grant = disk.key_file.rotate()
                    known[grant.key_id] = grant.key
                elif what == "renew":
                    pems.add(PEM % number)
                    disk.identity.save_pair(b"certificate", PEM % number)
            except StorageFailed:
                pass
            finally:
                power.is_back()
            fitting = openers(path, KEKS)
            assert len(fitting) == 1, f"{what} {number} {step}"
            if what == "restart":
                disk.start()
                if fitting[0].key:
                    disk.keys.unlock(fitting[0].key)
                disk.keys.locked_for()
                disk.seal.owner = OWNER
            assert disk.pem() in pems
            assert disk.by_id().items() >= known.items()  # all that was given to anybody to seal with


# -- damage, and other nodes' files --------------------------------------------------------------------------------


def read(disk: Disk, kek: UnlockKey) -> None:
    """As a start does: the node's key, then the data keys."""
    disk.start()
    disk.keys.locked_for()
    disk.keys.unlock(kek.key)
    disk.by_id()


@given(
    place=st.integers(0, 10_000),
    change=st.integers(1, 255),
    which=st.sampled_from(["swarm-node.key", "data-keys.cbor"]),
)
@settings(max_examples=100, deadline=None)
def test_a_changed_byte_is_damage_and_never_a_wrong_key_nor_a_traceback(place: int, change: int, which: str) -> None:
    with TemporaryDirectory() as directory:
        disk = Disk(Path(directory))
        disk.found(KEKS[1])
        path = Path(directory) / "certificates" / which
        content = bytearray(path.read_bytes())
        content[place % len(content)] ^= change
        path.write_bytes(bytes(content))
        with pytest.raises((StorageDamaged, FailedPrecondition)):
            read(disk, KEKS[1])


@pytest.mark.parametrize("which", ["swarm-node.key", "data-keys.cbor"])
@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_file_cut_short_is_damage(tmp_path: Path, which: str, kept: int) -> None:
    disk = Disk(tmp_path)
    disk.found(KEKS[1])
    path = tmp_path / "certificates" / which
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StorageDamaged):
        read(disk, KEKS[1])


@pytest.mark.parametrize("kek", [OFF, KEKS[1]])
def test_damaged_data_keys_keep_nobody_from_starting(tmp_path: Path, kek: UnlockKey) -> None:
    disk = Disk(tmp_path)
    disk.found(kek)
    disk.data_keys.write_bytes(b"garbage")
    disk.start()
    owner = disk.keys.locked_for()
    assert (owner == OWNER) is bool(kek.key)
    if owner is not None:
        disk.keys.unlock(kek.key)
    assert disk.pem() == PEM % 0
    with pytest.raises(StorageDamaged):
        disk.by_id()
    with pytest.raises(StorageDamaged):
        disk.keys.change(KEKS[2])


def test_a_key_that_was_put_back_in_clear_unlocks_nothing(disk: Disk) -> None:
    in_clear = disk.identity.stored_key()
    assert in_clear is not None
    disk.keys.change(KEKS[1])
    disk.identity.key_path.write_bytes(in_clear)
    disk.start()
    assert disk.keys.locked_for() == OWNER
    with pytest.raises(WrongUnlockKey):
        disk.keys.unlock(KEKS[2].key)
    read(disk, KEKS[1])
    assert disk.keys.change(KEKS[1])
    assert b"PRIVATE KEY" not in disk.everything()
    assert disk.keys.in_clear().node_key


def test_files_of_another_node_or_of_another_change_do_not_go_together(tmp_path: Path) -> None:
    disk, other = Disk(tmp_path / "disk"), Disk(tmp_path / "other")
    disk.found(KEKS[1])
    other.found(KEKS[2])
    shutil.copy(other.data_keys, disk.data_keys)
    with pytest.raises(StorageDamaged, match="sealed with version 2"):
        read(disk, KEKS[1])
    foreign = DiskSeal()
    foreign.owner = Owner("swarm", "somebody else")
    foreign.use(KEKS[1])
    key = data_keys.DataKey(id=1, key=b"k" * 32)
    data_keys.save(disk.data_keys, data_keys.DataKeys(current=1, keys=(key,)), foreign)
    with pytest.raises(StorageDamaged, match="another node"):
        read(disk, KEKS[1])


def test_a_clear_file_that_claims_to_have_been_sealed_is_refused(disk: Disk) -> None:
    builtins = codec.loads(disk.data_keys.read_bytes())
    disk.data_keys.write_bytes(codec.encode({**builtins, "never_clear": [1]}))
    with pytest.raises(StorageDamaged, match="only a sealed file"):
        data_keys.load(disk.data_keys)


def test_a_file_of_a_newer_swarmd_or_of_another_kind_is_refused(disk: Disk) -> None:
    path = disk.data_keys
    sealed = encode_sealed(b"", Wraps.NODE_KEY, OWNER, (KEKS[1],), os.urandom)
    with pytest.raises(StorageDamaged, match="something else"):
        parse_sealed(sealed, Wraps.DATA_KEYS, path)
    with pytest.raises(FailedPrecondition, match="newer"):
        parse_sealed(codec.encode({"v": 4}), Wraps.DATA_KEYS, path)


# -- what was set aside with a damaged log -------------------------------------------------------------------------


def test_the_keys_kept_with_a_damaged_log_are_sealed_too_and_follow(disk: Disk) -> None:
    by_id = disk.by_id()
    aside = disk.raft.with_name("raft.damaged-1")
    aside.mkdir()
    keep_keys(disk.raft, disk.data_keys)
    for kek in KEKS[1:3]:
        disk.keys.change(kek)
        assert all(key not in disk.everything() for key in by_id.values())
        kept = data_keys.load(aside / "data-keys.cbor", disk.seal)
        assert kept is not None
        assert kept.by_id == by_id
    disk.keys.change(KEKS[3])
    assert data_keys.load(aside / "data-keys.cbor") is not None


def test_kept_keys_that_do_not_open_stay_as_they_are(disk: Disk) -> None:
    aside = disk.raft.with_name("raft.damaged-1")
    aside.mkdir()
    content = encode_sealed(b"", Wraps.DATA_KEYS, OWNER, (UnlockKey(version=9, key=b"9" * 32),), os.urandom)
    (aside / "data-keys.cbor").write_bytes(content)
    disk.keys.change(KEKS[1])
    disk.keys.change(KEKS[2])
    assert (aside / "data-keys.cbor").read_bytes() == content


def test_nothing_secret_is_printed(disk: Disk) -> None:
    disk.keys.change(KEKS[1])
    assert "1111" not in repr(disk.keys.kek)
    assert "PRIVATE" not in repr(disk.identity.key())
