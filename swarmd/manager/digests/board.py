"""What the members told their leader about their states, and what is known here of an alarm. Also their door."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from swarmd.errors import Invalid, PermissionDenied, Unavailable
from swarmd.manager.bell import Bell
from swarmd.manager.digests.points import POINTS_MAX, DigestPoints, hash_form
from swarmd.manager.digests.votes import Findings, Points, judge
from swarmd.manager.raft_driver import RaftDriver
from swarmd.transport.connection import Call
from swarmd.wire.peer import DigestPoint, DigestReply, DigestReport

log = logging.getLogger(__name__)

DIGEST_BYTES: Final = 32
ANSWER_S_MAX: Final = 3.0
"""How long a member that differs from another one waits to hear which of them is right."""


class DigestBoard:
    """One instance per manager. What was reported lives as long as the term in which it was.

    Args:
        on_divergence: called once, when the leader says that a quorum holds another state than this member.
    """

    def __init__(self, driver: RaftDriver, points: DigestPoints, *, on_divergence: Callable[[], None]) -> None:
        self._driver = driver
        self._own = points
        self._hash_form = hash_form()
        self._term = 0
        self._reports: dict[int, Points] = {}
        self._found: dict[int, int] = {}
        """Where members were seen to diverge in this term, those that were removed since included."""
        self._reported = trio.Event()
        self._on_divergence = on_divergence
        self.diverges_at = 0
        """Where a quorum holds another state than this member, as its leader said; 0: it said no such thing."""
        self.news = Bell()
        """Rung when there is something new to judge. One waits for it: the reign's `DigestWatch`."""
        self.alarm = ""
        """What is wrong and was not mended; empty: nothing."""
        points.tell(self.news)

    @property
    def own_points(self) -> DigestPoints:
        """This member's."""
        return self._own

    @property
    def alarm_here(self) -> str:
        """The leader's alarm; on a member whose state is wrong, that."""
        if self.diverges_at:
            return f"the state of this manager is not the quorum's, at entry {self.diverges_at} or before"
        return self.alarm

    async def report(self, call: Call, request: DigestReport) -> DigestReply:
        """Handler of `raft.digest`. Raises `Unavailable` on a manager that does not lead."""
        if not self._driver.is_leading:
            raise Unavailable("this manager does not lead", hint="tell the leader")
        node_id = call.caller.identity.node_id if call.caller.identity is not None else ""
        member = self._driver.configuration.member(request.member_id)
        if member is None or member.node_id != node_id:
            raise PermissionDenied(f"node {node_id} is not member {request.member_id:x}")
        self._of_this_term()[request.member_id] = self._checked(request)
        reported, self._reported = self._reported, trio.Event()
        reported.set()
        self.news.ring()
        with trio.move_on_after(ANSWER_S_MAX):
            while self.findings().undecided_at and request.member_id not in self._found:
                await self._reported.wait()
        return DigestReply(diverges_at=self._found.get(request.member_id, 0))

    def heard(self, reply: DigestReply) -> None:
        """What the leader answered to this member's report."""
        if reply.diverges_at and not self.diverges_at:
            log.error(
                "the state here is not the one that a quorum of managers holds, at entry %d or before: "
                "this manager is to be removed, and to join anew",
                reply.diverges_at,
            )
            self._on_divergence()
        self.diverges_at = reply.diverges_at

    def findings(self) -> Findings:
        """What all that is known comes to at this moment; on a manager that does not lead, nothing."""
        if not self._driver.is_leading:
            return Findings()
        reports = {**self._of_this_term(), self._driver.core.member_id: self._own.all}
        findings = judge(self._driver.configuration, reports)
        self._found.update({found.member_id: found.index for found in findings.diverging})
        return findings

    def _of_this_term(self) -> dict[int, Points]:
        """A member may have restored a snapshot since it told an earlier leader: what it told is not kept."""
        if self._term != self._driver.core.term:
            self._term, self._reports = self._driver.core.term, {}
            self._found = {}
        return self._reports

    def _checked(self, request: DigestReport) -> dict[int, DigestPoint]:
        if len(request.points) > POINTS_MAX:
            raise Invalid(f"{len(request.points)} points; the limit is {POINTS_MAX}", field="$.points")
        if any(len(p.digest) != DIGEST_BYTES or len(p.state_hash) not in (0, DIGEST_BYTES) for p in request.points):
            raise Invalid(f"a digest has {DIGEST_BYTES} bytes", field="$.points")
        if request.hash_form == self._hash_form:
            return {point.index: point for point in request.points}
        return {point.index: DigestPoint(index=point.index, digest=point.digest) for point in request.points}
