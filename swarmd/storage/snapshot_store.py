"""Snapshot files: `STATE/raft/snapshot-<index>-<term>`, sealed chunks, temporary file + fsync + rename + directory fsync.

Blocking; call from a thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from swarmd.raft import SnapshotMeta
from swarmd.storage.sealing import Sealer


class SnapshotStore:
    """The snapshot files of one manager."""

    def __init__(self, directory: Path, sealer: Sealer) -> None:
        raise NotImplementedError

    def save(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> Path:
        """Make a snapshot durable. Nothing is visible until it is complete."""
        raise NotImplementedError

    def read(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """Its plain chunks (each <= 1 MiB), as they were saved. Raises `StorageDamaged`."""
        raise NotImplementedError

    def prune(self, keep: SnapshotMeta) -> None:
        """Delete older and unfinished files; keeps `keep` and the one before it."""
        raise NotImplementedError
