"""What the product's own comparison of digests would say of the simulated members: in a sound life, nothing."""

from __future__ import annotations

from hashlib import sha256

from swarmd.manager.digests.votes import judge
from swarmd.raft import Configuration
from swarmd.wire.peer import DigestPoint
from tests.simulation.invariants import Violation
from tests.simulation.machine import Machine

EVERY = 8
"""Lives are short."""


class Witness:
    """Notes points as members do, and puts them to the vote at once, as a leader that hears of them without delay."""

    def __init__(self) -> None:
        self._points: dict[int, dict[int, DigestPoint]] = {}

    def forget(self, member_id: int) -> None:
        """Its state is another one: what was noted of the one before is nobody's."""
        self._points.pop(member_id, None)

    def applied(self, member_id: int, machine: Machine, configuration: Configuration) -> None:
        """Objects if anybody's state is not what the others' is."""
        if machine.index % EVERY:
            return
        digest, content = sha256(machine.digest).digest(), machine.content()
        point = DigestPoint(index=machine.index, digest=digest, state_hash=content)
        self._points.setdefault(member_id, {})[point.index] = point
        found = judge(
            configuration, {id: {point.index: p[point.index]} for id, p in self._points.items() if point.index in p}
        )
        if found.diverging or found.undecided_at:
            named = ", ".join(f"{d.member_id} ({d.of})" for d in found.diverging) or f"no side is right: {found.sides}"
            raise Violation(f"states differ at index {point.index}: {named}")
