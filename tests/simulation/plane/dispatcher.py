"""What a reign's dispatcher does to nodes: none is confirmed until it is heard again, and who is silent is DOWN."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import trio
from msgspec.structs import replace

from swarmd.errors import SwarmError
from swarmd.model import NodeState, NodeStatus
from swarmd.state.transaction import Transaction
from tests.simulation.plane.log import LogStore
from tests.simulation.plane.machines import Machine

LOOK_EVERY_S: Final = 1.0
GRACE_S: Final = 15.0
ACTOR: Final = "dispatcher"


class FakeDispatcher:
    """One instance per reign."""

    def __init__(self, store: LogStore, machines: dict[str, Machine]) -> None:
        self._store = store
        self._machines = machines
        self._heard_at: dict[str, float] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        await self._try(_unconfirm)
        began = trio.current_time()
        task_status.started()
        while True:
            now = trio.current_time()
            for id, machine in self._machines.items():
                if machine.is_heard:
                    self._heard_at[id] = now
            if any(self._differs(id, began) for id in self._machines):
                await self._try(partial(self._write, began=began))
                for machine in self._machines.values():
                    machine.look()
            await trio.sleep(LOOK_EVERY_S)

    def _wanted(self, id: str, began: float) -> NodeStatus | None:
        node = self._store.state.node(id)
        if node is None:
            return None
        machine, status = self._machines[id], node.status
        if machine.is_heard:
            return replace(status, state=NodeState.READY, confirmed=True, message="")
        silent_s = trio.current_time() - max(self._heard_at.get(id, began), began)
        if status.state is NodeState.DOWN or silent_s >= GRACE_S:
            return replace(status, state=NodeState.DOWN, confirmed=False, message="heartbeat failure")
        return replace(status, state=NodeState.DISCONNECTED, confirmed=False)

    def _differs(self, id: str, began: float) -> bool:
        node, wanted = self._store.state.node(id), self._wanted(id, began)
        return node is not None and wanted is not None and node.status != wanted

    def _write(self, tx: Transaction, began: float) -> None:
        for id in list(self._machines):
            node, wanted = tx.node(id), self._wanted(id, began)
            if node is not None and wanted is not None and node.status != wanted:
                tx.update(replace(node, status=wanted))

    async def _try(self, fn: Callable[[Transaction], None]) -> None:
        try:
            await self._store.update(fn, actor=ACTOR, fenced=True)
        except SwarmError:
            await trio.sleep(0.1)


def _unconfirm(tx: Transaction) -> None:
    for node in tx.nodes():
        if node.status.confirmed:
            tx.update(replace(node, status=replace(node.status, confirmed=False)))
