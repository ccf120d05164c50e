"""A replicated log without Raft: three managers' states, one order of entries, leaders that come and go.

What Raft promises is kept and no more: an entry is applied everywhere or nowhere; a leader that is deposed does not
know what became of what it had in flight; each reign begins with all that was committed.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, TypeVar

import trio

from swarmd.errors import Conflict, OutcomeUnknown, Unavailable
from swarmd.manager.proposer import UPDATE_TRIES_MAX
from swarmd.state.command import Command, CommandId, IdempotencyKey, Outcome, Verdict, encode_command
from swarmd.state.store import State
from swarmd.state.transaction import Transaction

T = TypeVar("T")

EPOCH: Final = 1_800_000_000.0
MANAGERS: Final = 3
BATCH_MAX: Final = 16
"""Entries that become durable together."""


class _Proposal:
    __slots__ = ("command", "outcome", "settled", "term")

    def __init__(self, command: Command, term: int) -> None:
        self.command = command
        self.term = term
        self.outcome: Outcome | None = None
        self.settled = trio.Event()


class Log:
    """The entries, the managers' states, and who leads.

    Args:
        skew_s: how far the managers' clocks are apart at most.
        check: called after each entry with the leader's state.
    """

    def __init__(self, rng: random.Random, lived: Counter[str], *, skew_s: float, latency_s: float) -> None:
        self.states = [State() for _ in range(MANAGERS)]
        self.rng = rng
        self.lived = lived
        self.term = 1
        self.leader = 0
        self.check: Callable[[State], None] = lambda _: None
        self._clocks = [rng.uniform(-skew_s, skew_s) for _ in range(MANAGERS)]
        self._latency_s = latency_s
        self._pending: deque[_Proposal] = deque()
        self._arrived = trio.Event()
        self._sequence = 0

    @property
    def state(self) -> State:
        """The leader's."""
        return self.states[self.leader]

    def now(self) -> float:
        """The leader's clock."""
        return EPOCH + trio.current_time() + self._clocks[self.leader]

    async def run(self) -> None:
        """Make entries durable, batch by batch, until cancelled."""
        while True:
            while not self._pending:
                self._arrived = trio.Event()
                await self._arrived.wait()
            await trio.sleep(self.rng.uniform(0.2, 1.8) * self._latency_s)
            for _ in range(min(len(self._pending), BATCH_MAX)):
                self._commit(self._pending.popleft())

    def depose(self) -> None:
        """Another term: of what is in flight a prefix is committed, the rest is lost."""
        for _ in range(self.rng.randint(0, len(self._pending))):
            self._commit(self._pending.popleft())
        self.lived["entries lost"] += len(self._pending)
        while self._pending:
            self._pending.popleft().settled.set()
        self.term += 1
        self.leader = self.rng.randrange(MANAGERS)
        self.lived["leader changes"] += 1

    def store(self) -> LogStore:
        """The store of the present reign, or of anyone who asks the present leader."""
        return LogStore(self, self.term)

    async def commit(self, command: Command) -> Outcome:
        """Raises `OutcomeUnknown` if the leader was deposed meanwhile."""
        proposal = _Proposal(command, self.term)
        self._pending.append(proposal)
        self._arrived.set()
        await proposal.settled.wait()
        if proposal.outcome is None:
            raise OutcomeUnknown("the leader was deposed before the change was committed")
        return proposal.outcome

    def next_id(self) -> CommandId:
        """A command's."""
        self._sequence += 1
        return CommandId(1, b"p" * 16, self._sequence)

    def _commit(self, proposal: _Proposal) -> None:
        body = encode_command(proposal.command)
        outcomes = [
            state.apply(state.index + 1, proposal.term, body, proposal.command if number == self.leader else None)
            for number, state in enumerate(self.states)
        ]
        proposal.outcome = outcomes[self.leader]
        proposal.settled.set()
        self.lived[f"entries {outcomes[0].verdict.name.lower()}"] += 1
        self.check(self.state)

    def check_replicas(self) -> None:
        """All managers hold the same."""
        assert len({state.digest for state in self.states}) == 1, "the managers' digests differ"
        assert len({state.state_hash() for state in self.states}) == 1, "the managers' states differ"


class LogStore:
    """What a reign's loops are given. Once its term is over it refuses everything."""

    def __init__(self, log: Log, term: int) -> None:
        self.state = log.state
        self.term = term
        self._log = log

    async def update(
        self, fn: Callable[[Transaction], T], *, actor: str, fenced: bool = False, key: IdempotencyKey | None = None
    ) -> tuple[T, int]:
        """See `manager.proposer.Update`."""
        log = self._log
        reason = ""
        for _ in range(UPDATE_TRIES_MAX):
            if log.term != self.term:
                raise Unavailable("this manager does not lead any more")
            tx = self.state.begin(log.now(), log.rng)
            result = fn(tx)
            if tx.is_empty:
                return result, self.state.index
            command = tx.command(log.next_id(), actor=actor, term=self.term if fenced else 0, key=key)
            outcome = await log.commit(command)
            if outcome.verdict is Verdict.APPLIED:
                return result, outcome.index
            if outcome.verdict is not Verdict.CONFLICT:
                raise Unavailable(f"refused: {outcome.verdict.name}")
            reason = outcome.reason
        raise Conflict(f"others kept changing the same objects: {reason}")
