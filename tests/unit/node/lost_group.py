"""State directories of managers that lost their group: a founder, two more members, objects, and a tail that nobody
knows to be committed."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from swarmd.manager.offline import OfflineLog
from swarmd.model import (
    ContainerSpec,
    Node,
    NodeDescription,
    NodeSpec,
    RaftConfig,
    Role,
    Service,
    ServiceSpec,
    TaskSpec,
)
from swarmd.node.founding import found, open_log
from swarmd.node.identity import StateDirectory
from swarmd.node.offline_log import read_offline
from swarmd.raft import ChangeKind, Entry, EntryKind, HardState, Member, MembershipChange, SnapshotMeta, encode_change
from swarmd.state.command import CommandId, encode_command
from swarmd.state.snapshot import encode_snapshot
from swarmd.state.store import State
from swarmd.state.transaction import Transaction
from swarmd.storage.known_managers import KnownManager, NodeFileContents
from swarmd.storage.log_store import LogBatch
from swarmd.storage.snapshot_store import SnapshotStore
from swarmd.wire.raft_codec import encode_runs

NOW = 1_800_000_000.0
OTHERS = (
    Member(member_id=77, node_id="second", addresses=("127.0.0.1:1",)),
    Member(member_id=78, node_id="third", addresses=("127.0.0.1:2",)),
)


class Group:
    """The founder's log, entry by entry; `make` writes its state directory."""

    def __init__(self, *, now: float = NOW, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.founding = found(raft=RaftConfig(), now=now, rng=self.rng)
        self.identity = self.founding.log_identity
        self.entries = list(self.founding.entries)
        self.commit = 0
        self.own = Member(member_id=self.identity.member_id, node_id=self.identity.node_id)

    def with_others(self) -> Group:
        """Two more managers that vote, and a service with something to hide."""
        for member in OTHERS:
            description = NodeDescription(hostname=f"host-{member.node_id}")
            node = Node(
                id=member.node_id,
                role=Role.MANAGER,
                spec=NodeSpec(desired_role=Role.MANAGER),
                description=description,
            )
            self.write(lambda tx, node=node: tx.create(node))  # type: ignore[misc]
            self.change(ChangeKind.ADD_LEARNER, member)
            self.change(ChangeKind.PROMOTE, member)
        self.write(lambda tx: tx.create(a_service("web")))
        self.commit = self.last
        return self

    @property
    def last(self) -> int:
        return self.entries[-1].index

    @property
    def state(self) -> State:
        """As of the end."""
        state = State()
        for entry in self.entries:
            if entry.kind is EntryKind.DATA:
                state.apply(entry.index, entry.term, entry.body)
            else:
                state.skip(entry.index, entry.body)
        return state

    def change(self, kind: ChangeKind, member: Member) -> None:
        self._append(EntryKind.CONFIG, encode_change(MembershipChange(kind=kind, member=member)))

    def write(self, fn: Callable[[Transaction], None]) -> None:
        tx = self.state.begin(NOW, self.rng)
        fn(tx)
        id = CommandId(self.identity.member_id, b"b" * 16, self.last)
        self._append(EntryKind.DATA, encode_command(tx.command(id, actor="local:test")))

    def _append(self, kind: EntryKind, body: bytes) -> None:
        self.entries.append(Entry(self.last + 1, 1, kind, body))

    def make(self, path: Path, *, snapshot_at: int = 0) -> StateDirectory:
        """Write the directory; with `snapshot_at` the log up to there is a snapshot."""
        directory = StateDirectory(path)
        identity = self.founding.identity
        store = open_log(self.identity, directory.raft, directory.data_keys, self.rng.randbytes)
        try:
            store.initialise(self.identity)
            hard_state = HardState(term=1, voted_for=self.own.member_id, commit=self.commit)
            for entry in self.entries:
                store.write(LogBatch(hard_state=hard_state, runs=encode_runs([entry])))
            if snapshot_at:
                meta, state = self._snapshot(directory, snapshot_at)
                SnapshotStore(directory.raft, store.sealer).save(meta, encode_snapshot(state.capture(), meta))
                store.record_snapshot(meta, keep_from=snapshot_at + 1)
        finally:
            store.close()
        directory.identity.save_root(identity.root)
        directory.identity.save_pair(identity.certificate, identity.key)
        directory.node_file.save(
            NodeFileContents(
                managers=tuple(KnownManager(node_id=m.node_id, addresses=m.addresses) for m in OTHERS),
                has_been_member=True,
            )
        )
        directory.lock.touch()
        return directory

    def _snapshot(self, directory: StateDirectory, index: int) -> tuple[SnapshotMeta, State]:
        with read_offline(directory) as log:
            state = log.replay(index)
            return SnapshotMeta(index=index, term=1, configuration=log.configuration(index)), state


def a_service(name: str) -> Service:
    container = ContainerSpec(image="app:1", env=("PASSWORD=hunter2", "DEBUG"))
    return Service(id=f"id-{name}", spec=ServiceSpec(name=name, task=TaskSpec(container=container)))


def read(directory: StateDirectory) -> OfflineLog:
    """The log as it is, for looking at after the file is closed (without its snapshot's chunks)."""
    with read_offline(directory) as log:
        chunks = list(log.snapshot_chunks()) if log.stored.snapshot.index else []
        return msgspec.structs.replace(log, snapshot_chunks=lambda: chunks)


def tree(path: Path) -> dict[str, tuple[bytes, float]]:
    """Every file's content and time of change."""
    return {
        str(file.relative_to(path)): (file.read_bytes(), file.stat().st_mtime)
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def place_in_newest_row(path: Path) -> int:
    """Where, in the file, the newest entries are: pages may hold copies of moved rows, which nobody reads."""
    newest, data = _newest_row(path), path.read_bytes()
    place = data.find(newest[:32])
    while place >= 0:
        tried = path.with_name("tried.db")
        tried.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        is_read = _newest_row(tried) != newest
        tried.unlink()
        if is_read:
            return place
        place = data.find(newest[:32], place + 1)
    raise AssertionError("the newest entries are nowhere")


def _newest_row(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as db:
        ((sealed,),) = db.execute("SELECT sealed FROM run ORDER BY first DESC LIMIT 1").fetchall()
    return bytes(sealed)
