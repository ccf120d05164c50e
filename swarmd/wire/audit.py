"""What `swarmctl audit` says: who changed what, when, and with what result."""

from __future__ import annotations

from typing import Any

import msgspec


class AuditedChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One object that a change created, updated or removed. `fields`: what is different, `path: [before, after]`, with
    everything secret blank."""

    action: str
    kind: str
    id: str
    name: str = ""
    fields: dict[str, tuple[Any, Any]] = {}


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One change, or (`index` 0) something that the answering manager refused or noticed."""

    index: int
    at: float
    actor: str
    result: str
    """`applied`, or why not."""
    changes: tuple[AuditedChange, ...] = ()
    what: str = ""
    """Of a record without changes: the method that was refused, or the event."""
    address: str = ""
    chain: str = ""
    """SHA-256 over the record before and this one, 64 hex digits: equal on every manager for equal histories."""


class AuditRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The records from `since` (epoch seconds) on, the newest `limit` of them (0: all that are kept)."""

    since: float = 0.0
    until: float = 0.0
    limit: int = 0


class AuditMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Some of the records, oldest first; the stream ends after the last."""

    records: tuple[AuditRecord, ...]
