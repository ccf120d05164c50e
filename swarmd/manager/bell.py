"""A bell: synchronous code rings it, one task waits for it. Rings that nobody heard yet are one ring."""

from __future__ import annotations

import trio


class Bell:
    """What a subscription's `wake` rings. Unlike an event it can be waited for again and again."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        """Wake the waiter, or let its next wait return at once. Never waits."""
        self._event.set()

    async def wait(self) -> None:
        """Return once it was rung since the last return. `Cancelled` loses no ring."""
        await self._event.wait()
        self._event = trio.Event()
