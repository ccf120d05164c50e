"""What a caller holds while a batch that contains its change is on its way."""

from __future__ import annotations

import copy

import trio

from swarmd.errors import SwarmError


class Receipt:
    """Settled once: the change is committed, or why not."""

    __slots__ = ("_error", "_settled")

    def __init__(self) -> None:
        self._settled = trio.Event()
        self._error: SwarmError | None = None

    def settle(self, error: SwarmError | None = None) -> None:
        """The fate is known. Later calls change nothing."""
        if not self._settled.is_set():
            self._error = error
            self._settled.set()

    async def wait(self) -> None:
        """Return once it is committed; raise the error otherwise. `Cancelled`: it may still be committed."""
        await self._settled.wait()
        if self._error is not None:
            # One error may be told to many callers; each raises its own, or their tracebacks would pile up on it.
            raise copy.copy(self._error) from self._error
