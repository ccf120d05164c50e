"""Which roots this node trusts: a new one is taken from the swarm only if it vouches for this node itself.

Whoever could make a node trust a root that is not its own could lead it away (reference security 4.3, 8 row 30).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import trio

from swarmd.errors import Invalid
from swarmd.pki.authority import require_issued_by
from swarmd.pki.pem import load_certificates, pem
from swarmd.storage.errors import StorageFailed

log = logging.getLogger(__name__)

ROOTS_MAX: Final = 2
RETRY_S: Final = 5.0
"""After a disk that refused."""


class Trusting(Protocol):
    """What is needed of `transport.credentials.Credentials`."""

    root: bytes

    @property
    def certificate(self) -> bytes:
        """The certificate in use, with what stands behind it."""
        ...

    def trust(self, root: bytes) -> None:
        """Use this root from the next handshake on."""
        ...


class Trust:
    """Takes the roots that the dispatcher sends, or refuses them with one log line.

    Args:
        save: makes a root durable; it is used only after that.
        changing: held while a pair or a root is changed, so that a renewal under way and a new root are
            both applied in the end.
    """

    def __init__(
        self,
        credentials: Trusting,
        *,
        save: Callable[[bytes], Awaitable[None]],
        changing: trio.Lock,
        now: Callable[[], float],
    ) -> None:
        self._credentials = credentials
        self._save = save
        self._changing = changing
        self._now = now
        self._offered: bytes | None = None
        self._refused: tuple[bytes, bytes] | None = None
        """Root and certificate of the last refusal: it is told once."""
        self._woken = trio.Event()

    def offer(self, root: bytes) -> None:
        """The swarm says that this is its root. Never waits; the last one counts."""
        self._offered = root
        self._woken.set()

    def certificate_changed(self) -> None:
        """Look again at what was offered: another certificate may be covered. Never waits."""
        self._woken.set()

    async def run(self) -> None:
        """Take what is offered, until cancelled. `Cancelled` leaves the old root or the new one, saved."""
        while True:
            await self._woken.wait()
            self._woken = trio.Event()
            try:
                await self.apply()
            except StorageFailed as error:
                log.error("the swarm's new root could not be saved, trying again: %s", error)
                with trio.move_on_after(RETRY_S):
                    await self._woken.wait()
                self._woken.set()

    async def apply(self) -> None:
        """Take the offered root, or refuse it. Raises `StorageFailed`: the old one stays."""
        async with self._changing:
            root = self._offered
            if root is None or root == self._credentials.root:
                return
            certificate = self._credentials.certificate
            try:
                require_covers(root, certificate, self._now())
            except Invalid as error:
                self._tell(root, certificate, error)
                return
            await self._save(root)
            self._credentials.trust(root)
            log.info("trusting the swarm's new root from now on")

    def _tell(self, root: bytes, certificate: bytes, error: Invalid) -> None:
        if self._refused != (root, certificate):
            self._refused = (root, certificate)
            log.error("refused a new root that the dispatcher sent, the present one stays: %s", error.message)


def require_covers(roots: bytes, certificate: bytes, now: float) -> None:
    """Raise `Invalid` unless each of `roots` (PEM), by itself, vouches for `certificate` (PEM, with what stands behind
    it): one that does not would let strangers in. The certificate's own dates do not count."""
    leaf, *behind = load_certificates(certificate)
    trusted = load_certificates(roots)
    if len(trusted) > ROOTS_MAX:
        raise Invalid(f"a node trusts at most {ROOTS_MAX} roots, and these are {len(trusted)}")
    for number, root in enumerate(trusted, 1):
        try:
            require_issued_by(leaf, pem(root), behind=behind, now=now)
        except Invalid as error:
            which = f"number {number} of {len(trusted)} roots" if len(trusted) > 1 else "it"
            raise Invalid(f"{which} does not vouch for this node's certificate: {error.message}") from error
