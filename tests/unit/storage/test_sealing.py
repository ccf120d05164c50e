"""What is sealed opens only as what it was, and only for whom it was."""

from __future__ import annotations

import pytest

from swarmd.storage.errors import StorageDamaged
from swarmd.storage.sealing import OVERHEAD_BYTES, Sealer, sealing_context

KEY, OTHER_KEY = b"k" * 32, b"o" * 32


def sealer_of(context: bytes = b"context") -> Sealer:
    return Sealer({1: KEY}, 1, context)


@pytest.mark.parametrize("plain", [b"", b"x", bytes(100_000)])
def test_a_blob_opens_as_what_was_sealed(plain: bytes) -> None:
    sealed = sealer_of().seal(plain, b"what")
    assert sealer_of().open(sealed, b"what") == plain
    assert len(sealed) == len(plain) + OVERHEAD_BYTES


def test_no_two_blobs_are_alike() -> None:
    sealer = sealer_of()
    assert len({sealer.seal(b"same", b"what") for _ in range(100)}) == 100


def test_a_changed_byte_anywhere_is_damage() -> None:
    sealed = sealer_of().seal(b"plain", b"what")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(StorageDamaged):
            sealer_of().open(bytes(changed), b"what")


def test_a_cut_blob_is_damage() -> None:
    sealed = sealer_of().seal(b"plain", b"what")
    for length in range(len(sealed)):
        with pytest.raises(StorageDamaged):
            sealer_of().open(sealed[:length], b"what")


@pytest.mark.parametrize(
    "other",
    [
        sealer_of(sealing_context("swarm", 1)),
        sealer_of(sealing_context("other", 7)),
        Sealer({1: OTHER_KEY}, 1, sealing_context("swarm", 7)),
        Sealer({2: KEY}, 2, sealing_context("swarm", 7)),
    ],
)
def test_another_member_swarm_or_key_opens_nothing(other: Sealer) -> None:
    sealed = sealer_of(sealing_context("swarm", 7)).seal(b"plain", b"what")
    with pytest.raises(StorageDamaged):
        other.open(sealed, b"what")


def test_a_blob_cannot_pass_for_another() -> None:
    sealed = sealer_of().seal(b"plain", b"entries 1..2")
    with pytest.raises(StorageDamaged):
        sealer_of().open(sealed, b"entries 2..3")
    # Nor can a byte move from the context into the name.
    with pytest.raises(StorageDamaged):
        sealer_of(b"contexte").open(sealed, b"ntries 1..2")


def test_a_new_key_seals_and_the_old_one_still_opens() -> None:
    sealer = sealer_of()
    old = sealer.seal(b"old", b"what")
    sealer.seal_with(2, OTHER_KEY)
    new = sealer.seal(b"new", b"what")
    assert (sealer.open(old, b"what"), sealer.open(new, b"what")) == (b"old", b"new")
    with pytest.raises(StorageDamaged):
        sealer_of().open(new, b"what")


def test_impossible_keys_are_the_callers_defect() -> None:
    with pytest.raises(ValueError):
        Sealer({1: b"short"}, 1, b"")
    with pytest.raises(ValueError):
        Sealer({1: KEY}, 2, b"")
