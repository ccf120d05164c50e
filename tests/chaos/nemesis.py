"""Carries out a schedule on real managers."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from tests.chaos.members import Group
from tests.chaos.network import unheard_between
from tests.chaos.schedule import LEADER, Step

TICK_S: Final = 0.2


class Nemesis:
    """One run's faults. `told` is what was done, in the run's time."""

    def __init__(self, group: Group, clock: Callable[[], float]) -> None:
        self.told: list[str] = []
        self._group = group
        self._clock = clock

    def run(self, steps: Iterable[Step], seconds: float) -> None:
        """Until all steps are over and `seconds` have passed. What is left undone by an exception, `heal` undoes."""
        waiting = sorted(steps, key=lambda step: step.at_s)
        under_way: list[tuple[float, Step, tuple[int, ...]]] = []
        while waiting or under_way or self._clock() < seconds:
            now = self._clock()
            for end in [entry for entry in under_way if entry[0] <= now]:
                under_way.remove(end)
                self._end(end[1], end[2])
            while waiting and waiting[0].at_s <= now:
                step = waiting.pop(0)
                under_way.append((now + step.for_s, step, self._begin(step)))
            self._group.keep_up()
            time.sleep(TICK_S)

    def heal(self) -> None:
        """Undo everything."""
        self._group.network.heal()
        for manager in self._group.managers:
            manager.signal(signal.SIGCONT)
            manager.free_disk()
            if not manager.is_wanted:
                manager.start()
        self._tell("all is healed")

    def _tell(self, what: str) -> None:
        self.told.append(f"{self._clock():7.1f} s  {what}")

    def _begin(self, step: Step) -> tuple[int, ...]:
        leader = (self._group.leader() or 1) if LEADER in step.whom else 0
        whom = tuple(leader if number == LEADER else int(number) for number in step.whom)
        self._tell(f"{step.fault} {step.amount or ''} {whom} {step.middle or ''} begins")
        group, network = self._group, self._group.network
        match step.fault:
            case "kill":
                for number in whom:
                    group[number].kill_daemon()
            case "pause":
                for number in whom:
                    group[number].signal(signal.SIGSTOP)
            case "clock":
                for number in whom:
                    group[number].jump(step.amount)
            case "disk":
                for number in whom:
                    group[number].fill_disk()
            case "loss":
                network.lose(whom, step.amount)
            case "delay":
                network.delay(whom, step.amount)
            case _:
                network.hear(unheard(step, whom, tuple(network.numbers)))
        return whom

    def _end(self, step: Step, whom: tuple[int, ...]) -> None:
        group, network = self._group, self._group.network
        match step.fault:
            case "kill":
                for number in whom:
                    group[number].start()
            case "pause":
                for number in whom:
                    group[number].signal(signal.SIGCONT)
            case "clock":
                for number in whom:
                    group[number].jump(0)
            case "disk":
                for number in whom:
                    group[number].free_disk()
            case "loss":
                network.lose(whom, 0)
            case "delay":
                network.delay(whom, 0)
            case _:
                network.hear({})
        self._tell(f"{step.fault} {whom} ends")


def unheard(step: Step, whom: tuple[int, ...], numbers: tuple[int, ...]) -> Mapping[int, Iterable[int]]:
    """Whom each manager does not hear under this cut."""
    others = tuple(number for number in numbers if number not in whom)
    match step.fault:
        case "cut":
            return unheard_between(whom, others)
        case "bridge":
            return unheard_between(whom, tuple(number for number in others if number != step.middle))
        case "oneway" if step.amount > 0:
            return dict.fromkeys(others, whom)
        case "oneway":
            return dict.fromkeys(whom, others)
        case _:
            raise ValueError(f"{step.fault} is no cut")
