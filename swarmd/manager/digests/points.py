"""What this member's state was at agreed indexes: noted as entries are applied, hashed in slices beside it."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import trio

from swarmd.manager.bell import Bell
from swarmd.state.digest import AGREED_EVERY, hash_slices
from swarmd.state.snapshot import Capture
from swarmd.state.store import State
from swarmd.wire.peer import DigestPoint

GRADES: Final = tuple(AGREED_EVERY * 16**power for power in range(4))
"""Points are kept at the newest multiples of each: a member that is a million entries behind another has one that the
other has kept too."""
KEPT_OF_A_GRADE: Final = 16
HASHES_KEPT: Final = 8
POINTS_MAX: Final = len(GRADES) * KEPT_OF_A_GRADE + HASHES_KEPT
"""About 5 KB on the wire."""


def hash_form() -> bytes:
    """What a full hash covers: versions of swarmd that keep other tables or sets get another one (8 bytes)."""
    return sha256("\0".join(label for label, _ in State().capture().parts()).encode()).digest()[:8]


class DigestPoints:
    """One instance per manager. `run` does the hashing; without it only running digests are noted."""

    def __init__(self) -> None:
        self._points: dict[int, DigestPoint] = {}
        self._being_hashed: Capture | None = None
        self._has_work = Bell()
        self._rings: list[Bell] = []

    @property
    def all(self) -> dict[int, DigestPoint]:
        """By index. Another dict after each change."""
        return self._points

    @property
    def newest(self) -> DigestPoint | None:
        """The newest."""
        return self._points[max(self._points)] if self._points else None

    @property
    def newest_hashed(self) -> DigestPoint | None:
        """The newest with a full hash."""
        hashed = [index for index, point in self._points.items() if point.state_hash]
        return self._points[max(hashed)] if hashed else None

    def tell(self, bell: Bell) -> None:
        """Ring this bell after each change from now on."""
        self._rings.append(bell)

    def applied(self, state: State) -> None:
        """`state` has just come to an agreed index. Takes microseconds, and where a full hash is due some more: the
        dicts are copied (2 ms per 100,000 objects), and hashed later. One hash at a time: another is left out."""
        self._keep(DigestPoint(index=state.index, digest=state.digest))
        if state.index % state.hash_every == 0 and self._being_hashed is None:
            self._being_hashed = state.capture()
            self._has_work.ring()

    def forget(self) -> None:
        """The state was replaced by a snapshot: what was noted of the one before is nobody's any more."""
        self._being_hashed = None
        self._points = {}
        self._ring()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hash what is due until cancelled."""
        task_status.started()
        while True:
            await self._has_work.wait()
            capture = self._being_hashed
            if capture is None:
                continue
            state_hash = await _hash(capture)
            if self._being_hashed is capture:  # else its state is gone meanwhile
                self._being_hashed = None
                self._keep(DigestPoint(index=capture.index, digest=capture.digest, state_hash=state_hash))

    def _keep(self, point: DigestPoint) -> None:
        points = {**self._points, point.index: point}
        indexes = sorted(points, reverse=True)
        kept = set([index for index in indexes if points[index].state_hash][:HASHES_KEPT])
        for every in GRADES:
            kept.update([index for index in indexes if index % every == 0][:KEPT_OF_A_GRADE])
        self._points = {index: points[index] for index in sorted(kept)}
        self._ring()

    def _ring(self) -> None:
        for bell in self._rings:
            bell.ring()


async def _hash(capture: Capture) -> bytes:
    steps = hash_slices(capture)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: bytes = end.value
            return value
        await trio.lowlevel.checkpoint()  # each step is about 0.5 ms: heartbeats pass in between
