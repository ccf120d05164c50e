"""Writes what the dispatcher knows of nodes: one transaction in flight, everything that piles up meanwhile in the next.

So a single change is written at once, and five thousand registrations after a leader change take some 25 entries.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import Final

import msgspec
import trio

from swarmd.errors import Conflict, Invalid, NotFound, ResourceExhausted, SwarmError, Unavailable
from swarmd.manager.bell import Bell
from swarmd.manager.dispatcher.receipt import Receipt
from swarmd.manager.dispatcher.seen_certificate import SeenCertificate, with_seen
from swarmd.manager.proposer import Store
from swarmd.model import Node, NodeDescription, NodeState
from swarmd.state.transaction import Transaction
from swarmd.wire import codec

log = logging.getLogger(__name__)

NODES_PER_WRITE_MAX: Final = 200
RETRY_S: Final = 0.1
DESCRIPTION_BYTES_MAX: Final = 64 << 10
ACTOR: Final = "dispatcher"


def check_description(description: NodeDescription) -> None:
    """Raise `Invalid` for what is longer than anything a node has to say: it stays in the state, on every manager."""
    size = len(codec.encode(description))
    if size > DESCRIPTION_BYTES_MAX:
        raise Invalid(
            f"a node's description has at most {DESCRIPTION_BYTES_MAX:,} bytes; this one has {size:,}",
            field="$.description",
        )


class NodeChange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What to write of a node; None leaves a field as it is."""

    state: NodeState | None = None
    message: str | None = None
    confirmed: bool | None = None
    addr: str | None = None
    description: NodeDescription | None = None
    seen: SeenCertificate | None = None

    def after(self, earlier: NodeChange) -> NodeChange:
        """Both changes as one, this one later."""
        fields = NodeChange.__struct_fields__
        ours = {field: getattr(self, field) for field in fields if getattr(self, field) is not None}
        return msgspec.structs.replace(earlier, **ours)

    def of(self, node: Node, now: float) -> Node:
        """The node with this change."""
        given = {"state": self.state, "message": self.message, "confirmed": self.confirmed, "addr": self.addr}
        status = msgspec.structs.replace(node.status, **{k: v for k, v in given.items() if v is not None})
        description = node.description if self.description is None else self.description
        node = msgspec.structs.replace(node, status=status, description=description)
        return node if self.seen is None else with_seen(node, self.seen, now)


class NodeWriter:
    """A queue of at most one change a node."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._bell = Bell()
        self._changes: dict[str, NodeChange] = {}
        self._receipts: dict[str, list[Receipt]] = {}
        self._closed: SwarmError | None = None

    def put(self, node_id: str, change: NodeChange) -> Receipt:
        """Queue a change, on top of what is queued for that node. Never waits."""
        receipt = Receipt()
        if self._closed is not None:
            receipt.settle(self._closed)
            return receipt
        earlier = self._changes.get(node_id)
        self._changes[node_id] = change if earlier is None else change.after(earlier)
        self._receipts.setdefault(node_id, []).append(receipt)
        self._bell.ring()
        return receipt

    def close(self, error: SwarmError) -> None:
        """Nothing more will be written: everybody who waits, or comes later, is told why."""
        self._closed = error
        self._changes.clear()
        for receipts in self._receipts.values():
            for receipt in receipts:
                receipt.settle(error)
        self._receipts.clear()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._bell.wait()
            while self._changes:
                batch = {id: self._changes.pop(id) for id in list(self._changes)[:NODES_PER_WRITE_MAX]}
                receipts = {id: self._receipts.pop(id, []) for id in batch}
                try:
                    await self._write(batch, receipts)
                finally:
                    # Empty unless we were cancelled: their fate is unknown and `close` tells them so.
                    for id, waiting in receipts.items():
                        self._receipts.setdefault(id, []).extend(waiting)

    async def _write(self, batch: dict[str, NodeChange], receipts: dict[str, list[Receipt]]) -> None:
        try:
            missing, _ = await self._store.update(partial(_record, batch), actor=ACTOR, fenced=True)
        except (Conflict, ResourceExhausted) as error:
            # One contested node, or one huge description, must not hold up the others.
            if len(batch) > 1:
                for id, change in batch.items():
                    await self._write({id: change}, receipts)
            elif isinstance(error, ResourceExhausted) and any(change.description for change in batch.values()):
                self._settle(batch, receipts, error)
            else:
                await self._retry_later(batch, error)
        except Unavailable as error:
            # Usually we are being deposed and cancelled any moment. If not, what we know of a node must not be lost.
            await self._retry_later(batch, error)
        else:
            self._settle(batch.keys() - missing, receipts, None)
            for id in missing:
                self._settle([id], receipts, NotFound(f"node {id} is not in this swarm (any more)"))

    def _settle(self, ids: Iterable[str], receipts: dict[str, list[Receipt]], error: SwarmError | None) -> None:
        for id in ids:
            for receipt in receipts.pop(id, []):
                receipt.settle(error)

    async def _retry_later(self, batch: dict[str, NodeChange], error: SwarmError) -> None:
        log.warning("could not write the state of %d nodes, trying again: %s", len(batch), error)
        for id, change in batch.items():
            later = self._changes.get(id)
            self._changes[id] = change if later is None else later.after(change)
        await trio.sleep(RETRY_S)


def _record(batch: dict[str, NodeChange], tx: Transaction) -> frozenset[str]:
    """Write what differs; the ids of nodes that are not there."""
    missing = set()
    for id, change in batch.items():
        node = tx.node(id, unchecked=True)
        if node is None:
            missing.add(id)
        elif (changed := change.of(node, tx.now)) != node:
            tx.node(id)
            tx.update(changed)
    return frozenset(missing)
