"""What is sealed opens only as what it was, and only for whom it was."""

from __future__ import annotations

import pytest

from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.storage.sealing import OVERHEAD_BYTES, Grant, Sealer, key_of, sealing_context

KEY, OTHER_KEY = b"k" * 32, b"o" * 32


class FakeKeys:
    """Grants a few blobs at a time; the disk may refuse."""

    def __init__(self, blobs: int) -> None:
        self.blobs = blobs
        self.current = 1
        self.granted = 0
        self.forgotten: frozenset[int] = frozenset()
        self.is_refusing = False

    def grant(self) -> Grant:
        if self.is_refusing:
            raise StorageFailed("no space left on device")
        self.granted += self.blobs
        return Grant(key_id=self.current, key=KEY if self.current == 1 else OTHER_KEY, blobs=self.blobs)

    def rotate(self) -> Grant:
        self.current += 1
        return self.grant()

    def forget(self, ids: frozenset[int]) -> None:
        self.forgotten |= ids


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
    sealer = Sealer({1: KEY}, 1, b"context", keys=FakeKeys(blobs=10))
    old = sealer.seal(b"old", b"what")
    assert sealer.rotate() == sealer.current_key == 2
    new = sealer.seal(b"new", b"what")
    assert (key_of(old), key_of(new), sealer.old_keys) == (1, 2, {1})
    assert (sealer.open(old, b"what"), sealer.open(new, b"what")) == (b"old", b"new")
    with pytest.raises(StorageDamaged):
        sealer_of().open(new, b"what")


def test_a_forgotten_key_opens_nothing_and_the_current_one_is_never_forgotten() -> None:
    keys = FakeKeys(blobs=10)
    sealer = Sealer({1: KEY}, 1, b"context", keys=keys)
    old = sealer.seal(b"old", b"what")
    sealer.rotate()
    new = sealer.seal(b"new", b"what")
    sealer.forget(frozenset({1, 2}))
    assert (keys.forgotten, sealer.old_keys) == ({1}, set())
    assert sealer.open(new, b"what") == b"new"
    with pytest.raises(StorageDamaged, match="data key 1, which we do not have"):
        sealer.open(old, b"what")


def test_no_more_is_sealed_than_was_granted_before() -> None:
    keys = FakeKeys(blobs=3)
    sealer = Sealer({1: KEY}, 1, b"context", keys=keys)
    for number in range(1, 10):
        sealer.seal(b"plain", b"what")
        assert keys.granted >= number
    assert keys.granted == 9
    keys.granted, keys.is_refusing = 0, True
    with pytest.raises(StorageFailed):
        sealer.seal(b"plain", b"what")
    assert keys.granted == 0


def test_a_grant_that_a_rotation_overtook_does_not_bring_the_old_key_back() -> None:
    keys = FakeKeys(blobs=1)
    sealer = Sealer({1: KEY}, 1, b"context", keys=keys)
    stale = keys.grant()
    sealer.rotate()
    sealer._use(stale)
    assert key_of(sealer.seal(b"plain", b"what")) == 2


def test_a_switch_is_told_whoever_caused_it() -> None:
    keys = FakeKeys(blobs=1)
    sealer = Sealer({1: KEY}, 1, b"context", keys=keys)
    switches: list[int] = []
    sealer.when_switched(lambda: switches.append(sealer.current_key))
    sealer.seal(b"plain", b"what")
    assert switches == []
    sealer.rotate()
    keys.current = 3  # used up: the next grant is of another key
    sealer.seal(b"plain", b"what")
    sealer.seal(b"plain", b"what")
    assert switches == [2, 3]


def test_given_keys_cannot_be_rotated() -> None:
    with pytest.raises(ValueError):
        sealer_of().rotate()


def test_impossible_keys_are_the_callers_defect() -> None:
    with pytest.raises(ValueError):
        Sealer({1: b"short"}, 1, b"")
    with pytest.raises(ValueError):
        Sealer({1: KEY}, 2, b"")
