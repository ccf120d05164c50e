"""What is done to a group of managers, and when: a function of the seed alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

FAULTS: Final = ("kill", "pause", "cut", "oneway", "bridge", "loss", "delay", "clock", "disk")
"""`kill`: kill -9, started again after a while. `pause`: SIGSTOP, SIGCONT. `cut`: two halves that do not hear each
other. `oneway`: one manager is not heard by others, or hears none of them. `bridge`: two halves, and one manager that
hears both. `loss`, `delay`: of packets. `clock`: CLOCK_REALTIME jumps, and back. `disk`: a full file system."""

DEFAULT_FAULTS: Final = tuple(fault for fault in FAULTS if fault != "disk")

NETWORK: Final = ("cut", "oneway", "bridge", "loss", "delay")
LEADER: Final = "leader"
"""In the place of a manager's number: whoever leads when the step begins."""

FIRST_AT_S: Final = 3.0
LAST_END_S: Final = 5.0
"""Before the end, the last fault is over, so that writes are seen to go on after it."""
GAP_S: Final = (1.0, 6.0)
LASTS_S: Final = {"kill": (0.5, 8.0), "pause": (0.5, 8.0), "clock": (2.0, 10.0), "disk": (4.0, 12.0)}
NETWORK_LASTS_S: Final = (1.0, 12.0)
CLOCK_JUMPS_S: Final = (-1800, -60, -5, 5, 60, 1800)
"""Certificates are valid from an hour before they were issued."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One fault: from `at_s` on, for `for_s`. Two may overlap, one of the network and one of the machines.

    `whom` names managers by number, or the leader. For cuts it is one half, for a bridge also `middle`.
    """

    at_s: float
    for_s: float
    fault: str
    whom: tuple[int | str, ...]
    middle: int = 0
    amount: int = 0
    """Per cent of packets lost, milliseconds of delay, seconds that the clock jumps, direction of a one-way cut."""

    def __str__(self) -> str:
        amount = f" {self.amount}" if self.amount else ""
        middle = f" around {self.middle}" if self.middle else ""
        return (
            f"{self.at_s:7.1f} s  {self.fault}{amount} {','.join(map(str, self.whom))}{middle} for {self.for_s:.1f} s"
        )


def schedule(seed: int, *, managers: int, seconds: float, faults: Sequence[str] = DEFAULT_FAULTS) -> tuple[Step, ...]:
    """The steps of one run, by their beginning; each ends `LAST_END_S` before the run does."""
    unknown = sorted(set(faults) - set(FAULTS))
    if unknown:
        raise ValueError(f"no such fault: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    machines = [fault for fault in faults if fault not in NETWORK]
    network = [fault for fault in faults if fault in NETWORK]
    steps = [
        *_track(random.Random(f"{seed} machines"), machines, managers, seconds),
        *_track(random.Random(f"{seed} network"), network, managers, seconds),
    ]
    return tuple(sorted(steps, key=lambda step: step.at_s))


def _track(rng: random.Random, faults: Sequence[str], managers: int, seconds: float) -> Iterator[Step]:
    """Faults one after the other."""
    at_s = FIRST_AT_S
    while faults:
        at_s += rng.uniform(*GAP_S)
        fault = rng.choice(faults)
        for_s = rng.uniform(*LASTS_S.get(fault, NETWORK_LASTS_S))
        if at_s + for_s > seconds - LAST_END_S:
            return
        yield _DETAILS[fault](rng, fault, managers, round(at_s, 1), round(for_s, 1))
        at_s += for_s


def _machine(rng: random.Random, fault: str, managers: int, at_s: float, for_s: float) -> Step:
    """Mostly one, and mostly the one that leads; now and then several, up to all."""
    if rng.random() < 0.2:
        count = rng.randint(2, managers) if fault == "kill" else 2
        whom: tuple[int | str, ...] = tuple(sorted(rng.sample(range(1, managers + 1), count)))
    else:
        whom = (LEADER,) if rng.random() < 0.5 else (rng.randint(1, managers),)
    amount = rng.choice(CLOCK_JUMPS_S) if fault == "clock" else 0
    return Step(at_s=at_s, for_s=for_s, fault=fault, whom=whom, amount=amount)


def _cut(rng: random.Random, fault: str, managers: int, at_s: float, for_s: float) -> Step:
    minority = rng.randint(1, (managers - 1) // 2)
    if minority == 1 and rng.random() < 0.5:
        return Step(at_s=at_s, for_s=for_s, fault=fault, whom=(LEADER,))
    whom = tuple(sorted(rng.sample(range(1, managers + 1), minority)))
    return Step(at_s=at_s, for_s=for_s, fault=fault, whom=whom)


def _oneway(rng: random.Random, fault: str, managers: int, at_s: float, for_s: float) -> Step:
    whom: int | str = LEADER if rng.random() < 0.5 else rng.randint(1, managers)
    return Step(at_s=at_s, for_s=for_s, fault=fault, whom=(whom,), amount=rng.choice((-1, 1)))


def _bridge(rng: random.Random, fault: str, managers: int, at_s: float, for_s: float) -> Step:
    numbers = list(range(1, managers + 1))
    rng.shuffle(numbers)
    middle, rest = numbers[0], numbers[1:]
    return Step(at_s=at_s, for_s=for_s, fault=fault, whom=tuple(sorted(rest[: len(rest) // 2])), middle=middle)


def _packets(rng: random.Random, fault: str, managers: int, at_s: float, for_s: float) -> Step:
    whom: tuple[int | str, ...] = tuple(range(1, managers + 1)) if rng.random() < 0.5 else (LEADER,)
    amount = rng.choice((5, 20, 40)) if fault == "loss" else rng.choice((20, 100, 300))
    return Step(at_s=at_s, for_s=for_s, fault=fault, whom=whom, amount=amount)


_DETAILS: Final[dict[str, Callable[[random.Random, str, int, float, float], Step]]] = {
    "kill": _machine,
    "pause": _machine,
    "clock": _machine,
    "disk": _machine,
    "cut": _cut,
    "oneway": _oneway,
    "bridge": _bridge,
    "loss": _packets,
    "delay": _packets,
}
