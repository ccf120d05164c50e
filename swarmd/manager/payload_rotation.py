"""The key that seals payloads is replaced when a manager goes: it knew the key. Pure decisions, and transactions.

A new key is made in the very transaction that ends somebody's being a manager. So no secret is sealed under a key that
a former manager knows from then on, and nothing has to be remembered: two keys in the cluster are a rotation that is to
be finished. What was sealed before is sealed anew, a bounded part at a time; then the old keys go. What a manager has
copied while it was one stays open to it: those secrets have to be replaced.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import msgspec
from msgspec.structs import replace

from swarmd.model import Cluster, Secret
from swarmd.pki.payload_keys import PayloadUnreadable, newest_key, sealed_secret, with_new_key
from swarmd.state.batch import batches
from swarmd.state.selectors import All
from swarmd.state.transaction import Transaction

RESEAL_BYTES_MAX: Final = 256 << 10
"""Of payloads, in one transaction; a larger one alone."""
RESEAL_SECRETS_MAX: Final = 25
"""With this many small ones the leader's loop is held for 2 ms, with one of the largest for 5 (CPU time, measured)."""


class Reseal(msgspec.Struct, frozen=True):
    """Seal these secrets under the newest key."""

    ids: tuple[str, ...]


class DropKeys(msgspec.Struct, frozen=True):
    """Nothing is sealed under these keys any more."""

    ids: tuple[int, ...]


class Resealed(msgspec.Struct, frozen=True):
    """What became of a `Reseal`: how many, and which do not open and stay as they are."""

    count: int
    unreadable: tuple[str, ...] = ()


# -- what is to be done ------------------------------------------------------------------------------------------------
def is_rotating(cluster: Cluster) -> bool:
    """Whether some secret may be sealed under a key that was replaced."""
    return len(cluster.payload_keys) > 1


def next_step(
    cluster: Cluster, secrets: Iterable[Secret], unreadable: Collection[str] = ()
) -> Reseal | DropKeys | None:
    """What brings the rotation on; None if nothing does. `unreadable`: ids of secrets that were tried in vain."""
    newest = newest_key(cluster)
    if newest is None or not is_rotating(cluster):
        return None
    outdated = [secret for secret in secrets if secret.sealed is not None and secret.sealed.key_id != newest.id]
    to_reseal = (secret for secret in outdated if secret.id not in unreadable)
    first = next(batches(to_reseal, bytes_of=_size, changes_max=RESEAL_SECRETS_MAX, bytes_max=RESEAL_BYTES_MAX), None)
    if first is not None:
        return Reseal(tuple(secret.id for secret in first))
    unused = _unused(cluster, outdated)
    return DropKeys(unused) if unused else None


def _unused(cluster: Cluster, secrets: Iterable[Secret]) -> tuple[int, ...]:
    newest = newest_key(cluster)
    used = {secret.sealed.key_id for secret in secrets if secret.sealed is not None}
    return tuple(key.id for key in cluster.payload_keys if key is not newest and key.id not in used)


def _size(secret: Secret) -> int:
    return len(secret.sealed.ciphertext) if secret.sealed is not None else 0


# -- doing it ----------------------------------------------------------------------------------------------------------
def replace_payload_key(tx: Transaction) -> bool:
    """Somebody is no manager any more: make a new key, if there is one to replace; whether it was made."""
    cluster = tx.cluster()
    if cluster is None or not cluster.payload_keys:
        return False
    tx.update(with_new_key(cluster, tx.rng.randbytes))
    return True


def reseal(tx: Transaction, ids: Iterable[str]) -> Resealed:
    """Seal those of `ids` under the newest key that are not yet."""
    cluster = tx.cluster()
    newest = newest_key(cluster) if cluster is not None else None
    count, unreadable = 0, []
    for id in ids if newest is not None else ():
        secret = tx.get(Secret, id)
        if cluster is None or newest is None or secret is None or secret.sealed is None:
            continue
        if secret.sealed.key_id == newest.id:
            continue
        try:
            tx.update(sealed_secret(cluster, secret, tx.rng.randbytes))
        except PayloadUnreadable:
            unreadable.append(id)
        else:
            count += 1
    return Resealed(count, tuple(unreadable))


def drop_keys(tx: Transaction) -> tuple[int, ...]:
    """Take away the keys that nothing is sealed under; their ids.

    That nothing is need not be claimed: whatever seals claims the cluster, so nothing is sealed under an old key once a
    newer one is there, and the cluster is claimed here.
    """
    cluster = tx.cluster()
    if cluster is None:
        return ()
    unused = _unused(cluster, tx.find(Secret, All(), unchecked=True))
    if unused:
        kept = tuple(key for key in cluster.payload_keys if key.id not in unused)
        tx.update(replace(cluster, payload_keys=kept))
    return unused
