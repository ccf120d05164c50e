"""Small files that are either the old ones or the new ones after a crash, and their directories. Blocking."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from swarmd.storage.errors import refused

PRIVATE_FILE: Final = 0o600
PRIVATE_DIRECTORY: Final = 0o700
_RESERVE_STEP_BYTES: Final = 1 << 20


def make_private_directory(path: Path) -> None:
    """Make `path` (and what is missing above it) with mode 0700, durably.

    One that is there keeps its mode: it may be shared (a state directory below /tmp), and every file in it has its own.
    """
    try:
        if not path.is_dir():
            if not path.parent.is_dir():
                make_private_directory(path.parent)
            path.mkdir(PRIVATE_DIRECTORY, exist_ok=True)
            path.chmod(PRIVATE_DIRECTORY)
            sync_directory(path.parent)
    except OSError as error:
        raise refused(f"cannot make {path}: {error.strerror}", error) from error


def replace_file(path: Path, content: bytes, mode: int = PRIVATE_FILE) -> None:
    """Make `path` hold `content`, all of it or, after a crash, still the old content. Raises `StorageFailed`.

    The mode does not depend on the umask. An unfinished temporary file of an earlier crash is overwritten.
    """
    unfinished = path.with_name(f".{path.name}.new")
    try:
        write_synced(unfinished, content, mode)
        unfinished.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise refused(f"cannot write {path}: {error.strerror}", error) from error


def write_synced(path: Path, content: bytes, mode: int) -> None:
    """Write a file with this mode and sync it; its name is durable only after `sync_directory`. Raises `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def reserve(path: Path, size: int) -> None:
    """Fill an existing file up with zeros to `size` bytes, synced. Raises `OSError`; then it has its old length."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        length = os.fstat(descriptor).st_size
        try:
            for offset in range(length, size, _RESERVE_STEP_BYTES):
                piece = bytes(min(_RESERVE_STEP_BYTES, size - offset))
                if os.pwrite(descriptor, piece, offset) != len(piece):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, length)
            raise
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_if_there(path: Path) -> bytes | None:
    """What a file holds, or None if there is none. Raises `StorageFailed` if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise refused(f"cannot read {path}: {error.strerror}", error) from error
