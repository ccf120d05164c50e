"""Damaged files are moved aside, never cut and never deleted: they may hold what was acknowledged."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from swarmd.storage.durable_files import sync_directory
from swarmd.storage.errors import StorageFailed


def quarantine(path: Path, *, companions: tuple[str, ...] = ()) -> Path:
    """Rename a file or directory to the first free `<name>.damaged-<n>`, durably; returns the new path.

    `companions` are suffixes of files that belong to it (`-wal`) and go along. Nothing may have it open.
    Raises `StorageFailed`.
    """
    target = next(free for n in count(1) if not (free := path.with_name(f"{path.name}.damaged-{n}")).exists())
    try:
        for suffix in companions:
            companion = path.with_name(path.name + suffix)
            if companion.exists():
                companion.rename(target.with_name(target.name + suffix))
        path.rename(target)
        sync_directory(path.parent)
    except OSError as error:
        raise StorageFailed(f"cannot move {path} aside: {error.strerror}") from error
    return target
