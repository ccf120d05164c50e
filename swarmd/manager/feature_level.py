"""Raises the swarm's feature level once every manager has announced a feature (foundations: Version skew)."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from typing import Final

import msgspec
import trio

from swarmd.errors import Conflict
from swarmd.manager.loops.feed import Feed
from swarmd.manager.proposer import Store
from swarmd.model import Cluster, Node
from swarmd.state.command import Table
from swarmd.state.features import raised_feature_level
from swarmd.state.transaction import Transaction
from swarmd.state.watch import Route

log = logging.getLogger(__name__)

ACTOR: Final = "leader:feature-level"
RETRY_S: Final = 1.0


class FeatureLevelLoop:
    """One instance per reign.

    Args:
        known: what this software may write into the log. A node announces more than that (what its executor can do),
            and none of it concerns the log.
    """

    def __init__(self, store: Store, *, known: tuple[str, ...], rng: random.Random) -> None:
        self._store = store
        self._known = frozenset(known)
        self._rng = rng

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the announcements until cancelled. Raises `Unavailable` once this manager does not lead."""
        state = self._store.state
        with Feed(state, (Route(Table.NODE),)) as feed:
            task_status.started()
            while True:
                cluster = state.cluster()
                if cluster is not None and self._level_of(cluster, state.nodes()) != set(cluster.feature_level):
                    await self._raise_level()
                await feed.next()

    def _level_of(self, cluster: Cluster, nodes: Iterable[Node]) -> set[str]:
        announced = raised_feature_level(cluster.feature_level, nodes)
        return set(cluster.feature_level) | (set(announced) & self._known)

    async def _raise_level(self) -> None:
        def fn(tx: Transaction) -> tuple[str, ...]:
            cluster = tx.cluster()
            if cluster is None:
                return ()
            level = tuple(sorted(self._level_of(cluster, tx.nodes())))
            if level != cluster.feature_level:
                tx.update(msgspec.structs.replace(cluster, feature_level=level))
            return level

        while True:
            try:
                level, _ = await self._store.update(fn, actor=ACTOR, fenced=True)
            except Conflict as error:
                log.debug("raising the feature level: %s", error)
                await trio.sleep(RETRY_S * (1 + self._rng.random()))
            else:
                log.info("feature level: %s", ", ".join(level))
                return
