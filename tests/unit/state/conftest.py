"""A fresh state with its proposer; at the end both replicas hold the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.state.builders import Proposer


@pytest.fixture
def proposer() -> Iterator[Proposer]:
    made = Proposer()
    yield made
    assert made.replica.state_hash() == made.state.state_hash()
