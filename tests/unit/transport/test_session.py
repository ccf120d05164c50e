"""The rules of streams, without any I/O."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from swarmd.errors import (
    FailedPrecondition,
    Internal,
    Invalid,
    NotFound,
    ResourceExhausted,
    SwarmError,
    Unimplemented,
)
from swarmd.transport.events import (
    Cancelled,
    Ended,
    Event,
    Failed,
    Granted,
    Greeted,
    LocalMisuse,
    Opened,
    Received,
)
from swarmd.transport.session import ANONYMOUS, AUTHENTICATED, Limits, Session
from swarmd.wire.codec import encode
from swarmd.wire.frames import ANONYMOUS_FRAME_BYTES_MAX, ANONYMOUS_FRAMES_MAX, FRAME_BYTES_MAX, STREAMS_MAX, Hello
from swarmd.wire.methods import HEALTH, RAFT_MESSAGES, RAFT_SNAPSHOT, SESSION, Method
from swarmd.wire.peer import HealthReply, HealthRequest

PLAIN = Hello()


def _pair(*, dialer: Hello = PLAIN, listener: Hello = PLAIN, limits: Limits = AUTHENTICATED) -> tuple[Session, Session]:
    ours = Session(is_dialer=True, hello=dialer)
    theirs = Session(is_dialer=False, hello=listener, limits=limits)
    assert ours.receive(theirs.greeting()) == Greeted(listener)
    assert theirs.receive(ours.greeting()) == Greeted(dialer)
    return ours, theirs


def _opened(opener: Session, acceptor: Session, method: Method[Any, Any]) -> int:
    stream, frame = opener.open(method, {})
    assert isinstance(acceptor.receive(frame), Opened)
    return stream


# -- greeting ----------------------------------------------------------------------------------------------------


def test_the_highest_common_protocol_wins() -> None:
    ours, theirs = _pair(dialer=Hello(protocol=(1, 4)), listener=Hello(protocol=(2, 9)))
    assert ours.protocol == theirs.protocol == 4


def test_no_common_protocol_is_a_clear_error() -> None:
    session = Session(is_dialer=True, hello=Hello(protocol=(1, 1)))
    peer = Session(is_dialer=False, hello=Hello(protocol=(2, 3)))
    with pytest.raises(FailedPrecondition, match="speaks 1, the peer 2 to 3"):
        session.receive(peer.greeting())


def test_hello_comes_first_and_once() -> None:
    ours, theirs = _pair()
    with pytest.raises(Invalid, match="once"):
        theirs.receive(ours.greeting())
    fresh = Session(is_dialer=False, hello=Hello())
    with pytest.raises(Invalid, match="first frame must be HELLO"):
        fresh.receive(encode([1, 1, "health", None, {}, {}]))
    with pytest.raises(LocalMisuse):
        fresh.open(HEALTH)


def test_a_peer_may_refuse_before_its_hello() -> None:
    session = Session(is_dialer=True, hello=Hello())
    event = session.receive(Session.connection_error(NotFound("nobody")))
    assert isinstance(event, Failed)
    assert event.stream == 0
    assert type(event.error) is NotFound


# -- calls -------------------------------------------------------------------------------------------------------


def test_a_unary_call() -> None:
    ours, theirs = _pair()
    stream, frame = ours.open(HEALTH, HealthRequest(), deadline_s=2.5)
    opened = theirs.receive(frame)
    assert isinstance(opened, Opened)
    assert (opened.stream, opened.method, opened.deadline_s, opened.body) == (stream, HEALTH, 2.5, {})
    reply = theirs.data(stream, HealthReply(node_id="n"))
    received = ours.receive(reply)
    assert received == Received(stream, {"node_id": "n"}, len(reply))
    assert ours.receive(theirs.end(stream)) == Ended(stream)
    assert len(ours) == len(theirs) == 0


def test_a_failed_call() -> None:
    ours, theirs = _pair()
    stream = _opened(ours, theirs, HEALTH)
    event = ours.receive(theirs.error(stream, NotFound("no", field="$.x", hint="look")))
    assert isinstance(event, Failed)
    assert (type(event.error), event.error.field, event.error.hint) == (NotFound, "$.x", "look")
    assert len(ours) == len(theirs) == 0


def test_a_cancelled_call_is_over_on_both_sides_and_late_frames_are_ignored() -> None:
    ours, theirs = _pair()
    stream = _opened(ours, theirs, SESSION)
    late = [theirs.data(stream, {}), theirs.end(stream)]
    cancel = ours.cancel(stream)
    assert [ours.receive(frame) for frame in late] == [None, None]
    assert theirs.receive(cancel) is None
    assert len(ours) == len(theirs) == 0


def test_a_cancel_reaches_the_acceptor() -> None:
    ours, theirs = _pair()
    stream = _opened(ours, theirs, HEALTH)
    assert theirs.receive(ours.cancel(stream)) == Cancelled(stream)


def test_a_client_stream() -> None:
    ours, theirs = _pair()
    stream = _opened(ours, theirs, RAFT_SNAPSHOT)
    assert isinstance(theirs.receive(ours.data(stream, {"offset": 0})), Received)
    assert theirs.receive(ours.end(stream)) == Ended(stream)
    with pytest.raises(LocalMisuse):
        ours.data(stream, {})
    assert isinstance(ours.receive(theirs.data(stream, {})), Received)
    with pytest.raises(LocalMisuse, match="beyond the method's shape"):
        theirs.data(stream, {})
    assert ours.receive(theirs.end(stream)) == Ended(stream)


def test_an_unknown_method_is_the_handlers_business() -> None:
    ours, theirs = _pair()
    event = theirs.receive(encode([1, 1, "of.tomorrow", None, {}, None]))
    assert isinstance(event, Opened)
    assert event.method is None
    ours.open(HEALTH)
    answer = ours.receive(theirs.error(1, Unimplemented("no")))
    assert isinstance(answer, Failed)


def test_ids_are_odd_for_the_dialer_even_for_the_listener_and_rise() -> None:
    ours, theirs = _pair()
    assert [ours.open(HEALTH)[0] for _ in range(3)] == [1, 3, 5]
    assert [theirs.open(HEALTH)[0] for _ in range(3)] == [2, 4, 6]


# -- the peer's violations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "error"),
    [
        ([1, 2, "health", None, {}, {}], Invalid),  # even: ours to open
        ([1, 1, "health", None, {}, {}], Invalid),  # used before
        ([2, 5, {}], Invalid),  # never opened
        ([4, 5], Invalid),
        ([6, 5], Invalid),
        ([3, 5, 1, 1], Invalid),
        ([2, 2, {}], Invalid),  # we never opened it
        ([2, 0, {}], Invalid),
        ([2, 1, {}], Invalid),  # a unary caller has said all with OPEN
        ([4, 1], Invalid),
        ([3, 1, 1, 1], Invalid),  # a unary stream has no credit
        ([5, 1, {"kind": "invalid", "message": "m"}], Invalid),  # the opener cancels
        ([7, 1], Unimplemented),
        (["x"], Invalid),
    ],
)
def test_a_broken_rule_is_a_typed_error(items: list[Any], error: type[SwarmError]) -> None:
    ours, theirs = _pair()
    _opened(ours, theirs, HEALTH)
    with pytest.raises(error):
        theirs.receive(encode(items))


def test_an_acceptor_does_not_cancel_and_answers_once() -> None:
    ours, theirs = _pair()
    stream = _opened(ours, theirs, HEALTH)
    with pytest.raises(Invalid, match="CANCEL"):
        ours.receive(encode([6, stream]))
    ours.receive(encode([2, stream, {}]))
    with pytest.raises(Invalid, match="shape"):
        ours.receive(encode([2, stream, {}]))


def test_a_one_way_method_has_no_answer_but_its_end() -> None:
    ours, theirs = _pair()
    stream = _opened(ours, theirs, RAFT_MESSAGES)
    with pytest.raises(Invalid, match="shape"):
        ours.receive(encode([2, stream, {}]))
    with pytest.raises(LocalMisuse):
        theirs.data(stream, {})


def test_streams_are_limited() -> None:
    ours, theirs = _pair(limits=Limits(streams_max=2))
    for _ in range(2):
        _opened(ours, theirs, HEALTH)
    with pytest.raises(ResourceExhausted, match="2 streams"):
        theirs.receive(ours.open(HEALTH)[1])


def test_a_finished_stream_makes_room_for_another() -> None:
    ours, theirs = _pair(limits=Limits(streams_max=1))
    for _ in range(5):
        stream = _opened(ours, theirs, HEALTH)
        ours.receive(theirs.end(stream))


def test_we_keep_to_the_limit_of_streams_ourselves() -> None:
    ours, _theirs = _pair()
    for _ in range(STREAMS_MAX):
        ours.open(HEALTH)
    with pytest.raises(ResourceExhausted):
        ours.open(HEALTH)


def test_a_frame_over_the_limit_is_refused_in_both_directions() -> None:
    ours, theirs = _pair()
    stream = _opened(ours, theirs, RAFT_SNAPSHOT)
    with pytest.raises(Invalid, match="a frame has at most"):
        ours.data(stream, {"data": bytes(FRAME_BYTES_MAX)})
    with pytest.raises(ResourceExhausted, match="limit"):
        theirs.receive(bytes(FRAME_BYTES_MAX + 1))


def test_a_peer_without_a_certificate_has_small_and_few_frames() -> None:
    ours, theirs = _pair(limits=ANONYMOUS)
    with pytest.raises(ResourceExhausted):
        theirs.receive(bytes(ANONYMOUS_FRAME_BYTES_MAX + 1))
    while theirs._frames < ANONYMOUS_FRAMES_MAX:
        ours.receive(theirs.end(_opened(ours, theirs, HEALTH)))
    with pytest.raises(ResourceExhausted, match="without a certificate"):
        _opened(ours, theirs, HEALTH)


# -- credit ------------------------------------------------------------------------------------------------------


def test_credit_stops_a_stream_and_a_grant_restarts_it() -> None:
    ours, theirs = _pair(dialer=Hello(window=(2, 10_000)))
    stream = _opened(ours, theirs, SESSION)
    sizes = []
    for _ in range(2):
        frame = theirs.data(stream, {"n": 1})
        ours.receive(frame)
        sizes.append(len(frame))
    assert not theirs.may_send(stream)
    with pytest.raises(LocalMisuse):
        theirs.data(stream, {})
    grant = ours.consumed(stream, sizes[0])
    assert grant is not None
    assert theirs.receive(grant) == Granted(stream)
    assert theirs.may_send(stream)


def test_credit_counts_bytes_and_lets_one_message_overdraw() -> None:
    ours, theirs = _pair(dialer=Hello(window=(100, 50)))
    stream = _opened(ours, theirs, SESSION)
    frame = theirs.data(stream, {"data": bytes(1000)})
    assert not theirs.may_send(stream)
    ours.receive(frame)
    grant = ours.consumed(stream, len(frame))
    assert grant is not None
    theirs.receive(grant)
    assert theirs.may_send(stream)


def test_data_without_credit_is_a_violation() -> None:
    ours, theirs = _pair(dialer=Hello(window=(1, 1000)))
    stream = _opened(ours, theirs, SESSION)
    ours.receive(theirs.data(stream, {}))
    with pytest.raises(ResourceExhausted, match="without credit"):
        ours.receive(encode([2, stream, {}]))


def test_a_stopped_stream_stops_nothing_else() -> None:
    ours, theirs = _pair(dialer=Hello(window=(1, 1000)))
    stopped, other = _opened(ours, theirs, SESSION), _opened(ours, theirs, SESSION)
    ours.receive(theirs.data(stopped, {}))
    assert not theirs.may_send(stopped)
    assert theirs.may_send(other)


def test_unary_replies_and_posts_need_no_credit() -> None:
    ours, theirs = _pair(dialer=Hello(window=(0, 0)), listener=Hello(window=(0, 0)))
    call, posts = _opened(ours, theirs, HEALTH), _opened(ours, theirs, RAFT_MESSAGES)
    assert isinstance(ours.receive(theirs.data(call, {})), Received)
    for _ in range(3):
        assert isinstance(theirs.receive(ours.messages(posts, [b"x"])), Received)


def test_absurd_credit_is_refused() -> None:
    ours, theirs = _pair()
    stream = _opened(ours, theirs, SESSION)
    with pytest.raises(Invalid, match="CREDIT"):
        theirs.receive(encode([3, stream, 1 << 40, 1]))


# -- properties --------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=60), max_size=5))
@settings(max_examples=200, deadline=None)
def test_hostile_bytes_give_events_or_typed_errors(frames: list[bytes]) -> None:
    _ours, theirs = _pair()
    for frame in frames:
        with contextlib.suppress(Invalid, ResourceExhausted, Unimplemented, FailedPrecondition):
            theirs.receive(frame)


ITEMS = st.none() | st.integers(-1, 9) | st.sampled_from(["health", "raft.snapshot", {}, {"kind": "x", "message": ""}])


@given(st.lists(st.lists(ITEMS, max_size=7), max_size=12))
@settings(max_examples=150, deadline=None)
def test_hostile_frames_give_events_or_typed_errors(frames: list[list[Any]]) -> None:
    _ours, theirs = _pair()
    for items in frames:
        with contextlib.suppress(Invalid, ResourceExhausted, Unimplemented, FailedPrecondition):
            theirs.receive(encode(items))
    assert len(theirs) <= STREAMS_MAX


class Conversation(RuleBasedStateMachine):
    """Two honest ends over a pipe that delays: neither ever sees a violation, and both forget what is over."""

    def __init__(self) -> None:
        super().__init__()
        small = Hello(window=(3, 200))
        self.ends = _pair(dialer=small, listener=small)
        self.pipes: tuple[list[bytes], list[bytes]] = ([], [])
        self.calls: tuple[dict[int, Method[Any, Any]], dict[int, Method[Any, Any]]] = ({}, {})
        self.incoming: tuple[dict[int, Method[Any, Any]], dict[int, Method[Any, Any]]] = ({}, {})

    @rule(side=st.integers(0, 1), method=st.sampled_from([HEALTH, SESSION, RAFT_SNAPSHOT, RAFT_MESSAGES]))
    def open(self, side: int, method: Method[Any, Any]) -> None:
        stream, frame = self.ends[side].open(method, {})
        self.calls[side][stream] = method
        self.pipes[side].append(frame)

    @precondition(lambda self: any(self.pipes))
    @rule(side=st.integers(0, 1), count=st.integers(1, 4))
    def deliver(self, side: int, count: int) -> None:
        for _ in range(min(count, len(self.pipes[side]))):
            event = self.ends[1 - side].receive(self.pipes[side].pop(0))
            self._note(1 - side, event)

    def _note(self, side: int, event: Event | None) -> None:
        match event:
            case Opened(stream, method=method):
                assert method is not None
                self.incoming[side][stream] = method
            case Received(stream, size=size):
                grant = self.ends[side].consumed(stream, size)
                if grant is not None:
                    self.pipes[side].append(grant)

    @rule(side=st.integers(0, 1), data=st.data())
    def speak(self, side: int, data: st.DataObject) -> None:
        end = self.ends[side]
        streams = [s for s in (*self.calls[side], *self.incoming[side]) if s in end]
        if not streams:
            return
        stream = data.draw(st.sampled_from(streams))
        with contextlib.suppress(LocalMisuse):  # out of turn: refused here, so the peer never hears it
            self.pipes[side].append(end.data(stream, {}))

    @rule(side=st.integers(0, 1), data=st.data())
    def finish(self, side: int, data: st.DataObject) -> None:
        end = self.ends[side]
        ours = [s for s in self.calls[side] if s in end]
        theirs = [s for s in self.incoming[side] if s in end]
        if ours and data.draw(st.booleans()):
            self.pipes[side].append(end.cancel(data.draw(st.sampled_from(ours))))
        elif theirs:
            stream = data.draw(st.sampled_from(theirs))
            fails = data.draw(st.booleans())
            self.pipes[side].append(end.error(stream, Internal("x")) if fails else end.end(stream))

    @invariant()
    def only_open_streams_are_kept(self) -> None:
        for side in (0, 1):
            assert len(self.ends[side]) <= len(self.calls[side]) + len(self.incoming[side])

    def teardown(self) -> None:
        while any(self.pipes):
            for side in (0, 1):
                self.deliver(side, len(self.pipes[side]))
        for side in (0, 1):
            live_here = {s for s in self.calls[side] if s in self.ends[side]}
            live_there = {s for s in self.incoming[1 - side] if s in self.ends[1 - side]}
            assert live_here == live_there


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
