"""Space kept for the way back: a file beside the log that is given up when the disk is full. Blocking.

What a manager needs to come back fits in it: the checkpoint of a write-ahead log of full size, a record, a vote.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from swarmd.storage.durable_files import PRIVATE_FILE, sync_directory
from swarmd.storage.errors import StorageFull, refused

RESERVE_NAME: Final = "reserve"
RESERVE_BYTES: Final = 20 << 20
"""A write-ahead log of full size (17 MB), and a little for the rest."""
PROBE_NAME: Final = "probe"
PROBE_BYTES: Final = 4096


class SpaceReserve:
    """The reserve in `directory`, which must exist by the time of `make`."""

    def __init__(self, directory: Path, size: int = RESERVE_BYTES) -> None:
        self._path = directory / RESERVE_NAME
        self._size = size

    @property
    def size(self) -> int:
        """In bytes."""
        return self._size

    @property
    def is_held(self) -> bool:
        """Whether it is there, whole."""
        try:
            return self._path.stat().st_size >= self._size
        except OSError:
            return False

    def make(self) -> None:
        """Set the space aside, allocated and not only promised; there already is fine.

        Raises `StorageFailed`, `StorageFull` if there is no room; then nothing of it is left.
        """
        if self.is_held:
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, PRIVATE_FILE)
            try:
                os.fchmod(descriptor, PRIVATE_FILE)
                os.posix_fallocate(descriptor, 0, self._size)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            sync_directory(self._path.parent)
        except OSError as error:
            self.release()
            raise refused(f"no space can be set aside as {self._path}: {error.strerror}", error) from error

    def release(self) -> bool:
        """Give the space to whoever needs it; whether there was any. Raises `StorageFailed`."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise refused(f"cannot give up {self._path}: {error.strerror}", error) from error
        return True


def probe(directory: Path) -> None:
    """Write a page beside the log, sync it and take it away again. Raises `StorageFailed`, `StorageFull`.

    It says that a try is worth while, not that the log's own file is well: only a fresh open of that tells.
    """
    path = directory / PROBE_NAME
    try:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
            try:
                if os.write(descriptor, bytes(PROBE_BYTES)) != PROBE_BYTES:
                    raise StorageFull(f"no space left for {path}")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        finally:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise refused(f"cannot write {path}: {error.strerror}", error) from error


class Space(msgspec.Struct, frozen=True, gc=False):
    """Of a file system, in bytes. `free` is what is left for those without root's privilege."""

    free: int
    total: int


def space_of(directory: Path) -> Space:
    """The space where `directory` is. Raises `StorageFailed`."""
    try:
        found = os.statvfs(directory)
    except OSError as error:
        raise refused(f"cannot look at {directory}: {error.strerror}", error) from error
    return Space(free=found.f_bavail * found.f_frsize, total=found.f_blocks * found.f_frsize)
