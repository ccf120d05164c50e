"""Seals every secret anew after the payload key was replaced, a part at a time, and takes the old keys away.

All it knows is in the store, so the next leader goes on where the last one was. A secret that does not open is told
once and left alone with its key: it holds up no other.
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from swarmd.errors import Conflict
from swarmd.manager.loops.feed import Feed
from swarmd.manager.payload_rotation import DropKeys, Reseal, drop_keys, is_rotating, next_step, reseal
from swarmd.manager.proposer import Store
from swarmd.model import Secret
from swarmd.state.command import Table
from swarmd.state.selectors import All
from swarmd.state.watch import Route

log = logging.getLogger(__name__)

ACTOR: Final = "leader:payload-rotation"
RETRY_S: Final = 0.5
"""After others kept changing the same objects."""


class PayloadRotationLoop:
    """One instance per reign."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._unreadable: set[str] = set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Finish whatever rotation there is, and each one that begins, until cancelled. Raises `Unavailable` once this
        manager does not lead. `Cancelled` leaves a state that the next one goes on from."""
        with Feed(self._store.state, (Route(Table.CLUSTER), Route(Table.SECRET))) as feed:
            task_status.started()
            while True:
                try:
                    while (step := self._next()) is not None:
                        await self._take(step)
                except Conflict as error:
                    log.debug("payload rotation: %s", error)
                    await trio.sleep(RETRY_S)
                else:
                    await feed.next()

    def _next(self) -> Reseal | DropKeys | None:
        state = self._store.state
        cluster = state.cluster()
        if cluster is None or not is_rotating(cluster):
            self._unreadable.clear()
            return None
        return next_step(cluster, state.find(Secret, All()), self._unreadable)

    async def _take(self, step: Reseal | DropKeys) -> None:
        if isinstance(step, DropKeys):
            dropped, _ = await self._store.update(drop_keys, actor=ACTOR, fenced=True)
            if dropped:
                log.info("payload keys %s are gone: nothing is sealed under them any more", _listed(dropped))
            return
        done, _ = await self._store.update(lambda tx: reseal(tx, step.ids), actor=ACTOR, fenced=True)
        for id in done.unreadable:
            log.error("secret %s does not open: it is left as it is, and its key is kept", id)
        self._unreadable.update(done.unreadable)
        if done.count:
            log.info("%d secrets are sealed anew, under the newest payload key", done.count)


def _listed(ids: tuple[int, ...]) -> str:
    return ", ".join(map(str, ids))
