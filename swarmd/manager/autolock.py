"""A running manager's disk follows the swarm's unlock key, and the swarm is told the key by whoever may ask.

The order when autolock is turned on: both files are sealed, then the data key is rotated, then the certificate is
renewed: what lay on the disk in clear may be read off it for ever, so it must not be what protects anything. Whether
that was done is noted with the keys themselves, so it is finished after any crash (reference security 5.4, 5.5).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import trio

from swarmd.errors import FailedPrecondition, Gone, SwarmError, Unavailable
from swarmd.manager.bell import Bell
from swarmd.model import UnlockKey
from swarmd.pki.unlock_key import KekChange, compare, show_unlock_key
from swarmd.state.command import Table
from swarmd.state.store import State
from swarmd.state.watch import Route
from swarmd.storage.disk_keys import InClear
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.transport.connection import Call
from swarmd.wire.cluster import GetUnlockKey, Unlock, UnlockKeyReply

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_S: Final = 15.0
"""After a disk that refused, or without a leader to say what is current."""
RENEWAL_S_MAX: Final = 60.0
"""A renewal that was asked for and did not happen meanwhile is asked for again."""


class Disk(Protocol):
    """The secrets on this manager's disk; see `storage.disk_keys.DiskKeys`. Blocking."""

    @property
    def kek(self) -> UnlockKey: ...

    def change(self, wanted: UnlockKey) -> bool: ...

    def in_clear(self) -> InClear: ...


class InThread(Protocol):
    """Runs blocking work."""

    async def __call__(self, work: Callable[[], T]) -> T: ...


class Autolock:
    """Follows `cluster.unlock_key` for as long as `run` runs.

    Args:
        linearize: returns once what `state` says is current; see `RaftDriver.read_index`.
        rotate_data_key: durable on return; the old ones go in the background.
        renew: asks for another certificate with another key. Never waits.
    """

    def __init__(
        self,
        state: Callable[[], State],
        disk: Disk,
        *,
        linearize: Callable[[], Awaitable[Any]],
        rotate_data_key: Callable[[], Awaitable[int]],
        renew: Callable[[], None],
        in_thread: InThread | None = None,
    ) -> None:
        self._state = state
        self._disk = disk
        self._linearize = linearize
        self._rotate_data_key = rotate_data_key
        self._renew = renew
        self._in_thread: InThread = _in_a_thread if in_thread is None else in_thread

    # -- what is asked -------------------------------------------------------------------------------------------

    async def tell(self, call: Call, request: GetUnlockKey) -> UnlockKeyReply:
        """Handler of `ca.unlock_key`: never an old key. Raises `Unavailable` before the cluster object is here."""
        await self._linearize()
        cluster = self._state().cluster()
        if cluster is None:
            raise Unavailable("this manager does not know the swarm's settings yet")
        key = cluster.unlock_key
        return UnlockKeyReply(
            key=key.key,
            version=key.version,
            shown=show_unlock_key(key.key),
            is_on=cluster.spec.encryption.auto_lock_managers,
        )

    # -- the work ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. `Cancelled` leaves files that the former key or the wanted one opens."""
        while True:
            bell = Bell()
            changes = self._state().subscribe([Route(Table.CLUSTER)], wake=bell.ring)
            try:
                while True:
                    with trio.move_on_after(await self._try_to_follow()):
                        await bell.wait()
                    changes.take()
            except Gone:  # the state was replaced by a snapshot
                log.debug("looking at the unlock key anew")
            finally:
                changes.close()

    async def _try_to_follow(self) -> float:
        """Seconds until it must be looked at again; infinity if all is as the swarm wants it."""
        try:
            return await self.follow()
        except (StorageDamaged, StorageFailed, SwarmError) as error:
            log.warning(
                "the keys on this disk do not follow the unlock key yet, next try in %.0f s: %s", RETRY_S, error
            )
            return RETRY_S

    async def follow(self) -> float:
        """Bring the disk to what the swarm says now; seconds until it must be looked at again.

        Raises `StorageFailed`, `StorageDamaged`, `SwarmError` without a leader.
        """
        await self._linearize()
        cluster = self._state().cluster()
        if cluster is None:
            return float("inf")
        wanted, current = cluster.unlock_key, self._disk.kek
        change = compare(current, wanted)
        if change is KekChange.CONFLICT:
            log.error(
                "the swarm has another unlock key of version %d than this disk: nothing is changed", wanted.version
            )
            return float("inf")
        if current.version > wanted.version:
            log.warning("this disk knows version %d of the unlock key, the swarm %d", current.version, wanted.version)
            return float("inf")
        if await self._in_thread(partial(self._disk.change, wanted)):
            log.info("%s (version %d of the unlock key)", _DONE[bool(wanted.key)], wanted.version)
        return await self._replace_what_was_in_clear() if wanted.key else float("inf")

    async def _replace_what_was_in_clear(self) -> float:
        in_clear = await self._in_thread(self._disk.in_clear)
        if in_clear.data_key:
            await self._rotate_data_key()
        if in_clear.node_key:
            log.info("renewing the certificate: its key lay on the disk in clear")
            self._renew()
        return RENEWAL_S_MAX if in_clear.node_key else float("inf")


async def not_locked(call: Call, request: Unlock) -> Any:
    """Handler of `cluster.unlock` on a daemon that waits for no key."""
    raise FailedPrecondition("this node is not locked")


_DONE: Final = {True: "the keys on this disk are sealed", False: "the keys on this disk are in clear: autolock is off"}


async def _in_a_thread(work: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(work)
