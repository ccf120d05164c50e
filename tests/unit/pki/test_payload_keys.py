"""Payloads of secrets open under their own key, in their own swarm, for their own secret, whole; and nowhere else."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swarmd.model import Cluster, PayloadKey, SealedPayload, Secret, SecretSpec
from swarmd.pki.payload_keys import (
    KEY_BYTES,
    NONCE_BYTES,
    PayloadUnreadable,
    newest_key,
    open_sealed,
    payload_of,
    seal,
    sealed_secret,
    with_new_key,
)

PAYLOAD = b"correct horse battery staple"
KEY = PayloadKey(id=1, key=b"k" * KEY_BYTES)
dice = random.Random(7)


def cluster_with(keys: int, id: str = "swarm") -> Cluster:
    cluster = Cluster(id=id)
    for _ in range(keys):
        cluster = with_new_key(cluster, dice.randbytes)
    return cluster


def secret_of(payload: bytes = PAYLOAD, id: str = "s1") -> Secret:
    return Secret(id=id, spec=SecretSpec(name="horse", labels={"a": "b"}, data=payload))


def sealed(payload: bytes = PAYLOAD) -> SealedPayload:
    return seal(payload, KEY, swarm_id="swarm", secret_id="s1", random_bytes=dice.randbytes)


@given(st.binary(max_size=2000), st.integers(1, 5))
def test_whatever_was_sealed_opens_to_the_same_bytes(payload: bytes, keys: int) -> None:
    cluster = cluster_with(keys)
    stored = sealed_secret(cluster, secret_of(payload), dice.randbytes)
    assert payload_of(cluster, stored) == payload
    assert (stored.spec.data, stored.spec.labels) == (b"", {"a": "b"})
    assert stored.sealed is not None
    assert stored.sealed.key_id == keys
    assert len(stored.sealed.nonce) == NONCE_BYTES


def test_nothing_of_the_payload_is_in_what_is_stored_nor_in_its_repr() -> None:
    stored = sealed_secret(cluster_with(1), secret_of(), dice.randbytes)
    assert stored.sealed is not None
    assert PAYLOAD not in stored.sealed.ciphertext
    assert "horse battery" not in repr(stored)


def test_two_seals_of_one_payload_have_nothing_in_common() -> None:
    one, two = sealed(), sealed()
    assert one.nonce != two.nonce
    assert one.ciphertext[:8] != two.ciphertext[:8]


@pytest.mark.parametrize("fields", [{"swarm_id": "other"}, {"secret_id": "s2"}, {"secret_id": "s"}, {"swarm_id": ""}])
def test_moved_to_another_secret_or_swarm_it_does_not_open(fields: dict[str, str]) -> None:
    place = {"swarm_id": "swarm", "secret_id": "s1"}
    assert open_sealed(sealed(), KEY, **place) == PAYLOAD
    with pytest.raises(PayloadUnreadable):
        open_sealed(sealed(), KEY, **(place | fields))


def test_what_stands_between_the_parts_of_its_place_cannot_be_moved() -> None:
    moved = seal(PAYLOAD, KEY, swarm_id="ab", secret_id="c", random_bytes=dice.randbytes)
    with pytest.raises(PayloadUnreadable):
        open_sealed(moved, KEY, swarm_id="a", secret_id="bc")


def test_another_key_does_not_open_it_nor_the_same_under_another_id() -> None:
    place = {"swarm_id": "swarm", "secret_id": "s1"}
    with pytest.raises(PayloadUnreadable, match="s1"):
        open_sealed(sealed(), PayloadKey(id=1, key=b"x" * KEY_BYTES), **place)
    with pytest.raises(PayloadUnreadable):
        open_sealed(replace(sealed(), key_id=2), replace(KEY, id=2), **place)


@given(st.integers(0, len(PAYLOAD) + 15), st.integers(0, 7))
def test_a_changed_bit_anywhere_is_noticed(position: int, bit: int) -> None:
    whole = sealed()
    changed = bytearray(whole.ciphertext)
    changed[position] ^= 1 << bit
    with pytest.raises(PayloadUnreadable):
        open_sealed(replace(whole, ciphertext=bytes(changed)), KEY, swarm_id="swarm", secret_id="s1")


@pytest.mark.parametrize("length", [0, 1, 15, 16, len(PAYLOAD) + 15])
def test_cut_short_it_does_not_open(length: int) -> None:
    whole = sealed()
    cut = replace(whole, ciphertext=whole.ciphertext[:length])
    with pytest.raises(PayloadUnreadable):
        open_sealed(cut, KEY, swarm_id="swarm", secret_id="s1")


@pytest.mark.parametrize("nonce", [b"", b"short", b"n" * 13, b"n" * 200])
def test_a_nonce_that_is_none_is_no_traceback(nonce: bytes) -> None:
    with pytest.raises(PayloadUnreadable):
        open_sealed(replace(sealed(), nonce=nonce), KEY, swarm_id="swarm", secret_id="s1")


@pytest.mark.parametrize("key", [b"", b"k" * 31, b"k" * 33])
def test_a_key_that_is_none_is_no_traceback(key: bytes) -> None:
    with pytest.raises(PayloadUnreadable) as caught:
        open_sealed(sealed(), replace(KEY, key=key), swarm_id="swarm", secret_id="s1")
    assert caught.value.__cause__ is None


def test_without_its_key_it_says_which_one_is_missing() -> None:
    cluster = cluster_with(2)
    stored = sealed_secret(cluster, secret_of(), dice.randbytes)
    with pytest.raises(PayloadUnreadable, match="key 2"):
        payload_of(replace(cluster, payload_keys=cluster.payload_keys[:1]), stored)


def test_keys_count_up_and_the_highest_seals_wherever_it_stands() -> None:
    assert newest_key(Cluster(id="swarm")) is None
    cluster = cluster_with(3)
    assert [key.id for key in cluster.payload_keys] == [1, 2, 3]
    assert len({key.key for key in cluster.payload_keys}) == 3
    turned = replace(cluster, payload_keys=tuple(reversed(cluster.payload_keys))[:2])
    newest = newest_key(with_new_key(turned, dice.randbytes))
    assert newest is not None
    assert newest.id == 4


def test_sealed_again_it_is_under_the_newest_key_and_the_old_one_may_go() -> None:
    cluster = cluster_with(1)
    stored = sealed_secret(cluster, secret_of(), dice.randbytes)
    cluster = with_new_key(cluster, dice.randbytes)
    assert payload_of(cluster, stored) == PAYLOAD
    again = sealed_secret(cluster, stored, dice.randbytes)
    assert again.sealed is not None
    assert again.sealed.key_id == 2
    assert payload_of(replace(cluster, payload_keys=cluster.payload_keys[1:]), again) == PAYLOAD


def test_without_any_key_nothing_is_sealed() -> None:
    with pytest.raises(ValueError, match="no payload key"):
        sealed_secret(Cluster(id="swarm"), secret_of(), dice.randbytes)


def test_a_secret_of_a_driver_has_no_payload_here() -> None:
    assert payload_of(cluster_with(1), secret_of(b"")) == b""
