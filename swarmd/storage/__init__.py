"""Where it is kept: the log, snapshots, the agent's tasks, sealing, the node's own files. Alone imports apsw.

Blocking, but for `LogWriter`: call from a thread. Must not know who leads, nor what entries and snapshots mean.
"""

from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.storage.identity_files import IdentityFiles
from swarmd.storage.known_managers import KnownManager, NodeFile, NodeFileContents
from swarmd.storage.log_contract import LogBatch, LogIdentity, LogStorage, StoredLog
from swarmd.storage.log_store import LogStore
from swarmd.storage.log_writer import LogWriter
from swarmd.storage.quarantine import quarantine
from swarmd.storage.sealing import Sealer, sealing_context
from swarmd.storage.snapshot_store import SnapshotStorage, SnapshotStore
from swarmd.storage.task_store import TaskStorage, TaskStore

__all__ = [
    "IdentityFiles",
    "KnownManager",
    "LogBatch",
    "LogIdentity",
    "LogStorage",
    "LogStore",
    "LogWriter",
    "NodeFile",
    "NodeFileContents",
    "Sealer",
    "SnapshotStorage",
    "SnapshotStore",
    "StorageDamaged",
    "StorageFailed",
    "StoredLog",
    "TaskStorage",
    "TaskStore",
    "quarantine",
    "sealing_context",
]
