"""`audit`."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, Self

import msgspec

from swarmctl.invocation import Invocation
from swarmctl.render.audit import audit_document, audit_name, audit_table
from swarmctl.show import Kind, show_list
from swarmctl.values import parse_duration, parse_integer
from swarmd.errors import FailedPrecondition, Invalid
from swarmd.wire.audit import DAMAGED, GAP, AuditRecord, AuditRequest, first_broken
from swarmd.wire.methods import AUDIT
from swarmd.wire.watch import KINDS

LIMIT: Final = 100
SILENCE_S_MAX: Final = 15.0


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which records are wanted. `limit` 0: all."""

    since: float = 0.0
    until: float = 0.0
    limit: int = LIMIT
    actor: str = ""
    kind: str = ""

    @classmethod
    def parse(
        cls,
        call: Invocation,
        since: str | None,
        until: str | None,
        limit: str | None,
        actor: str | None,
        kind: str | None,
    ) -> Self:
        """As the options say. Raises `Invalid` naming the option."""
        wanted = (kind or "").lower().replace("-", "_")
        if wanted and wanted not in KINDS:
            raise Invalid(f'--kind: there is no kind "{kind}"', hint="one of " + ", ".join(sorted(KINDS)))
        count = LIMIT if limit is None else parse_integer(limit, "--limit")
        if count < 0:
            raise Invalid("--limit: at least 0", hint="0: all")
        now = call.environment.now()
        return cls(
            since=_instant(since, "--since", now),
            until=_instant(until, "--until", now),
            limit=count,
            actor=actor or "",
            kind=wanted,
        )

    def fits(self, record: AuditRecord) -> bool:
        """Whether the record is about what was asked for. A gap may be about anything."""
        if record.result == GAP:
            return True
        is_by = self.actor in record.actor
        return is_by and (not self.kind or any(change.kind == self.kind for change in record.changes))


def show_audit(call: Invocation, wanted: AuditFilter) -> None:
    """Print the records that fit, oldest first: those of the log in its order, this manager's own between them."""
    # Only what the manager cannot know is filtered here, and then the newest of all that fit must be found here too.
    limit = 0 if wanted.actor or wanted.kind else wanted.limit
    records = _read(call, AuditRequest(since=wanted.since, until=wanted.until, limit=limit))
    shown = [record for record in _merged(records) if wanted.fits(record)]
    if wanted.limit:
        shown = shown[-wanted.limit :]
    kind = Kind(audit_name, audit_name, audit_document)
    show_list(call, kind, shown, lambda wide: audit_table(shown, wide=wide))


def verify_audit(call: Invocation) -> None:
    """Compute the chain anew from all that is kept. Raises `FailedPrecondition` naming where it breaks."""
    found = _read(call, AuditRequest())
    if (unreadable := next((record for record in found if record.result == DAMAGED), None)) is not None:
        raise FailedPrecondition(
            f"the chain breaks: {unreadable.what}", hint="compare with another manager's audit trail"
        )
    records = [record for record in found if record.index]
    broken = first_broken(records)
    if broken is not None:
        raise FailedPrecondition(
            f"the chain breaks at {audit_name(broken)}: it, or the record before it, is not what was written",
            hint="compare with another manager's audit trail",
        )
    gaps = sum(record.result == GAP for record in records)
    told = f"; {gaps} gap{'' if gaps == 1 else 's'}, see: swarmctl audit" if gaps else ""
    if not records:
        call.line("nothing is recorded yet")
        return
    first, last = records[0], records[-1]
    call.line(f"{len(records)} records from index {first.index} to {last.index}: the chain holds{told}")
    call.line(f"chain at index {last.index}: {last.chain}")


def _read(call: Invocation, request: AuditRequest) -> list[AuditRecord]:
    with call.client(is_own_view=True) as client:
        return [
            record for message in client.stream(AUDIT, request, silence_s=SILENCE_S_MAX) for record in message.records
        ]


def _merged(records: Iterable[AuditRecord]) -> list[AuditRecord]:
    """Each part stays in its own order, whatever the clocks said."""
    parts: dict[bool, list[AuditRecord]] = {True: [], False: []}
    for record in records:
        parts[record.index > 0].append(record)
    return list(heapq.merge(parts[True], parts[False], key=lambda record: record.at))


def _instant(text: str | None, option: str, now: float) -> float:
    if text is None:
        return 0.0
    if "-" not in text:
        return now - parse_duration(text, option)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(
            f'{option}: "{text[:64]}" is not understood', hint="like 10m, 2h, or 2026-01-31T12:00:00Z"
        ) from None
    return (parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)).timestamp()
