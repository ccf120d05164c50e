"""Who dials a server whose certificate is out of its time is told to look at the clocks; of other faults it is not."""

from __future__ import annotations

import pytest
import trio

from swarmd.errors import Unauthenticated
from swarmd.transport.credentials import Credentials
from swarmd.transport.dialer import dial
from swarmd.transport.establish import no_calls
from swarmd.transport.listener import Listener
from swarmd.wire.frames import Hello
from tests.unit.transport.certificates import Issued, TestAuthority

AUTHORITY = TestAuthority()
STRANGER = TestAuthority("another-ca")
CLOCKS = "compare the clocks of both machines"


@pytest.mark.parametrize(
    ("authority", "issued", "says", "hint"),
    [
        (AUTHORITY, AUTHORITY.issue("m1", valid_from_h=1), "not yet valid", CLOCKS),
        (AUTHORITY, AUTHORITY.issue("m1", valid_from_h=-3, valid_for_h=2), "has expired", CLOCKS),
        (STRANGER, STRANGER.issue("m1"), "no manager of this swarm", None),
    ],
    ids=["early", "late", "stranger"],
)
async def test_a_server_out_of_its_time(authority: TestAuthority, issued: Issued, says: str, hint: str | None) -> None:
    server = Credentials(certificate=issued.certificate, key=issued.key, root=authority.root)
    client = AUTHORITY.credentials("m2")
    async with trio.open_nursery() as nursery:
        port = await nursery.start(Listener("127.0.0.1", 0, server, no_calls(), Hello).run)
        with pytest.raises(Unauthenticated, match=says) as refused:
            async with dial(f"127.0.0.1:{port}", client.client_context(), Hello()):
                pass
        assert refused.value.hint == hint
        nursery.cancel_scope.cancel()
