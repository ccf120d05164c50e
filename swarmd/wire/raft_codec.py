"""Raft messages and runs of entries as bytes.

A *run* is what an APPEND carries and what a row of the log holds: consecutive entries of one term, encoded once and
handed verbatim to every follower and to the disk (performance-raft, rules 2 and 6). Its body is assembled by hand,
because a general encoder visits every pair as an object and costs five times as much.

A message is one CBOR array, fields in the order of `_Envelope`. Append-only: new fields go to the end, and a reader
ignores those it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final

import cbor2
import msgspec

from swarmd.errors import Invalid
from swarmd.raft import Entry, EntryKind, Message, MessageType, SnapshotMeta
from swarmd.wire import codec

NUMBER_MAX: Final = (1 << 63) - 1
"""Indexes, terms and ids fit a signed 64-bit integer: SQLite's."""

_Number = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]
_KINDS: Final[dict[int, EntryKind]] = {int(kind): kind for kind in EntryKind}
_DATA: Final = EntryKind.DATA
_DATA_NUMBER: Final = int(EntryKind.DATA)
_HEADERS_CACHED_MAX: Final = 4096
"""Distinct heads of items that are remembered, about 100 bytes each."""


class EntryRun(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Entries `first`..`last` of `term`; `body` is CBOR `[[kind, body], ...]`."""

    first: int
    last: int
    term: int
    body: bytes


class _Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message's fields in their order on the wire."""

    type: MessageType
    source: _Number
    target: _Number
    term: _Number
    index: _Number
    log_term: _Number
    commit: _Number
    reject: bool
    hint: _Number
    hint_term: _Number
    context: _Number
    snapshot: SnapshotMeta | None
    runs: tuple[EntryRun, ...]


_RUNS: Final = 12
_BODY: Final = 3
"""Where an envelope has its runs, and a run its body: the only byte strings in a message."""


# -- runs --------------------------------------------------------------------------------------------------------


def encode_runs(entries: Sequence[Entry]) -> tuple[EntryRun, ...]:
    """Consecutive entries as runs, split where the term changes.

    Raises `ValueError` unless the indexes are consecutive and the terms do not fall: no Raft log looks otherwise.
    """
    if not entries:
        return ()
    if entries[-1].index - entries[0].index != len(entries) - 1:
        raise ValueError("the entries of a run are consecutive")
    # Terms never fall along a log, so equal ends mean one term.
    if entries[0].term == entries[-1].term:
        return (_encode_run(entries),)
    return tuple(_encode_run(part) for part in _split_by_term(entries))


def decode_run(run: EntryRun) -> tuple[Entry, ...]:
    """The entries of a run. Raises `Invalid` if the body is not one."""
    items = codec.loads(run.body)
    if type(items) is not list or len(items) != run.last - run.first + 1:
        raise Invalid(f"a run of entries {run.first}..{run.last} holds something else", field="$.entries")
    term, entries = run.term, []
    for index, item in enumerate(items, run.first):
        if type(item) is not list or len(item) != 2:
            raise Invalid(f"entry {index} is not a kind and a body", field="$.entries")
        kind, body = item
        # The exact type: CBOR's `true` would pass for kind 1.
        if type(kind) is not int or kind not in _KINDS or type(body) is not bytes:
            raise Invalid(f"entry {index} is of no kind we know, or its body is not bytes", field="$.entries")
        entries.append(Entry(index, term, _KINDS[kind], body))
    return tuple(entries)


def trim_run(run: EntryRun, last: int) -> EntryRun:
    """The beginning of `run`, up to the entry `last`. Raises `Invalid` if the body is not one of a run."""
    return _encode_run(decode_run(run)[: last - run.first + 1])


def _split_by_term(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    begin = 0
    for position in range(1, len(entries)):
        if entries[position].term < entries[position - 1].term:
            raise ValueError("terms do not fall along a log")
        if entries[position].term != entries[begin].term:
            yield entries[begin:position]
            begin = position
    yield entries[begin:]


def _encode_run(entries: Sequence[Entry]) -> EntryRun:
    first, last, count = entries[0], entries[-1], len(entries)
    header = codec.head(0x80, count)
    bodies = [entry.body for entry in entries if entry.kind is _DATA]
    size = len(bodies[0]) if bodies else 0
    # Writers of one kind make batches of equal bodies: then one header serves as the separator.
    if len(bodies) == count and [*map(len, bodies)].count(size) == count:
        body = _item_header(_DATA_NUMBER, size).join([header, *bodies])
    else:
        parts = [header]
        for entry in entries:
            parts += (_item_header(int(entry.kind), len(entry.body)), entry.body)
        body = b"".join(parts)
    return EntryRun(first.index, last.index, first.term, body)


@lru_cache(maxsize=_HEADERS_CACHED_MAX)
def _item_header(kind: int, size: int) -> bytes:
    """What stands before an entry's body: an array of two, the kind, the head of a byte string."""
    return bytes((0x82, kind)) + codec.head(0x40, size)


# -- messages ----------------------------------------------------------------------------------------------------


def encode_message(message: Message, runs: Sequence[EntryRun]) -> bytes:
    """`message` with its entries given as `runs` (`message.entries` itself is not looked at)."""
    snapshot = None if message.snapshot is None else msgspec.to_builtins(message.snapshot)
    return cbor2.dumps(
        [
            int(message.type),
            message.source,
            message.target,
            message.term,
            message.index,
            message.log_term,
            message.commit,
            message.reject,
            message.hint,
            message.hint_term,
            message.context,
            snapshot,
            [[run.first, run.last, run.term, run.body] for run in runs],
        ]
    )


def decode_message(data: bytes) -> tuple[Message, tuple[EntryRun, ...]]:
    """The message, its entries decoded, and the runs they came in. Raises `Invalid`.

    The runs are consecutive, follow `message.index`, and come with an APPEND only; terms do not fall and are not
    above the message's. Whether they fit the receiver's log is the core's question.
    """
    envelope = _convert_envelope(codec.loads(data))
    _check_runs(envelope)
    entries = tuple(entry for run in envelope.runs for entry in decode_run(run))
    message = Message(
        type=envelope.type,
        source=envelope.source,
        target=envelope.target,
        term=envelope.term,
        index=envelope.index,
        log_term=envelope.log_term,
        commit=envelope.commit,
        entries=entries,
        reject=envelope.reject,
        hint=envelope.hint,
        hint_term=envelope.hint_term,
        context=envelope.context,
        snapshot=envelope.snapshot,
    )
    return message, envelope.runs


def _convert_envelope(raw: Any) -> _Envelope:
    if type(raw) is list and len(raw) > _RUNS and type(runs := raw[_RUNS]) is list:
        for run in runs:
            if type(run) is not list or len(run) <= _BODY or type(run[_BODY]) is not bytes:
                break
        else:
            return codec.convert_plain(raw, _Envelope)
    return codec.convert(raw, _Envelope)


def _check_runs(envelope: _Envelope) -> None:
    if envelope.runs and envelope.type is not MessageType.APPEND:
        raise Invalid("only an APPEND carries entries", field="$.entries")
    last, term = envelope.index, envelope.log_term
    for run in envelope.runs:
        if run.first != last + 1 or run.last < run.first or run.last > NUMBER_MAX:
            raise Invalid(f"entries {run.first}..{run.last} do not follow {last}", field="$.entries")
        if not term <= run.term <= envelope.term:
            raise Invalid(f"entries of term {run.term} between terms {term} and {envelope.term}", field="$.entries")
        last, term = run.last, run.term
