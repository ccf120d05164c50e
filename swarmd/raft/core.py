"""Consensus as a function: messages, ticks and proposals in, `Ready` out. See DESIGN.md."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from swarmd.errors import ResourceExhausted, Unavailable
from swarmd.raft.gate import FROM_LEADER, REPLIES, changes_in, is_well_formed
from swarmd.raft.log import Log
from swarmd.raft.standing import TRANSFER, Standing
from swarmd.raft.types import (
    Configuration,
    Entry,
    EntryKind,
    HardState,
    MembershipChange,
    Message,
    MessageType,
    ProgressView,
    RaftRole,
    ReadReady,
    Ready,
    Settings,
    SnapshotMeta,
)

_NEW_DISK: Final = HardState()
_NO_SNAPSHOT: Final = SnapshotMeta()


class RaftCore(Standing):
    """One member's part in the agreement.

    Args:
        member_id: own id.
        settings: ticks and limits.
        hard_state, snapshot, entries: what storage had; `entries` follow `snapshot.index` (or an older kept entry)
            without a gap. Raises `Invalid` if a membership change among them cannot be read.
        rng: dice for election timeouts.
    """

    def __init__(
        self,
        member_id: int,
        settings: Settings,
        rng: random.Random,
        *,
        hard_state: HardState = _NEW_DISK,
        snapshot: SnapshotMeta = _NO_SNAPSHOT,
        entries: Sequence[Entry] = (),
    ) -> None:
        super().__init__(member_id, settings, rng, Log(snapshot, entries, hard_state.commit), hard_state)
        self._installed: SnapshotMeta | None = None
        self._applied = snapshot.index
        self._saved = (self.term, self._voted_for)
        self._saved_commit = hard_state.commit
        self._told: tuple[RaftRole, int, int] | None = None
        self._handlers: dict[MessageType, Callable[[Message], None]] = {
            MessageType.PRE_VOTE: self._on_vote_request,
            MessageType.PRE_VOTE_REPLY: self._on_vote_reply,
            MessageType.VOTE: self._on_vote_request,
            MessageType.VOTE_REPLY: self._on_vote_reply,
            MessageType.APPEND: self._on_append,
            MessageType.APPEND_REPLY: self._on_append_reply,
            MessageType.HEARTBEAT: self._on_heartbeat,
            MessageType.HEARTBEAT_REPLY: self._on_heartbeat_reply,
            MessageType.SNAPSHOT: self._on_snapshot,
            MessageType.TIMEOUT_NOW: self._on_timeout_now,
            MessageType.READ_INDEX: self._on_read_index,
            MessageType.READ_INDEX_REPLY: self._on_read_index_reply,
        }

    # -- what is the case -------------------------------------------------------------------------------------
    @property
    def commit(self) -> int:
        """The greatest index known to be committed."""
        return self._log.commit

    @property
    def last_index(self) -> int:
        """Index of the newest entry (or of the snapshot, if nothing follows it)."""
        return self._log.last_index

    @property
    def first_index(self) -> int:
        """Index of the oldest entry that is still here."""
        return self._log.first_index

    @property
    def snapshot(self) -> SnapshotMeta:
        """The newest snapshot, made here or installed."""
        return self._log.snapshot

    @property
    def configuration(self) -> Configuration:
        """The latest in the log (used from the moment it is appended; undone if the log is overwritten)."""
        return self._log.configuration

    @property
    def committed_configuration(self) -> Configuration:
        """The latest that is known to be committed, and so not undone any more."""
        return self._log.committed_configuration

    @property
    def is_leader(self) -> bool:
        """Whether this member leads its term (it may not know yet that another term began)."""
        return self._leadership is not None

    @property
    def has_committed_in_term(self) -> bool:
        """Leader only: whether an entry of its own term is committed, so reads and membership changes may start."""
        return self._leadership is not None and self._leadership.has_committed_in_term

    @property
    def ticks_since_majority(self) -> int:
        """Leader only: since when a majority of the voters, itself included, has been heard; 0 without a reign."""
        return self._leadership.ticks_since_majority if self._leadership is not None else 0

    @property
    def transferee(self) -> int:
        """Leader only: to whom leadership is being handed over; 0 if to nobody."""
        return self._leadership.transferee if self._leadership is not None else 0

    def term_of(self, index: int) -> int | None:
        """Term of the entry at `index`; None if compacted or not there."""
        return self._log.term_of(index)

    def snapshot_meta(self, index: int) -> SnapshotMeta:
        """What a snapshot of the state machine after `index` (handed over to apply, not yet compacted) has to say.

        Raises ValueError for any other index.
        """
        term = self._log.term_of(index)
        if term is None or not self._log.snapshot.index <= index <= self._log.handed:
            raise ValueError(f"no snapshot can be taken at index {index}")
        return SnapshotMeta(index=index, term=term, configuration=self._log.configuration_at(index))

    def progress(self) -> tuple[ProgressView, ...]:
        """Leader only: what it knows of every member, itself included."""
        return self._leadership.views() if self._leadership is not None else ()

    # -- what happens ------------------------------------------------------------------------------------------
    def tick(self) -> None:
        """100 ms passed."""
        if self._leadership is not None:
            self._leadership.tick()
            if not self._leadership.has_quorum:  # CheckQuorum (dissertation 6.2)
                self._become_follower(self.term, 0)
            return
        self._reads += self._asked.tick(self._settings.election_ticks_min)
        self._elapsed_ticks += 1
        is_alone = self.leader == 0 and self._is_sole_voter
        if self._may_stand and (self._elapsed_ticks >= self._timeout_ticks or is_alone):
            self.campaign()

    def step(self, message: Message) -> None:
        """A message arrived. Anything a peer may send is safe; nonsense is ignored."""
        if not is_well_formed(message) or message.target != self.member_id or message.source == self.member_id:
            return
        if self._is_refused(message):
            return
        if message.term > self.term:
            if not self._enter_term(message):
                return
        elif message.term < self.term:
            self._answer_stale(message)
            return
        self._handlers[message.type](message)
        self._check_reign()

    def campaign(self) -> None:
        """Start an election now (bootstrap of a sole member, tests). Nothing happens on a leader or a learner."""
        if self._leadership is None and self._may_stand:
            self._stand(RaftRole.PRE_CANDIDATE)

    def propose(self, bodies: Sequence[bytes]) -> tuple[int, int]:
        """Append DATA entries. Returns (index of the first, term).

        Raises `Unavailable` if not leading or transferring, `ResourceExhausted` beyond `uncommitted_bytes_max`;
        then nothing was appended.
        """
        leadership = self._leading()
        if leadership.transferee:
            raise Unavailable("leadership is being handed over", hint="try again in a moment")
        log, limit = self._log, self._settings.uncommitted_bytes_max
        waiting = log.uncommitted_bytes
        if waiting and waiting + sum(map(len, bodies)) > limit:
            raise ResourceExhausted(f"more than {limit} bytes are proposed and not committed yet")
        first = log.last_index + 1
        log.propose(self.term, EntryKind.DATA, bodies)
        return first, self.term

    def propose_change(self, change: MembershipChange, *, force: bool = False) -> tuple[int, int]:
        """Append a membership change. Returns (index, term).

        Raises `Unavailable` if not leading, `FailedPrecondition` while another change is uncommitted, before an
        entry of this term is committed, or (without `force`) when live voters would not form a quorum of both the
        old and the new configuration (1 -> 2 voters is allowed); the message states the failures tolerated before
        and after.
        """
        return self._leading().propose_change(change, force=force), self.term

    def transfer_leadership(self, target: int = 0) -> int:
        """Hand over to `target`, or to the active voter with the best match. Returns the target.

        Proposals are refused until it leads, or for an election timeout. Raises `FailedPrecondition` if there is
        nobody, `Unavailable` if not leading.
        """
        return self._leading().transfer(target)

    def read_index(self, context: int) -> None:
        """Ask for a linearizable read point; `Ready.reads` answers with `context`. Works on followers with a leader.

        On a leader that has not committed in its term yet the answer comes after that. Refused: no leader, the leader
        changed, or no answer within an election timeout.
        """
        if self._leadership is not None:
            self._leadership.read_index(self.member_id, context)
        elif not self.leader or not self._asked.ask(context):
            self._reads.append(ReadReady(context, -1))

    def announce_commit(self) -> None:
        """Leader only: tell followers now what they would learn with the next append or heartbeat, if it is news.

        For a caller that has been quiet for some milliseconds (performance-raft, rule 5).
        """
        if self._leadership is not None:
            self._leadership.announce_commit()

    def persisted(self, index: int, term: int) -> None:
        """Everything up to the entry (`index`, `term`) is durable here."""
        if self._leadership is not None:
            self._leadership.persisted(index, term)
            self._check_reign()

    def applied(self, index: int) -> None:
        """The state machine has applied everything up to `index`."""
        self._applied = max(self._applied, min(index, self._log.handed))

    def compact(self, snapshot: SnapshotMeta, *, keep_entries: int) -> None:
        """A snapshot up to `snapshot.index` is durable: forget entries below `snapshot.index - keep_entries`.

        Entries that a member will need right after the snapshot it is being sent are kept longer. A snapshot older than
        the one known is ignored. Raises ValueError for one of what is not applied.
        """
        if snapshot.index <= self._log.snapshot.index:
            return
        if snapshot.index > self._applied or self._log.term_of(snapshot.index) != snapshot.term:
            raise ValueError(f"a snapshot at index {snapshot.index}, but {self._applied} is applied")
        keep_from = snapshot.index - keep_entries
        if self._leadership is not None:
            keep_from = min((keep_from, *(index + 1 for index in self._leadership.snapshots_under_way)))
        self._log.compact(snapshot, keep_from)

    def report_unreachable(self, member_id: int) -> None:
        """Messages to this member were lost: probe before pipelining again."""
        if self._leadership is not None:
            self._leadership.report_unreachable(member_id)

    def report_snapshot(self, member_id: int, *, delivered: bool) -> None:
        """The transfer of a snapshot ended."""
        if self._leadership is not None:
            self._leadership.report_snapshot(member_id, delivered=delivered)

    def has_ready(self) -> bool:
        """Whether `take_ready` would hand over anything."""
        log = self._log
        return bool(
            log.has_unstable
            or log.handed < log.commit
            or self._outbox
            or self._reads
            or self._saved != (self.term, self._voted_for)
            or self._told != (self.role, self.leader, self.term)
            or self._installed is not None
            or self._asked.wants_batch
            or (self._leadership is not None and (self._leadership.reads or self._leadership.has_to_send))
        )

    def take_ready(self) -> Ready:
        """Hand over what must be done, once."""
        entries = self._log.take_unstable()
        if self._leadership is not None:
            self._leadership.flush()
        elif self._asked.wants_batch:
            self._send(MessageType.READ_INDEX, self.leader, context=self._asked.start_batch())
        messages, after_persist = self._outbox.take()
        installed, self._installed = self._installed, None
        self._told = (self.role, self.leader, self.term)
        return Ready(
            messages=messages,
            hard_state=self._take_hard_state(writing=bool(entries) or installed is not None),
            entries=entries,
            after_persist=after_persist,
            snapshot=installed,
            committed=self._log.take_committed(),
            reads=self._take_reads(),
            role=self.role,
            leader=self.leader,
            term=self.term,
        )

    def _take_hard_state(self, *, writing: bool) -> HardState | None:
        """Term and vote when they changed; the commit hint rides along, and never causes a write of its own."""
        now = (self.term, self._voted_for)
        if now == self._saved and not (writing and self._log.commit != self._saved_commit):
            return None
        self._saved, self._saved_commit = now, self._log.commit
        return HardState(term=self.term, voted_for=self._voted_for, commit=self._log.commit)

    def _take_reads(self) -> tuple[ReadReady, ...]:
        if self._leadership is not None and self._leadership.reads:
            self._reads += self._leadership.reads
            self._leadership.reads.clear()
        reads = tuple(self._reads)
        self._reads.clear()
        return reads

    # -- terms -------------------------------------------------------------------------------------------------
    def _is_refused(self, message: Message) -> bool:
        """Removed members may say nothing, save the present leader finishing its own removal. A removal that is not
        committed may still be undone, perhaps by the very member it names, so it silences nobody. Answers count only
        from members that could have been asked; others may be right where this member's log is behind."""
        source = message.source
        if source == self.leader and message.term == self.term:
            return False
        if source in self._log.committed_configuration.removed:
            return True
        return message.type in REPLIES and self._log.configuration.member(source) is None

    def _enter_term(self, message: Message) -> bool:
        """A message of a later term: follow it there, unless it only asks or must not disturb. False: ignore it."""
        kind = message.type
        if kind is MessageType.PRE_VOTE or kind is MessageType.VOTE:
            is_transfer = kind is MessageType.VOTE and message.context == TRANSFER
            if self._holds_lease and not is_transfer:
                return False
        asks_only = kind is MessageType.PRE_VOTE or (kind is MessageType.PRE_VOTE_REPLY and not message.reject)
        if not asks_only:
            self._become_follower(message.term, message.source if kind in FROM_LEADER else 0)
        return True

    def _answer_stale(self, message: Message) -> None:
        """Tell a leader or candidate of an earlier term about ours; else a member that is ahead is never heard."""
        if message.type in FROM_LEADER:
            self._send(MessageType.APPEND_REPLY, message.source, index=message.index, reject=True)
        elif message.type in (MessageType.VOTE, MessageType.PRE_VOTE):
            self._answer_vote(message, is_granted=False)

    # -- following ---------------------------------------------------------------------------------------------
    def _follows(self, message: Message) -> bool:
        """Whether the message is from this term's leader, now known and heard."""
        if self._leadership is not None or self.leader not in (0, message.source):
            return False  # a second leader in one term: not one of us
        if self.role is not RaftRole.FOLLOWER or self.leader == 0:
            self._become_follower(self.term, message.source)
        self._elapsed_ticks = 0
        return True

    def _on_append(self, message: Message) -> None:
        changes = changes_in(message)
        if changes is None or not self._follows(message):
            return
        log, previous, entries = self._log, message.index, message.entries
        if previous < log.commit:  # what is committed agrees, whether it is still here or compacted
            entries = entries[log.commit - previous :]
            previous = log.commit
        elif log.term_of(previous) != message.log_term:
            self._refuse_append(message)
            return
        if log.accept(previous, entries, changes):
            matched = previous + len(entries)
            log.commit_to(min(message.commit, matched))
            self._outbox.acknowledge(message.source, self.term, matched)

    def _refuse_append(self, message: Message) -> None:
        """Say where the logs may still agree, so that the leader need not try one index after the other."""
        log = self._log
        hint = max(log.last_not_above(message.index, message.log_term), log.commit)
        self._send(
            MessageType.APPEND_REPLY,
            message.source,
            index=message.index,
            reject=True,
            hint=hint,
            hint_term=log.term_of(hint) or 0,
        )

    def _on_heartbeat(self, message: Message) -> None:
        if self._follows(message):
            self._log.commit_to(message.commit)
            self._send(MessageType.HEARTBEAT_REPLY, message.source, index=self._log.last_index, context=message.context)

    def _on_snapshot(self, message: Message) -> None:
        snapshot, log = message.snapshot, self._log
        if snapshot is None or not snapshot.index > 0 or snapshot.term > message.term or not self._follows(message):
            return
        if log.term_of(snapshot.index) == snapshot.term:
            log.commit_to(snapshot.index)  # all of it is here already: the log is worth more than the snapshot
        elif snapshot.index > log.commit:
            log.restore(snapshot)
            self._applied = snapshot.index
            self._installed = snapshot
        self._outbox.acknowledge(message.source, self.term, min(log.commit, snapshot.index))

    # -- leading and reading -------------------------------------------------------------------------------------
    def _on_append_reply(self, message: Message) -> None:
        if self._leadership is not None:
            self._leadership.on_append_reply(message)

    def _on_heartbeat_reply(self, message: Message) -> None:
        if self._leadership is not None:
            self._leadership.on_heartbeat_reply(message)

    def _on_read_index(self, message: Message) -> None:
        if self._leadership is not None:
            self._leadership.read_index(message.source, message.context)
        else:
            self._send(MessageType.READ_INDEX_REPLY, message.source, context=message.context, reject=True)

    def _on_read_index_reply(self, message: Message) -> None:
        if message.source != self.leader:
            return
        if not message.reject and self._log.term_of(message.index) == message.log_term:
            self._log.commit_to(
                message.index
            )  # the same entry, so the same log up to it: no need to wait for a heartbeat
        self._reads += self._asked.answered(message.context, -1 if message.reject else message.index)
