from __future__ import annotations

import pytest

from swarmd.errors import OutcomeUnknown, Unavailable
from swarmd.manager.waiters import Fate, Proposal, Waiters
from swarmd.state.command import Outcome, Verdict


async def test_a_committed_proposal_has_the_verdict_of_its_entry() -> None:
    proposal, waiters = Proposal(None), Waiters()
    waiters.expect(proposal, 5, 1)
    outcome = Outcome(verdict=Verdict.CONFLICT, index=5, reason="somebody else")
    popped = waiters.pop(5)
    assert popped is proposal
    popped.settle(Fate.COMMITTED, outcome)
    assert proposal.result() == outcome


async def test_a_refused_proposal_raises_why_it_never_entered_the_log() -> None:
    proposal = Proposal(None)
    proposal.refuse(Unavailable("full"))
    with pytest.raises(Unavailable, match="full"):
        proposal.result()


async def test_superseded_is_definite_and_what_was_compacted_is_unknown() -> None:
    waiters = Waiters()
    lost, compacted, later = Proposal(None), Proposal(None), Proposal(None)
    for index, proposal in enumerate((lost, compacted, later), 5):
        waiters.expect(proposal, index, 1)
    popped = waiters.pop(5)
    assert popped is not None
    popped.settle(Fate.SUPERSEDED, None)
    waiters.compacted(6)
    with pytest.raises(Unavailable) as definite:
        lost.result()
    assert not isinstance(definite.value, OutcomeUnknown)
    with pytest.raises(OutcomeUnknown):
        compacted.result()
    assert not later.done.is_set()
    waiters.abandon()
    with pytest.raises(OutcomeUnknown):
        later.result()


async def test_an_earlier_entry_at_the_same_index_is_not_told_as_lost_before_the_index_is_committed() -> None:
    """Figure 8: another member may hold it still, be elected and commit it."""
    earlier, ours, waiters = Proposal(None), Proposal(None), Waiters()
    waiters.expect(earlier, 5, 1)
    waiters.expect(ours, 5, 3)
    assert not earlier.done.is_set()
    popped = waiters.pop(5)
    assert popped is ours
    popped.settle(Fate.COMMITTED, None)
    with pytest.raises(Unavailable) as definite:
        earlier.result()
    assert not isinstance(definite.value, OutcomeUnknown)


async def test_an_earlier_entry_may_be_the_one_that_superseded_ours() -> None:
    earlier, ours, waiters = Proposal(None), Proposal(None), Waiters()
    waiters.expect(earlier, 5, 1)
    waiters.expect(ours, 5, 3)
    popped = waiters.pop(5)
    assert popped is not None
    popped.settle(Fate.SUPERSEDED, None)
    with pytest.raises(OutcomeUnknown):
        earlier.result()
