"""While this node is a manager, its worker token lies where joiners of the same machine and user find it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import trio

from swarmd.manager.loops.feed import Feed
from swarmd.manager.manager import Manager
from swarmd.node.neighbours import leave_token
from swarmd.state.command import Table
from swarmd.state.watch import Route


async def share_token(manager: Manager, directories: Sequence[Path]) -> None:
    """Leave the token once the log is open, follow its changes, and take it away when cancelled."""
    await manager.log_is_open.wait()
    parts = manager.parts
    if parts is None:
        return
    left: Path | None = None
    token = ""
    state = parts.store.state
    try:
        with Feed(state, (Route(Table.CLUSTER),)) as feed:
            while True:
                cluster = state.cluster()
                present = cluster.root_ca.join_tokens.worker if cluster is not None else ""
                if present and present != token:
                    left = await trio.to_thread.run_sync(leave_token, present, manager.port, directories)
                    token = present
                await feed.next()
    finally:
        if left is not None:
            with contextlib.suppress(OSError):  # what stays behind is out of date, and found to be
                left.unlink()
