"""Damaged files are moved aside, never cut and never deleted: they may hold what was acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from swarmd.storage.durable_files import read_if_there, replace_file, sync_directory
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


def keep_keys(path: Path, key_file: Path) -> None:
    """Copy the data keys (0600) into each directory that was moved aside from `path` and has none yet.

    It is readable with those only, and a later rotation deletes them from `key_file`. Without a key file nothing is
    done. Raises `StorageFailed`.
    """
    content = read_if_there(key_file)
    for aside in _moved_aside(path) if content is not None else ():
        if not (aside / key_file.name).exists():
            replace_file(aside / key_file.name, content or b"")


def forget_keys(path: Path, key_file: Path) -> None:
    """Make what was moved aside from `path` unreadable: delete the keys kept with it. Raises `StorageFailed`."""
    for aside in _moved_aside(path):
        try:
            (aside / key_file.name).unlink(missing_ok=True)
        except OSError as error:
            raise StorageFailed(f"cannot delete {aside / key_file.name}: {error.strerror}") from error


def kept_keys(path: Path, key_file: Path) -> Iterator[tuple[Path, bytes]]:
    """The files of data keys in what was moved aside from `path`, and what they hold. Raises `StorageFailed`."""
    for aside in _moved_aside(path):
        kept = aside / key_file.name
        if (content := read_if_there(kept)) is not None:
            yield kept, content


def _moved_aside(path: Path) -> Iterator[Path]:
    return (aside for aside in sorted(path.parent.glob(f"{path.name}.damaged-*")) if aside.is_dir())
