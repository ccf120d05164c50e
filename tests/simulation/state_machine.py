"""The product's own state as the simulated members' machine: real commands, real snapshots, the real digest.

A write creates a task whose slot is the value; the value of a key is the slot of the newest. That makes every command
take effect, as the history that the world checks expects, while apply, indexes, versions, digests and snapshots are the
product's.
"""

from __future__ import annotations

import random

import cbor2

from swarmd.model import ContainerSpec, Task, TaskSpec, TaskState, TaskStatus
from swarmd.raft import Entry, EntryKind, SnapshotMeta
from swarmd.state.command import CommandId, Verdict, encode_command
from swarmd.state.snapshot import encode_snapshot
from swarmd.state.store import State

SPEC = TaskSpec(container=ContainerSpec(image="none", command=("true",)))


class StateMachine:
    """A `Machine` around `State`."""

    def __init__(self) -> None:
        self.state = State()
        self._made = 0

    @property
    def index(self) -> int:
        return self.state.index

    @property
    def digest(self) -> bytes:
        return self.state.digest

    def apply(self, entry: Entry) -> None:
        if entry.kind is not EntryKind.DATA:
            self.state.skip(entry.index, entry.body)
            return
        outcome = self.state.apply(entry.index, entry.term, entry.body)
        assert outcome.verdict is Verdict.APPLIED, outcome

    def capture(self) -> bytes:
        meta = SnapshotMeta(index=self.state.index)
        return cbor2.dumps([chunk for chunk in encode_snapshot(self.state.capture(), meta) if chunk])

    def restore(self, meta: SnapshotMeta, data: bytes) -> None:
        self.state.restore(SnapshotMeta(index=meta.index), cbor2.loads(data))

    def command(self, key: str, value: int) -> bytes:
        self._made += 1
        rng = random.Random(f"{key} {value} {self._made} {self.state.index}")
        tx = self.state.begin(float(self.state.index), rng)
        tx.create(
            Task(
                id=tx.new_id(),
                service_id=key,
                service_name=key,
                slot=value,
                spec=SPEC,
                status=TaskStatus(state=TaskState.COMPLETE, at=1.0),
            )
        )
        return encode_command(tx.command(CommandId(1, b"simulated", self._made), actor="simulation"))

    def read(self, key: str) -> int:
        newest = max(self.state.tasks_of_service(key), key=lambda task: task.meta.version, default=None)
        return newest.slot if newest is not None else 0
