"""How a machine without an identity becomes a node: root, digest, CSR, token, certificate (reference security 2.2).

Nothing is sent to a manager before its root is proved to be the token's; nothing is saved here.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, TypeVar

import msgspec
import trio

from swarmd.errors import (
    Conflict,
    DeadlineExceeded,
    FailedPrecondition,
    Invalid,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SwarmError,
    Unavailable,
)
from swarmd.model import Availability, IssuanceState
from swarmd.pki import (
    CA_SERVER_NAME,
    Subject,
    is_manager_of,
    new_key_and_csr,
    parse_token,
    root_digest,
    verify_issued,
)
from swarmd.transport.credentials import joining_context
from swarmd.transport.dialer import dial
from swarmd.wire import ca
from swarmd.wire.frames import Hello
from swarmd.wire.identity import Caller
from swarmd.wire.methods import CA_ISSUE, CA_ROOT, CA_STATUS, Method

log = logging.getLogger(__name__)

TRIES_MAX: Final = 5
RETRY_S: Final = 2.0
CALL_S_MAX: Final = 5.0
POLLS_S_MAX: Final = 120.0
"""How long a request may stay undecided."""
POLL_PAUSE_S: Final = 1.0
POLL_PAUSE_S_MAX: Final = 30.0
RETRY_AFTER_S_MAX: Final = 60.0
"""Nobody is made to wait longer by what a manager says."""
SPREAD: Final = 1.25
"""Those who are told to come again at one time come within so much of it."""

TRANSIENT: Final = (Unavailable, DeadlineExceeded, Conflict, NotFound)
"""Worth another try: nobody there, or a leader change between the request and its answer."""

Req = TypeVar("Req")
Resp = TypeVar("Resp")


class CallConnection(Protocol):
    """What is needed of a connection; `transport.connection.Connection` keeps it."""

    async def call(self, method: Method[Req, Resp], request: Req, *, timeout_s: float = 5.0) -> Resp:
        """A unary call."""
        ...


class JoiningConnection(CallConnection, Protocol):
    """One that a joiner may have to judge by itself."""

    @property
    def peer(self) -> Caller:
        """Who is at the other end; its `certificate` also where nothing was verified."""
        ...


Dial = Callable[[str, bytes | None], AbstractAsyncContextManager[JoiningConnection]]
"""(address, root) -> a connection to a manager without showing a certificate. `root` None: verify nothing."""


class Enrolled(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A new identity, checked and not yet saved (PEM)."""

    root: bytes
    certificate: bytes
    key: bytes
    subject: Subject

    def __repr__(self) -> str:
        """Without the key."""
        return f"Enrolled({self.subject!r})"


def joining_dial(hello: Callable[[], Hello]) -> Dial:
    """The `Dial` of production: TLS under `root` to a manager by the name `swarm-ca`."""

    def connect(address: str, root: bytes | None) -> AbstractAsyncContextManager[JoiningConnection]:
        return dial(address, joining_context(root), hello(), server_name=CA_SERVER_NAME)

    return connect


