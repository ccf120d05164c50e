"""Live many seeds: `.venv/bin/python tests/simulation/run.py --seeds 0-999`. Prints failures, then what was lived."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.simulation.world import simulate


def main() -> int:
    """Exit status 1 if any seed failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0-199", help="FIRST-LAST, both included")
    parser.add_argument("--safety-ms", type=int, default=10_000, help="how long anything may fail in each life")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("-")
    lived: Counter[str] = Counter()
    failures: list[int] = []
    for seed in range(int(first), int(last or first) + 1):
        try:
            lived += simulate(seed, safety_ms=arguments.safety_ms)
        except AssertionError as error:
            failures.append(seed)
            sys.stdout.write(f"{error}\n\n")
            sys.stdout.flush()
    for name, count in sorted(lived.items()):
        sys.stdout.write(f"{count:>10} {name}\n")
    sys.stdout.write(f"failed: {failures or 'none'}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
