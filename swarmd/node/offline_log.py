"""A manager's log from its state directory, for those who read it while no daemon runs. Blocking."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swarmd.errors import FailedPrecondition
from swarmd.manager.offline import OfflineLog
from swarmd.node.identity import StateDirectory
from swarmd.storage.data_keys import load
from swarmd.storage.disk_seal import DiskSeal
from swarmd.storage.errors import StorageDamaged
from swarmd.storage.key_file import KeyFile
from swarmd.storage.lock import hold_unchanged
from swarmd.storage.log_copy import LOG_NAME, copy_of_log
from swarmd.storage.log_store import LogStore
from swarmd.storage.sealing import Sealer, sealing_context
from swarmd.storage.snapshot_store import SnapshotStore


@contextmanager
def read_offline(directory: StateDirectory) -> Iterator[OfflineLog]:
    """The log of a stopped manager, every seal of it checked; nothing in the state directory is changed.

    Raises `FailedPrecondition` if a daemon runs there or there is no log, `Locked` if its keys are sealed and
    `directory` was not unlocked, `StorageDamaged`, `StorageFailed`.
    """
    with hold_unchanged(directory.lock):
        if not (directory.raft / LOG_NAME).is_file():
            raise FailedPrecondition(
                f"{directory.path} holds no Raft log", hint="give the state directory (-d) of a manager"
            )
        with copy_of_log(directory.raft) as path:
            store = LogStore.open(path, sealer_for(path, directory.data_keys, directory.seal))
            try:
                yield offline_log(store, directory)
            finally:
                store.close()


def offline_log(store: LogStore, directory: StateDirectory) -> OfflineLog:
    """What an open log holds. Raises `StorageDamaged`."""
    stored = store.load()
    if stored.identity is None:
        raise StorageDamaged(f"{directory.raft / LOG_NAME} does not say whose log it is")
    snapshots = SnapshotStore(directory.raft, store.sealer)
    return OfflineLog(identity=stored.identity, stored=stored, snapshot_chunks=lambda: snapshots.read(stored.snapshot))


def sealer_for(log_path: Path, keys_path: Path, seal: DiskSeal | None = None) -> Sealer:
    """What opens this log: made of the keys that are there, and none is made. Reading alone leaves their file as it is.

    `seal` opens the file of the keys. Raises `StorageDamaged` if either is missing or no file of ours, `Locked`.
    """
    identity = LogStore.read_identity(log_path)
    if identity is None:
        raise StorageDamaged(f"{log_path} is empty, and the log of a manager never is")
    if load(keys_path, seal) is None:
        raise StorageDamaged(f"{keys_path} is missing: nothing can be read without the data keys")
    return KeyFile(keys_path, os.urandom, seal).sealer(sealing_context(identity.swarm_id, identity.member_id))
