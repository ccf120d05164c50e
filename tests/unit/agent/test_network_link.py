"""Each call of the link is the method of that name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from swarmd.agent import NetworkLink
from swarmd.errors import Unavailable
from swarmd.model import Node, NodeDescription, TaskStatus
from swarmd.wire import dispatch, methods

SESSION_MESSAGE = dispatch.SessionMessage(
    session_id="s", node=Node(id="n"), managers=(), root_ca=b"", heartbeat_period_s=5.0
)
ASSIGNMENTS_MESSAGE = dispatch.AssignmentsMessage(complete=True, results_in="1")


class FakeStream:
    def __init__(self, messages: list[Any]) -> None:
        self.messages = messages

    async def __aiter__(self) -> AsyncIterator[Any]:
        for message in self.messages:
            yield message
        raise Unavailable("the connection is gone")


class FakeConnection:
    """Answers by method."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any]] = []
        self.open_streams = 0

    async def call(self, method: Any, request: Any, *, timeout_s: float = 5.0) -> Any:
        self.calls.append((method, request))
        return {
            methods.HEARTBEAT: dispatch.HeartbeatReply(period_s=5.0),
            methods.UPDATE_STATUS: dispatch.UpdateStatusReply(refused=("t",)),
            methods.GOODBYE: None,
        }[method]

    @asynccontextmanager
    async def open(self, method: Any, request: Any) -> AsyncIterator[FakeStream]:
        self.calls.append((method, request))
        self.open_streams += 1
        yield FakeStream([SESSION_MESSAGE if method is methods.SESSION else ASSIGNMENTS_MESSAGE])
        self.open_streams -= 1


async def test_calls_are_passed_on() -> None:
    connection = FakeConnection()
    link = NetworkLink(connection)  # type: ignore[arg-type]
    heartbeat = dispatch.HeartbeatRequest(session_id="s")
    update = dispatch.UpdateStatusRequest(
        session_id="s", updates=(dispatch.ReportedStatus(task_id="t", status=TaskStatus()),)
    )
    goodbye = dispatch.GoodbyeRequest(session_id="s", leaving=True)
    assert (await link.heartbeat(heartbeat)).period_s == 5.0
    assert (await link.update_status(update)).refused == ("t",)
    await link.goodbye(goodbye)
    assert connection.calls == [
        (methods.HEARTBEAT, heartbeat),
        (methods.UPDATE_STATUS, update),
        (methods.GOODBYE, goodbye),
    ]


async def test_streams_give_their_messages_then_their_error_and_are_closed() -> None:
    connection = FakeConnection()
    link = NetworkLink(connection)  # type: ignore[arg-type]
    async with link.session(dispatch.SessionRequest(description=NodeDescription())) as messages:
        assert await anext(messages) == SESSION_MESSAGE
        with pytest.raises(Unavailable):
            await anext(messages)
    async with link.assignments(dispatch.AssignmentsRequest(session_id="s")) as assignments:
        assert await anext(assignments) == ASSIGNMENTS_MESSAGE
        await assignments.aclose()  # type: ignore[attr-defined]
    assert connection.open_streams == 0
