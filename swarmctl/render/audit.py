"""`audit`: one row a change, or a document a record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from swarmctl.render.layout import table
from swarmctl.render.plain import plain
from swarmctl.render.text import instant
from swarmd.wire.audit import AuditedChange, AuditRecord

_HEADER: Final = ("Time", "Index", "Actor", "Action", "Object", "Result")
FIELDS_SHOWN: Final = 12


def audit_name(record: AuditRecord) -> str:
    """How a record is spoken of."""
    return f"entry {record.index}" if record.index else record.what


def audit_document(record: AuditRecord) -> dict[str, Any]:
    """The whole record."""
    document: dict[str, Any] = plain(record)
    return document


def audit_table(records: Sequence[AuditRecord], *, wide: bool) -> str:
    """A row for each change of each record; `wide`: with what is different, and where the caller was."""
    header = (*_HEADER, "Details") if wide else _HEADER
    return table(header, [row for record in records for row in _rows(record, wide=wide)])


def _rows(record: AuditRecord, *, wide: bool) -> Iterator[list[str]]:
    begin = [_time(record.at), str(record.index or "-"), record.actor or "-"]
    for change in record.changes:
        row = [*begin, change.action, _object(change), record.result]
        yield [*row, _differences(change)] if wide else row
    if record.what or not record.changes:
        row = [*begin, record.what if not record.changes else "...", "" if not record.changes else record.what]
        yield [*row, record.result, record.address] if wide else [*row, record.result]


def _time(at: float) -> str:
    return instant(float(int(at))) or "-"


def _object(change: AuditedChange) -> str:
    return f"{change.kind} {change.name or change.id}"


def _differences(change: AuditedChange) -> str:
    shown = [
        f"{path}: {_value(old)} -> {_value(new)}" for path, (old, new) in list(change.fields.items())[:FIELDS_SHOWN]
    ]
    more = len(change.fields) - FIELDS_SHOWN
    return "; ".join([*shown, f"and {more} more"] if more > 0 else shown)


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
