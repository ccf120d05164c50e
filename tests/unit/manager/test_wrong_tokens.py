"""A token that is not the present one: wrong, replaced, of another root. Each says which, and none says the token."""

import random

import pytest
from trio.testing import MockClock

from swarmd.errors import PermissionDenied
from swarmd.pki import new_key_and_csr, new_token, root_digest
from swarmd.wire import ca
from swarmd.wire.identity import Caller
from tests.unit.manager.swarm_fixture import Swarm, call_of

JOINER = Caller(address="192.0.2.7:40123")


async def refusal(swarm: Swarm, token: str) -> PermissionDenied:
    _, csr = new_key_and_csr()
    with pytest.raises(PermissionDenied) as refused:
        await swarm.server.issue(call_of(JOINER), ca.IssueRequest(csr=csr, token=token))
    assert token not in str(refused.value)
    assert token[-25:] not in f"{refused.value.message} {refused.value.hint}"
    assert "join-token" in (refused.value.hint or "")
    assert list(swarm.store.state.nodes()) == []
    return refused.value


async def test_a_wrong_secret_for_this_root(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    wrong = new_token(root_digest(swarm.root), random.Random(9))
    assert "wrong, or it was replaced" in (await refusal(swarm, wrong)).message


async def test_a_token_of_another_root(autojump_clock: MockClock) -> None:
    assert "another swarm, or the root" in (await refusal(Swarm(), Swarm().tokens.worker)).message
