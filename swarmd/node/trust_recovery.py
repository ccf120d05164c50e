"""A node that missed the end of a rotation of the root: nobody it finds is vouched for by what it trusts.

A worker asks for the root again without verifying who answers, and `Trust` takes it only if it vouches for the worker's
own certificate, which nobody else's does (reference security 3.2). A manager never does so: its own log says which root
the swarm was on its way to.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from swarmd.errors import Invalid, SwarmError
from swarmd.model import Cluster, Role
from swarmd.node.trust import ROOTS_MAX, Trust, Trusting, require_covers
from swarmd.pki.pem import load_certificate, load_certificates, pem

log = logging.getLogger(__name__)

PAUSE_S: Final = 10.0
"""Between two tries, at least; strangers may answer at many addresses."""
PAUSE_S_MAX: Final = 300.0


class TrustRecovery:
    """`suspect` an address; `run` then looks for a root that covers this node.

    Args:
        fetch: asks this address for the swarm's root, verifying nothing. Raises `SwarmError`.
        cluster: as this node's own log has it, None if it is no manager (or not yet).
        role: what the certificate in use says.
    """

    def __init__(
        self,
        credentials: Trusting,
        trust: Trust,
        *,
        fetch: Callable[[str], Awaitable[bytes]],
        cluster: Callable[[], Cluster | None],
        role: Callable[[], Role],
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._credentials = credentials
        self._trust = trust
        self._fetch = fetch
        self._cluster = cluster
        self._role = role
        self._now = now
        self._rng = rng
        self._address = ""
        self._woken = trio.Event()

    def suspect(self, address: str) -> None:
        """Somebody answers there for whom no trusted root vouches. Never waits."""
        self._address = address
        self._woken.set()

    async def run(self) -> None:
        """Look for a root whenever there is a suspicion, ever less often while none is found, until cancelled."""
        pause_s = PAUSE_S
        while True:
            await self._woken.wait()
            found = await self._find(self._address)
            if found:
                log.warning("the swarm's root seems to have been replaced while this node was away")
                self._trust.offer(found)
            pause_s = PAUSE_S if found else min(PAUSE_S_MAX, 2 * pause_s)
            await trio.sleep(pause_s * self._rng.uniform(0.5, 1.0))
            self._woken = trio.Event()

    async def _find(self, address: str) -> bytes:
        """A root to offer, or nothing."""
        if self._role() is Role.MANAGER:
            return self._by_own_log()
        try:
            root = await self._fetch(address)
            require_covers(root, self._credentials.certificate, self._now())
        except SwarmError as error:
            log.info("%s shows no root that vouches for this node: %s", address, error)
            return b""
        return b"" if root == self._credentials.root else root

    def _by_own_log(self) -> bytes:
        """What is trusted, and the root that the log says is the swarm's or is to be, if it covers this node."""
        cluster = self._cluster()
        if cluster is None:
            return b""
        rotation = cluster.root_ca.rotation
        known = [cluster.root_ca.certificate, *([rotation.certificate] if rotation is not None else [])]
        trusted = [pem(root) for root in load_certificates(self._credentials.root)]
        for wanted in known:
            try:
                root = pem(load_certificate(wanted))
                require_covers(root, self._credentials.certificate, self._now())
            except Invalid:
                continue
            if root not in trusted and len(trusted) < ROOTS_MAX:
                return b"".join((*trusted, root))
        return b""
