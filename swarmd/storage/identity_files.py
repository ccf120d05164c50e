"""The node's certificate, key and trusted root: `STATE/certificates/`. Blocking.

A new pair is written so that a crash at any point leaves one complete pair: certificate to a staging file, key over
the old key, staging file over the old certificate (SwarmKit `ca/keyreadwriter.go`; the directory's syncs are ours).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from swarmd.storage.durable_files import (
    PRIVATE_FILE,
    make_private_directory,
    read_if_there,
    replace_file,
    sync_directory,
)
from swarmd.storage.errors import StorageDamaged, StorageFailed

PUBLIC_FILE: Final = 0o644

Matches = Callable[[bytes, bytes], bool]
"""Whether a certificate belongs to a key (both PEM)."""


class IdentityFiles:
    """The files of one node's identity, in a directory of mode 0700. All PEM, kept byte for byte."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
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

    def save_pair(self, certificate: bytes, key: bytes) -> None:
        """Make a new pair durable (0644, 0600). A crash on the way leaves the old pair or the new one.

        Raises `StorageFailed`; then, too, `pair` gives one of both.
        """
        make_private_directory(self._directory)
        replace_file(self._staging, certificate, PUBLIC_FILE)
        replace_file(self._key, key, PRIVATE_FILE)
        self._promote_staging()

    def pair(self, matches: Matches) -> tuple[bytes, bytes] | None:
        """The certificate and its key, finishing what a crash interrupted; None if this node has no pair.

        Raises `StorageDamaged` if there are both and no certificate belongs to the key: that is an identity to repair,
        never one to replace in silence.
        """
        key = read_if_there(self._key)
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
