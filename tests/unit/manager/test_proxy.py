from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest
import trio
import trio.testing

from swarmd.errors import Conflict, DeadlineExceeded, OutcomeUnknown, SwarmError, Unavailable
from swarmd.manager.proxy import DIAL_S_MAX, NO_LEADER_S_MAX, LeaderLink, LeaderProxy
from swarmd.model import Role
from swarmd.transport.connection import Call
from swarmd.wire.frames import Headers
from swarmd.wire.identity import Caller, Identity
from swarmd.wire.methods import CA_ISSUE, CA_STATUS, SERVICE_CREATE, Method
from tests.unit.manager.fake_driver import FakeDriver
from tests.unit.manager.raft_cluster import identity_of, member
from tests.unit.manager.swarm_fixture import SWARM, call_of

USER = Caller(identity=Identity(node_id="node-2", role=Role.MANAGER, swarm_id=SWARM), is_local=True, address="uid 0")


class FakeConnection:
    """A leader's end: each call takes the next of `answers`, an error or a reply; `lose` ends it."""

    def __init__(self, member_id: int, answers: list[Any]) -> None:
        self.peer = Caller(identity=identity_of(member_id))
        self.closed = trio.Event()
        self.answers = answers
        self.calls: list[tuple[str, Any, float, Headers]] = []

    async def call(self, method: Method[Any, Any], request: Any, *, timeout_s: float, headers: Headers) -> Any:
        self.calls.append((method.name, request, timeout_s, headers))
        await trio.sleep(0.01)
        answer = self.answers.pop(0)
        if callable(answer):
            answer = answer(self)
        if answer is trio.sleep_forever:
            with trio.move_on_after(timeout_s):
                await trio.sleep_forever()
            answer = DeadlineExceeded("no answer")
        if isinstance(answer, Exception):
            raise answer
        return answer


def lost(connection: FakeConnection) -> Exception:
    connection.closed.set()
    return Unavailable("the connection is gone")


