"""Reading a log that must not change: SQLite recovers a write-ahead log by writing, so it is given a copy. Blocking."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from swarmd.storage.errors import StorageFailed

LOG_NAME: Final = "raft.db"
_COPIED: Final = (LOG_NAME, f"{LOG_NAME}-wal")
"""The file, and what was committed and is not in it yet. Locking is exclusive, so there is no shared-memory file."""


@contextmanager
def copy_of_log(raft_directory: Path) -> Iterator[Path]:
    """The path of a private copy of `raft.db` that is deleted afterwards. What is copied is sealed as it was.

    Nobody may have the log open. Raises `StorageFailed`, also if there is no log.
    """
    with tempfile.TemporaryDirectory(prefix="swarmd-raft-") as name:
        target = Path(name)
        try:
            for part in _COPIED:
                if part == LOG_NAME or (raft_directory / part).exists():
                    shutil.copyfile(raft_directory / part, target / part)
        except OSError as error:
            raise StorageFailed(f"cannot copy {error.filename or raft_directory}: {error.strerror}") from error
        yield target / LOG_NAME
