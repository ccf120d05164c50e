"""Raft messages count only from the node that the configuration binds to their sender."""

from __future__ import annotations

from typing import Any, Final, cast

import pytest

from swarmd.errors import PermissionDenied
from swarmd.manager.raft_door import RaftDoor
from swarmd.model import Role
from swarmd.raft import Configuration, Member, Message, MessageType
from swarmd.transport.connection import Call
from swarmd.wire.frames import Headers
from swarmd.wire.identity import Caller, Identity
from swarmd.wire.methods import RAFT_MESSAGES, RAFT_SNAPSHOT
from swarmd.wire.peer import SnapshotChunk
from swarmd.wire.raft_codec import encode_message

M1: Final = Member(member_id=1, node_id="m1", is_voter=True)
M2: Final = Member(member_id=2, node_id="m2", is_voter=True)


class Driver:
    def __init__(self, *members: Member) -> None:
        self.configuration = Configuration(members=members)
        self.received: list[Message] = []

    def receive(self, message: Message, runs: Any = ()) -> None:
        self.received.append(message)


def _call(node_id: str) -> Call:
    identity = Identity(node_id=node_id, role=Role.MANAGER, swarm_id="s")
    return Call(RAFT_MESSAGES, Caller(identity=identity), Headers(), float("inf"))


def _door(driver: Driver, *hint: Member) -> RaftDoor:
    return RaftDoor(cast("Any", driver), cast("Any", None), lambda: Configuration(members=hint))


def _from(member: Member) -> bytes:
    return encode_message(Message(type=MessageType.VOTE, source=member.member_id, target=1, term=9), ())


def test_a_member_speaks_for_itself() -> None:
    driver = Driver(M1, M2)
    _door(driver).messages(_call("m2"))(_from(M2))
    assert [message.source for message in driver.received] == [2]


@pytest.mark.parametrize("hint", [(), (M1, M2)])
def test_no_manager_speaks_as_another(hint: tuple[Member, ...]) -> None:
    for driver in (Driver(M1, M2), Driver(M1, M2) if not hint else Driver()):
        take = _door(driver, *hint).messages(_call("m1"))
        with pytest.raises(PermissionDenied, match="is not node m1"):
            take(_from(M2))
        assert not driver.received


async def test_nor_sends_a_snapshot_as_another() -> None:
    chunk = SnapshotChunk(offset=0, data=b"", message=Message(type=MessageType.SNAPSHOT, source=2, target=1, term=9))
    call = Call(RAFT_SNAPSHOT, _call("m1").caller, Headers(), float("inf"))
    with pytest.raises(PermissionDenied, match="is not node m1"):
        await _door(Driver(M1, M2)).snapshot(call, chunk, cast("Any", None))
