"""A state with an operator, a CA and a leader who change it, and what the audit trail makes of that."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from typing import Any

from swarmd.manager.audit.counted import may_count
from swarmd.manager.audit.derive import derive
from swarmd.model import ContainerSpec, Service, ServiceSpec, Task, TaskSpec
from swarmd.state.command import Command, CommandId, Outcome, encode_command
from swarmd.state.history import Change
from swarmd.state.store import State
from swarmd.state.transaction import Transaction
from swarmd.wire.audit import AuditRecord

OPERATOR = "operator@n1"
AT = 1_800_000_000.0


class Recorder:
    """A tap that derives at once."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []
        self.looked_at = 0

    def applied(
        self, index: int, command: Command, outcome: Outcome, changes: Collection[Change], body_bytes: int
    ) -> None:
        if may_count(command):
            self.looked_at += 1
            record = derive(index, command, outcome, changes)
            if record is not None:
                self.records.append(record)

    def restored(self, before: int, index: int) -> None:
        raise AssertionError("no snapshot here")


class Member:
    """One replica: applies bodies; the first one also makes them."""

    def __init__(self, tap: Any = None) -> None:
        self.state = State()
        self.state.tap = self.tap = Recorder() if tap is None else tap
        self.bodies: list[bytes] = []

    def write(self, fn: Callable[[Transaction], Any], *, actor: str = OPERATOR, at: float = AT) -> Outcome:
        tx = self.state.begin(at, random.Random(1))
        fn(tx)
        return self.commit(tx.command(CommandId(1, b"boot", len(self.bodies)), actor=actor))

    def commit(self, command: Command) -> Outcome:
        body = encode_command(command)
        self.bodies.append(body)
        return self.state.apply(self.state.index + 1, 1, body, command)

    def replay(self, bodies: list[bytes]) -> None:
        for body in bodies:
            self.state.apply(self.state.index + 1, 1, body)


def service(id: str = "s1", name: str = "web", **container: Any) -> Service:
    return Service(id=id, spec=ServiceSpec(name=name, task=TaskSpec(container=ContainerSpec(image="a", **container))))


def task(id: str = "t1") -> Task:
    return Task(id=id, service_id="s1", slot=1, spec=TaskSpec(container=ContainerSpec(image="a")))
