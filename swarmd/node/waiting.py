"""Joining without a token: show a join code, and wait until an operator accepts it (foundations: Tokenless join).

The root that a manager shows is trusted for nothing yet. The code binds it to this node's key; only whoever holds the
root's key can issue a certificate under it, and only an operator who read this code lets that happen.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import Final

import trio

from swarmd.errors import Invalid, PermissionDenied, ResourceExhausted
from swarmd.node.enrolment import (
    CALL_S_MAX,
    TRANSIENT,
    TRIES_MAX,
    Dial,
    Enrolled,
    nobody_let_us_in,
    request_certificate,
)
from swarmd.pki import join_code, new_key_and_csr, verify_issued
from swarmd.storage.join_request import JoinRequest, JoinRequestFile
from swarmd.wire import ca
from swarmd.wire.methods import CA_ROOT

log = logging.getLogger(__name__)

RETRY_S_MIN: Final = 1.0
RETRY_S_MAX: Final = 30.0


class Waiting:
    """One joiner's wait. `file` keeps its request over restarts; `announce` is told the code whenever it may be new to
    whoever reads."""

    def __init__(
        self,
        addresses: Sequence[str],
        file: JoinRequestFile,
        *,
        dial: Dial,
        announce: Callable[[str], None],
        now: Callable[[], float],
        rng: random.Random,
        hostname: str = "",
    ) -> None:
        self._addresses = tuple(addresses)
        self._file = file
        self._dial = dial
        self._announce = announce
        self._now = now
        self._rng = rng
        self._hostname = hostname
        self._request: JoinRequest | None = None

    async def run(self) -> Enrolled:
        """The new identity, once an operator let it in; the request's file is the caller's to delete after saving it.

        Raises `Unavailable` if no manager could be asked (5 tries), `PermissionDenied` if the swarm lets nobody wait,
        or an operator turned this node away, or another root is shown than at first. Once a manager took the request,
        it waits without limit, whoever goes and comes. `Cancelled` leaves a request that the next start goes on with.
        """
        self._request = await trio.to_thread.run_sync(self._file.load)
        failures = 0
        reasons: list[str] = []
        while True:
            for address in self._addresses:
                try:
                    return await self._ask(address)
                except (*TRANSIENT, ResourceExhausted) as error:
                    level = logging.WARNING if self._request is None else logging.INFO
                    log.log(level, "asking %s again to let this node in: %s", address, error)
                    reasons.append(f"{address}: {error}")
            failures += 1
            if self._request is None and failures >= TRIES_MAX:
                raise nobody_let_us_in(reasons)
            wait_s = min(RETRY_S_MIN * 2.0 ** min(failures, 10), RETRY_S_MAX)
            await trio.sleep(wait_s * self._rng.uniform(0.5, 1.0))

    async def _ask(self, address: str) -> Enrolled:
        request = await self._request_for(address)
        issue = ca.IssueRequest(csr=request.csr, hostname=self._hostname)
        try:
            async with self._dial(address, request.root) as connection:
                node_id, certificate = await request_certificate(connection, issue, rng=self._rng)
        except PermissionDenied:
            # Whoever asks next is a new node: this one was decided on.
            await trio.to_thread.run_sync(self._file.delete)
            raise
        subject = verify_issued(certificate, root=request.root, key=request.key, now=self._now())
        if subject.node_id != node_id:
            raise Invalid(f"{address} issued a certificate for another node than it said")
        return Enrolled(root=request.root, certificate=certificate, key=request.key, subject=subject)

    async def _request_for(self, address: str) -> JoinRequest:
        """The request, made for the root that the first manager showed. Announces its code."""
        async with self._dial(address, None) as connection:
            root = (await connection.call(CA_ROOT, ca.RootRequest(), timeout_s=CALL_S_MAX)).certificate
        known = self._request
        if known is not None and known.root != root:
            raise PermissionDenied(
                f"{address} shows another root certificate than when this node first asked; it was sent nothing",
                hint="another swarm? start with an empty state directory; the same one? somebody may be in between",
            )
        if known is None:
            key, csr = new_key_and_csr()
            known = JoinRequest(key=key, csr=csr, root=root)
            await trio.to_thread.run_sync(self._file.save, known)
            self._request = known
        self._announce(join_code(known.root, known.csr))
        return known
