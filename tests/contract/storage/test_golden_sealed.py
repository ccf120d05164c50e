"""Sealed files that the first version with autolock wrote, read by every later one. See `test_golden_files`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from swarmd.errors import Locked
from swarmd.model import UnlockKey
from swarmd.pki.unlock_key import Owner, parse_unlock_key, show_unlock_key
from swarmd.storage import data_keys
from swarmd.storage.data_keys import DataKey, DataKeys
from swarmd.storage.disk_keys import DiskKeys
from swarmd.storage.disk_seal import DiskSeal
from swarmd.storage.identity_files import IdentityFiles

GOLDEN = Path(__file__).with_name("golden_sealed") / "v3"
OWNER = Owner("4x1p0h6tq2m9w8z7k5j3c0v1b", "0a1b2c3d4e5f6g7h8i9j0k1l2")
KEK = UnlockKey(version=7, key=bytes(range(32)))
SHOWN = "SWMKEY-1-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+0kacs"
PEM = b"-----BEGIN PRIVATE KEY-----\nof nobody\n-----END PRIVATE KEY-----\n"
KEYS = DataKeys(
    v=3,
    current=4,
    keys=(DataKey(id=3, key=b"3" * 32, sealed=5), DataKey(id=4, key=b"4" * 32, sealed=6)),
    kek_version=7,
    never_clear=(4,),
)
CHANGING = "changing.cbor"
"""The data keys in the middle of a change from version 7 to 8: both open them."""


def write_golden(directory: Path) -> None:
    """What is sealed, as a running manager writes it."""
    seal = DiskSeal()
    seal.owner = OWNER
    seal.use(KEK)
    IdentityFiles(directory, seal).save_pair(b"-----BEGIN CERTIFICATE-----\n", PEM)
    data_keys.save(directory / "data-keys.cbor", KEYS, seal)
    seal.begin_change(UnlockKey(version=8, key=b"8" * 32))
    data_keys.save(directory / CHANGING, KEYS, seal)


def check(directory: Path) -> None:
    """It opens with the key as an operator types it, and holds what was sealed."""
    seal = DiskSeal()
    identity = IdentityFiles(directory, seal)
    keys = DiskKeys(identity, directory / "data-keys.cbor", directory / "raft", seal)
    assert keys.locked_for() == OWNER
    with pytest.raises(Locked, match="version 7 "):
        keys.refuse_if_locked()
    keys.unlock(parse_unlock_key(SHOWN))
    assert keys.kek == KEK
    pair = identity.pair(lambda certificate, key: True)
    assert pair is not None
    assert pair[1] == PEM
    for path in (directory / "data-keys.cbor", directory / CHANGING):
        assert data_keys.load(path, seal) == KEYS
    seal.use(UnlockKey(version=8, key=b"8" * 32))
    assert data_keys.load(directory / CHANGING, seal) == KEYS


def test_sealed_files_of_every_version_are_read(tmp_path: Path) -> None:
    for version in sorted(path.name for path in GOLDEN.parent.iterdir()):
        shutil.copytree(GOLDEN.parent / version, tmp_path / version)
        check(tmp_path / version)


def test_sealed_files_of_this_version_are_read(tmp_path: Path) -> None:
    write_golden(tmp_path)
    check(tmp_path)


def test_a_key_is_shown_as_it_always_was() -> None:
    assert show_unlock_key(KEK.key) == SHOWN
