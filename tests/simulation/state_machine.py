"""The product's own state as the simulated members' machine: real commands, real snapshots, the real digest.

A write creates a task whose slot is the value; the value of a key is the slot of the newest. That makes every command
take effect, as the history that the world checks expects, while apply, indexes, versions, digests and snapshots are the
product's.
"""

from __future__ import annotations

import random

import cbor2
from msgspec.structs import replace

from swarmd.model import (
    ContainerSpec,
    Replicated,
    Service,
    ServiceSpec,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
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

    def apply(self, entry: Entry) -> bool:
        if entry.kind is not EntryKind.DATA:
            self.state.skip(entry.index, entry.body)
            return False
        outcome = self.state.apply(entry.index, entry.term, entry.body)
        assert outcome.verdict is Verdict.APPLIED, outcome
        return True

    def capture(self) -> bytes:
        meta = SnapshotMeta(index=self.state.index)
        return cbor2.dumps([chunk for chunk in encode_snapshot(self.state.capture(), meta) if chunk])

    def restore(self, meta: SnapshotMeta, data: bytes) -> None:
        self.state.restore(SnapshotMeta(index=meta.index), cbor2.loads(data))

    def content(self) -> bytes:
        return self.state.state_hash()

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


class ContestedMachine(StateMachine):
    """Every write of a key adds its value to one service's label, to what its proposer saw there. Of those that were
    made side by side one takes effect and the others are refused, or a value is lost."""

    def apply(self, entry: Entry) -> bool:
        if entry.kind is not EntryKind.DATA:
            self.state.skip(entry.index, entry.body)
            return False
        before = {service.spec.name: self._values(service) for service in self.state.services()}
        outcome = self.state.apply(entry.index, entry.term, entry.body)
        for service in self.state.services():
            had, has = before.get(service.spec.name, ()), self._values(service)
            assert has[: len(had)] == had, f"lost update: {service.spec.name} was {had}, and is {has}"
        return outcome.verdict is Verdict.APPLIED

    def command(self, key: str, value: int) -> bytes:
        self._made += 1
        tx = self.state.begin(float(self.state.index), random.Random(f"{key} {value} {self._made} {self.state.index}"))
        service = tx.service_by_name(key)
        if service is None:
            tx.create(Service(id=tx.new_id(), spec=self._spec(key, (value,))))
        else:
            tx.update(replace(service, spec=self._spec(key, (*self._values(service), value))))
        return encode_command(tx.command(CommandId(1, b"simulated", value), actor="simulation"))

    def read(self, key: str) -> int:
        service = self.state.service_by_name(key)
        return self._values(service)[-1] if service is not None else 0

    @staticmethod
    def _spec(key: str, values: tuple[int, ...]) -> ServiceSpec:
        return ServiceSpec(
            name=key, labels={"values": " ".join(map(str, values))}, task=SPEC, mode=Replicated(replicas=0)
        )

    @staticmethod
    def _values(service: Service) -> tuple[int, ...]:
        return tuple(map(int, service.spec.labels["values"].split()))
