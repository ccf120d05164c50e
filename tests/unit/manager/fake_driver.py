"""What the manager's parts ask of a driver, set by hand."""

from __future__ import annotations

import trio

from swarmd.errors import SwarmError
from swarmd.raft import Configuration, Member, ProgressView
from swarmd.state.store import State


class FakeCore:
    def __init__(self) -> None:
        self.term = 1
        self.is_leader = False
        self.views: tuple[ProgressView, ...] = ()

    def progress(self) -> tuple[ProgressView, ...]:
        return self.views


class FakeDriver:
    """Leads when told so. `transfers` counts hand-overs; `transfer_error` refuses them."""

    def __init__(self, members: tuple[Member, ...] = ()) -> None:
        self.core = FakeCore()
        self.state = State()
        self.changed = trio.Event()
        self.leader = 0
        self.configuration = Configuration(members=members)
        self.transfers = 0
        self.asked_to_lead: list[int] = []
        self.transfer_error: SwarmError | None = None

    @property
    def is_leading(self) -> bool:
        return self.core.is_leader

    def lead(self, term: int) -> None:
        self.core.is_leader, self.core.term = True, term
        self._announce()

    def follow(self, leader: int = 0) -> None:
        self.core.is_leader, self.leader = False, leader
        self._announce()

    def configure(self, *members: Member) -> None:
        self.configuration = Configuration(members=members)
        self._announce()

    def transfer_leadership(self, target: int = 0) -> int:
        self.transfers += 1
        self.asked_to_lead.append(target)
        if self.transfer_error is not None:
            raise self.transfer_error
        return 7

    def quorum_arithmetic(self) -> str:
        return "1 of 3 answers"

    def _announce(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()
