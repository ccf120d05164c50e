"""The managers this node knows, and how its agent finds the one that leads."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

from swarmd.agent.link import DispatcherLink
from swarmd.agent.network_link import NetworkLink
from swarmd.errors import SwarmError, Unavailable
from swarmd.transport.connection import Connection
from swarmd.wire.dispatch import ManagerPeer
from swarmd.wire.methods import HEALTH
from swarmd.wire.peer import HealthReply, HealthRequest

log = logging.getLogger(__name__)

REDIRECTS_MAX: Final = 3
"""A leader may change while it is looked for; after this the agent backs off."""


class Dial(Protocol):
    """Opens a connection of class `control` to an address."""

    def __call__(self, address: str) -> AbstractAsyncContextManager[Connection]: ...


class Remotes:
    """Known managers by node id; implements the agent's `LinkProvider`.

    Args:
        known: what was saved, node id -> addresses. A join address not yet tied to a node has the id "".
        local: the in-memory link while this node leads, else None.
        members: the managers as this node's own Raft log says, if it is one of them.
        changed: told the new map, to be saved.
    """

    def __init__(
        self,
        known: dict[str, tuple[str, ...]],
        dial: Dial,
        rng: random.Random,
        *,
        own_node_id: str,
        local: Callable[[], DispatcherLink | None],
        members: Callable[[], tuple[ManagerPeer, ...]],
        changed: Callable[[dict[str, tuple[str, ...]]], None],
    ) -> None:
        self._known = dict(known)
        self._dial = dial
        self._rng = rng
        self._own_node_id = own_node_id
        self._local = local
        self._members = members
        self._changed = changed

    def addresses(self) -> tuple[str, ...]:
        """Every address of every known manager, shuffled."""
        known = {**self._known, **{m.node_id: m.addresses for m in self._members() if m.addresses}}
        addresses = [address for node_id in sorted(known) for address in known[node_id]]
        self._rng.shuffle(addresses)
        return tuple(dict.fromkeys(addresses))

    def learned_managers(self, managers: tuple[ManagerPeer, ...]) -> None:
        """The dispatcher told where the managers are. An empty list changes nothing: never forget the last door."""
        learned = {m.node_id: m.addresses for m in managers if m.addresses}
        if learned and learned != self._known:
            self._known = learned
            self._changed(dict(learned))

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[DispatcherLink]:
        """A link to the leader's dispatcher. Raises `Unavailable` with what was tried."""
        local = self._local()
        if local is not None:
            yield local
            return
        if any(m.is_leader and m.node_id == self._own_node_id for m in self._members()):
            raise Unavailable("this node is just beginning to lead")  # and must not dial itself meanwhile
        reasons: list[str] = []
        candidates = list(self.addresses())
        for _ in range(len(candidates) + REDIRECTS_MAX):
            if not candidates:
                break
            address = candidates.pop(0)
            # An error of the caller's own work must not be mistaken for a failed dial: hence the flag.
            connected = False
            try:
                async with self._dial(address) as connection:
                    health = await connection.call(HEALTH, HealthRequest())
                    if _is_leader(health):
                        connected = True
                        yield NetworkLink(connection)
                        return
                    candidates[:0] = [a for a in health.leader_addresses if a != address]
                    reasons.append(f"{address} does not lead")
            except SwarmError as error:
                if connected:
                    raise
                reasons.append(f"{address}: {error}")
        raise Unavailable(
            f"no manager that leads was found ({'; '.join(dict.fromkeys(reasons)) or 'none is known'})",
            hint="more than half of the managers must be online",
        )


def _is_leader(health: HealthReply) -> bool:
    return health.leader_node_id == health.node_id
