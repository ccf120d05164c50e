"""The way back after a disk failed: look again, less and less often, until it takes a write. No restart is needed."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Final

import trio

from swarmd.manager.disk_health import DiskHealth
from swarmd.manager.disk_space import critical_bytes
from swarmd.storage.errors import StorageFailed, StorageFull
from swarmd.storage.reserve import SpaceReserve, probe, space_of

log = logging.getLogger(__name__)

LOOK_S_MIN: Final = 0.5
"""Before the second look; doubles ..."""
LOOK_S_MAX: Final = 5.0
"""... up to this. Nothing tells when somebody has made room."""


async def until_usable(health: DiskHealth, directory: Path) -> None:
    """Return once it is worth while to open the log in `directory`: at once if nothing is known against it.

    A full disk is given the reserve, once. Without one there must be space beyond the critical bound, or the log would
    be written for a moment and fail again.
    """
    wait_s = LOOK_S_MIN
    while (failure := health.failure) is not None:
        try:
            await trio.to_thread.run_sync(
                partial(_look, directory, is_full=isinstance(failure, StorageFull)), abandon_on_cancel=True
            )
            return
        except StorageFailed as error:
            health.note_failure(error)
        await trio.sleep(wait_s)
        wait_s = min(2 * wait_s, LOOK_S_MAX)


def _look(directory: Path, *, is_full: bool) -> None:
    """Blocking. Raises `StorageFailed`."""
    place = directory if directory.is_dir() else directory.parent
    was_held = is_full and SpaceReserve(place).release()
    if was_held:
        log.warning("the reserve in %s is given up, to come back on a full disk", place)
    probe(place)
    space = space_of(place)
    if is_full and not was_held and space.free < critical_bytes(space.total):
        raise StorageFull(
            f"{place}: {space.free >> 10} KiB are free, and {critical_bytes(space.total) >> 10} KiB are needed"
        )
