"""The door through which other members' Raft traffic comes in: each message must come from the node it claims."""

from __future__ import annotations

import logging
from collections.abc import Callable

from swarmd.errors import PermissionDenied
from swarmd.manager.raft_driver import RaftDriver
from swarmd.manager.snapshots import Snapshots
from swarmd.raft import Configuration
from swarmd.transport.connection import Call, Stream
from swarmd.wire.peer import Nothing, SnapshotChunk
from swarmd.wire.raft_codec import decode_message

log = logging.getLogger(__name__)


class RaftDoor:
    """Handlers of `raft.messages` and `raft.snapshot`.

    Args:
        hint: the configuration as the leader told it when this member joined, until the log tells it.
    """

    def __init__(self, driver: RaftDriver, snapshots: Snapshots, hint: Callable[[], Configuration]) -> None:
        self._driver = driver
        self._snapshots = snapshots
        self._hint = hint

    def messages(self, call: Call) -> Callable[[bytes], None]:
        """The sink of one peer's messages; see `Connection.post`."""

        def take(data: bytes) -> None:
            message, runs = decode_message(data)
            self._check(call, message.source)
            self._driver.receive(message, runs)

        return take

    async def snapshot(self, call: Call, first: SnapshotChunk, stream: Stream[Nothing, SnapshotChunk]) -> Nothing:
        """Take one snapshot."""
        if first.message is not None:
            self._check(call, first.message.source)
        return await self._snapshots.receive(call, first, stream)

    def _check(self, call: Call, source: int) -> None:
        """Whether a member may speak at all is the core's to judge: a removal in the log may be undone yet, perhaps by
        the very member that it names, and a door that is shut by then would stay shut."""
        node_id = call.caller.identity.node_id if call.caller.identity is not None else ""
        member = self._driver.configuration.member(source) or self._hint().member(source)
        if member is not None and member.node_id != node_id:
            raise PermissionDenied(f"member {source:x} is not node {node_id}")
