"""Both tables are whole, and what they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.threats.rows import LIVE, MISSING, ROWS
from tests.threats.scenarios import SCENARIOS, WHY_NOT

REPOSITORY = Path(__file__).parents[2]


def missing(names: tuple[str, ...]) -> list[str]:
    """Those that are no file or no test in it."""
    found = []
    for name in names:
        path, _, test = name.partition("::")
        file = REPOSITORY / path
        if not file.is_file() or (test and not re.search(rf"^(async )?def {test}\(", file.read_text(), re.MULTILINE)):
            found.append(name)
    return found


@pytest.mark.parametrize("row", range(1, 37))
def test_every_threat_has_its_tests_or_its_reason(row: int) -> None:
    assert ROWS[row] or MISSING[row]
    assert missing(ROWS[row]) == []
    is_live = bool(re.search(rf"^def test_threat_{row:02}_", (REPOSITORY / LIVE).read_text(), re.MULTILINE))
    assert is_live == (LIVE in ROWS[row]), "what is played at a live swarm says so, and nothing else does"


@pytest.mark.parametrize("number", range(1, 51))
def test_every_scenario_has_its_tests_or_its_reason(number: int) -> None:
    assert number in SCENARIOS or WHY_NOT[number]
    assert missing(SCENARIOS.get(number, ())) == []


def test_no_table_has_more() -> None:
    assert set(ROWS) == set(range(1, 37))
    assert set(MISSING) <= set(ROWS)
    assert set(SCENARIOS) | set(WHY_NOT) == set(range(1, 51))
