"""A payload key that was replaced: what is decided, and what each transaction does.

Whatever happens in between, every secret opens, and at the end one key is left that no former manager knows.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from swarmd.manager.control_api.node_removal import remove_node
from swarmd.manager.control_api.secrets import _create
from swarmd.manager.loops.role_manager import follow_role
from swarmd.manager.payload_rotation import (
    RESEAL_BYTES_MAX,
    RESEAL_SECRETS_MAX,
    DropKeys,
    Reseal,
    drop_keys,
    is_rotating,
    next_step,
    replace_payload_key,
    reseal,
)
from swarmd.model import Cluster, Node, NodeSpec, NodeState, NodeStatus, Role, SealedPayload, Secret, SecretSpec
from swarmd.pki.payload_keys import newest_key, payload_of, seal, with_new_key
from swarmd.state.command import CommandId, Table, Verdict
from swarmd.state.features import KINDS, SECURITY
from swarmd.state.selectors import All
from swarmd.wire.control import RemoveNode
from tests.unit.manager.control_api.api_world import FakeRaft
from tests.unit.manager.local_store import LocalStore

dice = random.Random(3)


class Vault:
    """A state with a swarm, and what each secret in it is known to hold."""

    def __init__(self) -> None:
        self.store = LocalStore()
        self.store.create(Cluster(id="swarm", feature_level=(KINDS, SECURITY)))
        self.held: dict[str, bytes] = {}
        self.made = 0

    @property
    def cluster(self) -> Cluster:
        cluster = self.store.state.cluster()
        assert cluster is not None
        return cluster

    @property
    def secrets(self) -> tuple[Secret, ...]:
        return self.store.state.find(Secret, All())

    @property
    def key_ids(self) -> list[int]:
        return [key.id for key in self.cluster.payload_keys]

    def add(self, size: int = 20) -> str:
        payload = dice.randbytes(size)
        made: list[Secret] = []
        self.made += 1
        spec = SecretSpec(name=f"s{self.made}", data=payload)
        self.store.write(lambda tx: made.append(_create(tx, spec)))
        self.held[made[0].id] = payload
        return made[0].id

    def depart(self) -> None:
        self.store.write(replace_payload_key)

    def step(self, unreadable: Any = ()) -> bool:
        """One step of a leader; whether there was one to take."""
        match next_step(self.cluster, self.secrets, unreadable):
            case None:
                return False
            case Reseal(ids):
                self.store.write(lambda tx: reseal(tx, ids))
            case DropKeys():
                self.store.write(drop_keys)
        return True

    def check(self) -> None:
        """Every secret opens to what it holds."""
        assert {secret.id: payload_of(self.cluster, secret) for secret in self.secrets} == self.held

    def under(self, id: str) -> int:
        secret = self.store.state.get(Secret, id)
        assert secret is not None
        assert secret.sealed is not None
        return secret.sealed.key_id


@pytest.fixture
def vault() -> Vault:
    return Vault()


# -- decisions ---------------------------------------------------------------------------------------------------------
def stored(id: str, key_id: int, size: int = 10) -> Secret:
    sealed = SealedPayload(key_id=key_id, nonce=b"n" * 12, ciphertext=bytes(size))
    return Secret(id=id, spec=SecretSpec(name=id), sealed=sealed)


def cluster_with(keys: int) -> Cluster:
    cluster = Cluster(id="swarm")
    for _ in range(keys):
        cluster = with_new_key(cluster, dice.randbytes)
    return cluster


@pytest.mark.parametrize("keys", [0, 1])
def test_with_one_key_or_none_nothing_is_to_be_done(keys: int) -> None:
    assert not is_rotating(cluster_with(keys))
    assert next_step(cluster_with(keys), [stored("a", 1)]) is None


def test_what_is_outdated_is_sealed_first_and_then_the_unused_keys_go() -> None:
    cluster = cluster_with(3)
    a, b, new = stored("a", 1), stored("b", 2), stored("c", 3)
    assert next_step(cluster, [a, b, new]) == Reseal(("a", "b"))
    assert next_step(cluster, [new]) == DropKeys((1, 2))
    assert next_step(cluster, []) == DropKeys((1, 2))
    of_a_driver = Secret(id="d", spec=SecretSpec(name="d"))
    assert next_step(cluster, [of_a_driver]) == DropKeys((1, 2))


def test_what_does_not_open_keeps_its_key_and_holds_up_nothing() -> None:
    cluster = cluster_with(3)
    a, b = stored("a", 1), stored("b", 2)
    assert next_step(cluster, [a, b], {"a"}) == Reseal(("b",))
    assert next_step(cluster, [a, stored("b", 3)], {"a"}) == DropKeys((2,))
    kept = replace(cluster, payload_keys=(cluster.payload_keys[0], cluster.payload_keys[2]))
    assert next_step(kept, [a, stored("b", 3)], {"a"}) is None


def test_a_step_is_bounded_in_bytes_and_number_and_takes_at_least_one() -> None:
    cluster = cluster_with(2)
    many = [stored(f"s{number}", 1) for number in range(RESEAL_SECRETS_MAX + 5)]
    assert next_step(cluster, many) == Reseal(tuple(secret.id for secret in many[:RESEAL_SECRETS_MAX]))
    large = [stored(f"l{number}", 1, RESEAL_BYTES_MAX // 2) for number in range(3)]
    assert next_step(cluster, large) == Reseal(("l0", "l1"))
    huge = [stored("h0", 1, RESEAL_BYTES_MAX * 2), stored("h1", 1)]
    assert next_step(cluster, huge) == Reseal(("h0",))


# -- who ceases to be a manager ----------------------------------------------------------------------------------------
def add_node(vault: Vault, role: Role, desired: Role) -> None:
    node = Node(id="m2", role=role, spec=NodeSpec(desired_role=desired), status=NodeStatus(state=NodeState.DOWN))
    vault.store.create(node)


def remove(vault: Vault) -> None:
    vault.store.write(lambda tx: remove_node(tx, FakeRaft(), RemoveNode(id="m2", force=True), 0.0))  # type: ignore[arg-type]


def test_a_demotion_makes_a_new_key_in_the_same_entry(vault: Vault) -> None:
    vault.add()
    add_node(vault, Role.MANAGER, Role.WORKER)
    before = vault.store.state.index
    vault.store.write(lambda tx: follow_role(tx, "m2", Role.WORKER))
    assert (vault.store.state.index, vault.key_ids) == (before + 1, [1, 2])
    assert vault.under(vault.add()) == 2


def test_a_promotion_makes_none(vault: Vault) -> None:
    vault.add()
    add_node(vault, Role.WORKER, Role.MANAGER)
    vault.store.write(lambda tx: follow_role(tx, "m2", Role.MANAGER))
    assert vault.key_ids == [1]


@pytest.mark.parametrize(("role", "keys"), [(Role.MANAGER, [1, 2]), (Role.WORKER, [1])])
def test_a_removal_makes_one_if_it_was_a_manager(vault: Vault, role: Role, keys: list[int]) -> None:
    vault.add()
    add_node(vault, role, role)
    remove(vault)
    assert vault.key_ids == keys


def test_without_secrets_there_is_nothing_to_replace(vault: Vault) -> None:
    add_node(vault, Role.MANAGER, Role.MANAGER)
    remove(vault)
    assert vault.key_ids == []
    assert LocalStore().state.begin(0.0, dice).is_empty
    assert not replace_payload_key(LocalStore().state.begin(0.0, dice))


# -- what happens in between -------------------------------------------------------------------------------------------
def test_of_a_new_key_and_a_secret_under_the_old_one_the_secret_is_refused(vault: Vault) -> None:
    vault.add()
    tx = vault.store.state.begin(0.0, dice)
    _create(tx, SecretSpec(name="late", data=b"x"))
    vault.depart()
    assert vault.store.apply(tx.command(CommandId(1, b"x" * 16, 999), actor="test")) is Verdict.CONFLICT


def test_of_a_dropped_key_and_a_relabelled_secret_none_is_lost(vault: Vault) -> None:
    """An old copy of a secret, written over its resealed form, would bring the old key back into use."""
    id = vault.add()
    vault.depart()
    tx = vault.store.state.begin(0.0, dice)
    old = tx.get(Secret, id)
    assert old is not None
    tx.update(replace(old, spec=replace(old.spec, labels={"a": "b"})))
    while vault.step():
        pass
    assert vault.store.apply(tx.command(CommandId(1, b"x" * 16, 999), actor="test")) is Verdict.CONFLICT
    assert vault.key_ids == [2]
    vault.check()


def test_sealing_again_what_is_sealed_already_writes_nothing(vault: Vault) -> None:
    ids = (vault.add(), "gone")
    tx = vault.store.state.begin(0.0, dice)
    assert reseal(tx, ids).count == 0
    assert drop_keys(tx) == ()
    assert tx.is_empty


def test_what_was_moved_from_another_secret_is_told_and_left(vault: Vault) -> None:
    good, bad = vault.add(), vault.add()
    key = newest_key(vault.cluster)
    assert key is not None
    foreign = seal(b"x", key, swarm_id="swarm", secret_id="another", random_bytes=dice.randbytes)
    secret = vault.store.state.get(Secret, bad)
    assert secret is not None
    vault.store.write(lambda tx: tx.update(replace(secret, sealed=foreign)))
    vault.depart()
    done: list[Any] = []
    vault.store.write(lambda tx: done.append(reseal(tx, (good, bad))))
    assert (done[0].count, done[0].unreadable) == (1, (bad,))
    assert not vault.step(unreadable={bad})
    assert vault.key_ids == [1, 2], "its key is kept: somebody may yet find out what it was"
    assert (vault.under(good), vault.under(bad)) == (2, 1)


MOVES = st.lists(st.sampled_from(["add", "large", "remove", "depart", "step", "step", "step"]), max_size=25)


@settings(max_examples=60)
@given(MOVES)
def test_whatever_happens_in_whatever_order_all_open_and_the_last_key_is_left(moves: list[str]) -> None:
    vault = Vault()
    for move in moves:
        match move:
            case "add":
                vault.add()
            case "large":
                vault.add(RESEAL_BYTES_MAX)
            case "remove" if vault.held:
                id = next(iter(vault.held))
                vault.store.write(lambda tx, id=id: tx.remove(Table.SECRET, id))
                del vault.held[id]
            case "depart":
                vault.depart()
            case "step":
                vault.step()
        vault.check()
    newest = newest_key(vault.cluster)
    for _ in range(100):
        if not vault.step():
            break
        vault.check()
    assert vault.key_ids == ([newest.id] if newest is not None else [])
    assert newest_key(vault.cluster) == newest
