"""Linearizable reads without the log (dissertation 6.4): a commit index, confirmed by a round of heartbeats.

Requests that arrive together share a round, and at most one round that exists only for reads is under way; whatever
comes meanwhile shares the next.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final

import msgspec

from swarmd.raft.types import ReadReady

READS_WAITING_MAX: Final = 65_536
"""Requests (not bytes) that wait for a round; further ones are refused."""


class ReadRequest(msgspec.Struct, frozen=True, gc=False):
    """Who asked, under which name of its own."""

    source: int
    context: int


class LeaderReads:
    """The rounds of one reign."""

    def __init__(self) -> None:
        self.round = 0
        self._waiting: list[ReadRequest] = []
        self._confirming: deque[tuple[int, int, list[ReadRequest]]] = deque()  # round, index, requests

    def ask(self, request: ReadRequest) -> bool:
        """Queue a request; False if too many wait."""
        if len(self._waiting) >= READS_WAITING_MAX:
            return False
        self._waiting.append(request)
        return True

    @property
    def wants_round(self) -> bool:
        """Whether requests wait and no round of theirs is under way."""
        return bool(self._waiting) and not self._confirming

    def start_round(self, commit: int | None) -> int:
        """Begin a round, taking along what waits. `commit` is None before an entry of this term is committed: then the
        commit index may be behind what an earlier leader acknowledged, and requests wait on."""
        self.round += 1
        if self._waiting and commit is not None:
            self._confirming.append((self.round, commit, self._waiting))
            self._waiting = []
        return self.round

    def confirmed(self, round_: int) -> list[tuple[ReadRequest, int]]:
        """A quorum answered `round_`: the requests that this settles, with their read index."""
        settled: list[tuple[ReadRequest, int]] = []
        while self._confirming and self._confirming[0][0] <= round_:
            _, index, requests = self._confirming.popleft()
            settled += [(request, index) for request in requests]
        return settled

    def abandon(self) -> list[ReadRequest]:
        """Everything unanswered: the reign is over."""
        unanswered = [request for _, _, requests in self._confirming for request in requests] + self._waiting
        self._confirming.clear()
        self._waiting = []
        return unanswered


class FollowerReads:
    """What this member asked its leader. A batch's name starts at a random number, so that an answer to an earlier
    life of this process is never taken for one to this."""

    def __init__(self, rng: random.Random) -> None:
        self._batch = rng.getrandbits(61)
        self._waiting: list[int] = []
        self._asked: dict[int, tuple[list[int], int]] = {}  # batch -> contexts, age in ticks
        self._count = 0

    def ask(self, context: int) -> bool:
        """Queue a request for the next batch; False if too many wait."""
        if self._count >= READS_WAITING_MAX:
            return False
        self._waiting.append(context)
        self._count += 1
        return True

    @property
    def wants_batch(self) -> bool:
        """Whether requests wait to be sent."""
        return bool(self._waiting)

    def start_batch(self) -> int:
        """Name what waits, to be sent as one request."""
        self._batch += 1
        self._asked[self._batch] = (self._waiting, 0)
        self._waiting = []
        return self._batch

    def answered(self, batch: int, index: int) -> list[ReadReady]:
        """The leader answered `batch` (`index` < 0: refused)."""
        contexts, _ = self._asked.pop(batch, ([], 0))
        self._count -= len(contexts)
        return [ReadReady(context, index) for context in contexts]

    def tick(self, ticks_max: int) -> list[ReadReady]:
        """100 ms passed; refuse batches unanswered for `ticks_max` (the request or its answer was lost)."""
        refused: list[ReadReady] = []
        for batch, (contexts, age) in list(self._asked.items()):
            if age + 1 >= ticks_max:
                refused += self.answered(batch, -1)
            else:
                self._asked[batch] = (contexts, age + 1)
        return refused

    def abandon(self) -> list[ReadReady]:
        """Refuse everything: the leader changed."""
        contexts = [context for asked, _ in self._asked.values() for context in asked] + self._waiting
        self._asked.clear()
        self._waiting = []
        self._count = 0
        return [ReadReady(context, -1) for context in contexts]
