"""What a `RaftDriver` asks of those around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from swarmd.raft import Configuration, Message, SnapshotMeta
from swarmd.state.store import State
from swarmd.wire.raft_codec import EntryRun


class Outbox(Protocol):
    """Where messages go; see `peers.Peers`."""

    def post(self, message: Message, runs: Sequence[EntryRun] = ()) -> bool: ...

    def follow(self, configuration: Configuration) -> None: ...


class Snapshots(Protocol):
    """What the driver asks of whoever keeps snapshots."""

    def due(self, applied: int) -> bool:
        """Whether one should be taken now."""

    def take(self, state: State, meta: SnapshotMeta) -> None:
        """Take one in the background; `driver.snapshot_saved` follows."""

    def send(self, message: Message) -> None:
        """Stream the newest one to the message's target in the background; `driver.snapshot_sent` follows."""

    async def chunks(self, meta: SnapshotMeta) -> list[bytes]:
        """The plain chunks of a saved snapshot."""
