"""Carries a rotation of the root through: tells nodes to renew, thirty at a time, and ends it once all were seen anew.

All it knows is in the store, so the next leader goes on where the last one was. A node that is down is waited for;
removing it ends the wait (reference security 4.3; SwarmKit `ca/reconciler.go`).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import Final

import trio
from msgspec.structs import replace

from swarmd.errors import Conflict
from swarmd.manager.loops.feed import Feed
from swarmd.manager.proposer import Store
from swarmd.manager.root_progress import TOLD, is_converged, takes_part, was_issued
from swarmd.model import IssuanceState, JoinTokens, Node, NodeState, RootCA, RootRotation
from swarmd.pki import fingerprint, new_token, root_digest
from swarmd.state.command import Table
from swarmd.state.transaction import Transaction
from swarmd.state.watch import Route

log = logging.getLogger(__name__)

ACTOR: Final = "leader:root-rotation"
TICK_S: Final = 3.0
BATCH: Final = 30
"""Nodes told in one tick: each renews at once, and a large swarm must not do so as one."""
RETELL_S: Final = 30.0
"""A connected node that has a new certificate, and was not seen with it for so long, has lost it: it is told again."""


class RootRotationLoop:
    """One instance per reign. `rng` makes the new join tokens."""

    def __init__(self, store: Store, *, now: Callable[[], float], rng: random.Random) -> None:
        self._store = store
        self._now = now
        self._rng = rng
        self._unseen_since: dict[str, float] = {}
        """Node id -> since when (Trio's clock) it should have been seen with the certificate that it was issued."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Turn every three seconds while the root is rotated, until cancelled. Raises `Unavailable` once this manager
        does not lead."""
        with Feed(self._store.state, (Route(Table.CLUSTER),)) as feed:
            task_status.started()
            while True:
                root = self._root()
                if root is None or root.rotation is None:
                    self._unseen_since.clear()
                    await feed.next()
                    continue
                try:
                    await self._turn(root, root.rotation)
                except Conflict as error:
                    log.debug("root rotation: %s", error)
                with trio.move_on_after(TICK_S):
                    await feed.next()

    def _root(self) -> RootCA | None:
        cluster = self._store.state.cluster()
        return cluster.root_ca if cluster is not None else None

    async def _turn(self, root: RootCA, rotation: RootRotation) -> None:
        target = fingerprint(rotation.certificate)
        concerned = [node for node in self._store.state.nodes() if takes_part(node)]
        waiting = [node for node in concerned if not is_converged(node, rotation, target)]
        if not waiting:
            await self._finish(root)
            return
        ids = self._to_tell(waiting, rotation)[:BATCH]
        if ids:
            told, _ = await self._store.update(lambda tx: tell(tx, ids, rotation), actor=ACTOR, fenced=True)
            done = len(concerned) - len(waiting)
            log.info("root rotation: %d of %d nodes are done, told %d more to renew", done, len(concerned), told)

    def _to_tell(self, waiting: Sequence[Node], rotation: RootRotation) -> list[str]:
        """The nodes that were not told yet, or have lost what they were issued."""
        now = trio.current_time()
        unseen = {node.id for node in waiting if was_issued(node, rotation) and node.status.state is NodeState.READY}
        self._unseen_since = {id: self._unseen_since.get(id, now) for id in unseen}
        return sorted(
            node.id
            for node in waiting
            if node.certificate.state not in TOLD
            and (not was_issued(node, rotation) or now - self._unseen_since.get(node.id, now) >= RETELL_S)
        )

    async def _finish(self, root: RootCA) -> None:
        is_finished, _ = await self._store.update(lambda tx: finish(tx, root, self._rng), actor=ACTOR, fenced=True)
        if is_finished:
            log.info("root rotation: every node has a certificate of the new root, which is the swarm's now")


def tell(tx: Transaction, ids: Sequence[str], rotation: RootRotation) -> int:
    """Tell these nodes to renew, if that is still what this rotation wants; how many were told."""
    cluster = tx.cluster()
    if cluster is None or cluster.root_ca.rotation != rotation:
        return 0
    told = 0
    for id in ids:
        node = tx.node(id)
        if node is not None and node.certificate.state not in TOLD:
            tx.update(replace(node, certificate=replace(node.certificate, state=IssuanceState.ROTATE)))
            told += 1
    return told


def finish(tx: Transaction, started: RootCA, rng: random.Random) -> bool:
    """Make the new root the swarm's, with new join tokens, if the root is still what `started` says (tokens aside) and
    every node has followed; whether that was done."""
    cluster = tx.cluster()
    if cluster is None or _without_tokens(cluster.root_ca) != _without_tokens(started) or started.rotation is None:
        return False
    rotation = started.rotation
    target = fingerprint(rotation.certificate)
    if any(takes_part(node) and not is_converged(node, rotation, target) for node in tx.nodes()):
        return False
    digest = root_digest(rotation.certificate)
    root = RootCA(
        certificate=rotation.certificate,
        key=rotation.key,
        digest=digest,
        join_tokens=JoinTokens(worker=new_token(digest, rng), manager=new_token(digest, rng)),
        last_forced_rotation=started.last_forced_rotation,
    )
    tx.update(replace(cluster, root_ca=root))
    return True


def _without_tokens(root: RootCA) -> RootCA:
    return replace(root, join_tokens=JoinTokens())
