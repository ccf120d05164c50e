"""The node's certificate, key and trusted root: `STATE/certificates/`. Blocking.

A new pair is written so that a crash at any point leaves one complete pair: certificate to a staging file, key over
the old key, staging file over the old certificate (SwarmKit `ca/keyreadwriter.go`; the directory's syncs are ours).

The key is PEM (PKCS#8), or a sealed file (`DiskSeal`) on a manager of a swarm with autolock.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from swarmd.errors import Invalid
from swarmd.model import UnlockKey
from swarmd.pki.unlock_key import Wraps
from swarmd.storage.disk_seal import DiskSeal
from swarmd.storage.durable_files import (
    PRIVATE_FILE,
    make_private_directory,
    read_if_there,
    replace_file,
    sync_directory,
)
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.wire import codec

PUBLIC_FILE: Final = 0o644

Matches = Callable[[bytes, bytes], bool]
"""Whether a certificate belongs to a key (both PEM)."""


_PEM: Final = b"-----BEGIN "


class NodeKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A node's private key (PEM), and whether it never lay on the disk in clear."""

    pem: bytes
    never_clear: bool = False

    def __repr__(self) -> str:
        """Without the key."""
        return f"NodeKey(never_clear={self.never_clear})"


class IdentityFiles:
    """The files of one node's identity, in a directory of mode 0700. All PEM, kept byte for byte, but for a key that
    `seal` seals."""

    def __init__(self, directory: Path, seal: DiskSeal | None = None) -> None:
        self._directory = directory
        self._seal = seal or DiskSeal()
        self._root = directory / "swarm-root-ca.crt"
        self._certificate = directory / "swarm-node.crt"
        self._key = directory / "swarm-node.key"
        self._staging = directory / ".swarm-node.crt"

    @property
    def certificate_path(self) -> Path:
        """Where the node's certificate is, for those who can load it from a path only (`ssl`)."""
        return self._certificate

    @property
    def key_path(self) -> Path:
        """Where the node's key is."""
        return self._key

    def save_root(self, pem: bytes) -> None:
        """Make the trusted root durable (0644). Raises `StorageFailed`."""
        make_private_directory(self._directory)
        replace_file(self._root, pem, PUBLIC_FILE)

    def root(self) -> bytes | None:
        """The trusted root, or None."""
        return read_if_there(self._root)

    def save_pair(self, certificate: bytes, key: bytes, *, never_clear: bool = True) -> None:
        """Make a new pair durable (0644, 0600). A crash on the way leaves the old pair or the new one.

        `never_clear`: this key was on no disk yet. Raises `StorageFailed`; then, too, `pair` gives one of both.
        """
        make_private_directory(self._directory)
        with self._seal.mutex:
            replace_file(self._staging, certificate, PUBLIC_FILE)
            self.replace_key(NodeKey(pem=key, never_clear=never_clear), self._seal.kek)
            self._promote_staging()

    def certificate(self) -> bytes | None:
        """The certificate that is in use, or None."""
        return read_if_there(self._certificate)

    def stored_key(self) -> bytes | None:
        """The key's file as it lies there."""
        return read_if_there(self._key)

    def key(self) -> NodeKey | None:
        """The key, or None. Raises `Locked`, `StorageDamaged`."""
        content = read_if_there(self._key)
        if content is None:
            return None
        if not is_sealed_key(content):
            return NodeKey(pem=content)
        plain = self._seal.open(content, Wraps.NODE_KEY, self._key)
        try:
            return codec.decode(plain, NodeKey)
        except Invalid:
            raise StorageDamaged(f"{self._key} does not hold a key") from None

    def replace_key(self, key: NodeKey, kek: UnlockKey) -> None:
        """Make this the key on the disk, sealed with `kek` if it is one. Raises `StorageFailed`."""
        content = self._seal.seal(codec.encode(key), Wraps.NODE_KEY, (kek,)) if kek.key else key.pem
        replace_file(self._key, content, PRIVATE_FILE)

    def pair(self, matches: Matches) -> tuple[bytes, bytes] | None:
        """The certificate and its key, finishing what a crash interrupted; None if this node has no pair.

        Raises `StorageDamaged` if there are both and no certificate belongs to the key: that is an identity to repair,
        never one to replace in silence. `Locked`: as `key`.
        """
        found = self.key()
        key = found.pem if found is not None else None
        certificate = read_if_there(self._certificate)
        staged = read_if_there(self._staging)
        if key is None:
            return None
        if certificate is not None and matches(certificate, key):
            self._drop_staging(staged)
            return certificate, key
        if staged is not None and matches(staged, key):
            self._promote_staging()
            return staged, key
        if certificate is None and staged is None:
            return None
        raise StorageDamaged(f"{self._certificate} does not belong to {self._key}")

    def _promote_staging(self) -> None:
        try:
            self._staging.replace(self._certificate)
            sync_directory(self._directory)
        except OSError as error:
            raise StorageFailed(f"cannot write {self._certificate}: {error.strerror}") from error

    def _drop_staging(self, staged: bytes | None) -> None:
        """The crash came before the new key: that certificate is of no use without it."""
        if staged is not None:
            try:
                self._staging.unlink(missing_ok=True)
            except OSError as error:
                raise StorageFailed(f"cannot remove {self._staging}: {error.strerror}") from error


def is_sealed_key(content: bytes) -> bool:
    """Whether the file of a key is sealed: whatever is no PEM has to be, or is damaged."""
    return _PEM not in content
