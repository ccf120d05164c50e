"""A member's place in the present term: role, vote, timer, and the elections that change them.

Sources: Raft 5.1, 5.2, 5.4.1; dissertation 4.2.3 (leases against disturbance), 9.6 (PreVote), 3.10 (transfer).
"""

from __future__ import annotations

import random
from typing import Final

from swarmd.errors import Unavailable
from swarmd.raft.leadership import Leadership
from swarmd.raft.log import Log
from swarmd.raft.outbox import Outbox
from swarmd.raft.quorum import PollResult, count_votes
from swarmd.raft.reads import FollowerReads
from swarmd.raft.types import HardState, Message, MessageType, RaftRole, ReadReady, Settings

TRANSFER: Final = 1
"""`Message.context` of a VOTE that a leader asked for: leases do not hold it up."""
CROSSING_TICKS_MAX: Final = 1
"""Questions of two members cross for as long as one of them travels, which is far less than two ticks."""


class Standing:
    """What `RaftCore` builds on: who leads, whom this member voted for, and when it stands itself."""

    def __init__(self, member_id: int, settings: Settings, rng: random.Random, log: Log, hard_state: HardState) -> None:
        self.member_id = member_id
        self.role = RaftRole.FOLLOWER
        self.leader = 0
        self.term = max(hard_state.term, log.last_term)
        self._voted_for = hard_state.voted_for if self.term == hard_state.term else 0
        self._settings = settings
        self._rng = rng
        self._log = log
        self._outbox = Outbox(member_id)
        self._leadership: Leadership | None = None
        self._votes: dict[int, bool] = {}
        self._is_transfer = False
        self._asked = FollowerReads(rng)
        self._reads: list[ReadReady] = []
        self._restart_timer()

    # -- roles -------------------------------------------------------------------------------------------------
    @property
    def _may_stand(self) -> bool:
        """Whether it votes now, or did before a removal that is not committed: it may be the only one that holds that
        entry, and then nobody else can win (dissertation 4.2.2). It does not count its own vote for that."""
        member = self._log.configuration.member(self.member_id)
        if member is None:
            member = self._log.committed_configuration.member(self.member_id)
        return member is not None and member.is_voter

    @property
    def _is_sole_voter(self) -> bool:
        return self._log.configuration.voters == (self.member_id,)

    @property
    def _holds_lease(self) -> bool:
        """Whether a leader is known to be well: then nobody may disturb it (dissertation 4.2.3)."""
        if self._leadership is not None:
            return True
        return self.leader != 0 and self._elapsed_ticks < self._settings.election_ticks_min

    def _restart_timer(self) -> None:
        shortest = self._settings.election_ticks_min
        self._elapsed_ticks = 0
        self._timeout_ticks = self._rng.randint(shortest, 2 * shortest - 1)

    def _leading(self) -> Leadership:
        if self._leadership is None:
            raise Unavailable("this manager does not lead", hint="ask the leader")
        return self._leadership

    def _become_follower(self, term: int, leader: int) -> None:
        if self._leadership is not None:
            self._leadership.abandon_reads()
            self._reads += self._leadership.reads
            self._leadership = None
        if leader != self.leader or term > self.term:
            self._reads += self._asked.abandon()
        if term > self.term:
            self.term, self._voted_for = term, 0
        self.role, self.leader = RaftRole.FOLLOWER, leader
        self._votes.clear()
        self._restart_timer()

    def _become_leader(self, *, is_elected_by_others: bool) -> None:
        self._reads += self._asked.abandon()
        self.role, self.leader = RaftRole.LEADER, self.member_id
        self._votes.clear()
        self._leadership = Leadership(
            self.member_id,
            self.term,
            self._settings,
            self._log,
            self._outbox,
            speaks_at_once=is_elected_by_others,  # their votes were asked for after our term was durable
        )

    def _check_reign(self) -> None:
        """A leader whose own removal is committed bows out."""
        if self._leadership is not None and self._leadership.is_over:
            self._leadership.bow_out()
            self._become_follower(self.term, 0)

    # -- elections ---------------------------------------------------------------------------------------------
    def _stand(self, role: RaftRole, *, is_transfer: bool = False) -> None:
        """Ask for pre-votes or votes, and win at once where nobody else votes."""
        self._become_follower(self.term, 0)
        self.role, self._is_transfer = role, is_transfer
        if role is RaftRole.CANDIDATE:
            self.term, self._voted_for = self.term + 1, self.member_id
        self._votes = {self.member_id: True}
        if self._count(is_alone=True):
            return
        for voter in self._log.configuration.voters:
            if voter != self.member_id:
                self._ask_for_vote(voter)

    def _ask_for_vote(self, voter: int) -> None:
        log = self._log
        is_real = self.role is RaftRole.CANDIDATE
        request = Message(
            type=MessageType.VOTE if is_real else MessageType.PRE_VOTE,
            source=self.member_id,
            target=voter,
            term=self.term if is_real else self.term + 1,
            index=log.last_index,
            log_term=log.last_term,
            context=TRANSFER if self._is_transfer and is_real else 0,
        )
        if is_real:
            self._outbox.post_durable(request)  # our vote for ourselves must outlive a crash
        else:
            self._outbox.post(request)

    def _count(self, *, is_alone: bool = False) -> bool:
        """Act on the votes so far. Returns whether the poll is over."""
        result = count_votes(self._votes, self._log.configuration.voters)
        if result is PollResult.LOST:
            self._become_follower(self.term, 0)
        elif result is PollResult.WON and self.role is RaftRole.PRE_CANDIDATE:
            self._stand(RaftRole.CANDIDATE)
        elif result is PollResult.WON:
            self._become_leader(is_elected_by_others=not is_alone)
        return result is not PollResult.PENDING

    def _on_vote_request(self, message: Message) -> None:
        is_pre = message.type is MessageType.PRE_VOTE
        if is_pre:
            is_free = message.term > self.term
        else:
            is_free = self._voted_for == message.source or (self._voted_for == 0 and self.leader == 0)
        is_granted = is_free and self._is_current(message)
        if is_granted and is_pre and self._has_just_asked(message.source):
            is_granted = self._gives_way_to(message)
        if is_granted and not is_pre:
            self._become_follower(self.term, 0)
            self._voted_for = message.source
        self._answer_vote(message, is_granted=is_granted)

    def _has_just_asked(self, voter: int) -> bool:
        """Whether this member stands, and its own question to `voter` may be on the way still. One that is older was
        ignored or lost, and then who asks now must not be held up."""
        is_asking = self.role is RaftRole.PRE_CANDIDATE and voter not in self._votes
        return is_asking and self._elapsed_ticks <= CROSSING_TICKS_MAX

    def _gives_way_to(self, rival: Message) -> bool:
        """Two stand at once: the better log goes first, of equal ones the higher id, and the other waits again. Else
        both would stand for the same term and half of the votes go to each. Pre-votes may always be withheld: this
        costs no safety."""
        log = self._log
        rank = (rival.log_term, rival.index, rival.source)
        if rank < (log.last_term, log.last_index, self.member_id):
            return False
        self._become_follower(self.term, 0)
        return True

    def _is_current(self, message: Message) -> bool:
        """Raft 5.4.1: no vote for a candidate whose log is behind."""
        return self._log.is_current(message.index, message.log_term)

    def _answer_vote(self, message: Message, *, is_granted: bool) -> None:
        is_pre = message.type is MessageType.PRE_VOTE
        reply = Message(
            type=MessageType.PRE_VOTE_REPLY if is_pre else MessageType.VOTE_REPLY,
            source=self.member_id,
            target=message.source,
            term=message.term if is_granted else self.term,
            reject=not is_granted,
        )
        if is_granted and not is_pre:
            self._outbox.post_durable(reply)
        else:
            self._outbox.post(reply)

    def _on_vote_reply(self, message: Message) -> None:
        is_pre = message.type is MessageType.PRE_VOTE_REPLY
        if self.role is not (RaftRole.PRE_CANDIDATE if is_pre else RaftRole.CANDIDATE):
            return
        if is_pre and not message.reject and message.term != self.term + 1:
            return  # an answer to an earlier question
        self._votes.setdefault(message.source, not message.reject)
        self._count()

    def _on_timeout_now(self, message: Message) -> None:
        if message.source == self.leader and self.role is RaftRole.FOLLOWER and self._may_stand:
            self._stand(RaftRole.CANDIDATE, is_transfer=True)

    def _send(
        self,
        type_: MessageType,
        target: int,
        *,
        index: int = 0,
        reject: bool = False,
        hint: int = 0,
        hint_term: int = 0,
        context: int = 0,
    ) -> None:
        self._outbox.post(
            Message(
                type=type_,
                source=self.member_id,
                target=target,
                term=self.term,
                index=index,
                reject=reject,
                hint=hint,
                hint_term=hint_term,
                context=context,
            )
        )
