"""What a member notes of its state at agreed indexes, and keeps of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import pytest
import trio
import trio.testing

from swarmd.manager.bell import Bell
from swarmd.manager.digests.points import GRADES, HASHES_KEPT, KEPT_OF_A_GRADE, POINTS_MAX, DigestPoints, hash_form
from swarmd.model import Node
from swarmd.state.digest import AGREED_EVERY, HASH_EVERY_MIN, hash_every, is_agreed
from swarmd.state.store import State
from tests.unit.manager.local_store import LocalStore


class FakeState:
    """A state that comes to any index at once."""

    def __init__(self, results: int = 0) -> None:
        self.index = 0
        self.hash_every = hash_every(0, results)

    @property
    def digest(self) -> bytes:
        return self.index.to_bytes(32, "big")

    def capture(self) -> Any:
        real = State()
        for index in range(1, 3):
            real.skip(index, b"")
        return real.capture()


def note(points: DigestPoints, *indexes: int, results: int = 10**9) -> None:
    state = FakeState(results)
    for index in indexes:
        state.index = index
        points.applied(cast("Any", state))


def skipped_to(index: int) -> State:
    state = State()
    for at in range(1, index + 1):
        state.skip(at, b"body")
    return state


def large_state() -> State:
    """At an index where a full hash is due, and takes at least eight steps."""
    store = LocalStore()
    for number in range(8):
        store.write(lambda tx, number=number: [tx.create(Node(id=f"{number}-{n}")) for n in range(64)])  # type: ignore[misc]
    while store.state.index % store.state.hash_every:
        store.state.skip(store.state.index + 1, b"")
    return store.state


def test_agreed_indexes_are_those_of_the_index_alone() -> None:
    assert [index for index in range(1, 200) if is_agreed(index)] == [64, 128, 192]


@pytest.mark.parametrize(
    ("objects", "results", "every"),
    [
        *((0, 0, 256), (1, 0, 256), (64, 0, 256), (65, 0, 512), (128, 256, 512), (129, 0, 1024), (100_000, 9, 524_288)),
        *((0, 256, 256), (0, 257, 512), (64, 65_536, 65_536)),
    ],
)
def test_a_large_state_is_hashed_more_seldom(objects: int, results: int, every: int) -> None:
    assert hash_every(objects, results) == every


def test_a_swarm_of_keyed_changes_is_hashed_although_each_leaves_a_result() -> None:
    hashed = [index for index in range(1, 65_536) if index % hash_every(20, index) == 0]
    assert hashed == [1 << power for power in range(8, 16)]


def test_states_that_have_grown_apart_still_hash_at_common_indexes() -> None:
    steps = [hash_every(objects, objects) for objects in range(0, 5000, 7)]
    assert all(after % before == 0 for before, after in pairwise(steps))
    assert all(every % AGREED_EVERY == 0 for every in steps)


def test_the_newest_of_each_grade_are_kept() -> None:
    points = DigestPoints()
    last = GRADES[2] * 3
    note(points, *range(AGREED_EVERY, last + 1, AGREED_EVERY))
    kept = sorted(points.all)
    assert len(kept) <= POINTS_MAX
    assert kept[-KEPT_OF_A_GRADE:] == list(range(last - 15 * AGREED_EVERY, last + 1, AGREED_EVERY))
    assert [index for index in kept if index % GRADES[1] == 0] == [
        GRADES[1] * n for n in range(1, last // GRADES[1] + 1) if n > last // GRADES[1] - 16 or n % 16 == 0
    ]
    assert kept[0] == GRADES[2]
    newest = points.newest
    assert newest is not None
    assert newest.index == last


def test_one_far_behind_another_has_a_point_in_common_with_it() -> None:
    ahead, behind = DigestPoints(), DigestPoints()
    note(ahead, *range(AGREED_EVERY, 200 * 1024 + 1, AGREED_EVERY))
    note(behind, *range(AGREED_EVERY, 140 * 1024 + 1, AGREED_EVERY))
    assert ahead.all.keys() & behind.all.keys()


async def test_a_full_hash_is_added_when_it_is_done_and_rings(autojump_clock: trio.testing.MockClock) -> None:
    points, bell = DigestPoints(), Bell()
    points.tell(bell)
    state = skipped_to(HASH_EVERY_MIN)
    async with trio.open_nursery() as nursery:
        await nursery.start(points.run)
        points.applied(state)
        assert points.newest_hashed is None
        await bell.wait()
        with trio.fail_after(1):
            while points.newest_hashed is None:
                await bell.wait()
        hashed = points.newest_hashed
        assert hashed is not None
        assert (hashed.index, hashed.digest, hashed.state_hash) == (HASH_EVERY_MIN, state.digest, state.state_hash())
        nursery.cancel_scope.cancel()


async def test_it_is_the_hash_of_the_state_at_that_very_index(autojump_clock: trio.testing.MockClock) -> None:
    points, state = DigestPoints(), skipped_to(HASH_EVERY_MIN)
    right = state.state_hash()
    async with trio.open_nursery() as nursery:
        await nursery.start(points.run)
        points.applied(state)
        state.skip(HASH_EVERY_MIN + 1, b"more, before hashing began")
        await trio.sleep(1)
        hashed = points.newest_hashed
        assert hashed is not None
        assert hashed.state_hash == right
        nursery.cancel_scope.cancel()


async def test_a_large_state_is_hashed_in_steps_between_which_others_run(
    autojump_clock: trio.testing.MockClock,
) -> None:
    state, points = large_state(), DigestPoints()
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while points.newest_hashed is None:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        await nursery.start(points.run)
        points.applied(state)
        await take_turns()
        nursery.cancel_scope.cancel()
    assert turns >= 8


async def test_what_a_snapshot_replaced_is_forgotten_even_while_it_is_hashed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    points = DigestPoints()
    async with trio.open_nursery() as nursery:
        await nursery.start(points.run)
        points.applied(large_state())
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        points.forget()
        await trio.sleep(1)
        assert points.all == {}
        points.applied(skipped_to(2 * HASH_EVERY_MIN))
        await trio.sleep(1)
        assert [p.index for p in points.all.values() if p.state_hash] == [2 * HASH_EVERY_MIN]
        nursery.cancel_scope.cancel()


async def test_hashes_are_kept_longer_than_the_points_around_them(autojump_clock: trio.testing.MockClock) -> None:
    points = DigestPoints()
    async with trio.open_nursery() as nursery:
        await nursery.start(points.run)
        for number in range(1, 13):
            points.applied(skipped_to(number * HASH_EVERY_MIN))
            await trio.sleep(1)
        note(points, *range(13 * HASH_EVERY_MIN, 40 * HASH_EVERY_MIN, AGREED_EVERY))
        hashed = sorted(index for index, point in points.all.items() if point.state_hash)
        assert set(range(5 * HASH_EVERY_MIN, 13 * HASH_EVERY_MIN, HASH_EVERY_MIN)) <= set(hashed)
        assert len(hashed) <= HASHES_KEPT + KEPT_OF_A_GRADE
        nursery.cancel_scope.cancel()


def test_versions_that_hash_other_tables_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = hash_form()
    assert len(ours) == 8
    assert hash_form() == ours
    from swarmd.state.snapshot import Capture

    parts = Capture.parts
    monkeypatch.setattr(Capture, "parts", lambda self: [*parts(self), ("a new table", ())])
    assert hash_form() != ours
