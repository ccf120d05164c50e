from __future__ import annotations

from swarmd.raft.progress import Progress, ProgressState


def following(match: int = 5, window: int = 3) -> Progress:
    progress = Progress(2, match + 1, window)
    progress.matched(match, 0)
    progress.replicate()
    return progress


def test_a_probe_sends_one_append_and_waits() -> None:
    progress = Progress(2, 6, 3)
    assert progress.may_append
    progress.sent(9)
    assert not progress.may_append
    assert progress.next == 6, "until it is known where the member is"


def test_replication_is_optimistic_within_the_window() -> None:
    progress = following()
    for last in (6, 7, 8):
        progress.sent(last)
    assert progress.next == 9
    assert not progress.may_append
    assert progress.matched(7, 0)
    assert progress.may_append
    assert list(progress.in_flight) == [8]


def test_an_old_refusal_is_ignored() -> None:
    progress = following()
    assert not progress.refused(4, 0)
    assert progress.state is ProgressState.REPLICATE


def test_a_refusal_ends_pipelining_at_the_last_match() -> None:
    progress = following()
    progress.sent(8)
    assert progress.refused(8, 3)
    assert (progress.state, progress.next) == (ProgressState.PROBE, 6)


def test_a_probe_goes_back_to_the_hint_but_not_behind_the_match() -> None:
    progress = Progress(2, 20, 3)
    assert progress.refused(19, 10)
    assert progress.next == 11
    assert not progress.refused(19, 3), "an answer to an earlier probe"
    progress.matched(8, 0)
    assert progress.refused(10, 2)
    assert progress.next == 9


def test_nothing_is_appended_during_a_snapshot() -> None:
    progress = following()
    progress.await_snapshot(4)
    assert not progress.may_append
    progress.probe(5)
    assert progress.may_append
