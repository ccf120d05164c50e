"""`make simulate SEEDS=20000`, or `SEED=4711` for one life again: failures, reduced, and then what was lived."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.simulation.machine import RegisterMachine
from tests.simulation.plane import life as plane
from tests.simulation.shrink import reduce
from tests.simulation.state_machine import ContestedMachine, StateMachine
from tests.simulation.world import simulate

PLANE: Final = "plane"
"""Lives of the whole control plane instead."""
LOT: Final = 50
"""Lives that a process is given at once."""
MACHINES: Final[dict[str, Any]] = {"register": RegisterMachine, "state": StateMachine, "contested": ContestedMachine}


def live(
    seeds: range, machine: str, safety_ms: int, weather: dict[str, float]
) -> tuple[Counter[str], list[tuple[int, str]]]:
    """Counts of what the lives contained, and each failure with its reduced form."""
    lived: Counter[str] = Counter()
    failures: list[tuple[int, str]] = []
    if machine == PLANE:
        for seed in seeds:
            try:
                lived += plane.simulate(seed)
                lived["lives"] += 1
            except Exception as error:  # noqa: BLE001 - whatever ends a life is what we look for
                replay = f"make simulate MACHINE={PLANE} SEED={seed}"
                failures.append((seed, f"seed {seed} failed: {type(error).__name__}: {error}\nreplay: {replay}"))
        return lived, failures
    how: dict[str, Any] = {"machine_factory": MACHINES[machine], "safety_ms": safety_ms, "weather": weather}
    for seed in seeds:
        try:
            lived += simulate(seed, **how)
            lived["lives"] += 1
        except AssertionError as error:
            reduced = reduce(seed, **how)
            failures.append((seed, f"seed {seed} failed: {str(reduced) if reduced is not None else error}"))
    return lived, failures


def lots(first: int, last: int) -> Iterator[range]:
    """The seeds in lots."""
    for begin in range(first, last + 1, LOT):
        yield range(begin, min(begin + LOT, last + 1))


def weather_of(text: str) -> dict[str, float]:
    """`loss=0.1 voters=5` as numbers; whole ones stay whole."""
    pairs = [item.partition("=")[::2] for item in text.split()]
    return {name: float(value) if "." in value or "e" in value else int(value) for name, value in pairs}


def main() -> int:
    """Exit status 1 if any life failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0-199", help="FIRST-LAST, both included, or how many from 0 on")
    parser.add_argument("--safety-ms", type=int, default=4_000, help="how long anything may fail in each life")
    parser.add_argument(
        "--machine", choices=(*MACHINES, PLANE), default="register", help="what the members agree about"
    )
    parser.add_argument("--weather", default="", help="faults instead of the drawn ones: NAME=VALUE ...")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes side by side")
    arguments = parser.parse_args()
    first, dash, last = arguments.seeds.partition("-")
    begin, end = (int(first), int(last)) if dash else (0, int(first) - 1)
    weather = weather_of(arguments.weather)
    lived: Counter[str] = Counter()
    failed: list[int] = []
    with ProcessPoolExecutor(arguments.jobs) as pool:
        calls = [pool.submit(live, lot, arguments.machine, arguments.safety_ms, weather) for lot in lots(begin, end)]
        for call in calls:
            counts, failures = call.result()
            lived += counts
            for seed, text in failures:
                failed.append(seed)
                sys.stdout.write(f"{text}\n\n")
                sys.stdout.flush()
    for name, count in sorted(lived.items()):
        sys.stdout.write(f"{count:>10} {name}\n")
    sys.stdout.write(f"failed: {failed or 'none'}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
