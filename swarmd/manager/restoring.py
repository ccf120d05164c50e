"""A snapshot read in slices: 100,000 tasks take over a second, and heartbeats must pass in between."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from swarmd.raft import SnapshotMeta
from swarmd.state.snapshot import Contents, SnapshotReader


async def read_in_slices(chunks: Iterable[bytes], meta: SnapshotMeta) -> Contents:
    """What `State.adopt` takes. Other tasks get a turn after each chunk, which is a record of 1-2 ms as it was written.

    Raises `Invalid` for what is no such snapshot. `Cancelled` leaves nothing behind.
    """
    reader = SnapshotReader()
    for chunk in chunks:
        reader.feed(chunk)
        await trio.lowlevel.checkpoint()
    return reader.finish(meta)
