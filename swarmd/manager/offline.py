"""A manager's log without the manager: what it holds, and the state that it leads to. Blocking; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from swarmd.errors import FailedPrecondition, Invalid
from swarmd.raft import Configuration, Entry, EntryKind
from swarmd.raft.log import Log
from swarmd.state.command import Table
from swarmd.state.store import State
from swarmd.storage.errors import StorageDamaged
from swarmd.storage.log_contract import LogIdentity, StoredLog

NOT_COMMITTED: Final = "not known to be committed"


class OfflineLog(msgspec.Struct, frozen=True, kw_only=True):
    """A stored log of a member, read and checked seal by seal.

    What lies beyond `known_commit` may be committed all the same: the commit index on disk only rides along with other
    writes (raft/DESIGN.md), and the members that could tell are not here.
    """

    identity: LogIdentity
    stored: StoredLog
    snapshot_chunks: Callable[[], Iterable[bytes]]
    """The plain chunks of the newest snapshot, checked while they are read. Only asked for if there is one."""

    @property
    def known_commit(self) -> int:
        """The greatest index that is known to be committed."""
        return min(max(self.stored.hard_state.commit, self.stored.snapshot.index), self.last_index)

    @property
    def last_index(self) -> int:
        """Index of the newest entry, or of the snapshot if nothing follows it."""
        entries, snapshot = self.stored.entries, self.stored.snapshot
        return max(entries[-1].index, snapshot.index) if entries else snapshot.index

    @property
    def last_term(self) -> int:
        """Term of the newest entry."""
        entries = self.stored.entries
        return entries[-1].term if entries else self.stored.snapshot.term

    def configuration(self, index: int | None = None) -> Configuration:
        """Who takes part: as of the end of the log, or of `index` (not below the snapshot). Raises `Invalid`."""
        log = Log(self.stored.snapshot, self.stored.entries, 0)
        return log.configuration if index is None else log.configuration_at(index)

    def replay(self, up_to: int) -> State:
        """The state as of `up_to`: the snapshot, then every entry after it. Reading checks the snapshot's checksum.

        Raises `StorageDamaged`, `Invalid` for what this version cannot read, `FailedPrecondition` for an index that
        is not here.
        """
        snapshot = self.stored.snapshot
        if not snapshot.index <= up_to <= self.last_index:
            raise FailedPrecondition(
                f"the state as of index {up_to} is not here: there is {snapshot.index} to {self.last_index}"
            )
        state = State()
        if snapshot.index:
            try:
                state.restore(snapshot, self.snapshot_chunks())
            except Invalid as error:
                raise StorageDamaged(f"the snapshot at index {snapshot.index}: {error}") from error
        for entry in self.stored.entries:
            if snapshot.index < entry.index <= up_to:
                apply(state, entry)
        return state


def apply(state: State, entry: Entry) -> None:
    """As a running manager would. Raises `Invalid` naming the entry."""
    if entry.kind is not EntryKind.DATA:
        state.skip(entry.index, entry.body)
        return
    try:
        state.apply(entry.index, entry.term, entry.body)
    except Invalid as error:
        raise Invalid(f"entry {entry.index} means nothing to this version: {error}", hint=error.hint) from error


def count_objects(state: State) -> dict[str, int]:
    """How many objects there are, by kind."""
    return {table.name.lower(): len(state.by_id_prefix(table, "")) for table in Table}
