"""`audit`: this manager's own file, in pages. It needs no leader and no quorum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from swarmd.errors import Invalid, PermissionDenied, ResourceExhausted, Unauthenticated
from swarmd.manager.audit.audit_log import AuditLog
from swarmd.storage.audit_store import Part
from swarmd.transport.connection import Call, Stream, UnaryHandler
from swarmd.wire.audit import GAP, AuditMessage, AuditRecord, AuditRequest
from swarmd.wire.identity import Caller
from swarmd.wire.methods import Method

_REFUSALS: Final = (PermissionDenied, Unauthenticated)


class AuditDoor:
    """Serves `audit`."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    async def read(self, call: Call, request: AuditRequest, stream: Stream[AuditMessage, Any]) -> None:
        """Send what fits, first of the log, then this manager's own notes. What was applied before the call is in it.

        Gaps fit any time: their clock is this manager's. Raises `Invalid`, and `Unavailable` while the file cannot
        be read.
        """
        if request.limit < 0:
            raise Invalid("a limit is not negative", field="$.limit")
        if request.until and request.until < request.since:
            raise Invalid("the end is before the beginning", field="$.until")
        await self._audit.until_written()
        for part in Part:
            after = await self._start(part, request) if request.limit else 0
            while rows := await self._audit.read(part, after=after):
                after = rows[-1].sequence
                if fitting := tuple([row.record for row in rows if _fits(row.record, request)]):
                    await stream.send(AuditMessage(records=fitting))

    async def _start(self, part: Part, request: AuditRequest) -> int:
        """The place behind which the newest `limit` of those that fit begin."""
        before: int | None = None
        found = 0
        while rows := await self._audit.read_back(part, before=before):
            for row in rows:
                before = row.sequence
                found += _fits(row.record, request)
                if found == request.limit:
                    return before - 1
        return 0


def _fits(record: AuditRecord, request: AuditRequest) -> bool:
    if record.result == GAP:
        return True
    return record.at >= request.since and (not request.until or record.at <= request.until)


def note_refusal(audit: AuditLog, method: Method[Any, Any], caller: Caller, error: Exception) -> None:
    """Remember a call that was refused, and by whom it came."""
    audit.note(method.name, _named(caller), caller.address, str(error))


def noting_refusals(audit: AuditLog, handler: UnaryHandler) -> UnaryHandler:
    """`handler`, whose refusals (a wrong token, a wrong code) are remembered; others of its errors are not.

    A try that was refused unseen, because there were too many, is counted.
    """

    async def handle(call: Call, request: Any) -> Any:
        try:
            return await handler(call, request)
        except _REFUSALS as error:
            note_refusal(audit, call.method, call.caller, error)
            raise
        except ResourceExhausted as error:
            audit.note_repeated(call.method.name, _named(call.caller), call.caller.address, error.message)
            raise

    return handle


def checking(
    audit: AuditLog, authorise: Callable[[Method[Any, Any], Caller], None]
) -> Callable[[Method[Any, Any], Caller], None]:
    """`authorise`, whose refusals are remembered."""

    def check(method: Method[Any, Any], caller: Caller) -> None:
        try:
            authorise(method, caller)
        except _REFUSALS as error:
            note_refusal(audit, method, caller, error)
            raise

    return check


def _named(caller: Caller) -> str:
    passed_on = f" through {caller.forwarder.node_id}" if caller.forwarder is not None else ""
    return caller.actor + passed_on
