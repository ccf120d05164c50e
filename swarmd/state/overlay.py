"""What a transaction has written so far, on top of the tables: read-your-own-writes, also through indexes."""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeVar, cast

import msgspec

from swarmd.model import StoredObject
from swarmd.state.indexes import AnyIndex
from swarmd.state.tables import Rows

O = TypeVar("O", bound=StoredObject)  # noqa: E741


class Intent(Enum):
    """What an object's pending write will be proposed as."""

    CREATE = "create"
    UPDATE = "update"
    REMOVE = "remove"
    ASSIGN = "assign"
    ADVANCE = "advance"
    REPORT = "report"


class PendingWrite(msgspec.Struct, frozen=True, gc=False):
    """One object's pending write. `new` None: it will be gone. `base` is the version it was read at."""

    intent: Intent
    rows: Rows[Any]
    base: int
    new: StoredObject | None
    node_id: str = ""
    """REPORT: who observed it."""


class Overlay:
    """Pending writes, in the order in which their objects were first written."""

    __slots__ = ("_ids", "_not_indexed", "writes")

    def __init__(self) -> None:
        self.writes: dict[tuple[int, str], PendingWrite] = {}
        self._not_indexed: list[tuple[Rows[Any], StoredObject]] = []
        self._ids: dict[tuple[str, str], dict[str, None]] = {}
        """(index, key) -> ids whose pending version has, or once had, that key: candidates, checked when read."""

    def get(self, rows: Rows[O], id: str) -> O | None:
        """The object as this transaction sees it."""
        write = self.writes.get((rows.tag, id))
        return rows.objects.get(id) if write is None else cast("O | None", write.new)

    def everything(self, rows: Rows[O]) -> tuple[O, ...]:
        """The whole table as this transaction sees it: created objects last."""
        if not self.writes:
            return tuple(rows.objects.values())
        created = [id for tag, id in self.writes if tag == rows.tag and id not in rows.objects]
        seen = [self.get(rows, id) for id in (*rows.objects, *created)]
        return tuple([object for object in seen if object is not None])

    def put(self, id: str, write: PendingWrite) -> None:
        """Set the pending write of `id`."""
        self.writes[write.rows.tag, id] = write
        if write.new is not None:
            self._not_indexed.append((write.rows, write.new))

    def discard(self, rows: Rows[Any], id: str) -> None:
        """Forget the pending write of an object that was created here."""
        del self.writes[rows.tag, id]

    def holders(self, rows: Rows[O], index: AnyIndex[O], key: str) -> tuple[O, ...]:
        """The objects that hold `key`, as this transaction sees it: those of the tables first."""
        held = index.holders.get(key, {})
        objects = rows.objects
        if not self.writes:
            return tuple([objects[id] for id in held])
        seen = [self.get(rows, id) for id in held]
        seen += [self.get(rows, id) for id in self._candidates(index.name, key) if id not in held]
        return tuple([object for object in seen if object is not None and index.has(object, key)])

    def _candidates(self, index_name: str, key: str) -> dict[str, None]:
        for rows, object in self._not_indexed:
            for index in rows.indexes:
                self._ids.setdefault((index.name, index.key_of(object)), {})[object.id] = None
            if rows.many and rows.is_special(object):
                for many in rows.many:
                    for held in many.keys_of(object):
                        self._ids.setdefault((many.name, held), {})[object.id] = None
        self._not_indexed.clear()
        return self._ids.get((index_name, key), {})
