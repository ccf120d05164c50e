from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio

from swarmd.agent.network_link import NetworkLink
from swarmd.errors import SwarmError, Unavailable
from swarmd.node.remotes import Remotes
from swarmd.wire.dispatch import ManagerPeer
from swarmd.wire.peer import HealthReply


class World:
    """Managers by address: what each says to HEALTH, or why it does not answer."""

    def __init__(self, known: dict[str, tuple[str, ...]]) -> None:
        self.at: dict[str, HealthReply | SwarmError] = {}
        self.dialed: list[str] = []
        self.local: Any = None
        self.members: tuple[ManagerPeer, ...] = ()
        self.saved: list[dict[str, tuple[str, ...]]] = []
        self.remotes = Remotes(
            known,
            cast("Any", self._dial),
            random.Random(1),
            own_node_id="own",
            local=lambda: self.local,
            members=lambda: self.members,
            changed=self.saved.append,
        )

    @asynccontextmanager
    async def _dial(self, address: str) -> AsyncIterator[Any]:
        await trio.lowlevel.checkpoint()
        self.dialed.append(address)
        yield self

    async def call(self, method: object, request: object) -> HealthReply:
        await trio.lowlevel.checkpoint()
        answer = self.at.get(self.dialed[-1], Unavailable("not there"))
        if isinstance(answer, SwarmError):
            raise answer
        return answer


def says(node_id: str, leader: str = "", *addresses: str) -> HealthReply:
    return HealthReply(node_id=node_id, leader_node_id=leader, leader_addresses=addresses)


async def test_the_leader_is_found_through_whoever_knows_it() -> None:
    world = World({"a": ("a:1",)})
    world.at = {"a:1": says("a", "b", "b:1"), "b:1": says("b", "b")}
    async with world.remotes.connect() as link:
        assert isinstance(link, NetworkLink)
    assert world.dialed == ["a:1", "b:1"]


async def test_the_link_of_a_leaders_own_agent_is_in_memory() -> None:
    world = World({"a": ("a:1",)})
    world.local = object()
    async with world.remotes.connect() as link:
        assert link is world.local
    assert world.dialed == []


async def test_a_node_that_is_just_beginning_to_lead_does_not_dial_itself() -> None:
    world = World({"own": ("own:1",)})
    world.members = (ManagerPeer(node_id="own", addresses=("own:1",), is_leader=True),)
    with pytest.raises(Unavailable, match="beginning to lead"):
        async with world.remotes.connect():
            pass
    assert world.dialed == []


async def test_managers_that_point_at_each_other_are_not_asked_for_ever() -> None:
    world = World({"a": ("a:1",), "b": ("b:1",)})
    world.at = {"a:1": says("a", "b", "b:1"), "b:1": says("b", "a", "a:1")}
    with pytest.raises(Unavailable, match="no manager that leads"):
        async with world.remotes.connect():
            pass
    assert len(world.dialed) <= 6


async def test_an_error_of_the_sessions_own_work_is_no_failed_dial() -> None:
    world = World({"a": ("a:1",), "b": ("b:1",)})
    world.at = {"a:1": says("a", "a"), "b:1": says("b", "b")}
    with pytest.raises(Unavailable, match="the session ended"):
        async with world.remotes.connect():
            raise Unavailable("the session ended")
    assert len(world.dialed) == 1


async def test_what_is_learned_is_saved_once_and_the_last_door_is_kept() -> None:
    world = World({"": ("join:1",)})
    peers = (ManagerPeer(node_id="a", addresses=("a:1",)), ManagerPeer(node_id="b", addresses=()))
    world.remotes.learned_managers(peers)
    world.remotes.learned_managers(peers)
    world.remotes.learned_managers(())
    assert world.saved == [{"a": ("a:1",)}]
    assert world.remotes.addresses() == ("a:1",)
