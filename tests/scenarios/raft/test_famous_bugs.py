"""The stories hold for the core as it is, and each planted bug is caught: by a story, and by chance where it can."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from swarmd.raft import HardState, Message, RaftCore, Settings
from swarmd.raft.leadership import Leadership
from tests.scenarios.raft import scripts
from tests.simulation.world import simulate

STORIES = (
    scripts.old_terms_are_not_committed_by_counting,
    scripts.a_vote_survives_a_crash,
    scripts.a_shorter_log_is_not_elected,
    scripts.a_minority_does_not_commit,
)
SEEDS_MAX = 40


@pytest.mark.parametrize("story", STORIES)
def test_story(story: Callable[[], None]) -> None:
    story()


class VotesForShorterLogs(RaftCore):
    """Mutant: forgets Raft 5.4.1."""

    def _is_current(self, message: Message) -> bool:
        return True


def forgets_its_vote(member_id: int, settings: Settings, rng: random.Random, **stored: Any) -> RaftCore:
    """Mutant: the vote is not read back after a crash."""
    hard_state: HardState = msgspec.structs.replace(stored.pop("hard_state"), voted_for=0)
    return RaftCore(member_id, settings, rng, hard_state=hard_state, **stored)


def greatest_match(self: Leadership) -> int:
    """Mutant: one disk is enough."""
    return max(self._progress[voter].match for voter in self._voters)


def any_term(self: Leadership, index: int) -> bool:
    """Mutant: forgets Raft 5.4.2."""
    return True


def simulation_finds(core_factory: Callable[..., RaftCore]) -> bool:
    for seed in range(SEEDS_MAX):
        try:
            simulate(seed, core_factory=core_factory)
        except AssertionError:
            return True
    return False


def test_voting_for_a_shorter_log_is_caught() -> None:
    with pytest.raises(AssertionError, match=r"two entries applied|without a committed entry"):
        scripts.a_shorter_log_is_not_elected(VotesForShorterLogs)
    assert simulation_finds(VotesForShorterLogs)


def test_committing_on_a_minority_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leadership, "quorum_match", greatest_match)
    with pytest.raises(AssertionError, match=r"two of five committed"):
        scripts.a_minority_does_not_commit()
    assert simulation_finds(RaftCore)


def test_forgetting_a_vote_across_a_crash_is_caught() -> None:
    with pytest.raises(AssertionError, match="one leader a term"):
        scripts.a_vote_survives_a_crash(forgets_its_vote)


def test_committing_an_old_term_by_counting_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leadership, "may_commit", any_term)
    with pytest.raises(AssertionError, match=r"two entries applied|free to overwrite"):
        scripts.old_terms_are_not_committed_by_counting()
