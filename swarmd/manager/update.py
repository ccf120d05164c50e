"""The one way to change the state: `Updates` is the `Update` that every writer is given (see proposer.py)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from swarmd.errors import Conflict, Gone, Invalid, OutcomeUnknown, Unavailable
from swarmd.manager.proposer import UPDATE_TRIES_MAX
from swarmd.manager.raft_driver import RaftDriver
from swarmd.state.command import Command, CommandId, IdempotencyKey, Outcome, Verdict
from swarmd.state.store import State
from swarmd.state.transaction import Transaction

T = TypeVar("T")


class ReplicatedStore:
    """The replicated state as this manager's writers see it: `state` to read and watch, `update` to change.

    Lives as long as the manager. A reign's loops get `of_reign` instead.
    """

    def __init__(
        self, driver: RaftDriver, *, member_id: int, boot_id: bytes, now: Callable[[], float], rng: random.Random
    ) -> None:
        self.state: State = driver.state
        self._driver = driver
        self._member_id = member_id
        self._boot_id = boot_id
        self._now = now
        self._rng = rng
        self._sequence = 0

    @property
    def term(self) -> int:
        """The present term."""
        return self._driver.core.term

    def of_reign(self, term: int) -> ReignStore:
        """The same store for the loops of the reign that began in `term`."""
        return ReignStore(self, term)

    async def update(
        self,
        fn: Callable[[Transaction], T],
        *,
        actor: str,
        fenced: bool = False,
        key: IdempotencyKey | None = None,
    ) -> tuple[T, int]:
        """See `proposer.Update`."""
        return await self.propose(fn, actor=actor, term=self.term if fenced else 0, key=key)

    async def propose(
        self, fn: Callable[[Transaction], T], *, actor: str, term: int, key: IdempotencyKey | None
    ) -> tuple[T, int]:
        """`update`, fenced with `term` (0: not fenced): under any other term nothing is proposed, and nothing applied.

        With a `key`, `fn` should ask `State.known_result` first: a request that already took effect is found by apply
        at the latest, and then `fn` runs once more to say what became of it.
        """
        reason = ""
        was_done_before = False
        for _ in range(UPDATE_TRIES_MAX):
            self._check_leading(term)
            tx = self.state.begin(self._now(), self._rng)
            result = fn(tx)
            if tx.is_empty:
                return result, self.state.index
            outcome = await self._commit(tx.command(self._next_id(), actor=actor, term=term, key=key))
            if outcome.verdict is Verdict.DUPLICATE and not was_done_before:
                # What `fn` decided was not done; an earlier try of the same request was, after `fn` had looked.
                was_done_before = True
            elif outcome.verdict is not Verdict.CONFLICT:
                return result, _accepted(outcome)
            else:
                reason = outcome.reason
        raise Conflict(f"others kept changing the same objects: {reason}", hint="read again and retry")

    def _check_leading(self, term: int) -> None:
        if not self._driver.is_leading or term not in (0, self.term):
            raise Unavailable("this manager does not lead (any more)", hint="try again: the leader is found anew")

    async def _commit(self, command: Command) -> Outcome:
        try:
            return await self._driver.commit(command)
        except OutcomeUnknown:
            # A snapshot may have taken the entry's place in the log; it holds the results of keyed commands.
            found = self.state.find_command(command.id) if command.key is not None else None
            if found is None:
                raise
            return found

    def _next_id(self) -> CommandId:
        self._sequence += 1
        return CommandId(self._member_id, self._boot_id, self._sequence)


class ReignStore:
    """The store as one reign's loops see it: `term` never changes, so what an ended reign still tries is refused."""

    def __init__(self, store: ReplicatedStore, term: int) -> None:
        self.state: State = store.state
        self.term = term
        self._store = store

    async def update(
        self,
        fn: Callable[[Transaction], T],
        *,
        actor: str,
        fenced: bool = False,
        key: IdempotencyKey | None = None,
    ) -> tuple[T, int]:
        """See `proposer.Update`. Every write is of this reign, whether `fenced` is said or not."""
        return await self._store.propose(fn, actor=actor, term=self.term, key=key)


def _accepted(outcome: Outcome) -> int:
    """The index of the entry that did it, or the error that its verdict means."""
    match outcome.verdict:
        case Verdict.APPLIED | Verdict.DUPLICATE:
            return outcome.index
        case Verdict.WRONG_TERM:
            raise Unavailable("leadership changed before the change took effect")
        case Verdict.KEY_MISUSED:
            raise Invalid("this idempotency key was used for another request", hint="make a new key for each request")
        case Verdict.KEY_GONE:
            raise Gone("this idempotency key is too old to say whether its request took effect", hint="look first")
        case _:
            raise AssertionError(outcome)
