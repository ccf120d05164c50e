"""What `swarmctl audit` says: who changed what, when, and with what result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from swarmd.wire import codec

APPLIED: Final = "applied"
"""The result of a change that took place."""
GAP: Final = "gap"
"""The result of a record that stands for entries which this manager's file does not tell of; `what` says which."""
DAMAGED: Final = "damaged"
"""The result of a record that could not be read any more."""


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
    """Of a record without changes: the method that was refused, or the event. Of one with changes: what is left out."""
    address: str = ""
    chain: str = ""
    """SHA-256 over the record before and this one, 64 hex digits: equal on every manager for equal histories."""


class AuditRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The records from `since` (epoch seconds) on, the newest `limit` of them (0: all that are kept)."""

    since: float = 0.0
    until: float = 0.0
    limit: int = 0


class AuditMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Some of the records: first those of the log, then the manager's own (`index` 0), each oldest first. The stream
    ends after the last. `limit` holds for either."""

    records: tuple[AuditRecord, ...]


def chained(previous: str, record: AuditRecord) -> AuditRecord:
    """`record` with its link to the one whose chain is `previous` (empty: it is the first)."""
    content = codec.encode(replace(record, chain=""))
    return replace(record, chain=hashlib.sha256(previous.encode() + b"\0" + content).hexdigest())


def first_broken(records: Iterable[AuditRecord]) -> AuditRecord | None:
    """The first of these successive records that does not follow from the one before it; None: all do.

    What came before the oldest is not known, so that one is taken as it is.
    """
    previous: str | None = None
    for record in records:
        if previous is not None and chained(previous, record).chain != record.chain:
            return record
        previous = record.chain
    return None
