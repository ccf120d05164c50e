"""`update(fn)`: run `fn` on a transaction, propose it, wait for its fate. What every writer of the state uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from swarmd.state.command import IdempotencyKey
from swarmd.state.store import State
from swarmd.state.transaction import Transaction

T = TypeVar("T")
UPDATE_TRIES_MAX = 5


class Update(Protocol):
    """A committed transaction, or an error."""

    async def __call__(
        self,
        fn: Callable[[Transaction], T],
        *,
        actor: str,
        fenced: bool = False,
        key: IdempotencyKey | None = None,
    ) -> tuple[T, int]:
        """Run `fn` on a fresh transaction, propose it, return (its result, index of the entry).

        `fn` is synchronous, may run up to 5 times (`Conflict` goes to the caller then), and is never re-run once the
        outcome is unknown (`OutcomeUnknown`). An empty transaction proposes nothing (index = the state's).
        `fenced` ties the command to the present term: what leader loops use. Raises `Unavailable` if not leading.
        `Cancelled` leaves the outcome unknown.
        """
        ...


class Store(Protocol):
    """What a leader's loop is given: the state to read and watch, and the one way to change it."""

    @property
    def state(self) -> State:
        """The live state; a read of it must not survive an `await`."""
        ...

    @property
    def term(self) -> int:
        """The present term."""
        ...

    @property
    def update(self) -> Update:
        """The way to change it."""
        ...
