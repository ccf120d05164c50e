"""Opens a manager's log, rebuilds its core and state from it, or joins a swarm to get a log at all."""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, Protocol

import msgspec
import trio

from swarmd.errors import ErrorKind, FailedPrecondition, SwarmError
from swarmd.raft import Configuration, RaftCore, Settings
from swarmd.state.store import State
from swarmd.storage.durable_files import sync_directory
from swarmd.storage.errors import StorageFailed
from swarmd.storage.log_store import LogIdentity, LogStore, StoredLog
from swarmd.storage.sealing import Sealer
from swarmd.storage.snapshot_store import SnapshotStore
from swarmd.transport.connection import Connection
from swarmd.wire.methods import RAFT_JOIN
from swarmd.wire.peer import JoinReply, JoinRequest

log = logging.getLogger(__name__)

JOIN_S_MAX: Final = 25.0
JOIN_RETRY_S_MAX: Final = 5.0
_REFUSED: Final = frozenset({ErrorKind.PERMISSION_DENIED, ErrorKind.NOT_FOUND, ErrorKind.INVALID})


class Dial(Protocol):
    """Opens a connection of class `control` to an address."""

    def __call__(self, address: str) -> AbstractAsyncContextManager[Connection]: ...


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A log that is open, and what was in it."""

    store: LogStore
    snapshots: SnapshotStore
    stored: StoredLog
    identity: LogIdentity


def open_existing(directory: Path, sealer_of: Callable[[LogIdentity], Sealer]) -> Opened | None:
    """The log in `directory`, or None if there is none. Blocking. Raises `StorageDamaged`."""
    identity = LogStore.read_identity(directory / "raft.db")
    if identity is None:
        return None
    return _open(directory, identity, sealer_of(identity))


def create(directory: Path, identity: LogIdentity, sealer: Sealer) -> Opened:
    """An empty log for a member that just joined. Blocking."""
    return _open(directory, identity, sealer)


def close(opened: Opened) -> None:
    """Close a log whose disk may refuse even that; what is in it stays. Blocking."""
    try:
        opened.store.close()
    except StorageFailed as error:
        log.warning("the log could not be closed in order: %s", error)


def is_empty(opened: Opened) -> bool:
    """Whether nothing was ever written to this log."""
    stored = opened.stored
    return not stored.entries and not stored.snapshot.index


def discard(directory: Path, opened: Opened) -> None:
    """Delete an empty log whose member was removed meanwhile. Blocking. Raises `StorageFailed`."""
    opened.store.close()
    delete(directory)


def delete(directory: Path) -> None:
    """Delete a log that nothing has open. Blocking; none there is fine. Raises `StorageFailed`."""
    try:
        if directory.exists():
            shutil.rmtree(directory)
            sync_directory(directory.parent)
    except OSError as error:
        raise StorageFailed(f"cannot delete {directory}: {error.strerror}") from error


def _open(directory: Path, identity: LogIdentity, sealer: Sealer) -> Opened:
    store = LogStore.open(directory / "raft.db", sealer)
    try:
        store.initialise(identity)
        return Opened(store=store, snapshots=SnapshotStore(directory, sealer), stored=store.load(), identity=identity)
    except BaseException:
        # Left open, SQLite would later delete the write-ahead log of whatever file then has this name.
        store.close()
        raise


def rebuild(opened: Opened, settings: Settings, rng: random.Random) -> tuple[RaftCore, State]:
    """The core, and the state as of the newest snapshot; committed entries follow through `Ready`. Blocking."""
    stored, state = opened.stored, State()
    if stored.snapshot.index:
        state.restore(stored.snapshot, opened.snapshots.read(stored.snapshot))
    core = RaftCore(
        opened.identity.member_id,
        settings,
        rng,
        hard_state=stored.hard_state,
        snapshot=stored.snapshot,
        entries=stored.entries,
    )
    return core, state


async def join(
    addresses: Callable[[], Sequence[str]], request: JoinRequest, *, dial: Dial, rng: random.Random
) -> JoinReply:
    """Ask the managers until one lets this node into the Raft group, or for good if they are only out of reach.

    Raises what a manager refused for good. `Cancelled` may leave a learner behind that never answers: the next try,
    with another disk, removes it.
    """
    wait_s = 0.2
    while True:
        for address in addresses():
            try:
                async with dial(address) as connection:
                    return await connection.call(RAFT_JOIN, request, timeout_s=JOIN_S_MAX)
            except SwarmError as error:
                if error.kind in _REFUSED:
                    raise
                log.warning("could not join the managers through %s: %s", address, error)
        if not addresses():
            raise FailedPrecondition(
                "this manager has no log and knows no other manager",
                hint="give --join-addr; if all managers are lost, recover from a backup",
            )
        await trio.sleep(wait_s * (0.5 + rng.random() / 2))
        wait_s = min(2 * wait_s, JOIN_RETRY_S_MAX)


def configuration_of(reply: JoinReply | None) -> Configuration:
    """The members as the leader told them at the join, until the log tells."""
    return reply.configuration if reply is not None else Configuration()
