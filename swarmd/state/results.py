"""What was done under which idempotency key, so that a client's retry never acts twice.

Evicted by count in order of entries, never by clock, so that replicas agree. `horizon` is the entry of the newest
result that was evicted: a key whose first try came later has a result here or has none at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from swarmd.state.command import Command, CommandId, IdempotencyKey, Outcome, Verdict

RESULTS_MAX: Final = 65_536


class Result(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One applied command that carried a key."""

    key: bytes
    request_sha256: bytes
    actor: str
    index: int
    object_id: str
    command_id: tuple[int, bytes, int]


class Results:
    """The recent results, oldest first.

    Args:
        results, horizon: what a snapshot held.
    """

    def __init__(self, results: Iterable[Result] = (), horizon: int = 0, *, results_max: int = RESULTS_MAX) -> None:
        self._by_key = {result.key: result for result in results}
        self._order = deque(self._by_key)
        self._results_max = results_max
        self.horizon = horizon

    def __len__(self) -> int:
        return len(self._by_key)

    def copy(self) -> tuple[Result, ...]:
        """All of them, oldest first."""
        return tuple(self._by_key.values())

    def judge(self, key: IdempotencyKey, actor: str, index: int) -> Outcome | None:
        """Why a command with `key` must not act, seen from entry `index`; None: it may."""
        result = self._by_key.get(key.key)
        if result is None:
            if key.seen_index >= self.horizon:
                return None
            reason = f"the request was first tried at {key.seen_index}; results are kept from {self.horizon} on"
            return Outcome(verdict=Verdict.KEY_GONE, index=index, reason=reason)
        if result.request_sha256 != key.request_sha256 or result.actor != actor:
            reason = "the idempotency key belongs to another request"
            return Outcome(verdict=Verdict.KEY_MISUSED, index=index, reason=reason)
        return Outcome(verdict=Verdict.DUPLICATE, index=result.index, object_id=result.object_id)

    def remember(self, command: Command, outcome: Outcome) -> None:
        """`command` was applied; if it has a key, keep the result and evict the oldest beyond the limit."""
        if command.key is None:
            return
        key, id = command.key, command.id
        self._by_key[key.key] = Result(
            key=key.key,
            request_sha256=key.request_sha256,
            actor=command.actor,
            index=outcome.index,
            object_id=outcome.object_id,
            command_id=(id.member_id, id.boot_id, id.sequence),
        )
        self._order.append(key.key)
        if len(self._order) > self._results_max:
            self.horizon = self._by_key.pop(self._order.popleft()).index

    def find(self, id: CommandId) -> Outcome | None:
        """What became of a keyed command, by the proposer's own id; None if it is not remembered. Walks the table."""
        wanted = (id.member_id, id.boot_id, id.sequence)
        for result in self._by_key.values():
            if result.command_id == wanted:
                return Outcome(verdict=Verdict.APPLIED, index=result.index, object_id=result.object_id)
        return None
