"""The programs that make faults, all of them Debian packages."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

PROGRAMS: Final = ("ip", "tc", "nft", "nsenter", "mkfs.ext4")
LIBRARY: Final = "libfaketimeMT.so.1"


def faketime_library() -> Path | None:
    """Where libfaketime is, if it is installed."""
    return next(Path("/usr/lib").glob(f"*/faketime/{LIBRARY}"), None)


def chaos_tools_missing() -> list[str]:
    """What this machine lacks."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return missing if faketime_library() is not None else [*missing, LIBRARY]
