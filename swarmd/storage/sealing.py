"""AES-256-GCM for everything at rest: a random 96-bit nonce a blob, associated data that says what the blob is.

A counter as nonce would repeat after a restored disk; random nonces collide with probability 2^-37 within the 2^30
blobs that one key may seal (NIST SP 800-38D section 8.3 allows 2^32).
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec
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


class Grant(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A key, and how many blobs it may seal until another grant is asked for."""

    key_id: int
    key: bytes
    blobs: int

    def __repr__(self) -> str:
        return f"Grant(key_id={self.key_id}, blobs={self.blobs})"


class Keys(Protocol):
    """Where a `Sealer`'s keys are kept and counted; see `key_file.KeyFile`. Blocking, from any thread."""

    def grant(self) -> Grant:
        """The key to seal with. Raises `StorageFailed`."""
        ...

    def rotate(self) -> Grant:
        """A new key. Raises `StorageFailed`."""
        ...

    def forget(self, ids: frozenset[int]) -> None:
        """Delete keys. Raises `StorageFailed`."""


class Sealer:
    """Seals and opens blobs with the current data key, and opens those of older keys. Usable from several threads.

    Args:
        current: the id of the key that seals.
        context: swarm id and member id, part of every blob's associated data (`sealing_context`).
        keys: where they are kept. None: the keys given are all there ever are, and nobody counts.
    """

    def __init__(self, known: Mapping[int, bytes], current: int, context: bytes, *, keys: Keys | None = None) -> None:
        self._ciphers: dict[int, AESGCM] = {}
        self._context = len(context).to_bytes(2, "big") + context
        self._keys = keys
        self._lock = threading.Lock()
        self._current = current
        self._left = 0
        """Blobs that `current` may still seal under its grant."""
        self._switched: Callable[[], None] = _nobody
        for key_id, key in known.items():
            self._add(key_id, key)
        if current not in self._ciphers:
            raise ValueError(f"the current data key {current} is not among the keys")

    # -- keys ------------------------------------------------------------------------------------------------------

    @property
    def current_key(self) -> int:
        """Id of the key that seals."""
        return self._current

    @property
    def old_keys(self) -> frozenset[int]:
        """Ids of those that only open."""
        return frozenset(self._ciphers) - {self._current}

    def when_switched(self, call: Callable[[], None]) -> None:
        """Have `call` called, in whichever thread it happens, each time another key seals from then on."""
        self._switched = call

    def rotate(self) -> int:
        """Seal with a new key from now on; its id. It is durable before its first use. Blocking; `StorageFailed`."""
        if self._keys is None:
            raise ValueError("these keys are given, and not kept anywhere")
        grant = self._keys.rotate()
        self._use(grant)
        return grant.key_id

    def forget(self, ids: frozenset[int]) -> None:
        """Delete keys that nothing on the disk names any more. Blocking. Raises `StorageFailed`."""
        doomed = ids - {self._current}
        if self._keys is not None:
            self._keys.forget(doomed)
        for key_id in doomed:
            self._ciphers.pop(key_id, None)

    def _key_to_use(self) -> int:
        """Counts one blob."""
        if self._keys is None:
            return self._current
        while True:
            with self._lock:
                if self._left:
                    self._left -= 1
                    return self._current
            # Not under the lock: it waits for the disk. Two threads may both ask, and then too many are counted.
            self._use(self._keys.grant())

    def _use(self, grant: Grant) -> None:
        with self._lock:
            if grant.key_id < self._current:
                return  # it was overtaken by a rotation
            is_other = grant.key_id != self._current
            self._add(grant.key_id, grant.key)
            self._left = grant.blobs + (0 if is_other else self._left)
            self._current = grant.key_id
        if is_other:
            self._switched()

    def _add(self, key_id: int, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a data key has {KEY_BYTES} bytes, not {len(key)}")
        self._ciphers[key_id] = AESGCM(key)

    # -- blobs -----------------------------------------------------------------------------------------------------

    def seal(self, plain: bytes, what: bytes) -> bytes:
        """`key id || nonce || ciphertext`. `what` names the blob (file kind, term, first and last index).

        Blocks for the key file once in a million blobs. Raises `StorageFailed` if that cannot be written.
        """
        current = self._key_to_use()
        key_id = _KEY_ID.pack(current)
        nonce = os.urandom(_NONCE_BYTES)
        return key_id + nonce + self._ciphers[current].encrypt(nonce, plain, self._context + key_id + what)

    def open(self, sealed: bytes, what: bytes) -> bytes:
        """The plain bytes. Raises `StorageDamaged` if they are not what was sealed as `what`."""
        key_id = key_of(sealed)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise StorageDamaged(f"a blob is sealed with data key {key_id}, which we do not have")
        head = sealed[: _KEY_ID.size]
        nonce = sealed[_KEY_ID.size : _KEY_ID.size + _NONCE_BYTES]
        try:
            return cipher.decrypt(nonce, sealed[_KEY_ID.size + _NONCE_BYTES :], self._context + head + what)
        except InvalidTag:
            raise StorageDamaged("a sealed blob is not what was written") from None


def key_of(sealed: bytes) -> int:
    """The id of the key that a blob says it is sealed with. Raises `StorageDamaged` if it is too short to be one."""
    if type(sealed) is not bytes or len(sealed) < OVERHEAD_BYTES:
        raise StorageDamaged("a sealed blob is too short")
    key_id: int = _KEY_ID.unpack_from(sealed)[0]
    return key_id


def _nobody() -> None:
    """Nobody wants to know."""
