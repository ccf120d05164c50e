"""Routed events: a watcher registers by table, field and key; a commit wakes only those it concerns.

A watcher also learns that an object left its filter: the old and the new object's keys are both looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from swarmd.errors import Gone, Invalid
from swarmd.model import StoredObject, Task
from swarmd.state.command import Table

EVENTS_MAX: Final = 10_000
"""Events a subscription may have waiting before it is cut off."""


class Route(msgspec.Struct, frozen=True, gc=False):
    """Events of `table` whose `field` is `key` in the old or the new object. `field` "" means every event of the table.

    Fields: `id` (any table), task: `node_id`, `service_id`; node: none more.
    """

    table: Table
    field: str = ""
    key: str = ""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One object changed. `old` None: created; `new` None: removed. `index` is the entry that did it, `at` the
    proposer's clock."""

    table: Table
    old: StoredObject | None
    new: StoredObject | None
    index: int
    at: float = 0.0

    @property
    def id(self) -> str:
        """The object's id."""
        object = self.new if self.new is not None else self.old
        assert object is not None
        return object.id


class Subscription:
    """A bounded queue of events, closed by the watcher (`close`). Made by `State.subscribe`."""

    __slots__ = ("_events", "_events_max", "_router", "_routes", "_wake", "is_gone")

    def __init__(self, router: Router, routes: tuple[Route, ...], wake: Callable[[], None], events_max: int) -> None:
        self._router = router
        self._routes = routes
        self._wake = wake
        self._events_max = events_max
        self._events: list[Event] = []
        self.is_gone = False
        """It fell behind (or a snapshot was restored): events were dropped; close it, subscribe again and re-read."""

    def take(self) -> list[Event]:
        """Everything queued, once. Raises `Gone` if events were lost."""
        if self.is_gone:
            raise Gone("the watcher fell behind and events were dropped", hint="subscribe again and re-read")
        taken, self._events = self._events, []
        return taken

    def close(self) -> None:
        """End it. Idempotent."""
        self._router.remove(self, self._routes)
        self._events = []

    def _push(self, event: Event) -> bool:
        """Queue `event`; whether the watcher is to be woken for it."""
        events = self._events
        if len(events) >= self._events_max:
            return self._cut_off()
        events.append(event)
        return len(events) == 1

    def _cut_off(self) -> bool:
        """Drop everything and receive no more; whether that is news to the watcher."""
        was_gone, self.is_gone = self.is_gone, True
        self.close()
        return not was_gone


_Subscribers = dict[Subscription, None]


class Router:
    """Who listens to what, per table and field: `key -> subscribers`."""

    def __init__(self) -> None:
        self._tables: dict[Table, _TableRoutes] = {}
        self._subscriptions: _Subscribers = {}
        self._to_wake: list[Subscription] = []

    @property
    def is_listened_to(self) -> bool:
        """Whether anybody subscribes to anything."""
        return bool(self._tables)

    def subscribe(self, routes: Iterable[Route], wake: Callable[[], None], events_max: int) -> Subscription:
        """A subscription to `routes`. Raises `Invalid` for a field that cannot be routed by."""
        wanted = tuple(routes)
        for route in wanted:
            if route.field not in _FIELDS.get(route.table, _FIELDS_OF_ANY):
                raise Invalid(f"events of {route.table.name.lower()} are not routed by {route.field!r}")
        subscription = Subscription(self, wanted, wake, events_max)
        self._subscriptions[subscription] = None
        for route in wanted:
            self._tables.setdefault(route.table, _TableRoutes()).add(route, subscription)
        return subscription

    def remove(self, subscription: Subscription, routes: Iterable[Route]) -> None:
        """Forget a subscription, if it is known."""
        if subscription not in self._subscriptions:
            return
        del self._subscriptions[subscription]
        for route in routes:
            table = self._tables[route.table]
            table.remove(route, subscription)
            if table.is_empty:
                del self._tables[route.table]

    def publish(
        self, table: Table, old: StoredObject | None, new: StoredObject | None, index: int, at: float = 0.0
    ) -> None:
        """Queue the event for those it concerns; `wake` tells them."""
        routes = self._tables.get(table)
        if routes is None:
            return
        subscribers = routes.concerned(old, new)
        if not subscribers:
            return
        event = Event(table, old, new, index, at)
        for subscription in subscribers:
            if subscription._push(event):  # noqa: SLF001 - the router's other half
                self._to_wake.append(subscription)

    def wake(self) -> None:
        """Wake those whose queue turned non-empty, once the whole entry is queued."""
        if self._to_wake:
            woken, self._to_wake = self._to_wake, []
            for subscription in woken:
                subscription._wake()  # noqa: SLF001

    def cut_off_all(self) -> None:
        """A snapshot replaced the state: events were lost for everybody."""
        self._to_wake += [s for s in tuple(self._subscriptions) if s._cut_off()]  # noqa: SLF001
        self.wake()


class _TableRoutes:
    """One table's subscribers by field and key."""

    __slots__ = ("all", "by_id", "by_node_id", "by_service_id")

    def __init__(self) -> None:
        self.all: _Subscribers = {}
        self.by_id: dict[str, _Subscribers] = {}
        self.by_node_id: dict[str, _Subscribers] = {}
        self.by_service_id: dict[str, _Subscribers] = {}

    @property
    def is_empty(self) -> bool:
        return not (self.all or self.by_id or self.by_node_id or self.by_service_id)

    def add(self, route: Route, subscription: Subscription) -> None:
        if route.field:
            self._field(route.field).setdefault(route.key, {})[subscription] = None
        else:
            self.all[subscription] = None

    def remove(self, route: Route, subscription: Subscription) -> None:
        if not route.field:
            self.all.pop(subscription, None)
            return
        field = self._field(route.field)
        if (subscribers := field.get(route.key)) is not None:
            subscribers.pop(subscription, None)
            if not subscribers:
                del field[route.key]

    def concerned(self, old: StoredObject | None, new: StoredObject | None) -> tuple[Subscription, ...]:
        """Each subscriber once, however many of its routes match."""
        found: list[_Subscribers] = [self.all] if self.all else []
        known = new if new is not None else old
        assert known is not None
        if self.by_id and (subscribers := self.by_id.get(known.id)):
            found.append(subscribers)
        if isinstance(known, Task):
            assert old is None or isinstance(old, Task)
            before, after = old or known, known
            if self.by_node_id:
                _look_up(self.by_node_id, before.node_id, after.node_id, found)
            if self.by_service_id:
                _look_up(self.by_service_id, before.service_id, after.service_id, found)
        if len(found) > 1:
            return tuple(dict.fromkeys([s for subscribers in found for s in subscribers]))
        return tuple(found[0]) if found else ()

    def _field(self, name: str) -> dict[str, _Subscribers]:
        match name:
            case "id":
                return self.by_id
            case "node_id":
                return self.by_node_id
            case _:
                return self.by_service_id


_FIELDS_OF_ANY: Final = ("", "id")
_FIELDS: Final = {Table.TASK: ("", "id", "node_id", "service_id")}


def _look_up(routes: dict[str, _Subscribers], before: str, after: str, found: list[_Subscribers]) -> None:
    if subscribers := routes.get(after):
        found.append(subscribers)
    if before != after and (subscribers := routes.get(before)):
        found.append(subscribers)
