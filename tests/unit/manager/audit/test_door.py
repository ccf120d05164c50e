"""`audit` in pages, and the refusals that find their way into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from swarmd.errors import Invalid, NotFound, PermissionDenied, ResourceExhausted, Unauthenticated
from swarmd.manager.audit.door import AuditDoor, checking, noting_refusals
from swarmd.model import Role
from swarmd.storage.audit_store import Part, Row
from swarmd.transport.connection import Call
from swarmd.wire.audit import AuditMessage, AuditRecord, AuditRequest
from swarmd.wire.frames import NO_HEADERS
from swarmd.wire.identity import Caller, Identity
from swarmd.wire.methods import AUDIT, CA_ISSUE, NODE_LIST, Method

WORKER = Caller(identity=Identity(node_id="w1", role=Role.WORKER, swarm_id="s"), address="10.0.0.9:1")
PAGE = 3


class Trail:
    """Plain lists in the place of an `AuditLog`."""

    def __init__(self, log: Sequence[AuditRecord], own: Sequence[AuditRecord] = ()) -> None:
        self.rows = {
            part: [Row(sequence, record) for sequence, record in enumerate(records, start=11)]
            for part, records in ((Part.LOG, log), (Part.OWN, own))
        }
        self.notes: list[tuple[str, str, str, str]] = []
        self.repeated: list[tuple[str, str, str, str]] = []

    async def until_written(self) -> None:
        return

    async def read(self, part: Part, *, after: int = 0) -> tuple[Row, ...]:
        return tuple([row for row in self.rows[part] if row.sequence > after][:PAGE])

    async def read_back(self, part: Part, *, before: int | None = None) -> tuple[Row, ...]:
        return tuple([row for row in self.rows[part][::-1] if before is None or row.sequence < before][:PAGE])

    def note(self, what: str, actor: str, address: str, result: str) -> None:
        self.notes.append((what, actor, address, result))

    def note_repeated(self, what: str, actor: str, address: str, result: str) -> None:
        self.repeated.append((what, actor, address, result))


class Sent:
    def __init__(self) -> None:
        self.messages: list[AuditMessage] = []

    async def send(self, message: AuditMessage) -> None:
        self.messages.append(message)


def record(index: int, at: float, result: str = "applied") -> AuditRecord:
    return AuditRecord(index=index, at=at, actor="a", result=result)


LOG = [record(index, float(index)) for index in range(1, 9)]
OWN = [record(0, at) for at in (2.5, 7.5)]


async def read(trail: Trail, **request: Any) -> list[tuple[int, float]]:
    sent = Sent()
    call = Call(AUDIT, WORKER, NO_HEADERS, float("inf"))
    await AuditDoor(cast("Any", trail)).read(call, AuditRequest(**request), cast("Any", sent))
    assert all(message.records for message in sent.messages)
    return [(r.index, r.at) for message in sent.messages for r in message.records]


async def test_everything_comes_in_pages_the_log_first() -> None:
    assert await read(Trail(LOG, OWN)) == [(i, float(i)) for i in range(1, 9)] + [(0, 2.5), (0, 7.5)]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 8, 9])
async def test_the_newest_of_each_part(limit: int) -> None:
    found = await read(Trail(LOG, OWN), limit=limit)
    assert [index for index, _ in found if index] == list(range(max(1, 9 - limit), 9))
    assert [at for index, at in found if not index] == [2.5, 7.5][-limit:]


async def test_a_time_is_a_bound_on_both_ends_and_the_limit_counts_what_fits() -> None:
    assert await read(Trail(LOG, OWN), since=3.0, until=6.0) == [(3, 3.0), (4, 4.0), (5, 5.0), (6, 6.0)]
    assert await read(Trail(LOG, OWN), since=3.0, until=6.0, limit=2) == [(5, 5.0), (6, 6.0)]


async def test_gaps_are_told_whatever_the_time() -> None:
    assert await read(Trail([record(5, 1.0, "gap"), record(6, 2.0)]), since=100.0) == [(5, 1.0)]


async def test_nonsense_is_refused() -> None:
    with pytest.raises(Invalid):
        await read(Trail(LOG), limit=-1)
    with pytest.raises(Invalid):
        await read(Trail(LOG), since=5.0, until=4.0)


@pytest.mark.parametrize("error", [PermissionDenied("it was removed"), Unauthenticated("no certificate")])
def test_a_refused_call_is_noted_and_stays_refused(error: Exception) -> None:
    def authorise(method: Method[Any, Any], caller: Caller) -> None:
        raise error

    trail = Trail([])
    with pytest.raises(type(error)):
        checking(cast("Any", trail), authorise)(NODE_LIST, WORKER)
    assert trail.notes == [("node.list", "node:w1", "10.0.0.9:1", str(error))]


def test_a_call_that_is_allowed_leaves_no_note() -> None:
    trail = Trail([])
    checking(cast("Any", trail), lambda method, caller: None)(NODE_LIST, WORKER)
    assert trail.notes == []


async def test_a_handlers_refusal_is_noted_with_who_passed_it_on_and_other_errors_are_not() -> None:
    trail = Trail([])
    errors: list[Exception] = [PermissionDenied("this join token is not one of this swarm's"), NotFound("no node x")]

    async def handler(call: Call, request: Any) -> Any:
        raise errors.pop(0)

    manager = Identity(node_id="m2", role=Role.MANAGER, swarm_id="s")
    call = Call(CA_ISSUE, Caller(address="10.0.0.7:9", forwarder=manager), NO_HEADERS, float("inf"))
    noted = noting_refusals(cast("Any", trail), handler)
    with pytest.raises(PermissionDenied):
        await noted(call, None)
    with pytest.raises(NotFound):
        await noted(call, None)
    expected = ("ca.issue", "anonymous through m2", "10.0.0.7:9", "this join token is not one of this swarm's")
    assert trail.notes == [expected]


async def test_a_try_that_is_refused_unseen_is_counted() -> None:
    trail = Trail(LOG)
    caller = Caller(address="10.0.0.7:9")

    async def handler(call: Call, request: object) -> None:
        raise ResourceExhausted("too many wrong join tokens from 10.0.0.7", hint="try again in 50 s")

    with pytest.raises(ResourceExhausted):
        await noting_refusals(cast("Any", trail), handler)(Call(CA_ISSUE, caller, NO_HEADERS, 1.0), None)
    assert trail.notes == []
    expected = ("ca.issue", "anonymous", "10.0.0.7:9", "too many wrong join tokens from 10.0.0.7")
    assert trail.repeated == [expected]
