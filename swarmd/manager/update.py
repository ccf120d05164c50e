"""The one way to change the state: `Updates` is the `Update` that every writer is given (see proposer.py)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from swarmd.errors import Conflict, Gone, Invalid, Unavailable
from swarmd.manager.proposer import UPDATE_TRIES_MAX
from swarmd.manager.raft_driver import RaftDriver
from swarmd.state.command import CommandId, IdempotencyKey, Outcome, Verdict
from swarmd.state.store import State

T = TypeVar("T")


class ReplicatedStore:
    """The replicated state as this manager's writers see it: `state` to read and watch, `update` to change."""

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

    async def update(
        self,
        fn: Callable[..., T],
        *,
        actor: str,
        fenced: bool = False,
        key: IdempotencyKey | None = None,
    ) -> tuple[T, int]:
        """See `proposer.Update`."""
        reason = ""
        for _ in range(UPDATE_TRIES_MAX):
            if not self._driver.is_leading:
                raise Unavailable("this manager does not lead", hint="try again: the leader is found anew")
            tx = self.state.begin(self._now(), self._rng)
            result = fn(tx)
            if tx.is_empty:
                return result, self.state.index
            command = tx.command(self._next_id(), actor=actor, term=self.term if fenced else 0, key=key)
            outcome = await self._driver.commit(command)
            if outcome.verdict is not Verdict.CONFLICT:
                return result, _accepted(outcome)
            reason = outcome.reason
        raise Conflict(f"others kept changing the same objects: {reason}", hint="read again and retry")

    def _next_id(self) -> CommandId:
        self._sequence += 1
        return CommandId(self._member_id, self._boot_id, self._sequence)


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
