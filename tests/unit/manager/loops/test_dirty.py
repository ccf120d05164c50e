from __future__ import annotations

import pytest

from swarmd.manager.loops.dirty import PARKED_RETRY_S, DirtyKeys


@pytest.fixture
def keys() -> DirtyKeys:
    return DirtyKeys()


def taken(keys: DirtyKeys) -> list[str]:
    return list(iter(keys.take, None))


def test_keys_come_out_once_in_the_order_in_which_they_were_marked(keys: DirtyKeys) -> None:
    for key in "abca":
        keys.mark(key, 0)
    assert taken(keys) == ["a", "b", "c"]


def test_a_key_marked_while_taken_is_ready_again_only_when_done(keys: DirtyKeys) -> None:
    keys.mark("a", 0)
    assert keys.take() == "a"
    keys.mark("a", 0)
    assert keys.take() is None
    keys.done("a", None)
    assert keys.take() == "a"
    keys.done("a", None)
    assert keys.take() is None


def test_a_wake_up_makes_the_key_ready_when_due(keys: DirtyKeys) -> None:
    keys.mark("a", 0)
    keys.take()
    keys.done("a", 5.0)
    assert keys.next_alarm == 5.0
    keys.ring_alarms(4.9)
    assert keys.take() is None
    keys.ring_alarms(5.0)
    assert keys.take() == "a"
    assert keys.next_alarm == float("inf")


def test_a_later_result_replaces_the_wake_up(keys: DirtyKeys) -> None:
    keys.mark("a", 0)
    keys.take()
    keys.done("a", 5.0)
    keys.mark("a", 1)
    keys.take()
    keys.done("a", None)
    keys.ring_alarms(100)
    assert keys.take() is None


def test_of_several_deadlines_the_earliest_holds(keys: DirtyKeys) -> None:
    keys.mark_by("a", 3.0)
    keys.mark_by("a", 2.0)
    keys.mark_by("a", 9.0)
    assert keys.next_alarm == 2.0
    keys.ring_alarms(2.0)
    assert taken(keys) == ["a"]
    keys.ring_alarms(100)
    assert keys.take() is None


def test_a_parked_key_is_left_alone_until_its_time(keys: DirtyKeys) -> None:
    keys.mark("a", 0)
    keys.take()
    keys.park("a", 30.0)
    keys.ring_alarms(29)
    assert keys.take() is None
    keys.ring_alarms(30)
    assert keys.take() == "a"


def test_marks_bring_a_parked_key_forward_but_not_to_the_front(keys: DirtyKeys) -> None:
    keys.mark("a", 0)
    keys.take()
    keys.park("a", 30.0)
    keys.mark("a", 10)
    assert keys.take() is None
    keys.ring_alarms(10 + PARKED_RETRY_S)
    assert keys.take() == "a"
