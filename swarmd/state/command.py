"""A transaction as a log entry: a command with preconditions, judged when it is applied, on every replica alike.

On the wire: CBOR map `{v, id, term?, key?, actor, at, claims?, changes?}`; each change is an array that begins with its
tag. Append-only. The proposer applies the command it encoded, everybody else the one it decoded, so the round trip must
be exact: `state.normal` brings objects into the form in which it is. See DESIGN.md.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

import msgspec

from swarmd.errors import Invalid, ResourceExhausted
from swarmd.model import Cluster, Node, RemovedNode, Service, StoredObject, Task, TaskStatus
from swarmd.wire.codec import convert, encode, loads

COMMAND_VERSION: Final = 1
ENTRY_BYTES_MAX: Final = 1_572_864
"""1.5 MiB: the longest body an entry may have (SwarmKit `store.MaxTransactionBytes`)."""


class Table(IntEnum):
    """The kinds of object (SwarmKit's StoreAction tags where it has them)."""

    NODE = 2
    SERVICE = 3
    TASK = 4
    CLUSTER = 6
    REMOVED_NODE = 12


TYPE_OF_TABLE: Final[dict[Table, type[StoredObject]]] = {
    Table.NODE: Node,
    Table.SERVICE: Service,
    Table.TASK: Task,
    Table.CLUSTER: Cluster,
    Table.REMOVED_NODE: RemovedNode,
}
TABLE_OF_TYPE: Final[dict[type[StoredObject], Table]] = {type_: table for table, type_ in TYPE_OF_TABLE.items()}


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

    Every node must take new tasks when this is applied (`tables.is_schedulable`): a node drained since the decision
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
    """The entry's body. Raises `ResourceExhausted` beyond `ENTRY_BYTES_MAX`."""
    envelope: dict[str, Any] = {
        "v": command.v,
        "id": (command.id.member_id, command.id.boot_id, command.id.sequence),
        "actor": command.actor,
        "at": command.at,
    }
    if command.term:
        envelope["term"] = command.term
    if command.key is not None:
        envelope["key"] = (command.key.key, command.key.request_sha256, command.key.seen_index)
    if command.claims:
        envelope["claims"] = [(claim.index, claim.key, claim.holders, claim.version) for claim in command.claims]
    if command.changes:
        envelope["changes"] = [_ENCODE[type(change)](change) for change in command.changes]
    body = encode(envelope)
    if len(body) > ENTRY_BYTES_MAX:
        raise ResourceExhausted(
            f"the change is {len(body):,} bytes, more than the {ENTRY_BYTES_MAX:,} that one entry may hold",
            hint="split it into smaller changes",
        )
    return body


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
    envelope = convert(raw, _Envelope)
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
    wire = convert(raw, _WireCreate)
    return Create(convert(wire.fields, TYPE_OF_TABLE[wire.table]))


def _decode_update(raw: list[Any]) -> Update:
    wire = convert(raw, _WireUpdate)
    return Update(convert(wire.fields, TYPE_OF_TABLE[wire.table]), wire.base)


def _decode_remove(raw: list[Any]) -> Remove:
    wire = convert(raw, _WireReference)
    return Remove(wire.table, wire.id, wire.base)


def _decode_require(raw: list[Any]) -> Require:
    wire = convert(raw, _WireReference)
    return Require(wire.table, wire.id, wire.base)


def _decode_assign(raw: list[Any]) -> Assign:
    wire = convert(raw, _WireAssign)
    return Assign(wire.items, wire.status)


def _decode_report(raw: list[Any]) -> Report:
    wire = convert(raw, _WireReport)
    return Report(wire.node_id, wire.items)


def _decode_advance(raw: list[Any]) -> Advance:
    wire = convert(raw, _WireAdvance)
    return Advance(wire.items, wire.status)


_ENCODE: Final[dict[type, Callable[[Any], tuple[Any, ...]]]] = {
    Create: lambda change: (0, TABLE_OF_TYPE[type(change.object)], change.object),
    Update: lambda change: (1, TABLE_OF_TYPE[type(change.object)], change.base, change.object),
    Remove: lambda change: (2, change.table, change.id, change.base),
    Require: lambda change: (3, change.table, change.id, change.base),
    Assign: lambda change: (4, change.items, change.status),
    Report: lambda change: (5, change.node_id, change.items),
    Advance: lambda change: (6, change.items, change.status),
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
