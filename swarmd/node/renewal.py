"""Keeps a node's certificate young and its role true: renews in time, and at once when the swarm gives another role.

The role follows the stored `node.role`, which the managers change when it is safe (a demoted manager has left Raft by
then), so a renewal is asked for when it can bring what is wanted and not before (reference raft-store-node 4.5).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import msgspec
import trio

from swarmd.errors import Invalid, SwarmError
from swarmd.model import IssuanceState, Node, Role
from swarmd.node.enrolment import CallConnection, request_certificate
from swarmd.pki import Subject, new_key_and_csr, read_subject, renewal_at, sign_renewal, verify_issued
from swarmd.storage.errors import StorageFailed
from swarmd.wire import ca

log = logging.getLogger(__name__)

BACKOFF_S_MIN: Final = 0.1
BACKOFF_S_FIRST: Final = 1.0
BACKOFF_S_MAX: Final = 300.0
LOOK_AT_CLOCK_S: Final = 3600.0
"""The date of renewal is looked at this often: a machine that slept or whose clock was set is not late by much more."""


class Connect(Protocol):
    """Opens a connection to some manager: showing this node's certificate, or (`anonymous`) nothing, under the trust
    root and the name `swarm-ca`, for a certificate that has expired. Raises `Unavailable`."""

    def __call__(self, *, anonymous: bool) -> AbstractAsyncContextManager[CallConnection]: ...


class Replaceable(Protocol):
    """What is needed of `transport.credentials.Credentials`."""

    root: bytes

    def replace(self, *, certificate: bytes, key: bytes, root: bytes) -> None:
        """Use these from the next handshake on."""
        ...


class Renewal:
    """Renews one node's certificate for as long as `run` runs.

    Args:
        certificate: the present certificate, with its `key` (PEM).
        save: makes a new pair durable; it is used only after that.
        credentials: given the new pair for all connections to come.
        renewed: told what the new certificate says, once it is in use: the node starts or stops being a manager.
        changing: held while the pair is changed, for whoever changes the root.
    """

    def __init__(
        self,
        *,
        certificate: bytes,
        key: bytes,
        connect: Connect,
        save: Callable[[bytes, bytes], Awaitable[None]],
        credentials: Replaceable,
        renewed: Callable[[Subject], None],
        changing: trio.Lock | None = None,
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._changing = changing if changing is not None else trio.Lock()
        self._certificate = certificate
        self._key = key
        self._subject = read_subject(certificate)
        self._connect = connect
        self._save = save
        self._credentials = credentials
        self._renewed = renewed
        self._now = now
        self._rng = rng
        self._expected = self._subject.role
        self._is_forced = False
        self._woken = trio.Event()
        self._request: tuple[bytes, bytes] | None = None
        """Key and CSR of the renewal under way: every try asks for the same, so a lost reply is found again."""

    @property
    def subject(self) -> Subject:
        """What the present certificate says."""
        return self._subject

    def observe(self, node: Node) -> None:
        """A session message showed this node as the swarm sees it: renew if its role is not the certificate's, or if
        the swarm asks for it (ROTATE). Never waits; call it for every message."""
        self.expect(node.role)
        if node.certificate.state is IssuanceState.ROTATE:
            self.force()

    def expect(self, role: Role) -> None:
        """The certificate should say `role`: renew at once, and go on trying, until it does. Never waits."""
        if role is not self._expected:
            self._expected = role
            self._wake()

    def force(self) -> None:
        """Renew now. Never waits."""
        if not self._is_forced:
            self._is_forced = True
            self._wake()

    async def run(self) -> None:
        """Renew whenever it is due, until cancelled. `Cancelled` leaves a complete pair saved, the old or the new one.

        No failure ends it: it is logged, and tried again after a random time that grows to 5 minutes.
        """
        while True:
            await self._wait_until_due()
            await self._renew_with_patience()

    async def _wait_until_due(self) -> None:
        due_at = renewal_at(self._subject, self._rng)
        while not self._is_wanted() and (left_s := due_at - self._now()) > 0:
            with trio.move_on_after(min(left_s, LOOK_AT_CLOCK_S)):
                await self._woken.wait()
            self._woken = trio.Event()

    async def _renew_with_patience(self) -> None:
        backoff_s = BACKOFF_S_FIRST
        while True:
            expected = self._expected
            self._woken = trio.Event()
            try:
                await self._renew(expected)
                return
            except (SwarmError, StorageFailed) as error:
                log.warning("could not renew the certificate, trying again: %s", error)
            with trio.move_on_after(self._rng.uniform(BACKOFF_S_MIN, backoff_s)):
                await self._woken.wait()
            backoff_s = min(BACKOFF_S_MAX, 2 * backoff_s)
            if expected is not self._expected:
                backoff_s = BACKOFF_S_FIRST

    async def _renew(self, expected: Role) -> None:
        """One try. Raises `SwarmError` or `StorageFailed`; the old or the new pair is in use then, never a mixture."""
        if self._request is None:
            self._request = new_key_and_csr()
        key, csr = self._request
        now, is_expired = self._now(), self._now() >= self._subject.not_after
        request = ca.IssueRequest(csr=csr)
        if is_expired:
            request = msgspec.structs.replace(
                request, renewal_certificate=self._certificate, renewal_signature=sign_renewal(self._key, csr)
            )
        async with self._connect(anonymous=is_expired) as connection:
            node_id, certificate = await request_certificate(connection, request, rng=self._rng)
        subject = verify_issued(certificate, root=self._credentials.root, key=key, now=now)
        if (subject.node_id, subject.swarm_id, node_id) != (self._subject.node_id, self._subject.swarm_id, node_id):
            raise Invalid("the manager issued a certificate for another node")
        await self._use(certificate, key, subject)
        if subject.role is not expected:
            raise Invalid(
                f"the new certificate says {subject.role.name.lower()} and {expected.name.lower()} is expected"
            )
        self._is_forced = False
        log.info("renewed the certificate: %s, valid until %.0f", subject.role.name.lower(), subject.not_after)
        self._renewed(subject)

    async def _use(self, certificate: bytes, key: bytes, subject: Subject) -> None:
        async with self._changing:
            # Again: the root may have changed since it was asked for.
            verify_issued(certificate, root=self._credentials.root, key=key, now=None)
            await self._save(certificate, key)
            self._credentials.replace(certificate=certificate, key=key, root=self._credentials.root)
        self._certificate, self._key, self._subject = certificate, key, subject
        self._request = None

    def _is_wanted(self) -> bool:
        return self._is_forced or self._expected is not self._subject.role

    def _wake(self) -> None:
        self._woken.set()
