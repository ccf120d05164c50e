"""Saving a renewed pair: a manager's key is sealed while autolock is on, from the first moment on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from swarmd.model import Role, UnlockKey
from swarmd.node.identity import StateDirectory
from swarmd.pki import read_subject


async def save_new_pair(
    directory: StateDirectory,
    certificate: bytes,
    key: bytes,
    *,
    was_manager: bool,
    fetch: Callable[[], Awaitable[UnlockKey]],
) -> None:
    """Make a renewed pair durable. Of a node that becomes a manager by it, sealed with what `fetch` brings.

    A manager's stays sealed as its disk is, also if the new certificate is a worker's: it is unsealed once the data
    keys are gone (`DiskKeys.lay_down`). Raises what `fetch` does and `StorageFailed`; then the old pair is there.
    """
    if was_manager or read_subject(certificate).role is not Role.MANAGER:
        await trio.to_thread.run_sync(directory.identity.save_pair, certificate, key)
        return
    kek = await fetch()
    await trio.to_thread.run_sync(directory.keys.save_first_pair, certificate, key, kek)
