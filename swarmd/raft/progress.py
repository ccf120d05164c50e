"""What a leader knows of one member's log, and how fast it may talk to it.

PROBE: one append, then wait for the answer. REPLICATE: appends are pipelined up to a window. SNAPSHOT: entries the
member needs are compacted; nothing is appended until the snapshot's transfer has ended. Source: etcd-io/raft design.md.
"""

from __future__ import annotations

from collections import deque
from enum import Enum


class ProgressState(Enum):
    """How a leader talks to a member."""

    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


class Progress:
    """One member, as its leader sees it."""

    __slots__ = (
        "commit_told",
        "has_answered",
        "in_flight",
        "in_flight_max",
        "is_lost",
        "is_paused",
        "is_rolled_back",
        "match",
        "match_at_heartbeat",
        "match_round",
        "member_id",
        "next",
        "round",
        "snapshot_index",
        "state",
        "steady_ticks",
        "ticks_since_heard",
    )

    def __init__(self, member_id: int, next_index: int, in_flight_max: int) -> None:
        self.member_id = member_id
        self.state = ProgressState.PROBE
        self.match = 0
        self.next = next_index
        self.in_flight: deque[int] = deque()  # last index of each append not yet answered
        self.in_flight_max = in_flight_max
        self.is_paused = False  # PROBE: an append is out
        self.snapshot_index = 0
        self.ticks_since_heard = 0  # a new leader gives everybody one election timeout
        self.has_answered = False
        self.is_lost = False  # what was sent to it was lost, and nothing has been heard since
        self.steady_ticks = 0  # ticks in a row of answering with a short lag
        self.commit_told = 0
        self.round = 0  # the newest heartbeat round it answered
        self.match_round = 0  # the round under way when `match` last moved
        self.match_at_heartbeat = -1
        self.is_rolled_back = False

    @property
    def may_append(self) -> bool:
        """Whether another append may be sent now."""
        if self.is_rolled_back or self.state is ProgressState.SNAPSHOT:
            return False
        if self.state is ProgressState.PROBE:
            return not self.is_paused
        return len(self.in_flight) < self.in_flight_max

    def heard(self) -> None:
        """It answered."""
        self.ticks_since_heard = 0
        self.has_answered = True
        self.is_lost = False

    def sent(self, last_index: int) -> None:
        """An append whose last entry is `last_index` left."""
        if self.state is ProgressState.PROBE:
            self.is_paused = True
        elif last_index >= self.next:
            self.in_flight.append(last_index)
            self.next = last_index + 1

    def matched(self, index: int, round_: int) -> bool:
        """It has everything up to `index`. Returns whether that is news."""
        while self.in_flight and self.in_flight[0] <= index:
            self.in_flight.popleft()
        self.is_paused = False
        self.next = max(self.next, index + 1)
        if index <= self.match:
            return False
        self.match, self.match_round = index, round_
        return True

    def refused(self, index: int, try_next: int) -> bool:
        """It refused an append after `index`, and suggests that `try_next` may match. False: an old answer."""
        if self.state is ProgressState.REPLICATE:
            if index <= self.match:
                return False
            self.probe(self.match + 1)
            return True
        if self.next - 1 != index:
            return False
        self.next = max(min(index, try_next + 1), self.match + 1)
        self.is_paused = False
        return True

    def probe(self, next_index: int) -> None:
        """Find out where it is before pipelining."""
        self.state, self.next = ProgressState.PROBE, next_index
        self.is_paused = False
        self.snapshot_index = 0
        self.in_flight.clear()

    def replicate(self) -> None:
        """It follows: pipeline."""
        self.state, self.next = ProgressState.REPLICATE, self.match + 1
        self.is_paused = False
        self.snapshot_index = 0
        self.in_flight.clear()

    def await_snapshot(self, index: int) -> None:
        """A snapshot up to `index` is on its way."""
        self.state, self.snapshot_index = ProgressState.SNAPSHOT, index
        self.in_flight.clear()
