"""Who waits for which log index, and what became of it (foundations: Leadership lost in flight)."""

from __future__ import annotations

from enum import Enum

import trio

from swarmd.errors import OutcomeUnknown, Unavailable
from swarmd.state.command import Command, Outcome, Verdict


class Fate(Enum):
    """What became of a proposal, as far as this manager knows."""

    UNKNOWN = "unknown"
    COMMITTED = "committed"
    SUPERSEDED = "superseded"
    """Another term's entry was committed at its index: it never happened."""


class Proposal:
    """One proposed entry. `done` is set when nothing more will be learned."""

    __slots__ = ("command", "done", "earlier", "error", "fate", "index", "outcome", "since", "term")

    def __init__(self, command: Command | None) -> None:
        self.command = command
        self.done = trio.Event()
        self.fate = Fate.UNKNOWN
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.index = 0
        self.term = 0
        self.since = trio.current_time()
        """When it was made, or entered the log, on Trio's clock."""
        self.earlier: Proposal | None = None
        """The one that stood at the same index in an earlier term of ours."""

    def settle(self, fate: Fate, outcome: Outcome | None) -> None:
        """The local commit reached its index."""
        self.fate = fate
        self.outcome = outcome
        self.done.set()
        if self.earlier is not None:
            # If ours is the one that was committed, the earlier one was not. Else it may be what was committed instead.
            self.earlier.settle(Fate.SUPERSEDED if fate is Fate.COMMITTED else Fate.UNKNOWN, None)
            self.earlier = None

    def refuse(self, error: BaseException) -> None:
        """It never entered the log."""
        self.error = error
        self.done.set()

    def result(self) -> Outcome:
        """The verdict. Raises `Unavailable` if it surely did not happen, `OutcomeUnknown` if nobody can say."""
        if self.error is not None:
            raise self.error
        if self.fate is Fate.COMMITTED:
            return self.outcome or Outcome(verdict=Verdict.APPLIED, index=self.index)
        if self.fate is Fate.SUPERSEDED:
            raise Unavailable("leadership was lost before the change took effect", hint="try again")
        raise OutcomeUnknown(
            "outcome unknown: the change was proposed, and whether it took effect could not be learned in time",
            hint="look before trying again; a retry with the same idempotency key never acts twice",
        )


class Waiters:
    """Proposals by log index."""

    def __init__(self) -> None:
        self._by_index: dict[int, Proposal] = {}

    def expect(self, proposal: Proposal, index: int, term: int) -> None:
        """`proposal` is the entry (`index`, `term`).

        Whoever waited for that index goes on waiting: our log lost its entry, but another member may still hold it, be
        elected once more and commit it (Raft section 5.4.2, figure 8). Only what is committed at `index` tells.
        """
        proposal.index, proposal.term, proposal.since = index, term, trio.current_time()
        proposal.earlier = self._by_index.pop(index, None)
        self._by_index[index] = proposal  # last, so that the dict stays in order of time

    def pop(self, index: int) -> Proposal | None:
        """Whoever waits for `index`."""
        return self._by_index.pop(index, None)

    def expire(self, before: float) -> None:
        """Those that entered the log before that time are told that their fate is unknown; they may still happen."""
        while self._by_index:
            index = next(iter(self._by_index))
            if self._by_index[index].since >= before:
                return
            self._by_index.pop(index).settle(Fate.UNKNOWN, None)

    def compacted(self, index: int) -> None:
        """A snapshot replaced everything up to `index`: nobody can say any more what was there."""
        for waiting in [i for i in self._by_index if i <= index]:
            self._by_index.pop(waiting).settle(Fate.UNKNOWN, None)

    def abandon(self) -> None:
        """This manager stops: nothing more will be learned here."""
        for proposal in self._by_index.values():
            proposal.settle(Fate.UNKNOWN, None)
        self._by_index.clear()
