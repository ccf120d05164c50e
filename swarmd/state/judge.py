"""What a command would do to the tables: all preconditions first, nothing changed until every one holds.

The same on every replica: it depends on the tables, the command and the entry's index alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final, NamedTuple

from msgspec.structs import replace

from swarmd.model import Meta, StoredObject, Task, TaskStatus
from swarmd.state.command import Advance, Assign, Change, Claim, Command, Create, Remove, Report, Require, Table, Update
from swarmd.state.indexes import is_schedulable
from swarmd.state.reports import merged_status
from swarmd.state.rules import RULED, Afterwards, Write, broken_rule
from swarmd.state.tables import Rows, Tables


class Refusal(NamedTuple):
    """The first precondition that did not hold, and of what."""

    reason: str
    about: str


_NOT_STAMPED: Final = Meta()


class Plan:
    """The writes of one command, collected while it is judged; `carry_out` does them.

    Args:
        tables: judged against as they are; a command's own changes do not see each other.
        index: of the entry: becomes `meta.version`.
    """

    __slots__ = ("_at", "_created", "_index", "_metas", "_tables", "first_id", "writes")

    def __init__(self, tables: Tables, index: int) -> None:
        self._tables = tables
        self._index = index
        self._at = 0.0
        self._metas: dict[float, Meta] = {}
        self._created = _NOT_STAMPED
        self.writes: dict[tuple[int, str], Write] = {}
        self.first_id = ""
        """Of the first object created or updated."""

    def judge(self, command: Command) -> Refusal | None:
        """Fill the plan. Raises `Invalid` if the command names something this version does not know."""
        self._at = command.at
        self._created = Meta(version=self._index, created_at=command.at, updated_at=command.at)
        if command.claims:
            claims = [(self._tables.claimable(claim.index), claim) for claim in command.claims]
            for index, claim in claims:
                if not index.upholds(claim):
                    return _claim_refused(claim)
        for change in command.changes:
            if (refusal := self._JUDGE[type(change)](self, change)) is not None:
                return refusal
        return self._judge_uniqueness()

    def carry_out(self) -> None:
        """Do all writes."""
        at_index = self._index
        for (_, id), (rows, old, new) in self.writes.items():
            rows.write(id, old, new, at_index)

    # -- one kind each -----------------------------------------------------------------------------------------
    def _create(self, change: Create) -> Refusal | None:
        object = change.object
        rows = self._tables.by_type[type(object)]
        key = (rows.tag, object.id)
        if object.id in rows.objects or key in self.writes:
            return Refusal(f"{_name(rows.table)} {object.id} already exists", object.id)
        self.writes[key] = (rows, None, replace(object, meta=self._created))
        self.first_id = self.first_id or object.id
        return None

    def _update(self, change: Update) -> Refusal | None:
        object = change.object
        rows = self._tables.by_type[type(object)]
        old = rows.objects.get(object.id)
        if (refusal := self._judge_base(rows, object.id, old, change.base)) is not None:
            return refusal
        self.writes[rows.tag, object.id] = (rows, old, replace(object, meta=self._updated(old)))
        self.first_id = self.first_id or object.id
        return None

    def _remove(self, change: Remove) -> Refusal | None:
        rows = self._tables.by_table[change.table]
        old = rows.objects.get(change.id)
        if (refusal := self._judge_base(rows, change.id, old, change.base)) is not None:
            return refusal
        self.writes[rows.tag, change.id] = (rows, old, None)
        return None

    def _require(self, change: Require) -> Refusal | None:
        held = self._tables.by_table[change.table].objects.get(change.id)
        if (0 if held is None else held.meta.version) != change.base:
            return _moved(change.table, change.id, held, change.base)
        return None

    def _assign(self, change: Assign) -> Refusal | None:
        rows, nodes = self._tables.tasks, self._tables.nodes.objects
        ready: dict[str, None] = {}
        for task_id, base, node_id in change.items:
            old = rows.objects.get(task_id)
            if (refusal := self._judge_step(task_id, old, base, change.status)) is not None:
                return refusal
            assert old is not None
            if node_id not in ready:
                if not is_schedulable(nodes.get(node_id)):
                    return Refusal(f"node {node_id} takes no new tasks", node_id)
                ready[node_id] = None
            new = replace(old, node_id=node_id, status=change.status, meta=self._updated(old))
            self.writes[rows.tag, task_id] = (rows, old, new)
        return None

    def _advance(self, change: Advance) -> Refusal | None:
        rows = self._tables.tasks
        for task_id, base in change.items:
            old = rows.objects.get(task_id)
            if (refusal := self._judge_step(task_id, old, base, change.status)) is not None:
                return refusal
            assert old is not None
            new = replace(old, status=change.status, meta=self._updated(old))
            self.writes[rows.tag, task_id] = (rows, old, new)
        return None

    def _report(self, change: Report) -> Refusal | None:
        rows = self._tables.tasks
        for task_id, status in change.items:
            planned = self.writes.get((rows.tag, task_id))
            old = rows.objects.get(task_id)
            known = old if planned is None else planned[2]
            assert known is None or isinstance(known, Task)
            merged = merged_status(known, change.node_id, status, self._at)
            if known is not None and merged is not None:
                meta = self._created if old is None else self._updated(old)
                self.writes[rows.tag, task_id] = (rows, old, replace(known, status=merged, meta=meta))
        return None

    _JUDGE: ClassVar[dict[type[Change], Callable[[Plan, Any], Refusal | None]]] = {
        Create: _create,
        Update: _update,
        Remove: _remove,
        Require: _require,
        Assign: _assign,
        Advance: _advance,
        Report: _report,
    }

    # -- what they share -------------------------------------------------------------------------------------------
    def _judge_base(self, rows: Rows[Any], id: str, held: StoredObject | None, base: int) -> Refusal | None:
        if held is None or held.meta.version != base:
            return _moved(rows.table, id, held, base)
        if (rows.tag, id) in self.writes:
            return Refusal(f"the command changes {_name(rows.table)} {id} twice", id)
        return None

    def _judge_step(self, task_id: str, held: Task | None, base: int, status: TaskStatus) -> Refusal | None:
        if (refusal := self._judge_base(self._tables.tasks, task_id, held, base)) is not None:
            return refusal
        if held is not None and status.state < held.status.state:
            return Refusal(f"task {task_id} is beyond {status.state.name}", task_id)
        return None

    def _updated(self, old: StoredObject | None) -> Meta:
        assert old is not None
        created_at = old.meta.created_at
        meta = self._metas.get(created_at)
        if meta is None:
            meta = Meta(version=self._index, created_at=created_at, updated_at=self._at)
            self._metas[created_at] = meta
        return meta

    def _judge_uniqueness(self) -> Refusal | None:
        """Names are unique whether claimed or not. Within one command they may be swapped or handed on."""
        taken: dict[tuple[str, str], str] = {}
        is_ruled = False
        for (_, id), (rows, old, new) in self.writes.items():
            if not rows.unique:
                continue
            is_ruled = is_ruled or type(new if new is not None else old) in RULED
            if new is None:
                continue
            for index in rows.unique:
                key = index.key_of(new)
                if not key:
                    continue
                if (old is None or index.key_of(old) != key) and not self._is_free(rows, index.ids(key)):
                    return Refusal(f"{index.name} {key!r} is taken", id)
                if taken.setdefault((index.name, key), id) != id:
                    return Refusal(f"the command gives {index.name} {key!r} to two objects", id)
        return self._judge_rules() if is_ruled else None

    def _judge_rules(self) -> Refusal | None:
        afterwards = Afterwards(self.writes)
        for (_, id), (_, old, new) in self.writes.items():
            if (error := broken_rule(self._tables, afterwards, old, new)) is not None:
                return Refusal(error.message, id)
        return None

    def _is_free(self, rows: Rows[Any], holders: Iterable[str]) -> bool:
        """Whether whoever holds the key now is written by this command too; then `taken` decides."""
        return all((rows.tag, holder) in self.writes for holder in holders)


def _moved(table: Table, id: str, held: StoredObject | None, base: int) -> Refusal:
    if held is None:
        return Refusal(f"{_name(table)} {id} does not exist", id)
    if base == 0:
        return Refusal(f"{_name(table)} {id} exists", id)
    return Refusal(f"{_name(table)} {id} is at version {held.meta.version}, not {base}", id)


def _claim_refused(claim: Claim) -> Refusal:
    return Refusal(f"{claim.index} {claim.key!r} is not held as it was", claim.key)


def _name(table: Table) -> str:
    return table.name.lower().replace("_", " ")