class World:
    """A follower (member 2) of three; what answers at each address is set by hand."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.driver = FakeDriver((member(1), member(2), member(3)))
        self.at: dict[str, FakeConnection | None] = {}
        """Address -> who answers; None: nobody ever does. Missing: refused."""
        self.dialed: list[str] = []
        self.link = LeaderLink(cast("Any", self._dial))
        self.proxy = LeaderProxy(cast("Any", self.driver), self.link)
        self.served_here: list[Any] = []
        self.here: Callable[[], Any] = lambda: "here"

    @asynccontextmanager
    async def _dial(self, address: str) -> AsyncIterator[FakeConnection]:
        self.dialed.append(address)
        await trio.sleep(0.01)
        present = self.at.get(address)
        if address not in self.at or (present is not None and present.closed.is_set()):
            raise Unavailable("connection refused")
        connection = self.at[address]
        if connection is None:
            await trio.sleep_forever()
        assert connection is not None
        yield connection

    def leader_is(self, member_id: int, *answers: Any) -> FakeConnection:
        connection = FakeConnection(member_id, list(answers))
        self.at[member(member_id).addresses[0]] = connection
        self.driver.follow(member_id)
        return connection

    async def call(
        self,
        *,
        method: Method[Any, Any] = SERVICE_CREATE,
        key: bytes = b"",
        caller: Caller = USER,
        timeout_s: float = 60,
    ) -> Any:
        call = call_of(caller, timeout_s=timeout_s, method=method)
        cast("Any", call).headers = Headers(key=key)

        async def local(call: Call, request: Any) -> Any:
            self.served_here.append(request)
            await trio.lowlevel.checkpoint()
            answer = self.here()
            if isinstance(answer, Exception):
                raise answer
            return answer

        return await self.proxy.wrap(method, local)(call, "request")


@asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        await nursery.start(world.link.run)
        yield world
        nursery.cancel_scope.cancel()


async def test_the_leader_serves_it_itself(autojump_clock: trio.testing.MockClock) -> None:
    async with a_world() as world:
        world.driver.lead(2)
        assert await world.call() == "here"


async def test_a_follower_passes_it_on_with_the_callers_identity(autojump_clock: trio.testing.MockClock) -> None:
    async with a_world() as world:
        leader = world.leader_is(1, "there")
        assert await world.call(key=b"k") == "there"
        ((_, request, timeout_s, headers),) = leader.calls
        assert request == "request"
        assert timeout_s < 60
        assert headers.key == b"k"
        assert headers.forwarded is not None
        assert (headers.forwarded.node_id, headers.forwarded.is_local) == ("node-2", True)


async def test_an_anonymous_caller_never_looks_like_this_manager(autojump_clock: trio.testing.MockClock) -> None:
    async with a_world() as world:
        leader = world.leader_is(1, "there")
        await world.call(method=CA_ISSUE, caller=Caller(address="1.2.3.4:5"))
        forwarded = leader.calls[0][3].forwarded
        assert forwarded is not None
        assert (forwarded.node_id, forwarded.swarm_id, forwarded.address) == ("", "", "1.2.3.4:5")


async def test_the_connection_to_a_leader_is_kept_and_one_of_a_former_leader_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_world() as world:
        for member_id in (1, 3):
            world.leader_is(member_id, *["there"] * 9)
        for member_id in (1, 3, 1, 3, 3):
            world.driver.follow(member_id)
            assert await world.call() == "there"
        assert len(world.dialed) == 2


async def test_without_a_leader_it_waits_ten_seconds_and_then_tells_the_arithmetic(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_world() as world:
        began = trio.current_time()
        with pytest.raises(Unavailable, match="1 of 3 answers") as caught:
            await world.call()
        assert not isinstance(caught.value, OutcomeUnknown)
        assert NO_LEADER_S_MAX <= trio.current_time() - began < NO_LEADER_S_MAX + 0.5


async def test_it_is_served_as_soon_as_somebody_leads(autojump_clock: trio.testing.MockClock) -> None:
    async with a_world() as world:
        answers: list[Any] = []

        async def call() -> None:
            answers.append(await world.call())

        world.nursery.start_soon(call)
        await trio.sleep(4)
        world.leader_is(3, "there")
        await trio.sleep(0.2)
        assert answers == ["there"]


async def test_what_the_leader_surely_did_not_do_is_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    async with a_world() as world:
        leader = world.leader_is(1, Unavailable("leadership was lost before the change took effect"), "there")
        assert await world.call() == "there"
        assert len(leader.calls) == 2


async def test_a_change_without_a_key_is_not_asked_again_when_its_leader_was_lost_under_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_world() as world:
        leader = world.leader_is(1, lost, "there")
        with pytest.raises(OutcomeUnknown):
            await world.call()
        assert len(leader.calls) == 1


async def test_a_change_with_a_key_is_asked_again_when_its_leader_was_lost_under_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_world() as world:
        world.leader_is(1, lost)
        answers: list[Any] = []

        async def call() -> None:
            answers.append(await world.call(key=b"k"))

        world.nursery.start_soon(call)
        await trio.sleep(0.5)
        new = world.leader_is(3, "there")
        await trio.sleep(0.5)
        assert answers == ["there"]
        assert new.calls[0][3].key == b"k"


async def test_a_keyed_change_that_may_have_happened_is_never_told_as_definite(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_world() as world:
        world.leader_is(1, lost)
        with pytest.raises(OutcomeUnknown, match="a leader was lost"):
            await world.call(key=b"k")


async def test_the_leaders_own_unknown_outcome_is_passed_on(autojump_clock: trio.testing.MockClock) -> None:
    async with a_world() as world:
        leader = world.leader_is(1, OutcomeUnknown("outcome unknown"), "there")
        with pytest.raises(OutcomeUnknown):
            await world.call(key=b"k")
        assert len(leader.calls) == 1


@pytest.mark.parametrize("key", [b"", b"k"])
async def test_a_leader_that_does_not_answer_in_time_leaves_the_outcome_unknown(
    autojump_clock: trio.testing.MockClock, key: bytes
) -> None:
    async with a_world() as world:
        leader = world.leader_is(1, DeadlineExceeded("no answer"))
        with pytest.raises(OutcomeUnknown):
            await world.call(key=key)
        assert len(leader.calls) == 1


async def test_other_errors_are_passed_on_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with a_world() as world:
        leader = world.leader_is(1, Conflict("no"))
        with pytest.raises(Conflict):
            await world.call()
        assert len(leader.calls) == 1


async def test_a_call_that_was_passed_on_once_is_not_passed_on_again(autojump_clock: trio.testing.MockClock) -> None:
    async with a_world() as world:
        leader = world.leader_is(1, "there")
        passed_on = msgspec.structs.replace(USER, forwarder=identity_of(3))
        with pytest.raises(Unavailable, match="does not lead"):
            await world.call(caller=passed_on)
        assert leader.calls == []


async def test_whoever_answers_at_the_leaders_address_must_be_the_leader(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_world() as world:
        world.driver.follow(1)
        stranger = FakeConnection(3, ["there"])
        world.at[member(1).addresses[0]] = stranger
        with pytest.raises(Unavailable, match="another node answers"):
            await world.call()
        assert stranger.calls == []


async def test_calls_do_not_queue_behind_each_other_to_dial_a_dead_leader(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_world() as world:
        world.at[member(1).addresses[0]] = None  # a machine without power
        world.driver.follow(1)
        failed_at: list[float] = []
        began = trio.current_time()

        async def reach() -> None:
            with pytest.raises(Unavailable):
                await world.link.to(member(1))
            failed_at.append(trio.current_time() - began)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(reach)
        assert len(world.dialed) == 1
        assert max(failed_at) <= DIAL_S_MAX + 0.1


async def test_a_dead_leader_is_given_up_as_soon_as_another_one_leads(autojump_clock: trio.testing.MockClock) -> None:
    async with a_world() as world:
        world.at[member(1).addresses[0]] = None
        world.driver.follow(1)
        answered_at: list[float] = []

        async def call() -> None:
            await world.call()
            answered_at.append(trio.current_time())

        world.nursery.start_soon(call)
        await trio.sleep(1)
        world.leader_is(3, "there")
        elected_at = trio.current_time()
        await trio.sleep(1)
        assert answered_at[0] - elected_at < 0.2


def frozen(_: FakeConnection) -> Any:
    return trio.sleep_forever


@pytest.mark.parametrize(("method", "key"), [(SERVICE_CREATE, b"k"), (CA_STATUS, b"")], ids=["keyed change", "read"])
async def test_a_leader_that_froze_under_a_call_is_given_up_as_soon_as_it_does_not_lead(
    autojump_clock: trio.testing.MockClock, method: Method[Any, Any], key: bytes
) -> None:
    async with a_world() as world:
        silent = world.leader_is(1, frozen)
        answers: list[tuple[Any, float]] = []

        async def call() -> None:
            answers.append((await world.call(method=method, key=key), trio.current_time()))

        world.nursery.start_soon(call)
        await trio.sleep(2)
        successor = world.leader_is(3, "there")
        elected_at = trio.current_time()
        await trio.sleep(1)
        [(answer, answered_at)] = answers
        assert answer == "there"
        assert answered_at - elected_at < 0.2
        assert [headers.key for *_, headers in silent.calls + successor.calls] == [key, key]


async def test_a_change_without_a_key_waits_for_what_a_deposed_leader_says(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_world() as world:
        world.leader_is(1, frozen)
        refused: list[SwarmError] = []

        async def call() -> None:
            with pytest.raises(SwarmError) as caught:
                await world.call(timeout_s=5)
            refused.append(caught.value)

        world.nursery.start_soon(call)
        await trio.sleep(1)
        successor = world.leader_is(3, "there")
        await trio.sleep(10)
        assert isinstance(refused[0], OutcomeUnknown)
        assert successor.calls == []


async def test_an_error_of_this_managers_own_handler_is_told_as_it_is(autojump_clock: trio.testing.MockClock) -> None:
    async with a_world() as world:
        world.driver.lead(2)
        world.here = lambda: OutcomeUnknown("outcome unknown")
        with pytest.raises(SwarmError) as caught:
            await world.call(key=b"k")
        assert isinstance(caught.value, OutcomeUnknown)
        assert len(world.served_here) == 1


@pytest.mark.parametrize("gone_for_s", [0.0, 1.0])
async def test_a_manager_that_ends_tells_the_calls_it_still_serves(
    gone_for_s: float, autojump_clock: trio.testing.MockClock
) -> None:
    """Its disk is full, say: its router serves for a moment more, and an end in order must not look like a defect."""
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        scope = trio.CancelScope()

        async def live(*, task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await world.link.run(task_status=task_status)

        await nursery.start(live)
        scope.cancel()
        if gone_for_s:
            await trio.sleep(gone_for_s)
        with pytest.raises(Unavailable):
            await world.link.to(member(1))
