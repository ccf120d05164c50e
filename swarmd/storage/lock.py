"""One swarmd a state directory: `STATE/swarmd.lock`."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swarmd.errors import FailedPrecondition
from swarmd.storage.durable_files import PRIVATE_FILE, make_private_directory
from swarmd.storage.errors import StorageFailed


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock file `path` and write our pid into it; makes the directory (0700) if it is missing.

    The kernel lets go when the process ends, however it ends; the file stays, because removing it would let two
    processes lock two files of the same name. Children do not inherit it across exec.
    Raises `FailedPrecondition` at once if another process (or this one) holds it, `StorageFailed`.
    """
    make_private_directory(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    except OSError as error:
        raise StorageFailed(f"cannot open {path}: {error.strerror}") from error
    try:
        _lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def hold_unchanged(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for looking only: nothing is made and nothing written.

    Without a lock file there is nothing to hold: no swarmd ever ran there. Raises as `hold`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield
        return
    except OSError as error:
        raise StorageFailed(f"cannot open {path}: {error.strerror}") from error
    try:
        _take(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    _take(descriptor, path)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        raise StorageFailed(f"cannot write {path}: {error.strerror}") from error


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        who = f" (pid {holder})" if holder.isdigit() else ""
        raise FailedPrecondition(
            f"another swarmd{who} runs on {path.parent}",
            hint="stop it, or give this one a state directory of its own with -d",
        ) from None
    except OSError as error:
        raise StorageFailed(f"cannot lock {path}: {error.strerror}") from error
