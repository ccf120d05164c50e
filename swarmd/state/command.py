"""A transaction as a log entry: a command with preconditions, judged when it is applied, on every replica alike.

On the wire: CBOR map `{v, id, term?, key?, actor, at, claims?, changes?}`; each change is an array that begins with its
tag. Append-only. The proposer applies the command it encoded, everybody else the one it decoded, so the round trip must
be exact: `state.normal` brings objects into the form in which it is. See DESIGN.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import lru_cache
from math import isfinite
from struct import Struct
from typing import Any, Final

import msgspec
from cbor2 import dumps
from msgspec.structs import replace

from swarmd.errors import Invalid, ResourceExhausted
from swarmd.model import StoredObject, Task, TaskStatus
from swarmd.state.kinds import TABLE_OF_TYPE as TABLE_OF_TYPE
from swarmd.state.kinds import TYPE_OF_TABLE as TYPE_OF_TABLE
from swarmd.state.kinds import WITHOUT_BYTES as WITHOUT_BYTES
from swarmd.state.kinds import Table as Table
from swarmd.state.specs import NO_SPEC, SPECS, shared
from swarmd.wire.codec import convert, convert_plain, encode, head, integer, loads, text

COMMAND_VERSION: Final = 1
ENTRY_BYTES_MAX: Final = 1_572_864
"""1.5 MiB: the longest body an entry may have (SwarmKit `store.MaxTransactionBytes`)."""


class Create(msgspec.Struct, frozen=True, gc=False):
    """Tag 0. The object must not exist."""

    object: StoredObject


class Update(msgspec.Struct, frozen=True, gc=False):
    """Tag 1. The object must exist at version `base`."""

    object: StoredObject
    base: int


class Remove(msgspec.Struct, frozen=True, gc=False):
    """Tag 2. The object must exist at version `base`."""

    table: Table
    id: str
    base: int


class Require(msgspec.Struct, frozen=True, gc=False):
    """Tag 3. The object must be at version `base` (0: must not exist)."""

    table: Table
    id: str
    base: int


class Assign(msgspec.Struct, frozen=True, gc=False):
    """Tag 4. Compact: each task (id, base version, node id) gets its node and `status`.

    Every node must take new tasks when this is applied (`indexes.is_schedulable`): a node drained since the decision
    refuses the command, and nothing need be written for it.
    """

    items: tuple[tuple[str, int, str], ...]
    status: TaskStatus


class Report(msgspec.Struct, frozen=True, gc=False):
    """Tag 5. Compact: observed statuses merge monotonically, without a base version. A task that is gone, on another
    node than `node_id` (if that is set), or already further is skipped, deterministically."""

    node_id: str
    items: tuple[tuple[str, TaskStatus], ...]


class Advance(msgspec.Struct, frozen=True, gc=False):
    """Tag 6. Compact: each task (id, base version) gets `status`; the allocator's NEW -> PENDING."""

    items: tuple[tuple[str, int], ...]
    status: TaskStatus


Change = Create | Update | Remove | Require | Assign | Report | Advance


class Claim(msgspec.Struct, frozen=True, gc=False):
    """The transaction relied on `key` of an index being held by exactly `holders` (often none), in any order.

    Sets that may be large (the tasks of a service, of a node) are claimed by `version` instead: nobody has joined or
    left the set since that entry, and `holders` is empty.
    """

    index: str
    """`service.name`, `task.slot`, ...: see `state.tables`."""
    key: str
    holders: tuple[str, ...] = ()
    version: int = 0


class CommandId(msgspec.Struct, frozen=True, gc=False):
    """How a proposer recognises its own entry."""

    member_id: int
    boot_id: bytes
    sequence: int


class IdempotencyKey(msgspec.Struct, frozen=True, gc=False):
    """A client's key, bound to its request. `seen_index` is the applied index at the first try."""

    key: bytes
    request_sha256: bytes
    seen_index: int


