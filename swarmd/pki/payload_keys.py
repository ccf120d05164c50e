"""How payloads of secrets are sealed in the replicated state: AES-256-GCM under a key of the cluster, newest first.

It keeps payloads out of dumps, watches, audits and whatever else shows objects, and out of reach of who was a manager
once: the key is replaced when one goes. It protects nothing from a manager. Sources: reference security 10 (15); NIST
SP 800-38D 8.3 (random 96-bit nonces, for far fewer than 2^32 payloads a key).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec.structs import replace

from swarmd.errors import Internal
from swarmd.model import Cluster, PayloadKey, SealedPayload, Secret

LABEL: Final = "swarm/v1/secret-payload"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
FIRST_KEY_ID: Final = 1

RandomBytes = Callable[[int], bytes]
"""`os.urandom`, or what stands for it."""


class PayloadUnreadable(Internal):
    """A sealed payload that the cluster's keys do not open: the key is gone, or it is not what was sealed for this
    secret. It names the secret and never holds a byte of the payload."""


# -- keys --------------------------------------------------------------------------------------------------------------
def newest_key(cluster: Cluster) -> PayloadKey | None:
    """The key that seals; None before the first secret."""
    return max(cluster.payload_keys, key=lambda key: key.id, default=None)


def with_new_key(cluster: Cluster, random_bytes: RandomBytes) -> Cluster:
    """The cluster with one more key, which seals from then on. The others stay for what they sealed."""
    newest = newest_key(cluster)
    id = FIRST_KEY_ID if newest is None else newest.id + 1
    key = PayloadKey(id=id, key=random_bytes(KEY_BYTES))
    return replace(cluster, payload_keys=(*cluster.payload_keys, key))


# -- payloads ----------------------------------------------------------------------------------------------------------
def seal(payload: bytes, key: PayloadKey, *, swarm_id: str, secret_id: str, random_bytes: RandomBytes) -> SealedPayload:
    """`payload` under `key`, bound to the swarm, the secret and the key's id. 16 bytes longer than `payload`."""
    nonce = random_bytes(NONCE_BYTES)
    ciphertext = AESGCM(key.key).encrypt(nonce, payload, _associated(swarm_id, secret_id, key.id))
    return SealedPayload(key_id=key.id, nonce=nonce, ciphertext=ciphertext)


def open_sealed(sealed: SealedPayload, key: PayloadKey, *, swarm_id: str, secret_id: str) -> bytes:
    """What `seal` was given. Raises `PayloadUnreadable` for any other key, swarm, secret, or changed byte."""
    try:
        associated = _associated(swarm_id, secret_id, sealed.key_id)
        return AESGCM(key.key).decrypt(sealed.nonce, sealed.ciphertext, associated)
    except (InvalidTag, ValueError, OverflowError):
        # ValueError: a nonce or key of no legal length.
        raise PayloadUnreadable(
            f"the payload of secret {secret_id} does not open under key {key.id}: it is damaged or another's"
        ) from None


def payload_of(cluster: Cluster, secret: Secret) -> bytes:
    """A stored secret's payload: what a node is sent. Empty for a secret whose driver has it.

    Raises `PayloadUnreadable` as `open_sealed`, and if the cluster has not the key any more.
    """
    if secret.sealed is None:
        return secret.spec.data
    key = next((key for key in cluster.payload_keys if key.id == secret.sealed.key_id), None)
    if key is None:
        raise PayloadUnreadable(
            f"the payload of secret {secret.id} is sealed under key {secret.sealed.key_id}: no such"
        )
    return open_sealed(secret.sealed, key, swarm_id=cluster.id, secret_id=secret.id)


def sealed_secret(cluster: Cluster, secret: Secret, random_bytes: RandomBytes) -> Secret:
    """`secret` as it is stored: its payload sealed under the newest key, and nowhere else in it.

    Raises `ValueError` if the cluster has no key yet (`with_new_key`), `PayloadUnreadable` as `payload_of`.
    """
    key = newest_key(cluster)
    if key is None:
        raise ValueError("the cluster has no payload key yet")
    sealed = seal(payload_of(cluster, secret), key, swarm_id=cluster.id, secret_id=secret.id, random_bytes=random_bytes)
    return replace(secret, spec=replace(secret.spec, data=b""), sealed=sealed)


def _associated(swarm_id: str, secret_id: str, key_id: int) -> bytes:
    """No part holds a NUL, so no two lists of parts give the same bytes."""
    return b"\0".join(part.encode() for part in (LABEL, swarm_id, secret_id, str(key_id)))
