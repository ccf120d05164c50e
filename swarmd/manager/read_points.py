"""Reads of this member that wait to learn from which index on they are linearizable (Raft dissertation, 6.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from swarmd.raft import RaftCore, ReadReady

ASK_AGAIN_S: Final = 1.0
"""A READ_INDEX message or its answer may be lost."""


class ReadPoints:
    """One instance per driver.

    Args:
        wake: makes the driver take what the core has to say.
    """

    def __init__(self, core: RaftCore, *, wake: Callable[[], None]) -> None:
        self._core = core
        self._wake = wake
        self._answered: dict[int, trio.Event] = {}
        self._indexes: dict[int, int] = {}
        self._next = 1

    async def ask(self) -> int | None:
        """The index that must be applied here before a read may look; None if there is no leader, or none answered."""
        context = self._next
        self._next += 1
        answered = self._answered[context] = trio.Event()
        try:
            self._core.read_index(context)
            self._wake()
            with trio.move_on_after(ASK_AGAIN_S):
                await answered.wait()
            index = self._indexes.pop(context, -1)
            return index if index >= 0 else None
        finally:
            self._answered.pop(context, None)
            self._indexes.pop(context, None)

    def answered(self, read: ReadReady) -> None:
        """The core knows what a read waited for; a negative index means that it cannot know."""
        event = self._answered.get(read.context)
        if event is not None:
            self._indexes[read.context] = read.index
            event.set()