class Command(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry's body. `term` is set by leader loops: an entry of another term is refused."""

    v: int = COMMAND_VERSION
    id: CommandId
    actor: str
    at: float
    """The proposer's clock: becomes `meta.created_at` and `meta.updated_at`."""
    term: int = 0
    key: IdempotencyKey | None = None
    claims: tuple[Claim, ...] = ()
    changes: tuple[Change, ...] = ()


class Verdict(IntEnum):
    """What apply made of a command."""

    APPLIED = 0
    CONFLICT = 1
    WRONG_TERM = 2
    DUPLICATE = 3
    """The idempotency key was used before for the same request; `Outcome.index` is the entry that did it."""
    KEY_MISUSED = 4
    KEY_GONE = 5


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The verdict on one entry, the same on every replica."""

    verdict: Verdict
    index: int
    reason: str = ""
    """CONFLICT: what did not hold, for the log and for the error's text."""
    object_id: str = ""
    """APPLIED: the first created or updated object's id, what a DUPLICATE's caller is answered with too. CONFLICT: what
    did not hold (an object's id, an index key), so that a batch writer can drop that part and retry the rest."""


# -- bytes --------------------------------------------------------------------------------------------------------
_ARRAY: Final = 0x80
_FEW: Final = 2
"""Up to so many items it is faster to write them one by one than to let the encoder walk them."""
_MAPS: Final = tuple([head(0xA0, size) for size in range(9)])
_ARRAY_OF_2, _ARRAY_OF_3, _ARRAY_OF_4 = (head(_ARRAY, size) for size in (2, 3, 4))
_FLOAT: Final = Struct(">Bd").pack
_TERM, _CLAIMS, _CHANGES = text("term"), text("claims"), text("changes")
_KEY: Final = text("key") + _ARRAY_OF_3
_CREATE: Final = {type_: _ARRAY_OF_3 + integer(0) + integer(table) for type_, table in TABLE_OF_TYPE.items()}
_UPDATE: Final = {type_: _ARRAY_OF_4 + integer(1) + integer(table) for type_, table in TABLE_OF_TYPE.items()}
_PLACE: Final = b"\xff" * 16
"""Stands where a spec that is encoded already goes. No encoded task holds such a run of bytes: it holds no byte
strings, text is UTF-8, and a number has eight bytes at most."""
_PLACE_ITEM: Final = dumps(_PLACE)


class _Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    v: int
    id: tuple[int, bytes, int]
    actor: str
    at: float
    term: int = 0
    key: tuple[bytes, bytes, int] | None = None
    claims: tuple[tuple[str, str, tuple[str, ...], int], ...] = ()
    changes: tuple[Any, ...] = ()


class _WireChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A change as it stands in an entry. Structs rather than tuple types: msgspec remembers only how to read these."""

    tag: int


_TYPE_OF_NUMBER: Final[dict[int, type[StoredObject]]] = {int(table): type_ for table, type_ in TYPE_OF_TABLE.items()}


class _WireCreate(_WireChange, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    table: Table
    fields: dict[str, Any]


class _WireUpdate(_WireChange, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    table: Table
    base: int
    fields: dict[str, Any]


class _WireReference(_WireChange, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    table: Table
    id: str
    base: int


class _WireAssign(_WireChange, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    items: tuple[tuple[str, int, str], ...]
    status: TaskStatus


class _WireReport(_WireChange, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    node_id: str
    items: tuple[tuple[str, TaskStatus], ...]


class _WireAdvance(_WireChange, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    items: tuple[tuple[str, int], ...]
    status: TaskStatus


def encode_command(command: Command) -> bytes:
    """The entry's body. Raises `ResourceExhausted` beyond `ENTRY_BYTES_MAX`.

    Put together by hand around the objects: a general encoder takes 4 us for the envelope alone, and 0.4 us a tuple.
    """
    id, at = command.id, command.at
    parts = [
        b"",
        _opening(command.v, id.member_id, id.boot_id),
        integer(id.sequence),
        _actor(command.actor),
        _FLOAT(0xFB, at) if type(at) is float and isfinite(at) else dumps(at),
    ]
    fields = 4
    if command.term:
        fields += 1
        parts += (_TERM, integer(command.term))
    if (key := command.key) is not None:
        fields += 1
        parts += (_KEY, dumps(key.key), dumps(key.request_sha256), integer(key.seen_index))
    if claims := command.claims:
        fields += 1
        parts += (_CLAIMS, head(_ARRAY, len(claims)))
        for claim in claims:
            parts += _encode_claim(claim)
    if changes := command.changes:
        fields += 1
        parts += (_CHANGES, head(_ARRAY, len(changes)))
        for change in changes:
            parts += _ENCODE[type(change)](change)
    parts[0] = _MAPS[fields]
    body = b"".join(parts)
    if len(body) > ENTRY_BYTES_MAX:
        raise ResourceExhausted(
            f"the change is {len(body):,} bytes, more than the {ENTRY_BYTES_MAX:,} that one entry may hold",
            hint="split it into smaller changes",
        )
    return body


@lru_cache(maxsize=64)
def _opening(version: int, member_id: int, boot_id: bytes) -> bytes:
    """The first fields, which are the same for all that a proposer writes."""
    return b"".join((text("v"), integer(version), text("id"), _ARRAY_OF_3, integer(member_id), dumps(boot_id)))


@lru_cache(maxsize=64)
def _actor(actor: str) -> bytes:
    return text("actor") + text(actor) + text("at")


def _encode_claim(claim: Claim) -> tuple[bytes, ...]:
    holders = [text(id) for id in claim.holders]
    return (
        _ARRAY_OF_4,
        text(claim.index),
        text(claim.key),
        head(_ARRAY, len(holders)),
        *holders,
        integer(claim.version),
    )


def _object(object: StoredObject) -> bytes:
    if type(object) is Task and (spec := SPECS.encoded(object.spec)) is not None:
        builtins = msgspec.to_builtins(replace(object, spec=NO_SPEC))
        builtins["spec"] = _PLACE
        before, _, after = dumps(builtins).partition(_PLACE_ITEM)
        return b"".join((before, spec, after))
    return dumps(msgspec.to_builtins(object)) if type(object) in WITHOUT_BYTES else encode(object)


def _status(status: TaskStatus) -> bytes:
    return dumps(msgspec.to_builtins(status))


def decode_command(body: bytes) -> Command:
    """The command in an entry's body. Raises `Invalid`: such an entry stops the node with a clear message."""
    if len(body) > ENTRY_BYTES_MAX:
        raise Invalid(f"a command of {len(body):,} bytes is longer than any that may be proposed", field="$")
    raw = loads(body)
    if isinstance(raw, dict) and isinstance(raw.get("v"), int) and raw["v"] > COMMAND_VERSION:
        raise Invalid(
            f"command version {raw['v']} is newer than this program",
            field="$.v",
            hint="run at least the version of swarmd that the other managers run",
        )
    envelope = _convert_envelope(raw)
    if envelope.v != COMMAND_VERSION:
        raise Invalid(f"there is no command version {envelope.v}", field="$.v")
    return Command(
        v=envelope.v,
        id=CommandId(*envelope.id),
        actor=envelope.actor,
        at=envelope.at,
        term=envelope.term,
        key=IdempotencyKey(*envelope.key) if envelope.key is not None else None,
        claims=tuple([Claim(*claim) for claim in envelope.claims]),
        changes=tuple([_decode_change(position, change) for position, change in enumerate(envelope.changes)]),
    )


def _convert_envelope(raw: Any) -> _Envelope:
    if type(raw) is dict and type(id := raw.get("id")) is list and len(id) == 3 and type(id[1]) is bytes:
        key = raw.get("key")
        if key is None or (type(key) is list and len(key) == 3 and type(key[0]) is type(key[1]) is bytes):
            return convert_plain(raw, _Envelope)
    return convert(raw, _Envelope)


def _decode_change(position: int, raw: Any) -> Change:
    try:
        if not isinstance(raw, list) or not raw or type(raw[0]) is not int:
            raise Invalid("a change is an array that begins with its tag", field="$")
        decode = _DECODE.get(raw[0])
        if decode is None:
            raise Invalid(
                f"change kind {raw[0]} is unknown to this program",
                field="$",
                hint="run at least the version of swarmd that the other managers run",
            )
        return decode(raw)
    except Invalid as error:
        path = f"$.changes[{position}]{(error.field or '$')[1:]}"
        raise Invalid(f"{path}: {error.message}", field=path, hint=error.hint) from error


def _decode_create(raw: list[Any]) -> Create:
    if len(raw) == 3 and type(raw[1]) is int and type(raw[2]) is dict and raw[1] in _TYPE_OF_NUMBER:
        return Create(decode_object(raw[2], _TYPE_OF_NUMBER[raw[1]]))
    wire = convert(raw, _WireCreate)  # says what is wrong with it
    return Create(decode_object(wire.fields, TYPE_OF_TABLE[wire.table]))


def _decode_update(raw: list[Any]) -> Update:
    if len(raw) == 4 and type(raw[1]) is type(raw[2]) is int and type(raw[3]) is dict and raw[1] in _TYPE_OF_NUMBER:
        return Update(decode_object(raw[3], _TYPE_OF_NUMBER[raw[1]]), raw[2])
    wire = convert(raw, _WireUpdate)
    return Update(decode_object(wire.fields, TYPE_OF_TABLE[wire.table]), wire.base)


def decode_object(fields: Any, type_: type[StoredObject]) -> StoredObject:
    """An object from its builtins; a task with the spec that is shared. Raises `Invalid` with the path."""
    if type_ in WITHOUT_BYTES:
        return shared(convert_plain(fields, type_))
    return convert(fields, type_)


def _decode_remove(raw: list[Any]) -> Remove:
    wire = convert_plain(raw, _WireReference)
    return Remove(wire.table, wire.id, wire.base)


def _decode_require(raw: list[Any]) -> Require:
    wire = convert_plain(raw, _WireReference)
    return Require(wire.table, wire.id, wire.base)


def _decode_assign(raw: list[Any]) -> Assign:
    wire = convert_plain(raw, _WireAssign)
    return Assign(wire.items, wire.status)


def _decode_report(raw: list[Any]) -> Report:
    wire = convert_plain(raw, _WireReport)
    return Report(wire.node_id, wire.items)


def _decode_advance(raw: list[Any]) -> Advance:
    wire = convert_plain(raw, _WireAdvance)
    return Advance(wire.items, wire.status)


def _encode_create(change: Create) -> tuple[bytes, ...]:
    return (_CREATE[type(change.object)], _object(change.object))


def _encode_update(change: Update) -> tuple[bytes, ...]:
    return (_UPDATE[type(change.object)], integer(change.base), _object(change.object))


def _encode_remove(change: Remove) -> tuple[bytes, ...]:
    return (_ARRAY_OF_4, integer(2), integer(change.table), text(change.id), integer(change.base))


def _encode_require(change: Require) -> tuple[bytes, ...]:
    return (_ARRAY_OF_4, integer(3), integer(change.table), text(change.id), integer(change.base))


def _encode_assign(change: Assign) -> tuple[bytes, ...]:
    return (_ARRAY_OF_3, integer(4), dumps(change.items), _status(change.status))


def _encode_report(change: Report) -> Sequence[bytes]:
    if len(change.items) > _FEW:
        return (dumps((5, change.node_id, msgspec.to_builtins(change.items))),)
    parts = [_ARRAY_OF_3, integer(5), text(change.node_id), head(_ARRAY, len(change.items))]
    for task_id, status in change.items:
        parts += (_ARRAY_OF_2, text(task_id), _status(status))
    return parts


def _encode_advance(change: Advance) -> tuple[bytes, ...]:
    return (_ARRAY_OF_3, integer(6), dumps(change.items), _status(change.status))


_ENCODE: Final[dict[type, Callable[[Any], Sequence[bytes]]]] = {
    Create: _encode_create,
    Update: _encode_update,
    Remove: _encode_remove,
    Require: _encode_require,
    Assign: _encode_assign,
    Report: _encode_report,
    Advance: _encode_advance,
}
_DECODE: Final[dict[int, Callable[[list[Any]], Change]]] = {
    0: _decode_create,
    1: _decode_update,
    2: _decode_remove,
    3: _decode_require,
    4: _decode_assign,
    5: _decode_report,
    6: _decode_advance,
}
