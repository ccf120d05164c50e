"""A `Store` over the real state with no Raft below it: what `update` decides is applied at the next index at once.

Settings make it slow (`latency_s`), or fail (`failures`, one consumed per update; `lead(False)`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

import trio

from swarmd.errors import Conflict, SwarmError, Unavailable
from swarmd.manager.proposer import UPDATE_TRIES_MAX
from swarmd.model import StoredObject
from swarmd.state.command import Command, CommandId, IdempotencyKey, Verdict, encode_command
from swarmd.state.store import State
from swarmd.state.transaction import Transaction

T = TypeVar("T")

EPOCH = 1_800_000_000.0


class LocalStore:
    """`now()` is `EPOCH` plus Trio's clock, so virtual time moves dates too."""

    def __init__(self, *, state: State | None = None, seed: int = 1, latency_s: float = 0.0) -> None:
        self.state = state if state is not None else State()
        self.term = 1
        self.latency_s = latency_s
        self.failures: list[SwarmError] = []
        self.commands: list[Command] = []
        """Every command that was applied, oldest first."""
        self.rng = random.Random(seed)
        self._is_leading = True
        self._sequence = 0

    def now(self) -> float:
        return EPOCH + trio.current_time()

    def lead(self, is_leading: bool) -> None:
        """Whether updates are accepted."""
        self._is_leading = is_leading

    async def update(
        self,
        fn: Callable[[Transaction], T],
        *,
        actor: str,
        fenced: bool = False,
        key: IdempotencyKey | None = None,
    ) -> tuple[T, int]:
        for _ in range(UPDATE_TRIES_MAX):
            if not self._is_leading:
                raise Unavailable("this manager does not lead")
            tx = self.state.begin(self.now(), self.rng)
            result = fn(tx)
            if tx.is_empty:
                return result, self.state.index
            self._sequence += 1
            command = tx.command(
                CommandId(1, b"b" * 16, self._sequence), actor=actor, term=self.term if fenced else 0, key=key
            )
            if self.latency_s:
                await trio.sleep(self.latency_s)
            else:
                await trio.lowlevel.checkpoint()
            if self.failures:
                raise self.failures.pop(0)
            outcome = self.apply(command)
            if outcome is not Verdict.CONFLICT:
                return result, self.state.index
        raise Conflict("others kept changing the same objects")

    def apply(self, command: Command) -> Verdict:
        """Apply a command at the next index."""
        outcome = self.state.apply(self.state.index + 1, self.term, encode_command(command), command)
        if outcome.verdict is Verdict.APPLIED:
            self.commands.append(command)
        return outcome.verdict

    def write(self, *fns: Callable[[Transaction], object]) -> None:
        """Synchronous: each `fn` is a transaction that must succeed. For a test's set-up and its interventions."""
        for fn in fns:
            tx = self.state.begin(EPOCH, self.rng)
            fn(tx)
            self._sequence += 1
            verdict = self.apply(tx.command(CommandId(1, b"t" * 16, self._sequence), actor="test"))
            assert verdict is Verdict.APPLIED, verdict

    def create(self, *objects: StoredObject) -> None:
        """Store these."""

        def fn(tx: Transaction) -> None:
            for object in objects:
                tx.create(object)

        self.write(fn)
