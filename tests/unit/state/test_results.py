"""Idempotency keys: a retry never acts twice, whatever happened in between."""

from __future__ import annotations

import pytest

from swarmd.state import CommandId, IdempotencyKey, Outcome, Verdict
from swarmd.state.results import RESULTS_MAX
from tests.unit.state.builders import Proposer, service


def key(name: str, *, request: bytes = b"request", seen_index: int = 0) -> IdempotencyKey:
    return IdempotencyKey(name.encode(), request, seen_index)


def create(proposer: Proposer, id: str, with_key: IdempotencyKey, *, actor: str = "a") -> Outcome:
    tx = proposer.begin()
    tx.create(service(id))
    return proposer.commit(tx, key=with_key, actor=actor)


def test_at_least_50_000_results_are_kept() -> None:
    assert RESULTS_MAX >= 50_000


def test_the_same_key_and_request_acts_once_and_is_told_what_was_done(proposer: Proposer) -> None:
    first = create(proposer, "s1", key("k"))
    again = create(proposer, "s2", key("k"))
    assert first.verdict is Verdict.APPLIED
    assert (again.verdict, again.index, again.object_id) == (Verdict.DUPLICATE, first.index, "s1")
    assert proposer.state.service("s2") is None
    assert proposer.state.index == 2


@pytest.mark.parametrize(("request_hash", "actor"), [(b"other", "a"), (b"request", "b")])
def test_a_key_is_bound_to_its_request_and_actor(proposer: Proposer, request_hash: bytes, actor: str) -> None:
    create(proposer, "s1", key("k"))
    assert create(proposer, "s2", key("k", request=request_hash), actor=actor).verdict is Verdict.KEY_MISUSED
    assert proposer.state.service("s2") is None


def test_a_refused_command_leaves_its_key_free(proposer: Proposer) -> None:
    tx = proposer.begin()
    tx.create(service("s1"))
    proposer.create(service("s1"))
    assert proposer.commit(tx, key=key("k")).verdict is Verdict.CONFLICT
    assert create(proposer, "s2", key("k")).verdict is Verdict.APPLIED


def test_a_key_from_before_the_horizon_is_gone_and_a_later_one_acts() -> None:
    proposer = Proposer(results_max=2)
    for number in (1, 2, 3):
        create(proposer, f"s{number}", key(f"k{number}", seen_index=number - 1))
    # The result of entry 1 was evicted: whoever first tried before it cannot know.
    assert create(proposer, "s4", key("k1", seen_index=0)).verdict is Verdict.KEY_GONE
    assert create(proposer, "s4", key("k9", seen_index=0)).verdict is Verdict.KEY_GONE
    assert create(proposer, "s4", key("k9", seen_index=1)).verdict is Verdict.APPLIED
    assert create(proposer, "s5", key("k3", seen_index=2)).verdict is Verdict.DUPLICATE


def test_a_result_is_known_before_proposing_and_by_the_commands_own_id(proposer: Proposer) -> None:
    assert proposer.state.known_result(key("k"), "a") is None
    create(proposer, "s1", key("k"))
    known = proposer.state.known_result(key("k"), "a")
    assert known == Outcome(verdict=Verdict.DUPLICATE, index=1, object_id="s1")
    found = proposer.state.find_command(CommandId(1, b"boot", 1))
    assert found == Outcome(verdict=Verdict.APPLIED, index=1, object_id="s1")
    assert proposer.state.find_command(CommandId(1, b"other boot", 1)) is None


def test_the_term_is_judged_before_the_key(proposer: Proposer) -> None:
    tx = proposer.begin()
    tx.create(service("s1"))
    command = proposer.command(tx, term=2, key=key("k"))
    assert proposer.apply(command, term=3).verdict is Verdict.WRONG_TERM
    assert proposer.state.known_result(key("k"), "a") is None
