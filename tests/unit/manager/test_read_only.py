"""What is refused while too many disks have no space, and what is not."""

from __future__ import annotations

from typing import Any, cast

import pytest
from msgspec.structs import replace

from swarmd.errors import ResourceExhausted
from swarmd.manager.read_only import ReadOnly
from swarmd.model import Node, NodeDescription
from swarmd.wire.disk import DiskCondition, DiskReport
from swarmd.wire.methods import METHODS, NODE_REMOVE, NODE_UPDATE, SERVICE_CREATE, SERVICE_REMOVE
from tests.unit.manager.fake_driver import FakeDriver
from tests.unit.manager.local_store import LocalStore
from tests.unit.manager.raft_cluster import member, node_of

LOW, CRITICAL, FULL = DiskCondition.LOW, DiskCondition.CRITICAL, DiskCondition.FULL


class World:
    def __init__(self, voters: int, learners: int = 0) -> None:
        numbers = range(1, voters + learners + 1)
        self.driver = FakeDriver(tuple(replace(member(n), is_voter=n <= voters) for n in numbers))
        self.store = LocalStore()
        self.driver.state = self.store.state
        for number in numbers:
            self.store.create(Node(id=node_of(number), description=NodeDescription(hostname=f"host-{number}")))
        self.reports: dict[str, DiskReport] = {}
        self.read_only = ReadOnly(cast("Any", self.driver), self.reports.get)

    def is_refused(self, *conditions: DiskCondition) -> bool:
        """Given the conditions of members 1, 2, ..."""
        self.reports.clear()
        for number, condition in enumerate(conditions, 1):
            self.reports[node_of(number)] = DiskReport(condition=condition)
        try:
            self.read_only.check(SERVICE_CREATE)
        except ResourceExhausted:
            return True
        return False


@pytest.mark.parametrize(
    ("voters", "conditions", "is_refused"),
    [
        (1, (LOW,), False),
        (1, (CRITICAL,), True),
        (2, (CRITICAL,), True),
        (3, (CRITICAL,), False),
        (3, (FULL, LOW, LOW), False),
        (3, (FULL, CRITICAL), True),
        (5, (FULL, FULL), False),
        (5, (FULL, FULL, CRITICAL), True),
    ],
)
def test_something_new_needs_a_majority_of_voters_with_space(
    voters: int, conditions: tuple[DiskCondition, ...], is_refused: bool
) -> None:
    assert World(voters).is_refused(*conditions) is is_refused


def test_a_learner_counts_neither_way() -> None:
    assert not World(2, learners=1).is_refused(LOW, LOW, FULL)


def test_the_refusal_names_each_manager_and_what_it_has() -> None:
    world = World(3)
    space = {"free_bytes": 3 << 19, "total_bytes": 96 << 20}
    world.reports[node_of(1)] = DiskReport(condition=CRITICAL, **space)
    world.reports[node_of(3)] = DiskReport(condition=FULL, **space)
    with pytest.raises(ResourceExhausted) as caught:
        world.read_only.check(SERVICE_CREATE)
    assert caught.value.message == (
        "nothing new is taken while 2 of 3 managers have no space: host-1 (1.5 of 96 MiB free), host-3 (disk full)"
    )
    assert caught.value.hint


@pytest.mark.parametrize("method", [SERVICE_REMOVE, NODE_REMOVE, NODE_UPDATE])
def test_what_mends_it_is_never_refused(method: Any) -> None:
    world = World(1)
    world.is_refused(FULL)
    world.read_only.check(method)


def test_every_mutation_that_creates_is_refused() -> None:
    world = World(1)
    assert world.is_refused(CRITICAL)
    refused = set()
    for method in METHODS.values():
        try:
            world.read_only.check(method)
        except ResourceExhausted:
            refused.add(method.name)
    assert refused >= {name for name, method in METHODS.items() if method.mutates and name.endswith(".create")}
    assert refused >= {"service.update", "node.accept"}
    assert all(METHODS[name].mutates for name in refused)
