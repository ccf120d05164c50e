"""Routed events: a watcher registers by table, field and key; a commit wakes only those it concerns."""

from __future__ import annotations

import msgspec

from swarmd.model import StoredObject
from swarmd.state.command import Table


class Route(msgspec.Struct, frozen=True, gc=False):
    """Events of `table` whose `field` is `key` in the old or the new object. `field` "" means every event of the table.

    Fields: `id` (any table), task: `node_id`, `service_id`; node: none more.
    """

    table: Table
    field: str = ""
    key: str = ""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One object changed. `old` None: created; `new` None: removed. `index` is the entry that did it."""

    table: Table
    old: StoredObject | None
    new: StoredObject | None
    index: int

    @property
    def id(self) -> str:
        """The object's id."""
        object = self.new if self.new is not None else self.old
        assert object is not None
        return object.id


class Subscription:
    """A bounded queue of events, closed by the watcher (`close`)."""

    is_gone: bool
    """It fell behind (or a snapshot was restored): events were dropped; close it, subscribe again and re-read."""

    def take(self) -> list[Event]:
        """Everything queued, once. Raises `Gone` if events were lost."""
        raise NotImplementedError

    def close(self) -> None:
        """End it. Idempotent."""
        raise NotImplementedError
