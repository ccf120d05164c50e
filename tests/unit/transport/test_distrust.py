"""Who dials trusts no certificate that it was told is no manager's any more."""

from __future__ import annotations

import pytest
import trio

from swarmd.errors import Unauthenticated
from swarmd.model import Role
from swarmd.node.transport import NodeTransport
from swarmd.transport.listener import Listener
from swarmd.transport.router import Router
from swarmd.wire.authorise import CertificatesOnly, authorise
from swarmd.wire.frames import Hello
from tests.unit.transport.certificates import SWARM_ID, TestAuthority

AUTHORITY = TestAuthority()


async def test_a_distrusted_manager_is_refused_and_others_are_not() -> None:
    server = AUTHORITY.credentials("m1")
    router = Router(lambda m, c: authorise(m, c, CertificatesOnly(SWARM_ID)))
    listener = Listener("127.0.0.1", 0, server, router, lambda: Hello(node="m1", swarm=SWARM_ID))
    worker = NodeTransport(AUTHORITY.credentials("w1", Role.WORKER), ())
    async with trio.open_nursery() as nursery:
        address = f"127.0.0.1:{await nursery.start(listener.run)}"
        worker.distrust(["0" * 64])
        async with worker.dial(address):
            pass
        worker.distrust([server.identity.fingerprint, "0" * 64])
        for dial in (worker.dial, worker.dial_anonymously):
            with pytest.raises(Unauthenticated, match="revoked"):
                async with dial(address):
                    pass
        issued = AUTHORITY.issue("m1")
        server.replace(certificate=issued.certificate, key=issued.key, root=AUTHORITY.root)
        async with worker.dial(address):
            pass
        nursery.cancel_scope.cancel()
