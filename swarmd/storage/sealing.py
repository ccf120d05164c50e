"""AES-256-GCM for everything at rest: a random 96-bit nonce a blob, associated data that says what the blob is.

A counter as nonce would repeat after a restored disk; random nonces collide with probability 2^-37 within the 2^30
blobs that one key may seal (NIST SP 800-38D section 8.3 allows 2^32).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from swarmd.storage.errors import StorageDamaged

BLOBS_PER_KEY_MAX: Final = 1 << 30
KEY_BYTES: Final = 32

_KEY_ID: Final = struct.Struct(">I")
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = _KEY_ID.size + _NONCE_BYTES + _TAG_BYTES
"""By how much a sealed blob is longer than what it holds."""


def sealing_context(swarm_id: str, member_id: int) -> bytes:
    """The `context` of a manager's `Sealer`: its blobs open for no other member and in no other swarm."""
    return swarm_id.encode() + b"\0" + member_id.to_bytes(8, "big")


class Sealer:
    """Seals and opens blobs with the current data key, and opens those of older keys. Usable from several threads.

    Args:
        keys: key id -> 32 bytes; `current` seals.
        context: swarm id and member id, part of every blob's associated data (`sealing_context`).
    """

    def __init__(self, keys: Mapping[int, bytes], current: int, context: bytes) -> None:
        self._ciphers: dict[int, AESGCM] = {}
        self._context = len(context).to_bytes(2, "big") + context
        self._current = current
        for key_id, key in keys.items():
            self._add(key_id, key)
        if current not in self._ciphers:
            raise ValueError(f"the current data key {current} is not among the keys")

    def seal_with(self, key_id: int, key: bytes) -> None:
        """Seal with this key from now on; blobs of older keys stay readable. The key must be durable already."""
        self._add(key_id, key)
        self._current = key_id

    def seal(self, plain: bytes, what: bytes) -> bytes:
        """`key id || nonce || ciphertext`. `what` names the blob (file kind, term, first and last index)."""
        key_id = _KEY_ID.pack(self._current)
        nonce = os.urandom(_NONCE_BYTES)
        return key_id + nonce + self._ciphers[self._current].encrypt(nonce, plain, self._context + key_id + what)

    def open(self, sealed: bytes, what: bytes) -> bytes:
        """The plain bytes. Raises `StorageDamaged` if they are not what was sealed as `what`."""
        if type(sealed) is not bytes or len(sealed) < OVERHEAD_BYTES:
            raise StorageDamaged("a sealed blob is too short")
        key_id, nonce = sealed[: _KEY_ID.size], sealed[_KEY_ID.size : _KEY_ID.size + _NONCE_BYTES]
        cipher = self._ciphers.get(_KEY_ID.unpack(key_id)[0])
        if cipher is None:
            raise StorageDamaged(f"a blob is sealed with data key {_KEY_ID.unpack(key_id)[0]}, which we do not have")
        try:
            return cipher.decrypt(nonce, sealed[_KEY_ID.size + _NONCE_BYTES :], self._context + key_id + what)
        except InvalidTag:
            raise StorageDamaged("a sealed blob is not what was written") from None

    def _add(self, key_id: int, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a data key has {KEY_BYTES} bytes, not {len(key)}")
        self._ciphers[key_id] = AESGCM(key)
