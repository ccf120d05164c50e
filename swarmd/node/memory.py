"""What a node remembers besides its identity (`STATE/state.cbor`), saved by a thread while life goes on."""

from __future__ import annotations

import logging
from typing import Final

import msgspec
import trio

from swarmd.storage.errors import StorageFailed
from swarmd.storage.known_managers import KnownManager, NodeFile, NodeFileContents

log = logging.getLogger(__name__)

RETRY_S: Final = 16.0


class NodeMemory:
    """The present contents of the node's file. Reading and noting never wait; `run` makes what was noted durable.

    Args:
        contents: what the file holds.
    """

    def __init__(self, file: NodeFile, contents: NodeFileContents) -> None:
        self._file = file
        self._contents = self._saved = contents
        self._saving = trio.Lock()
        self._noted = trio.Event()

    @property
    def managers(self) -> tuple[KnownManager, ...]:
        """The managers last heard of, by node id."""
        return self._contents.managers

    @property
    def remote_port(self) -> int:
        """The free port that was chosen once; 0: none was."""
        return self._contents.remote_port

    def note_managers(self, addresses: dict[str, tuple[str, ...]], now: float) -> None:
        """These are the managers now, node id -> addresses. An empty map changes nothing."""
        self._note(
            self._contents.with_managers(
                KnownManager(node_id=node_id, addresses=those, last_seen_at=now) for node_id, those in addresses.items()
            )
        )

    def note_port(self, port: int) -> None:
        """This port was chosen; 0: none had to be."""
        self._note(msgspec.structs.replace(self._contents, remote_port=port))

    async def save_membership(self, *, is_member: bool) -> None:
        """Make it durable whether this node belongs to a Raft group. Raises `StorageFailed`."""
        self._contents = msgspec.structs.replace(self._contents, has_been_member=is_member)
        if self._saved.has_been_member != is_member:  # a full disk keeps nobody from what it knows already
            await self._save()

    async def run(self) -> None:
        """Save what is noted until cancelled. A disk that refuses is logged and tried again: nothing depends on it."""
        while True:
            await self._noted.wait()
            self._noted = trio.Event()
            try:
                await self._save()
            except StorageFailed as error:
                log.error("cannot remember the managers and the port: %s", error)
                with trio.move_on_after(RETRY_S):
                    await self._noted.wait()
                self._noted.set()

    def _note(self, contents: NodeFileContents) -> None:
        if contents != self._contents:
            self._contents = contents
            self._noted.set()

    async def _save(self) -> None:
        async with self._saving:
            contents = self._contents
            await trio.to_thread.run_sync(self._file.save, contents)
            self._saved = contents
