"""AES-256-GCM for everything at rest: a random 96-bit nonce a blob, associated data that says what the blob is."""

from __future__ import annotations


class Sealer:
    """Seals and opens blobs with the current data key, and opens those of older keys.

    Args:
        keys: key id -> 32 bytes; `current` seals.
        context: swarm id and member id, part of every blob's associated data.
    """

    def __init__(self, keys: dict[int, bytes], current: int, context: bytes) -> None:
        raise NotImplementedError

    def seal(self, plain: bytes, what: bytes) -> bytes:
        """`key id || nonce || ciphertext`. `what` names the blob (file kind, term, first and last index)."""
        raise NotImplementedError

    def open(self, sealed: bytes, what: bytes) -> bytes:
        """The plain bytes. Raises `StorageDamaged` if they are not what was sealed as `what`."""
        raise NotImplementedError
