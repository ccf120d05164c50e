from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
import trio.testing

from swarmd.errors import FailedPrecondition, Unavailable
from swarmd.manager.reign import CRASHES_BEFORE_HAND_OVER, HAND_OVER_PAUSE_S, RESTART_S_MAX, Component, Leadership
from tests.unit.manager.fake_driver import FakeDriver


class Loop:
    """Runs for `lives_s` and then raises `error`; for ever without one."""

    def __init__(self, log: list[str], name: str, error: Exception | None = None, lives_s: float = 0.0) -> None:
        self._log = log
        self._name = name
        self._error = error
        self._lives_s = lives_s

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._log.append(f"{self._name} begins")
        try:
            if self._error is not None and not self._lives_s:
                raise self._error
            task_status.started()
            if self._error is not None:
                await trio.sleep(self._lives_s)
                raise self._error
            await trio.sleep_forever()
        except trio.Cancelled:
            self._log.append(f"{self._name} ends")
            raise


@asynccontextmanager
async def reigning(
    driver: FakeDriver, *makers: Callable[[], Component], ended: Callable[[], None] = lambda: None
) -> AsyncIterator[list[int]]:
    terms: list[int] = []

    def components(term: int) -> tuple[Callable[[], Component], ...]:
        terms.append(term)
        return makers

    async with trio.open_nursery() as nursery:
        await nursery.start(Leadership(cast("Any", driver), components, ended=ended).run)
        yield terms
        nursery.cancel_scope.cancel()


async def test_each_term_gets_components_of_its_own_and_losing_it_ends_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[str] = []
    driver = FakeDriver()
    async with reigning(
        driver, lambda: Loop(log, "a"), lambda: Loop(log, "b"), ended=lambda: log.append("over")
    ) as terms:
        await trio.testing.wait_all_tasks_blocked()
        assert terms == []
        driver.lead(3)
        await trio.sleep(1)
        assert log == ["a begins", "b begins"]
        driver.follow()
        await trio.sleep(1)
        assert sorted(log[2:4]) == ["a ends", "b ends"]
        assert log[4:] == ["over"]
        driver.lead(5)
        await trio.sleep(1)
        assert terms == [3, 5]


async def test_a_reign_ends_with_its_term_even_if_the_next_one_is_ours_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[str] = []
    driver = FakeDriver()
    async with reigning(driver, lambda: Loop(log, "a")) as terms:
        driver.lead(3)
        await trio.sleep(1)
        driver.lead(4)
        await trio.sleep(1)
        assert terms == [3, 4]
        assert log == ["a begins", "a ends", "a begins"]


@pytest.mark.parametrize(
    "error", [TypeError("a defect"), FailedPrecondition("cannot"), ExceptionGroup("", [KeyError()])]
)
async def test_a_crashing_loop_is_started_again_with_growing_pauses_and_disturbs_no_other(
    autojump_clock: trio.testing.MockClock, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    driver = FakeDriver()
    driver.transfer_error = FailedPrecondition("nobody")
    caplog.set_level(logging.CRITICAL)
    async with reigning(driver, lambda: Loop(log, "bad", error), lambda: Loop(log, "good")):
        driver.lead(1)
        await trio.sleep(600)
        starts = log.count("bad begins")
        assert 10 < starts < 20
        assert log.count("good begins") == 1
        assert "good ends" not in log
        await trio.sleep(RESTART_S_MAX * 2)
        assert log.count("bad begins") > starts


async def test_a_loop_that_keeps_crashing_gives_another_machine_a_try_but_not_in_circles(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    driver = FakeDriver()
    caplog.set_level(logging.CRITICAL)
    async with reigning(driver, lambda: Loop(log, "bad", TypeError("a defect"))):
        driver.lead(1)
        await trio.sleep(2.5)
        assert (log.count("bad begins"), driver.transfers) == (CRASHES_BEFORE_HAND_OVER - 1, 0)
        await trio.sleep(1)
        assert driver.transfers == 1
        driver.follow()
        await trio.sleep(30)
        driver.lead(3)  # it came back: everybody else failed too
        await trio.sleep(HAND_OVER_PAUSE_S - 60)
        assert driver.transfers == 1
        await trio.sleep(2 * RESTART_S_MAX)
        assert driver.transfers == 2


async def test_a_loop_that_ran_for_long_begins_counting_anew(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    driver = FakeDriver()
    caplog.set_level(logging.CRITICAL)
    async with reigning(driver, lambda: Loop([], "now and then", TypeError("a defect"), lives_s=100.0)):
        driver.lead(1)
        await trio.sleep(2000)
        assert driver.transfers == 0


async def test_losing_the_lead_in_the_middle_of_a_change_is_no_crash(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    driver = FakeDriver()

    class Interrupted:
        async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            task_status.started()
            await trio.sleep(1)
            driver.core.is_leader = False  # known here before it is announced
            raise Unavailable("this manager does not lead")

    caplog.set_level(logging.WARNING)
    async with reigning(driver, Interrupted):
        driver.lead(1)
        await trio.sleep(1.5)
        driver.follow()
        await trio.sleep(5)
    assert caplog.records == []


async def test_unavailable_while_leading_is_a_warning_without_a_traceback(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    driver = FakeDriver()
    caplog.set_level(logging.WARNING)
    async with reigning(driver, lambda: Loop([], "busy", Unavailable("8192 changes are waiting"), lives_s=1)):
        driver.lead(1)
        await trio.sleep(1.5)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.exc_info is None
    assert "8192 changes" in record.getMessage()
