"""One reign: replicating, committing, confirming reads, handing over. Exists only while its member leads.

Sources: Raft 5.3, 5.4.2 (commit rule); dissertation 3.10 (transfer), 4.2.1 (learners), 6.2 (CheckQuorum), 6.4 (reads).
"""

from __future__ import annotations

from swarmd.errors import FailedPrecondition, Unavailable
from swarmd.raft.log import Log
from swarmd.raft.membership import check_change
from swarmd.raft.outbox import Outbox
from swarmd.raft.progress import Progress, ProgressState
from swarmd.raft.quorum import is_quorum, reached_by_majority
from swarmd.raft.reads import LeaderReads, ReadRequest
from swarmd.raft.types import (
    ChangeKind,
    EntryKind,
    Member,
    MembershipChange,
    Message,
    MessageType,
    ProgressView,
    ReadReady,
    Settings,
    SnapshotMeta,
)


class Leadership:
    """What a leader knows and does in one term.

    Args:
        speaks_at_once: whether the term is known to be durable here; else everything waits for the disk, or a crash
            could let this member lead the same term twice (a sole voter is elected before its disk has answered).
    """

    def __init__(
        self, member_id: int, term: int, settings: Settings, log: Log, outbox: Outbox, *, speaks_at_once: bool
    ) -> None:
        self._member_id = member_id
        self._term = term
        self._settings = settings
        self._log = log
        self._outbox = outbox
        self.speaks_at_once = speaks_at_once
        self.first_index = log.last_index + 1
        self.reads: list[ReadReady] = []
        self.transferee = 0
        self._transfer_ticks = 0
        self._heartbeat_ticks = 0
        self._rounds = LeaderReads()
        self._progress: dict[int, Progress] = {}
        self._followers: tuple[Progress, ...] = ()
        self._voters: tuple[int, ...] = ()
        log.propose(term, EntryKind.NOOP, (b"",))
        self.sync_members()

    # -- what is the case ------------------------------------------------------------------------------------------
    @property
    def has_committed_in_term(self) -> bool:
        """Whether the first entry of the reign is committed."""
        return self._log.commit >= self.first_index

    @property
    def is_over(self) -> bool:
        """Whether this member's own removal is committed."""
        return self._log.committed_configuration.member(self._member_id) is None

    @property
    def has_quorum(self) -> bool:
        """Whether a quorum of voters answered within the last election timeout (each has one from the election on)."""
        limit = self._settings.election_ticks_min
        heard = [p.member_id for p in self._progress.values() if p.ticks_since_heard < limit]
        return is_quorum((self._member_id, *heard), self._voters)

    @property
    def ticks_since_majority(self) -> int:
        """How long ago the majority that was heard last was complete."""
        ticks = [0 if v == self._member_id else self._progress[v].ticks_since_heard for v in self._voters]
        return -reached_by_majority([-t for t in ticks]) if ticks else 0

    @property
    def live(self) -> frozenset[int]:
        """Members that answer at present, itself included: those that a change of membership may count on."""
        answering = (p.member_id for p in self._followers if self._answers(p) and not p.is_rolled_back)
        return frozenset({self._member_id, *answering})

    def views(self) -> tuple[ProgressView, ...]:
        """What is known of every member."""
        return tuple(self._view(self._progress[key]) for key in sorted(self._progress))

    def _view(self, progress: Progress) -> ProgressView:
        return ProgressView(
            member_id=progress.member_id,
            match=progress.match,
            next=progress.next,
            is_active=progress.member_id == self._member_id or self._is_active(progress),
            ticks_since_heard=progress.ticks_since_heard,
            is_snapshotting=progress.state is ProgressState.SNAPSHOT,
            is_rolled_back=progress.is_rolled_back,
        )

    def _is_active(self, progress: Progress) -> bool:
        return progress.has_answered and progress.ticks_since_heard < self._settings.election_ticks_min

    def _answers(self, progress: Progress) -> bool:
        """Stricter than active: a change that needs a member must not count on one that died a moment ago."""
        patience = max(2, self._settings.election_ticks_min // 2)
        return progress.has_answered and not progress.is_lost and progress.ticks_since_heard < patience

    def sync_members(self) -> None:
        """The configuration changed: know its members and nobody else. A new one is first sent the newest entry."""
        configuration = self._log.configuration
        self._voters = configuration.voters
        known = self._progress
        self._progress = {}
        for member in configuration.members:
            fresh = Progress(member.member_id, self._log.last_index, self._settings.appends_in_flight_max)
            self._progress[member.member_id] = known.get(member.member_id, fresh)
        self._followers = tuple(p for p in self._progress.values() if p.member_id != self._member_id)
        if self.transferee and self.transferee not in self._voters:
            self.transferee = 0

    # -- time ------------------------------------------------------------------------------------------------------
    def tick(self) -> None:
        """100 ms passed: heartbeat, give up a transfer, promote a learner."""
        for progress in self._followers:
            progress.ticks_since_heard += 1
            self._note_steadiness(progress)
        if self.transferee:
            self._transfer_ticks += 1
            if self._transfer_ticks >= self._settings.election_ticks_min:
                self.transferee = 0
        self._heartbeat_ticks += 1
        if self._heartbeat_ticks >= self._settings.heartbeat_ticks:
            self.heartbeat()
            self._urge_transferee()
        self._promote_one()

    def _note_steadiness(self, progress: Progress) -> None:
        lag = self._log.last_index - progress.match
        steady = self._answers(progress) and lag <= self._settings.promote_lag_max
        progress.steady_ticks = progress.steady_ticks + 1 if steady else 0

    def heartbeat(self) -> None:
        """Say that this member leads, to everybody; the round's answers confirm waiting reads."""
        self._heartbeat_ticks = 0
        round_ = self._rounds.start_round(self._log.commit if self.has_committed_in_term else None)
        for progress in self._followers:
            commit = min(progress.match, self._log.commit)
            progress.commit_told = max(progress.commit_told, commit)
            self._post(MessageType.HEARTBEAT, progress.member_id, commit=commit, context=round_)
        self._settle_reads()

    def announce_commit(self) -> None:
        """Tell members the commit index, where neither an append nor a heartbeat has."""
        commit = self._log.commit
        for progress in self._followers:
            if progress.commit_told < commit and progress.match >= commit:
                progress.commit_told = commit
                self._post(MessageType.HEARTBEAT, progress.member_id, commit=commit, context=self._rounds.round)

    # -- replication -----------------------------------------------------------------------------------------------
    @property
    def has_to_send(self) -> bool:
        """Whether `flush` would say anything."""
        if self._rounds.wants_round and self.has_committed_in_term:
            return True
        last = self._log.last_index
        return any(p.next <= last and p.may_append for p in self._followers)

    def flush(self) -> None:
        """Send every member what its window allows, and start a round for waiting reads."""
        if self._rounds.wants_round and self.has_committed_in_term:
            self.heartbeat()
        for progress in self._followers:
            while progress.next <= self._log.last_index and progress.may_append:
                if not self._append(progress):
                    break

    def _append(self, progress: Progress) -> bool:
        """Send the next batch (or none, to learn where the member is). False: it needs a snapshot instead."""
        log, settings = self._log, self._settings
        previous = progress.next - 1
        previous_term = log.term_of(previous)
        if previous_term is None:
            self._offer_snapshot(progress)
            return False
        last = previous
        if previous < log.last_index:
            last = log.batch_end(progress.next, settings.append_entries_max, settings.append_bytes_max)
        self._say(
            Message(
                type=MessageType.APPEND,
                source=self._member_id,
                target=progress.member_id,
                term=self._term,
                index=previous,
                log_term=previous_term,
                commit=log.commit,
                entries=log.slice(progress.next, last),
            )
        )
        progress.commit_told = max(progress.commit_told, min(log.commit, last))
        progress.sent(last)
        return True

    def _offer_snapshot(self, progress: Progress) -> None:
        """To a member that answers; one that is away gets it when it is back."""
        snapshot = self._log.snapshot
        if not self._is_active(progress) or not snapshot.index:
            progress.is_paused = True
            progress.state = ProgressState.PROBE
            return
        self._post(MessageType.SNAPSHOT, progress.member_id, snapshot=snapshot)
        progress.await_snapshot(snapshot.index)

    @property
    def snapshots_under_way(self) -> tuple[int, ...]:
        """Indexes of the snapshots that answering members are being sent; entries after these are needed next."""
        pending = [p for p in self._followers if p.state is ProgressState.SNAPSHOT and self._is_active(p)]
        return tuple(p.snapshot_index for p in pending)

    def on_append_reply(self, message: Message) -> None:
        """A member has, or refused, entries."""
        progress = self._progress.get(message.source)
        if progress is None or message.source == self._member_id:
            return
        progress.heard()
        if message.reject:
            self._on_refusal(progress, message)
        elif message.index <= self._log.last_index and not progress.is_rolled_back:
            self._on_match(progress, message.index)

    def _on_refusal(self, progress: Progress, message: Message) -> None:
        hint = message.hint
        if message.hint_term:
            hint = self._log.last_not_above(hint, message.hint_term)
        if progress.state is not ProgressState.SNAPSHOT:
            progress.refused(message.index, hint)

    def _on_match(self, progress: Progress, index: int) -> None:
        if not progress.matched(index, self._rounds.round):
            if progress.state is ProgressState.PROBE and progress.match and progress.match == index:
                progress.replicate()
            return
        caught_up = progress.state is ProgressState.SNAPSHOT and progress.match + 1 >= self._log.first_index
        if progress.state is ProgressState.PROBE or caught_up:
            progress.replicate()
        self.advance_commit()
        if progress.member_id == self.transferee:
            self._urge_transferee()

    def on_heartbeat_reply(self, message: Message) -> None:
        """A member answered a round; if it has not moved since its last answer, an append may be lost."""
        progress = self._progress.get(message.source)
        if progress is None or message.source == self._member_id:
            return
        progress.heard()
        if message.context <= self._rounds.round:
            progress.round = max(progress.round, message.context)
        if progress.match_round < message.context <= self._rounds.round and message.index < progress.match:
            progress.is_rolled_back = True  # it answered after `match` was known, and has less: its disk went back
        progress.is_paused = False
        is_stuck = progress.match == progress.match_at_heartbeat
        progress.match_at_heartbeat = progress.match
        if is_stuck and progress.match < self._log.last_index and not progress.is_rolled_back:
            self._nudge(progress)
        self._settle_reads()

    def _nudge(self, progress: Progress) -> None:
        if progress.state is ProgressState.REPLICATE and not progress.may_append:
            progress.probe(progress.match + 1)  # the window is full and nothing comes back
        if progress.may_append:
            self._append(progress)

    # -- commit ----------------------------------------------------------------------------------------------------
    def persisted(self, index: int, term: int) -> None:
        """This member's own disk has everything up to (`index`, `term`).

        Only entries of this term count: writes are ordered, so whatever such an entry replaced was written before it.
        """
        if term != self._term or self._log.term_of(index) != term:
            return
        self.speaks_at_once = True
        own = self._progress.get(self._member_id)
        if own is not None and own.matched(index, self._rounds.round):
            self.advance_commit()

    def quorum_match(self) -> int:
        """The greatest index that a majority of voters has on disk."""
        progress = self._progress
        return reached_by_majority([progress[voter].match for voter in self._voters])

    def may_commit(self, index: int) -> bool:
        """Raft 5.4.2: an entry of an earlier term is never committed by counting."""
        return self._log.term_of(index) == self._term

    def advance_commit(self) -> None:
        """Commit what a majority has."""
        index = self.quorum_match()
        if index > self._log.commit and self.may_commit(index):
            self._log.commit_to(index)

    # -- reads -----------------------------------------------------------------------------------------------------
    def read_index(self, source: int, context: int) -> None:
        """A read point is asked for, here (`source` is this member) or by a follower."""
        if source != self._member_id and source not in self._progress:
            return
        request = ReadRequest(source, context)
        if not self._rounds.ask(request):
            self._refuse_read(request)

    def abandon_reads(self) -> None:
        """The reign is over: refuse what is unanswered."""
        for request in self._rounds.abandon():
            self._refuse_read(request)

    def _settle_reads(self) -> None:
        rounds = [self._rounds.round if v == self._member_id else self._progress[v].round for v in self._voters]
        for request, index in self._rounds.confirmed(reached_by_majority(rounds)):
            if request.source == self._member_id:
                self.reads.append(ReadReady(request.context, index))
            else:
                term = self._log.term_of(index)
                self._post(
                    MessageType.READ_INDEX_REPLY,
                    request.source,
                    index=index,
                    log_term=term or 0,
                    context=request.context,
                )

    def _refuse_read(self, request: ReadRequest) -> None:
        if request.source == self._member_id:
            self.reads.append(ReadReady(request.context, -1))
        else:
            self._post(MessageType.READ_INDEX_REPLY, request.source, context=request.context, reject=True)

    # -- membership ------------------------------------------------------------------------------------------------
    def propose_change(self, change: MembershipChange, *, force: bool) -> int:
        """Append a change and use it. Returns its index."""
        log = self._log
        if self.transferee:
            raise Unavailable("leadership is being handed over", hint="try again in a moment")
        if not self.has_committed_in_term:
            raise FailedPrecondition(
                "the leader has not committed an entry of its term yet", hint="try again in a moment"
            )
        if log.configuration_index > log.commit:
            raise FailedPrecondition(
                f"another membership change (index {log.configuration_index}) is not committed yet",
                hint="try again in a moment",
            )
        check_change(log.configuration, change, self.live, force=force)
        log.propose_change(self._term, change)
        self.sync_members()
        return log.last_index

    def _promote_one(self) -> None:
        """A learner that keeps up becomes a voter, if that is safe; one change at a time."""
        log = self._log
        if self.transferee or not self.has_committed_in_term or log.configuration_index > log.commit:
            return
        for member in log.configuration.members:
            if not member.is_voter and self._is_ready_to_vote(member):
                try:
                    self.propose_change(MembershipChange(kind=ChangeKind.PROMOTE, member=member), force=False)
                except FailedPrecondition:
                    continue  # not safe now; the next tick looks again
                return

    def _is_ready_to_vote(self, member: Member) -> bool:
        progress = self._progress[member.member_id]
        keeps_up = progress.state is ProgressState.REPLICATE and not progress.is_rolled_back
        return keeps_up and progress.steady_ticks >= self._settings.promote_ticks_min

    # -- handing over ----------------------------------------------------------------------------------------------
    def transfer(self, target: int) -> int:
        """Begin to hand over. Returns to whom."""
        candidates = [self._progress[voter] for voter in self._voters if voter != self._member_id]
        candidates = [
            p for p in candidates if self._is_active(p) and not p.is_rolled_back and target in (0, p.member_id)
        ]
        if not candidates:
            whom = f"member {target} is no voter that answers" if target else "no other voter answers"
            raise FailedPrecondition(f"leadership stays here: {whom}")
        chosen = max(candidates, key=lambda p: (p.match, -p.ticks_since_heard, -p.member_id)).member_id
        if chosen != self.transferee:
            self.transferee, self._transfer_ticks = chosen, 0
            self._urge_transferee()
        return chosen

    def _urge_transferee(self) -> None:
        """Once it has everything, tell it to stand at once (again at each heartbeat: the message may be lost)."""
        if self.transferee and self._progress[self.transferee].match == self._log.last_index:
            self._post(MessageType.TIMEOUT_NOW, self.transferee)

    def bow_out(self) -> None:
        """Own removal is committed: tell the others, and let the best of them stand at once."""
        self.announce_commit()
        heirs = [self._progress[voter] for voter in self._voters if self._is_active(self._progress[voter])]
        if heirs:
            best = max(heirs, key=lambda p: (p.match, -p.member_id))
            self._post(MessageType.TIMEOUT_NOW, best.member_id)

    # -- the caller's news -------------------------------------------------------------------------------------------
    def report_unreachable(self, member_id: int) -> None:
        """Messages were lost: stop pipelining, and do not count on it until it is heard again."""
        progress = self._progress.get(member_id)
        if progress is None:
            return
        progress.is_lost = True
        if progress.state is ProgressState.REPLICATE:
            progress.probe(progress.match + 1)
            progress.is_paused = True  # until it answers again

    def report_snapshot(self, member_id: int, *, delivered: bool) -> None:
        """A transfer ended: go on after it, or from where the member was; either way wait for a sign of life."""
        progress = self._progress.get(member_id)
        if progress is None or progress.state is not ProgressState.SNAPSHOT:
            return
        covered = progress.snapshot_index if delivered else 0
        progress.probe(max(progress.match, covered) + 1)
        progress.is_paused = True

    def _post(
        self,
        type_: MessageType,
        target: int,
        *,
        index: int = 0,
        log_term: int = 0,
        commit: int = 0,
        reject: bool = False,
        context: int = 0,
        snapshot: SnapshotMeta | None = None,
    ) -> None:
        self._say(
            Message(
                type=type_,
                source=self._member_id,
                target=target,
                term=self._term,
                index=index,
                log_term=log_term,
                commit=commit,
                reject=reject,
                context=context,
                snapshot=snapshot,
            )
        )

    def _say(self, message: Message) -> None:
        if self.speaks_at_once:
            self._outbox.post(message)
        else:
            self._outbox.post_durable(message)
