"""Every seed, and some hundred changed copies of each kind, through every target: what `make fuzz` does for longer."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.corpus import SEEDS, seeds_of
from tests.fuzz.mutation import mutations
from tests.fuzz.run import NAMES
from tests.fuzz.targets import TARGETS

CHANGED = 400
SEED_BYTES_MAX = 8_192


def test_the_runner_knows_every_target() -> None:
    assert tuple(TARGETS) == NAMES
    assert {path.name for path in SEEDS.iterdir()} <= set(TARGETS)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("target", NAMES)
def test_seeds_and_their_changed_copies_are_read_or_refused(target: str) -> None:
    seeds = seeds_of(target)
    assert seeds, "a fuzzer without a seed finds nothing"
    assert max(map(len, seeds.values())) <= SEED_BYTES_MAX, "seeds are small"
    for seed in seeds.values():
        TARGETS[target](seed)
    changed = mutations(target, list(seeds.values()), random.Random(target))
    for _ in range(CHANGED):
        data = next(changed)
        try:
            TARGETS[target](data)
        except Exception as error:
            error.add_note(f"the input: {data!r}")
            raise
