"""A log as plain data, a line at a time: for people, and for scripts that read JSON lines. Pure.

Secrets are left out unless they are asked for (`control_api.secret_fields`); what is beyond the commit index says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from operator import attrgetter
from typing import Any, Final

import msgspec

from swarmd.errors import Invalid
from swarmd.manager.control_api.secret_fields import ASSIGNMENTS, is_secret, without_value
from swarmd.manager.offline import NOT_COMMITTED, OfflineLog
from swarmd.model import StoredObject
from swarmd.raft import Entry, EntryKind, decode_change
from swarmd.state.command import (
    TABLE_OF_TYPE,
    Advance,
    Assign,
    Change,
    Command,
    Create,
    Remove,
    Report,
    Require,
    Table,
    Update,
    decode_command,
)
from swarmd.state.store import State

REDACTED: Final = "<redacted>"

Line = dict[str, Any]


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries: both ends included; 0 leaves an end open."""

    first: int = 0
    last: int = 0

    def holds(self, index: int) -> bool:
        """Whether `index` is in it."""
        return self.first <= index and (not self.last or index <= self.last)


def dump(log: OfflineLog, range: Range, *, unredacted: bool = False) -> Iterator[Line]:
    """The log as objects to print: whose it is, hard state, snapshot, membership, then the entries in `range`."""
    plain = Plain(unredacted=unredacted)
    stored = log.stored
    yield {"what": "log", **plain.struct(log.identity), "member_id": _hex(log.identity.member_id)}
    yield {"what": "hard_state", "term": stored.hard_state.term, "voted_for": _hex(stored.hard_state.voted_for)} | {
        "commit": stored.hard_state.commit,
        "last_index": log.last_index,
        "last_term": log.last_term,
    }
    yield {"what": "snapshot", "index": stored.snapshot.index, "term": stored.snapshot.term}
    yield {"what": "membership", **_membership(log)}
    for entry in stored.entries:
        if range.holds(entry.index):
            yield _entry(entry, log.known_commit, plain)


def dump_objects(state: State, *, unredacted: bool = False) -> Iterator[Line]:
    """What the log leads to: the state's index and digest, then every object, in order of kind and id."""
    plain = Plain(unredacted=unredacted)
    yield {"what": "state", "index": state.index, "digest": state.digest.hex()}
    for table in Table:
        for object in sorted(state.by_id_prefix(table, ""), key=attrgetter("id")):
            yield {"what": "object", "table": table.name, "object": plain.struct(object)}


def _membership(log: OfflineLog) -> Line:
    """As of the end of the log: a change is in force from the moment it is written."""
    configuration = log.configuration()
    committed = log.configuration(log.known_commit)
    members = [
        {"member_id": _hex(m.member_id), "node_id": m.node_id, "addresses": list(m.addresses), "is_voter": m.is_voter}
        for m in configuration.members
    ]
    return {
        "status": "committed" if configuration == committed else NOT_COMMITTED,
        "members": members,
        "removed": [_hex(member_id) for member_id in configuration.removed],
    }


def _entry(entry: Entry, commit: int, plain: Plain) -> Line:
    line: Line = {
        "what": "entry",
        "index": entry.index,
        "term": entry.term,
        "kind": entry.kind.name,
        "status": "committed" if entry.index <= commit else NOT_COMMITTED,
    }
    try:
        match entry.kind:
            case EntryKind.CONFIG:
                change = decode_change(entry.body)
                member = plain.struct(change.member) | {"member_id": _hex(change.member.member_id)}
                line |= {"change": change.kind.name, "member": member}
            case EntryKind.DATA:
                line |= _command(decode_command(entry.body), plain)
            case EntryKind.NOOP:
                pass
    except Invalid as error:
        line["unreadable"] = error.message
    return line


def _command(command: Command, plain: Plain) -> Line:
    line: Line = {"actor": command.actor, "at": plain.value(command.at, "at"), "proposer": _hex(command.id.member_id)}
    if command.term:
        line["fenced_to_term"] = command.term
    if command.key is not None:
        line["idempotency_key"] = command.key.key.hex()
    if command.claims:
        line["claims"] = [plain.struct(claim) for claim in command.claims]
    line["changes"] = [_change(change, plain) for change in command.changes]
    return line


def _change(change: Change, plain: Plain) -> Line:
    op = type(change).__name__.lower()
    match change:
        case Create(object):
            return {"op": op, "table": _table(object), "object": plain.struct(object)}
        case Update(object, base):
            return {"op": op, "table": _table(object), "base": base, "object": plain.struct(object)}
        case Remove(table, id, base) | Require(table, id, base):
            return {"op": op, "table": table.name, "id": id, "base": base}
        case Assign(items, status):
            tasks = [{"id": id, "base": base, "node_id": node_id} for id, base, node_id in items]
            return {"op": op, "tasks": tasks, "status": plain.struct(status)}
        case Advance(items, status):
            tasks = [{"id": id, "base": base} for id, base in items]
            return {"op": op, "tasks": tasks, "status": plain.struct(status)}
        case Report(node_id, items):
            reports = [{"id": id, "status": plain.struct(status)} for id, status in items]
            return {"op": op, "node_id": node_id, "tasks": reports}


def _table(object: StoredObject) -> str:
    return TABLE_OF_TYPE[type(object)].name


def _hex(member_id: int) -> str:
    """As logs show it; JavaScript and `jq` would round the number."""
    return f"{member_id:x}"


class Plain:
    """Turns values into what JSON knows: enums by name, instants as RFC 3339, bytes in hexadecimal."""

    def __init__(self, *, unredacted: bool) -> None:
        self._unredacted = unredacted

    def struct(self, value: msgspec.Struct) -> Line:
        """Every field, secrets replaced."""
        return {name: self._field(type(value), name, getattr(value, name)) for name in value.__struct_fields__}

    def value(self, value: Any, name: str = "") -> Any:
        """`value`, which is in a field `name`."""
        match value:
            case msgspec.Struct():
                return self.struct(value)
            case Enum():
                return value.name
            case bytes():
                return value.decode() if value.startswith(b"-----BEGIN ") else value.hex()
            case dict():
                return {str(key): self.value(item) for key, item in value.items()}
            case tuple() | list():
                return [self.value(item) for item in value]
            case float() if name == "at" or name.endswith("_at"):
                return datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z") if value else None
            case _:
                return value

    def _field(self, owner: type[msgspec.Struct], name: str, value: Any) -> Any:
        if self._unredacted or not value:
            return self.value(value, name)
        if (owner, name) in ASSIGNMENTS:
            return [without_value(item) for item in value]
        return REDACTED if is_secret(owner, name, value) else self.value(value, name)
