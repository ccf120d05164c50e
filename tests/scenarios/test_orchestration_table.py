"""The table is whole, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.scenarios.orchestration import SCENARIOS, WHY_NOT

REPOSITORY = Path(__file__).parents[2]
NUMBERS = range(1, 82)


def is_there(name: str) -> bool:
    path, _, test = name.partition("::")
    file = REPOSITORY / path
    return file.is_file() and bool(re.search(rf"^(async )?def {test}\(", file.read_text(), re.MULTILINE))


@pytest.mark.parametrize("number", NUMBERS)
def test_every_scenario_has_its_tests_or_its_reason(number: int) -> None:
    names = SCENARIOS.get(number, ())
    assert names or WHY_NOT[number]
    assert [name for name in names if not is_there(name)] == []


def test_the_table_has_no_more() -> None:
    assert set(SCENARIOS) | set(WHY_NOT) == set(NUMBERS)
    assert not set(SCENARIOS) & set(WHY_NOT)
