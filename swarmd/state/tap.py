"""Whoever wants to know of every entry, also of those that changed nothing: the audit trail."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from swarmd.state.command import Command, Outcome
from swarmd.state.history import Change


class Tap(Protocol):
    """Called on the way of every write: must be cheap, and must not raise."""

    def applied(
        self, index: int, command: Command, outcome: Outcome, changes: Collection[Change], body_bytes: int
    ) -> None:
        """Entry `index` was judged; `changes` is what it did, nothing if it was refused."""

    def restored(self, before: int, index: int) -> None:
        """The state was at `before` and is at `index` now, by a snapshot."""
