"""Who hands out data keys: every change is in the key file before anybody uses it. Blocking; usable from any thread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from swarmd.storage import data_keys
from swarmd.storage.data_keys import DataKeys
from swarmd.storage.disk_seal import DiskSeal
from swarmd.storage.sealing import BLOBS_PER_KEY_MAX, KEY_BYTES, Grant, Sealer

log = logging.getLogger(__name__)

GRANTED_BLOBS: Final = 1 << 20
"""Blobs counted at a time, before they are sealed: a crash counts too many, never too few. At 1,000 commits a second
that is a write of the key file every six minutes, and a thousand starts use a key up."""


class KeyFile:
    """The data keys of one life as a manager, in memory as they are on the disk.

    Read when first asked. The file is written from memory, so one that somebody deletes meanwhile comes back whole.

    Args:
        random_bytes: where keys come from (`os.urandom`).
        seal: what seals the file, if anything does.
    """

    def __init__(self, path: Path, random_bytes: Callable[[int], bytes], seal: DiskSeal | None = None) -> None:
        self._path = path
        self._random_bytes = random_bytes
        self._seal = seal or DiskSeal()
        self._lock = self._seal.mutex
        self._keys: DataKeys | None = None
        self._times_in_clear = 0

    def sealer(self, context: bytes) -> Sealer:
        """Seals with the current key and counts what it seals. Makes a first key if there is none. Raises as `load`."""
        with self._lock:
            keys = self._known()
            return Sealer(keys.by_id, keys.current, context, keys=self)

    def grant(self) -> Grant:
        """The current key and how many more blobs it may seal; a new one if it has sealed all that it may.

        Durable on return. Raises `StorageFailed`, and nothing has changed for the caller.
        """
        with self._lock:
            keys = self._known()
            if keys.sealing.sealed + GRANTED_BLOBS > BLOBS_PER_KEY_MAX:
                keys = keys.with_new(self._random_bytes(KEY_BYTES))
                log.info("data key %d has sealed all that it may: key %d is next", keys.current - 1, keys.current)
            return self._granted(keys)

    def rotate(self) -> Grant:
        """As `grant`, of a new key in any case."""
        with self._lock:
            return self._granted(self._known().with_new(self._random_bytes(KEY_BYTES)))

    def forget(self, ids: frozenset[int]) -> None:
        """Delete keys that nothing on the disk names any more. Durable on return. Raises `StorageFailed`."""
        with self._lock:
            self._save(self._known().without(ids))

    def _granted(self, keys: DataKeys) -> Grant:
        keys = keys.with_sealed(GRANTED_BLOBS)
        self._save(keys)
        return Grant(key_id=keys.current, key=keys.sealing.key, blobs=GRANTED_BLOBS)

    def _known(self) -> DataKeys:
        if self._keys is None:
            self._keys = data_keys.load_or_create(self._path, self._random_bytes, self._seal)
        elif self._times_in_clear != self._seal.times_in_clear:
            self._keys = msgspec.structs.replace(self._keys, never_clear=())  # somebody unsealed the file meanwhile
        self._times_in_clear = self._seal.times_in_clear
        return self._keys

    def _save(self, keys: DataKeys) -> None:
        self._keys = data_keys.save(self._path, keys, self._seal)
        self._times_in_clear = self._seal.times_in_clear
