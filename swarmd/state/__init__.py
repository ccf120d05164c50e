"""What was agreed: commands, apply -> events, indexes, snapshots, digests.

Must not know the clock, dice, or who proposes.
"""

from swarmd.state.batch import BATCH_BYTES_MAX, CHANGES_MAX, batches
from swarmd.state.command import (
    ENTRY_BYTES_MAX,
    Command,
    CommandId,
    IdempotencyKey,
    Outcome,
    Table,
    Verdict,
    decode_command,
    encode_command,
)
from swarmd.state.digest import hash_slices
from swarmd.state.features import features_of_managers, raised_feature_level
from swarmd.state.indexes import is_schedulable
from swarmd.state.snapshot import Capture, SnapshotReader, encode_snapshot
from swarmd.state.store import State
from swarmd.state.transaction import Transaction
from swarmd.state.watch import Event, Route, Subscription

__all__ = [
    "BATCH_BYTES_MAX",
    "CHANGES_MAX",
    "ENTRY_BYTES_MAX",
    "Capture",
    "Command",
    "CommandId",
    "Event",
    "IdempotencyKey",
    "Outcome",
    "Route",
    "SnapshotReader",
    "State",
    "Subscription",
    "Table",
    "Transaction",
    "Verdict",
    "batches",
    "decode_command",
    "encode_command",
    "encode_snapshot",
    "features_of_managers",
    "hash_slices",
    "is_schedulable",
    "raised_feature_level",
]