class Enrolment:
    """One joining: a key of its own, which all its tries share, so that a lost reply makes no second node.

    Args:
        addresses: managers to ask, in this order, at each try.
        token: its digest proves the root, its secret is shown only under that root.
        root: the trust root if it is known already; it must be the token's.
        hostname: what this node is called until its first session.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        token: str,
        *,
        dial: Dial,
        now: Callable[[], float],
        rng: random.Random,
        availability: Availability = Availability.ACTIVE,
        root: bytes | None = None,
        hostname: str = "",
    ) -> None:
        """Raises `Invalid` for a malformed token, or one of another root."""
        self._addresses = tuple(addresses)
        self._token = token
        self._digest = parse_token(token).digest
        self._dial = dial
        self._now = now
        self._rng = rng
        self._availability = availability
        self._root = root
        self._hostname = hostname
        if root is not None and root_digest(root) != self._digest:
            raise Invalid(
                "the join token is of another swarm than the root that this node trusts, or older than that root",
                hint="`swarmctl cluster join-token worker` on a manager shows the present one",
            )
        self._key, self._csr = new_key_and_csr()

    async def run(self) -> Enrolled:
        """The new identity. 5 tries, 2 s apart, over all addresses; while a swarm says that too many join at once, as
        many more as that takes, each when it was told to come again.

        Raises `Unavailable` with what was tried if nobody could be reached; at once what a manager refused (a wrong
        token, a request that FAILED), and `PermissionDenied` if a root is not the token's. `Cancelled`: a node record
        may have been made.
        """
        reasons: list[str] = []
        for tried in range(TRIES_MAX):
            if tried:
                await trio.sleep(RETRY_S)
            for address in self._addresses:
                try:
                    return await self._join_when_told(address)
                except TRANSIENT as error:
                    log.warning("could not join through %s (try %d of %d): %s", address, tried + 1, TRIES_MAX, error)
                    reasons.append(f"{address}: {error}")
        raise nobody_let_us_in(reasons)

    async def _join_when_told(self, address: str) -> Enrolled:
        """Every manager passes the request on to one leader, so there is nobody else to ask meanwhile."""
        while True:
            try:
                return await self._join(address)
            except ResourceExhausted as error:
                if error.retry_after_s is None:
                    raise
                wait_s = min(error.retry_after_s, RETRY_AFTER_S_MAX) * self._rng.uniform(1.0, SPREAD)
                log.info("joining through %s again in %.1f s: %s", address, wait_s, error)
                await trio.sleep(wait_s)

    async def _join(self, address: str) -> Enrolled:
        if self._root is None:
            async with self._dial(address, None) as connection:
                self._root = await self._fetch_root(connection, address)
                # The same connection will do if its certificate is one of the root that is known now.
                if is_manager_of(connection.peer.certificate, self._root, now=self._now()):
                    return await self._enrol(connection, address, self._root)
        async with self._dial(address, self._root) as connection:
            return await self._enrol(connection, address, self._root)

    async def _enrol(self, connection: CallConnection, address: str, root: bytes) -> Enrolled:
        """Ask over a connection to a proved manager of `root`."""
        request = ca.IssueRequest(
            csr=self._csr, token=self._token, hostname=self._hostname, availability=self._availability
        )
        node_id, certificate = await request_certificate(connection, request, rng=self._rng)
        subject = verify_issued(certificate, root=root, key=self._key, now=self._now())
        if subject.node_id != node_id:
            raise Invalid(f"{address} issued a certificate for another node than it said")
        return Enrolled(root=root, certificate=certificate, key=self._key, subject=subject)

    async def _fetch_root(self, connection: CallConnection, address: str) -> bytes:
        """The root that this manager shows, once it is proved to be the token's."""
        reply = await connection.call(CA_ROOT, ca.RootRequest(), timeout_s=CALL_S_MAX)
        if root_digest(reply.certificate) != self._digest:
            raise PermissionDenied(
                f"the join token is of another swarm than {address}, or its root was replaced since: the root "
                "certificate shown does not match the token's fingerprint; nothing was sent",
                hint="if `swarmctl cluster join-token worker` there shows the same token, somebody may be in between",
            )
        return reply.certificate


async def request_certificate(
    connection: CallConnection, request: ca.IssueRequest, *, rng: random.Random
) -> tuple[str, bytes]:
    """Ask for a certificate and wait until it is decided, at most 2 minutes: (node id, PEM), not verified yet.

    Raises `FailedPrecondition` with the server's reason if the request FAILED, `DeadlineExceeded` if it stays
    undecided, and what the calls raise. `Cancelled`: it may be issued yet, and asking again with the same CSR finds it.
    """
    issued = await connection.call(CA_ISSUE, request, timeout_s=CALL_S_MAX)
    if issued.certificate:
        return issued.node_id, issued.certificate
    poll = ca.StatusRequest(node_id=issued.node_id, csr_sha256=hashlib.sha256(request.csr).digest())
    with trio.move_on_after(POLLS_S_MAX):
        pause_s_max = POLL_PAUSE_S
        while True:
            status = await connection.call(CA_STATUS, poll, timeout_s=CALL_S_MAX)
            if status.state in (IssuanceState.ISSUED, IssuanceState.ROTATE):
                return issued.node_id, status.certificate
            if status.state is IssuanceState.FAILED:
                raise _failed(status.error)
            # The server holds each call while it waits; this pause is for one that does not.
            await trio.sleep(rng.uniform(0, pause_s_max))
            pause_s_max = min(POLL_PAUSE_S_MAX, POLL_PAUSE_S + 2 * pause_s_max)
    raise DeadlineExceeded(f"the certificate request was not decided within {POLLS_S_MAX:.0f} s")


def nobody_let_us_in(reasons: Sequence[str]) -> Unavailable:
    """What is said after the last try."""
    return Unavailable(
        f"no manager let this node in ({'; '.join(dict.fromkeys(reasons)) or 'no address was given'})",
        hint="check --join-addr, and that a manager runs and listens there",
    )


def _failed(reason: str) -> SwarmError:
    return FailedPrecondition(f"the manager refused to issue a certificate: {reason or 'it gave no reason'}")
