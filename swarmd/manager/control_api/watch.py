"""Following what happens, from now or from a version on, on whichever manager is asked (reference api-and-cli 5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import trio

from swarmd.errors import Gone, Invalid, PermissionDenied, ResourceExhausted
from swarmd.manager.bell import Bell
from swarmd.manager.control_api.access import Access
from swarmd.manager.control_api.redact import without_secrets
from swarmd.model import Role, StoredObject
from swarmd.state.selection import Selected, Selection
from swarmd.state.watcher import Transaction, Watcher
from swarmd.transport.connection import Call, Stream, StreamHandler
from swarmd.wire.methods import WATCH, Method
from swarmd.wire.watch import WatchedEvent, WatchMessage, WatchRequest

WATCHES_MAX: Final = 16_384
"""At once on one manager."""
WATCHES_PER_CONNECTION_MAX: Final = 64
QUIET_S: Final = 10.0
"""So long without an event, and the client is told how far its watch is: it resumes from there, and knows us alive."""
UNREAD_S_MAX: Final = 30.0
"""A client that takes nothing for so long, with its window full, is given up; it may resume."""
PART_BYTES_MAX: Final = 256 << 10
"""A transaction beyond this travels in several messages, each made when it is sent: some 10 ms of work. One object may
be larger, and still fits a frame."""

_Stream = Stream[WatchMessage, Any]


class WatchHandler:
    """Serves `watch`. Its memory a client is a short queue; the history is shared by all (`state.watcher`)."""

    def __init__(self, access: Access, *, node_id: Callable[[], str]) -> None:
        self._access = access
        self._node_id = node_id
        self._watches: Counter[int] = Counter()
        """By connection: the caller object that all its calls share."""
        self._total = 0

    def handlers(self) -> dict[Method[Any, Any], StreamHandler]:
        return {WATCH: self.watch}

    async def watch(self, call: Call, request: WatchRequest, stream: _Stream) -> None:
        """Send where it runs from, then every transaction that fits, until the client goes away.

        Without a version it runs from a state at least as new as when it was asked for. Raises `Invalid` for what
        cannot be watched and for a version that nothing has reached, `Gone` for one that is forgotten or when the
        client is too slow, `ResourceExhausted`, `Unavailable` without a quorum.
        """
        selection = Selection(request.entries)
        with self._place(call):
            after = await self._start(call, request)
            bell = Bell()
            watcher = self._access.state.watch(selection, after=after, wake=bell.ring)
            try:
                sending = _Sending(stream, after, include_old=request.include_old)
                await sending.say(WatchMessage(version=after, node_id=self._node_id()))
                await self._follow(watcher, bell, sending, call)
            finally:
                watcher.close()

    async def _start(self, call: Call, request: WatchRequest) -> int:
        if request.after is None:
            return (await self._access.read(call)).index
        if request.after < 0:
            raise Invalid("a version is not negative", field="$.after")
        if request.after > self._access.state.index:
            await self._access.linearize()
        if request.after > (index := self._access.state.index):
            raise Invalid(
                f"version {request.after} is in the future: the swarm is at {index}",
                field="$.after",
                hint="was it seen in another swarm, or before a restore?",
            )
        return request.after

    async def _follow(self, watcher: Watcher, bell: Bell, sending: _Sending, call: Call) -> None:
        """Send what the watcher finds, and in quiet times how far it is."""
        is_quiet = False
        while True:
            transactions = watcher.take()
            self._check_role(call)
            for transaction in transactions:
                await sending.tell(transaction)
            if is_quiet and not transactions:
                await sending.reached(watcher.position)
            is_quiet = False
            if watcher.is_current:
                with trio.move_on_after(QUIET_S) as limit:
                    await bell.wait()
                is_quiet = limit.cancelled_caught
            else:
                await trio.lowlevel.checkpoint()

    def _check_role(self, call: Call) -> None:
        """A watch is opened with a manager's certificate, which may be valid for longer than its node is one."""
        caller = call.caller
        if caller.is_local or caller.identity is None:
            return
        node = self._access.state.node(caller.identity.node_id)
        if node is not None and node.role is Role.WORKER and node.spec.desired_role is Role.WORKER:
            raise PermissionDenied(f"node {node.id} is not (any more) a manager")

    @contextmanager
    def _place(self, call: Call) -> Iterator[None]:
        connection = id(call.caller)
        if self._watches[connection] >= WATCHES_PER_CONNECTION_MAX:
            raise ResourceExhausted(f"{WATCHES_PER_CONNECTION_MAX} watches run on this connection already")
        if self._total >= WATCHES_MAX:
            raise ResourceExhausted(f"{WATCHES_MAX} watches run on this manager already", hint="ask another manager")
        self._watches[connection] += 1
        self._total += 1
        try:
            yield
        finally:
            self._total -= 1
            self._watches[connection] -= 1
            if not self._watches[connection]:
                del self._watches[connection]


class _Sending:
    """One client's messages, and how far they are. Raises `Gone` naming that once the client does not read."""

    def __init__(self, stream: _Stream, position: int, *, include_old: bool) -> None:
        self._stream = stream
        self._position = position
        self._include_old = include_old

    async def tell(self, transaction: Transaction) -> None:
        """Send all of it."""
        for events, is_partial in _parts(map(self._event, transaction.events)):
            await self.say(
                WatchMessage(version=transaction.version, at=transaction.at, events=events, is_partial=is_partial)
            )
        self._position = transaction.version

    async def reached(self, version: int) -> None:
        """Say that nothing else happened up to `version`."""
        await self.say(WatchMessage(version=version))
        self._position = version

    async def say(self, message: WatchMessage) -> None:
        """One message."""
        with trio.move_on_after(UNREAD_S_MAX) as limit:
            await self._stream.send(message)
        if limit.cancelled_caught:
            raise Gone(
                f"this watch was not read for {UNREAD_S_MAX:.0f} s; it is complete up to version {self._position}",
                hint="watch again from that version on, and read faster",
            )

    def _event(self, selected: Selected) -> WatchedEvent:
        event = selected.event
        object = event.new if event.new is not None else event.old
        assert object is not None
        old = event.old if self._include_old and event.new is not None else None
        return WatchedEvent(
            kind=event.table.name.lower(),
            action=selected.action,
            object=_fields(object),
            old=None if old is None else _fields(old),
            has_left=selected.has_left,
        )


def _fields(object: StoredObject) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(without_secrets(object), builtin_types=(bytes,))
    return fields


def _parts(events: Iterator[WatchedEvent]) -> Iterator[tuple[tuple[WatchedEvent, ...], bool]]:
    """The events in runs of about `PART_BYTES_MAX`, and whether more follow. Measured in MessagePack, which CBOR
    follows closely."""
    encode, run, size = msgspec.msgpack.Encoder().encode, list[WatchedEvent](), 0
    for event in events:
        if run and size >= PART_BYTES_MAX:
            yield tuple(run), True
            run, size = [], 0
        run.append(event)
        size += len(encode(event))
    yield tuple(run), False
