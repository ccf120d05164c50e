"""A read learns its index, that it cannot be known, or nothing within a second; and leaves nothing behind."""

from __future__ import annotations

from typing import cast

import pytest
import trio
from trio.testing import MockClock

from swarmd.manager.read_points import ASK_AGAIN_S, ReadPoints
from swarmd.raft import RaftCore, ReadReady


class FakeCore:
    """Answers each question with `index`, if there is one, once the driver was woken."""

    def __init__(self, index: int | None) -> None:
        self.index = index
        self.asked: list[int] = []

    def read_index(self, context: int) -> None:
        self.asked.append(context)

    def points(self) -> ReadPoints:
        points = ReadPoints(cast("RaftCore", self), wake=lambda: self._answer(points))
        return points

    def _answer(self, points: ReadPoints) -> None:
        if self.index is not None:
            points.answered(ReadReady(self.asked[-1], self.index))


@pytest.mark.parametrize(("index", "told"), [(7, 7), (0, 0), (-1, None)])
async def test_what_the_core_answers_is_told(index: int, told: int | None) -> None:
    assert await FakeCore(index).points().ask() == told


async def test_a_lost_question_is_given_up_after_a_second(autojump_clock: MockClock) -> None:
    core = FakeCore(None)
    points = core.points()
    began = trio.current_time()
    assert await points.ask() is None
    assert trio.current_time() - began == pytest.approx(ASK_AGAIN_S)
    points.answered(ReadReady(core.asked[0], 5))  # too late: nobody waits any more
    assert await points.ask() is None


async def test_questions_have_names_of_their_own() -> None:
    core = FakeCore(3)
    points = core.points()
    assert [await points.ask(), await points.ask()] == [3, 3]
    assert len({*core.asked}) == 2
