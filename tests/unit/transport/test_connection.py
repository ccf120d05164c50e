"""Calls, streams, posts and the end of a connection, over memory and in virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from swarmd.errors import (
    DeadlineExceeded,
    Internal,
    Invalid,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from swarmd.model import Role
from swarmd.transport.connection import Call, Router, Stream
from swarmd.transport.outbox import POST_MESSAGES_MAX
from swarmd.wire.dispatch import AssignmentsMessage, AssignmentsRequest
from swarmd.wire.frames import IDLE_PING_S, RAFT_IDLE_PING_S, Headers, Hello
from swarmd.wire.identity import Caller, ForwardedCaller, Identity
from swarmd.wire.methods import (
    ASSIGNMENTS,
    CA_ROOT,
    HEALTH,
    RAFT_JOIN,
    RAFT_LEAVE,
    RAFT_MESSAGES,
    RAFT_SNAPSHOT,
    SESSION,
    Method,
)
from swarmd.wire.peer import HealthReply, HealthRequest, LeaveRequest, Nothing, SnapshotChunk

from .pairs import ANONYMOUS, MANAGER, connected, open_router

REQUEST = HealthRequest()
WATCH = AssignmentsRequest(session_id="s")


def _message(number: int) -> AssignmentsMessage:
    return AssignmentsMessage(results_in=str(number))


def _serving(method: Method[Any, Any], handler: Any) -> Router:
    router = open_router()
    router.add(method, handler)
    return router


async def _healthy(call: Call, request: HealthRequest) -> HealthReply:
    return HealthReply(node_id=call.caller.actor)


# -- unary calls -------------------------------------------------------------------------------------------------


async def test_a_call_gets_its_reply() -> None:
    async with connected(_serving(HEALTH, _healthy)) as pair:
        assert await pair.client.call(HEALTH, REQUEST) == HealthReply(node_id="node:m1")


async def test_both_ends_may_call() -> None:
    router = _serving(HEALTH, _healthy)
    async with connected(open_router(), client_router=router) as pair:
        assert await pair.server.call(HEALTH, REQUEST) == HealthReply(node_id="node:m1")


async def test_many_calls_share_a_connection(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(call: Call, request: HealthRequest) -> HealthReply:
        await trio.sleep(1)
        return HealthReply(node_id="n")

    async with connected(_serving(HEALTH, slow)) as pair:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(pair.client.call, HEALTH, REQUEST)
        assert trio.current_time() - began < 2


async def test_a_handlers_error_arrives_typed() -> None:
    async def missing(call: Call, request: HealthRequest) -> HealthReply:
        raise NotFound("no such thing", field="$.id", object="node x", hint="look again")

    async with connected(_serving(HEALTH, missing)) as pair:
        with pytest.raises(NotFound, match="no such thing") as told:
            await pair.client.call(HEALTH, REQUEST)
    assert (told.value.field, told.value.object, told.value.hint) == ("$.id", "node x", "look again")


async def test_errors_from_a_handlers_nursery_arrive_typed() -> None:
    async def missing(call: Call, request: HealthRequest) -> HealthReply:
        async with trio.open_nursery():
            raise NotFound("inside")

    async with connected(_serving(HEALTH, missing)) as pair:
        with pytest.raises(NotFound, match="inside"):
            await pair.client.call(HEALTH, REQUEST)


async def test_a_defect_is_internal_and_says_nothing_of_its_inside(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(call: Call, request: HealthRequest) -> HealthReply:
        raise ZeroDivisionError("a secret detail")

    async with connected(_serving(HEALTH, broken)) as pair:
        with pytest.raises(Internal) as told:
            await pair.client.call(HEALTH, REQUEST)
        assert not pair.client.closed.is_set()
    assert "secret" not in told.value.message
    assert "a secret detail" in caplog.text


async def test_a_handler_that_returns_nonsense_is_a_defect() -> None:
    async def wrong(call: Call, request: HealthRequest) -> Any:
        return Nothing()

    async with connected(_serving(HEALTH, wrong)) as pair:
        with pytest.raises(Internal):
            await pair.client.call(HEALTH, REQUEST)


async def test_a_method_without_a_handler_is_unimplemented_until_it_is_added() -> None:
    router = open_router()
    async with connected(router) as pair:
        with pytest.raises(Unimplemented, match="health"):
            await pair.client.call(HEALTH, REQUEST)
        router.add(HEALTH, _healthy)
        await pair.client.call(HEALTH, REQUEST)
        router.remove(HEALTH)
        with pytest.raises(Unimplemented):
            await pair.client.call(HEALTH, REQUEST)


async def test_an_unknown_method_is_unimplemented_and_the_connection_goes_on() -> None:
    unknown = Method("of.tomorrow", HealthRequest, HealthReply, roles=frozenset({Role.MANAGER}))
    async with connected(_serving(HEALTH, _healthy)) as pair:
        with pytest.raises(Unimplemented, match=r"of\.tomorrow"):
            await pair.client.call(unknown, REQUEST)
        await pair.client.call(HEALTH, REQUEST)


async def test_a_wrong_request_is_invalid_with_its_path() -> None:
    wrong: Any = {"addresses": 5}
    async with connected(_serving(RAFT_JOIN, _healthy)) as pair:
        with pytest.raises(Invalid) as told:
            await pair.client.call(RAFT_JOIN, wrong)
        assert told.value.field == "$.addresses"
        with pytest.raises(Invalid, match="needs a request"):
            await pair.client.call(RAFT_JOIN, None)  # type: ignore[arg-type]


# -- authorisation -----------------------------------------------------------------------------------------------


async def test_nothing_goes_around_authorise() -> None:
    entered = []

    def only_root(method: Method[Any, Any], caller: Caller) -> None:
        if method is not CA_ROOT:
            raise Unauthenticated("no") if caller.identity is None else PermissionDenied("no")

    async def handler(call: Call, request: Any, stream: Any = None) -> Any:
        entered.append(call)

    router = Router(only_root)
    for method in (HEALTH, SESSION, RAFT_MESSAGES, RAFT_SNAPSHOT):
        router.add(method, handler)
    async with connected(router) as pair:
        with pytest.raises(PermissionDenied):
            await pair.client.call(HEALTH, REQUEST)
        for method in (SESSION, RAFT_SNAPSHOT):
            async with pair.client.open(method, {}) as stream:
                with pytest.raises(PermissionDenied):
                    await stream.receive()
        pair.client.post(RAFT_MESSAGES, b"x")
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(pair.client.post_error, PermissionDenied)
    assert not entered


async def test_an_unauthorised_caller_learns_nothing_about_handlers_or_bodies() -> None:
    def nobody(method: Method[Any, Any], caller: Caller) -> None:
        raise Unauthenticated("no")

    async with connected(Router(nobody), seen_by_server=ANONYMOUS) as pair:
        with pytest.raises(Unauthenticated):
            await pair.client.call(RAFT_JOIN, "nonsense")  # type: ignore[arg-type]


async def test_the_handler_sees_the_origin_of_a_forwarded_call() -> None:
    seen: list[Caller] = []

    async def leave(call: Call, request: LeaveRequest) -> Nothing:
        seen.append(call.caller)
        return Nothing()

    forwarded = ForwardedCaller(node_id="m2", role=Role.MANAGER, swarm_id="s", address="elsewhere")
    async with connected(_serving(RAFT_LEAVE, leave)) as pair:
        await pair.client.call(RAFT_LEAVE, LeaveRequest(), headers=Headers(forwarded=forwarded))
    assert seen[0].identity == Identity(node_id="m2", role=Role.MANAGER, swarm_id="s")
    assert seen[0].forwarder == MANAGER.identity
    assert seen[0].address == "elsewhere"


# -- deadlines and cancellation ----------------------------------------------------------------------------------


async def test_a_late_answer_is_deadline_exceeded_on_both_sides(autojump_clock: trio.testing.MockClock) -> None:
    deadlines: list[float] = []
    ended = trio.Event()

    async def stuck(call: Call, request: HealthRequest) -> HealthReply:
        deadlines.append(call.deadline - trio.current_time())
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with connected(_serving(HEALTH, stuck)) as pair:
        with pytest.raises(DeadlineExceeded, match="health"):
            await pair.client.call(HEALTH, REQUEST, timeout_s=3)
        with trio.fail_after(1):
            await ended.wait()
    assert deadlines == [pytest.approx(3, abs=0.1)]


async def test_a_handler_learns_its_callers_deadline_and_headers() -> None:
    seen: list[Call] = []

    async def look(call: Call, request: Any, stream: Stream[Any, Any]) -> None:
        seen.append(call)

    async with (
        connected(_serving(ASSIGNMENTS, look)) as pair,
        pair.client.open(ASSIGNMENTS, WATCH, headers=Headers(key=b"k", seen_index=7)) as stream,
    ):
        assert [message async for message in stream] == []
    assert seen[0].deadline == math.inf
    assert seen[0].headers == Headers(key=b"k", seen_index=7)
    assert seen[0].method is ASSIGNMENTS


@pytest.mark.parametrize("timeout_s", [0.0, -3.0])
async def test_no_time_left_is_deadline_exceeded(timeout_s: float) -> None:
    async with connected(_serving(HEALTH, _healthy)) as pair:
        with pytest.raises(DeadlineExceeded):
            await pair.client.call(HEALTH, REQUEST, timeout_s=timeout_s)
        assert await pair.client.call(HEALTH, REQUEST, timeout_s=math.inf)


async def test_cancelling_a_call_cancels_its_handler() -> None:
    entered, cancelled = trio.Event(), trio.Event()

    async def stuck(call: Call, request: HealthRequest) -> HealthReply:
        entered.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with connected(_serving(HEALTH, stuck)) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.client.call, HEALTH, REQUEST)
            await entered.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(1):
            await cancelled.wait()
        assert not pair.client.closed.is_set()


async def test_leaving_a_stream_cancels_its_handler() -> None:
    cancelled = trio.Event()

    async def endless(call: Call, request: Any, stream: Stream[AssignmentsMessage, Any]) -> None:
        try:
            while True:
                await stream.send(_message(1))
        finally:
            cancelled.set()

    async with connected(_serving(ASSIGNMENTS, endless)) as pair:
        async with pair.client.open(ASSIGNMENTS, WATCH) as stream:
            await stream.receive()
        with trio.fail_after(1):
            await cancelled.wait()


async def test_a_lost_connection_cancels_its_handlers_and_fails_its_calls() -> None:
    entered, cancelled = trio.Event(), trio.Event()

    async def stuck(call: Call, request: HealthRequest) -> HealthReply:
        entered.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with connected(_serving(HEALTH, stuck)) as pair:

        async def cut() -> None:
            await entered.wait()
            await trio.aclose_forcefully(pair.server_stream)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut)
            with pytest.raises(Unavailable):
                await pair.client.call(HEALTH, REQUEST)
        with trio.fail_after(1):
            await cancelled.wait()
            await pair.client.closed.wait()
            await pair.server.closed.wait()
        with pytest.raises(Unavailable, match="gone"):
            await pair.client.call(HEALTH, REQUEST)
        assert not pair.client.post(RAFT_MESSAGES, b"x")


# -- streams -----------------------------------------------------------------------------------------------------


async def test_a_server_stream_is_read_to_its_end() -> None:
    async def count(call: Call, request: AssignmentsRequest, stream: Stream[AssignmentsMessage, Any]) -> None:
        for number in range(500):
            await stream.send(_message(number))

    async with (
        connected(_serving(ASSIGNMENTS, count)) as pair,
        pair.client.open(ASSIGNMENTS, WATCH) as stream,
    ):
        assert [int(message.results_in) async for message in stream] == list(range(500))
        with pytest.raises(trio.EndOfChannel):
            await stream.receive()


async def test_a_failing_server_stream_gives_its_messages_and_then_its_error() -> None:
    async def fail(call: Call, request: AssignmentsRequest, stream: Stream[AssignmentsMessage, Any]) -> None:
        await stream.send(_message(1))
        raise NotFound("gone away")

    async with (
        connected(_serving(ASSIGNMENTS, fail)) as pair,
        pair.client.open(ASSIGNMENTS, WATCH) as stream,
    ):
        assert await stream.receive() == _message(1)
        for _ in range(2):
            with pytest.raises(NotFound):
                await stream.receive()


async def test_a_slow_reader_stops_its_stream_and_no_other() -> None:
    sent = 0

    async def flood(call: Call, request: AssignmentsRequest, stream: Stream[AssignmentsMessage, Any]) -> None:
        nonlocal sent
        while True:
            await stream.send(_message(sent))
            sent += 1

    router = _serving(ASSIGNMENTS, flood)
    router.add(HEALTH, _healthy)
    async with (
        connected(router, client_hello=Hello(window=(8, 1 << 20))) as pair,
        pair.client.open(ASSIGNMENTS, WATCH) as stream,
    ):
        await trio.testing.wait_all_tasks_blocked()
        assert sent == 8
        await pair.client.call(HEALTH, REQUEST)
        assert [int((await stream.receive()).results_in) for _ in range(4)] == [0, 1, 2, 3]
        await trio.testing.wait_all_tasks_blocked()
        assert sent == 12


async def test_a_client_stream_gets_one_reply_whether_or_not_open_carried_a_message() -> None:
    async def total(call: Call, first: SnapshotChunk, stream: Stream[Nothing, SnapshotChunk]) -> Nothing:
        offsets = [first.offset] + [chunk.offset async for chunk in stream]
        assert offsets == list(range(300))
        return Nothing()

    async with connected(_serving(RAFT_SNAPSHOT, total)) as pair:
        for request in (None, SnapshotChunk(offset=0, data=b"")):
            async with pair.client.open(RAFT_SNAPSHOT, request) as stream:
                for offset in range(0 if request is None else 1, 300):
                    await stream.send(SnapshotChunk(offset=offset, data=b"x"))
                await stream.end()
                await stream.end()
                assert await stream.receive() == Nothing()


async def test_a_client_stream_without_a_message_is_invalid() -> None:
    async with (
        connected(_serving(RAFT_SNAPSHOT, _healthy)) as pair,
        pair.client.open(RAFT_SNAPSHOT) as stream,
    ):
        await stream.end()
        with pytest.raises(Invalid, match="at least one"):
            await stream.receive()


async def test_an_early_answer_stops_the_sender() -> None:
    async def enough(call: Call, first: SnapshotChunk, stream: Stream[Nothing, SnapshotChunk]) -> Nothing:
        raise ResourceExhausted("enough")

    async with (
        connected(_serving(RAFT_SNAPSHOT, enough)) as pair,
        pair.client.open(RAFT_SNAPSHOT) as stream,
    ):
        with pytest.raises(ResourceExhausted):
            await _send_for_ever(stream)


async def _send_for_ever(stream: Stream[SnapshotChunk, Nothing]) -> None:
    while True:
        await stream.send(SnapshotChunk(offset=0, data=bytes(100_000)))


async def test_a_message_over_the_limit_fails_for_its_sender_only() -> None:
    async with (
        connected(_serving(HEALTH, _healthy)) as pair,
        pair.client.open(RAFT_SNAPSHOT) as stream,
    ):
        with pytest.raises(Invalid, match="at most"):
            await stream.send(SnapshotChunk(offset=0, data=bytes(5 << 20)))
        await pair.client.call(HEALTH, REQUEST)


async def test_shapes_are_not_mixed_up() -> None:
    async with connected(open_router()) as pair:
        with pytest.raises(ValueError, match=r"open\(\)"):
            await pair.client.call(SESSION, {})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"call\(\)"):
            async with pair.client.open(HEALTH, REQUEST):
                pass
        with pytest.raises(ValueError, match="needs its request"):
            async with pair.client.open(ASSIGNMENTS):
                pass
        with pytest.raises(ValueError, match="one-way"):
            pair.client.post(HEALTH, b"x")


# -- posts -------------------------------------------------------------------------------------------------------


async def test_posts_arrive_in_order_as_the_bytes_they_were() -> None:
    received: list[bytes] = []
    done = trio.Event()

    async def take(call: Call, first: None, stream: Stream[Nothing, bytes]) -> None:
        assert first is None
        async for message in stream:
            received.append(message)
            if len(received) == 1000:
                done.set()

    sent = [bytes([number % 256]) * (number % 700) for number in range(1000)]
    async with connected(_serving(RAFT_MESSAGES, take)) as pair:
        assert all(pair.client.post(RAFT_MESSAGES, message) for message in sent)
        with trio.fail_after(5):
            await done.wait()
    assert received == sent


async def test_a_sink_takes_posts_in_order_in_the_read_loop_itself() -> None:
    received: list[bytes] = []
    callers: list[Caller] = []

    def make(call: Call) -> Callable[[bytes], None]:
        callers.append(call.caller)
        return received.append

    router = open_router()
    router.add_sink(RAFT_MESSAGES, make)
    sent = [b"%d" % number for number in range(300)]
    async with connected(router) as pair:
        assert all(pair.client.post(RAFT_MESSAGES, message) for message in sent)
        await trio.testing.wait_all_tasks_blocked()
    assert received == sent
    assert callers == [MANAGER]


async def test_a_sink_that_refuses_ends_its_stream_and_not_the_connection() -> None:
    def make(call: Call) -> Callable[[bytes], None]:
        def refuse(message: bytes) -> None:
            raise PermissionDenied("not yours")

        return refuse

    router = _serving(HEALTH, _healthy)
    router.add_sink(RAFT_MESSAGES, make)
    async with connected(router) as pair:
        pair.client.post(RAFT_MESSAGES, b"x")
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(pair.client.post_error, PermissionDenied)
        assert (await pair.client.call(HEALTH, HealthRequest())).node_id


async def test_a_sink_stands_behind_authorise_too() -> None:
    def refuse(method: object, caller: Caller) -> None:
        raise PermissionDenied("nobody may")

    made: list[Call] = []
    router = Router(refuse)
    router.add_sink(RAFT_MESSAGES, lambda call: made.append(call) or (lambda message: None))  # type: ignore[func-returns-value]
    async with connected(router) as pair:
        pair.client.post(RAFT_MESSAGES, b"x")
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(pair.client.post_error, PermissionDenied)
    assert made == []


async def test_a_sink_serves_one_way_methods_only() -> None:
    with pytest.raises(ValueError, match="one-way"):
        open_router().add_sink(HEALTH, lambda call: lambda message: None)


async def test_everything_that_waits_is_taken_at_once() -> None:
    batches: list[list[bytes]] = []

    async def take(call: Call, first: None, stream: Stream[Nothing, bytes]) -> None:
        while True:
            batches.append(await stream.receive_all())

    async with connected(_serving(RAFT_MESSAGES, take)) as pair:
        for _ in range(50):
            pair.client.post(RAFT_MESSAGES, b"x")
        await trio.testing.wait_all_tasks_blocked()
    assert sum(map(len, batches)) == 50
    assert len(batches) < 5


async def test_posts_are_bounded_and_never_wait() -> None:
    async with connected(open_router(), pair=trio.testing.lockstep_stream_pair) as pair:
        taken = 0
        while pair.client.post(RAFT_MESSAGES, b"x"):
            taken += 1
        assert taken == POST_MESSAGES_MAX
        assert not pair.client.post(RAFT_MESSAGES, bytes(5 << 20))


async def test_posts_start_again_a_second_after_they_were_refused(autojump_clock: trio.testing.MockClock) -> None:
    received: list[bytes] = []

    async def take(call: Call, first: None, stream: Stream[Nothing, bytes]) -> None:
        received.append(await stream.receive())

    router = open_router()
    async with connected(router) as pair:
        assert pair.client.post(RAFT_MESSAGES, b"1")
        await trio.testing.wait_all_tasks_blocked()
        assert not pair.client.post(RAFT_MESSAGES, b"2")
        assert isinstance(pair.client.post_error, Unimplemented)
        router.add(RAFT_MESSAGES, take)
        await trio.sleep(1.1)
        assert pair.client.post(RAFT_MESSAGES, b"3")
        await trio.testing.wait_all_tasks_blocked()
    assert received == [b"3"]


# -- the end -----------------------------------------------------------------------------------------------------


async def test_closing_is_polite_and_tells_both_sides() -> None:
    async with connected(_serving(HEALTH, _healthy)) as pair:
        await pair.client.aclose()
        with trio.fail_after(1):
            await pair.server.closed.wait()
        with pytest.raises(Unavailable):
            await pair.client.call(HEALTH, REQUEST)


async def test_an_abort_ends_every_call_at_once() -> None:
    async def stuck(call: Call, request: HealthRequest) -> HealthReply:
        await trio.sleep_forever()
        raise AssertionError

    async with connected(_serving(HEALTH, stuck)) as pair:

        async def abort() -> None:
            await trio.testing.wait_all_tasks_blocked()
            pair.server.abort("node m1 was removed")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(abort)
            with trio.fail_after(1), pytest.raises(Unavailable):
                await pair.client.call(HEALTH, REQUEST)


async def test_a_silent_peer_is_given_up_after_an_unanswered_ping(autojump_clock: trio.testing.MockClock) -> None:
    async with connected(open_router()) as pair:
        await _mute(pair.client_stream)
        with trio.fail_after(2 * IDLE_PING_S + 5):
            await pair.server.closed.wait()
        with pytest.raises(Unavailable, match="no sign of life"):
            await pair.server.call(HEALTH, REQUEST)


async def test_a_silent_raft_peer_is_given_up_sooner_by_both_ends(autojump_clock: trio.testing.MockClock) -> None:
    async with connected(open_router(), client_hello=Hello(class_="raft")) as pair:
        await _mute(pair.client_stream)
        await _mute(pair.server_stream)
        with trio.fail_after(2 * RAFT_IDLE_PING_S + 1):
            await pair.server.closed.wait()
            await pair.client.closed.wait()


async def _mute(stream: Any) -> None:
    """From now on nothing that is written to `stream` arrives."""

    async def swallow(data: Any) -> None:
        await trio.lowlevel.checkpoint()

    stream.send_stream.send_all = swallow


async def test_an_idle_connection_stays_when_the_peer_answers(autojump_clock: trio.testing.MockClock) -> None:
    async with connected(_serving(HEALTH, _healthy)) as pair:
        await trio.sleep(20 * IDLE_PING_S)
        assert not pair.client.closed.is_set()
        assert not pair.server.closed.is_set()
        await pair.client.call(HEALTH, REQUEST)


async def test_a_violation_ends_the_connection_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    async with connected(open_router()) as pair:
        pair.client._outbox.append(b"not a frame")
        with trio.fail_after(2):
            await pair.client.closed.wait()
        with pytest.raises(Unavailable, match="CBOR"):
            await pair.client.call(HEALTH, REQUEST)


async def test_a_peer_that_calls_itself_another_node_is_refused() -> None:
    with pytest.RaisesGroup(Unauthenticated, allow_unwrapped=False, flatten_subgroups=True):
        async with connected(open_router(), client_hello=Hello(node="somebody-else")):
            pass
