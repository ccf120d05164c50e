"""Every method, asked over real TLS and the real control socket by every kind of caller: who is denied never reaches a
handler. What is expected is read from the table of tests/unit/wire/test_authorise_table.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from swarmd.errors import PermissionDenied, SwarmError, Unauthenticated, Unavailable, Unimplemented
from swarmd.model import Role
from swarmd.transport.connection import Call, Connection, Router
from swarmd.transport.control_socket import ControlSocket
from swarmd.transport.credentials import Credentials, _load_chain, joining_context
from swarmd.transport.dialer import connect_socket, dial
from swarmd.transport.listener import Listener
from swarmd.wire.authorise import REMOVED, Standing, authorise, forwarded_header, present_role
from swarmd.wire.frames import Headers, Hello
from swarmd.wire.identity import Caller
from swarmd.wire.methods import METHODS, Method, Shape
from swarmd.wire.peer import Nothing
from tests.unit.transport.certificates import SWARM_ID, TestAuthority
from tests.unit.wire.test_authorise_table import TABLE, Known

AUTHORITY: Final = TestAuthority()
SERVER: Final = AUTHORITY.credentials("m1")
MANAGER: Final = AUTHORITY.credentials("m2")
WORKER: Final = AUTHORITY.credentials("w1", Role.WORKER)
DEMOTED: Final = AUTHORITY.credentials("demoted")
PROMOTED: Final = AUTHORITY.credentials("promoted", Role.WORKER)
REVOKED: Final = AUTHORITY.credentials("m3")
GONE: Final = AUTHORITY.credentials("gone")
UNKNOWN: Final = AUTHORITY.credentials("unknown")
STRANGER: Final = AUTHORITY.credentials("m2", swarm_id="another-swarm")


def _issued(role: Role, credentials: Credentials, *, revoked: bool = False) -> Standing:
    own = frozenset((credentials.identity.fingerprint,))
    return Standing(role=role, fingerprints=own, revoked=own if revoked else frozenset())


class _Swarm(Known):
    def __init__(self) -> None:
        super().__init__(
            {
                "m1": _issued(Role.MANAGER, SERVER),
                "m2": _issued(Role.MANAGER, MANAGER),
                "m3": _issued(Role.MANAGER, REVOKED, revoked=True),
                "w1": _issued(Role.WORKER, WORKER),
                "demoted": _issued(Role.WORKER, DEMOTED),
                "promoted": _issued(Role.MANAGER, PROMOTED),
                "gone": REMOVED,
            }
        )
        self.swarm_id = SWARM_ID


class Door:
    """A listener and a control socket before one router; every method is served by a handler that says so."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.standings = _Swarm()
        self.router = Router(lambda method, caller: authorise(method, caller, self.standings))
        for method in METHODS.values():
            self.router.add(method, self._enter)
        self.port = 0

    async def _enter(self, call: Call, *_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.entered.append(call.method.name)
        raise Unimplemented("entered")

    def admit(self, caller: Caller) -> None:
        if caller.identity is not None:
            present_role(caller.identity, self.standings)

    def dial(self, credentials: Credentials) -> AbstractAsyncContextManager[Connection]:
        # No swarm is named, so that it is the listener who refuses a stranger.
        return dial(f"127.0.0.1:{self.port}", credentials.client_context(), Hello())

    def dial_without(self) -> AbstractAsyncContextManager[Connection]:
        context = joining_context(AUTHORITY.root)
        return dial(f"127.0.0.1:{self.port}", context, Hello(), server_name="swarm-ca")


@asynccontextmanager
async def opened() -> AsyncIterator[Door]:
    door = Door()
    listener = Listener("127.0.0.1", 0, SERVER, door.router, lambda: Hello(node="m1", swarm=SWARM_ID), admit=door.admit)
    async with trio.open_nursery() as nursery:
        door.port = await nursery.start(listener.run)
        yield door
        nursery.cancel_scope.cancel()


async def _allowed(door: Door, connection: Connection, headers: Headers = Headers()) -> set[str]:  # noqa: B008
    """Which methods this connection may call. A request that is refused for what it says was let in before."""
    allowed = set()
    for method in METHODS.values():
        before = len(door.entered)
        asked = Method(method.name, Nothing, Nothing, roles=method.roles, shape=Shape.UNARY)
        try:
            await connection.call(asked, Nothing(), headers=headers)
        except (PermissionDenied, Unauthenticated):
            assert len(door.entered) == before, f"{method.name} was denied and its handler entered"
        except Unavailable:
            raise  # the connection was lost: nothing was judged
        except SwarmError:
            allowed.add(method.name)
        else:
            raise AssertionError(f"{method.name} answered")
    return allowed


def _lines_with(letter: str) -> set[str]:
    return {name for name, letters in TABLE.items() if letter in letters}


@pytest.mark.parametrize(
    ("credentials", "letter"),
    [(MANAGER, "M"), (WORKER, "W"), (DEMOTED, "d"), (PROMOTED, "p")],
    ids=["manager", "worker", "demoted", "promoted"],
)
async def test_what_a_node_may_call(credentials: Credentials, letter: str) -> None:
    async with opened() as door, door.dial(credentials) as connection:
        assert await _allowed(door, connection) == _lines_with(letter)


async def test_without_a_certificate() -> None:
    async with opened() as door, door.dial_without() as connection:
        assert await _allowed(door, connection) == _lines_with("A")


async def test_on_the_control_socket(tmp_path: Path) -> None:
    door = Door()
    async with trio.open_nursery() as nursery:
        socket = ControlSocket(tmp_path / "s", SERVER.identity, door.router, Hello)
        await nursery.start(socket.run)
        async with connect_socket(tmp_path / "s", Hello()) as connection:
            assert await _allowed(door, connection) == _lines_with("S")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("origin", "letter"),
    [
        (Caller(identity=SERVER.identity), "m"),
        (Caller(identity=WORKER.identity), "w"),
        (Caller(identity=DEMOTED.identity), "f"),
        (Caller(), "a"),
        (Caller(identity=MANAGER.identity, is_local=True, uid=0), "s"),
        *((Caller(identity=one.identity), "nobody") for one in (REVOKED, GONE, UNKNOWN, STRANGER)),
    ],
)
async def test_what_a_manager_may_pass_on(origin: Caller, letter: str) -> None:
    expected = set() if letter == "nobody" else _lines_with(letter)
    async with opened() as door, door.dial(MANAGER) as connection:
        assert await _allowed(door, connection, Headers(forwarded=forwarded_header(origin))) == expected


@pytest.mark.parametrize("forger", [WORKER, DEMOTED], ids=["worker", "demoted"])
async def test_nobody_else_passes_anything_on(forger: Credentials) -> None:
    forged = Headers(forwarded=forwarded_header(Caller(identity=MANAGER.identity)))
    async with opened() as door, door.dial(forger) as connection:
        assert await _allowed(door, connection, forged) == set()
    assert not door.entered


async def test_nor_does_a_peer_without_a_certificate() -> None:
    forged = Headers(forwarded=forwarded_header(Caller(identity=MANAGER.identity)))
    async with opened() as door, door.dial_without() as connection:
        assert await _allowed(door, connection, forged) == set()
    assert not door.entered


@pytest.mark.parametrize(
    ("credentials", "reason"),
    [(GONE, "removed"), (REVOKED, "revoked"), (UNKNOWN, "not in this swarm"), (STRANGER, "another swarm")],
    ids=["removed", "revoked", "unknown", "stranger"],
)
async def test_these_do_not_come_in_at_all(credentials: Credentials, reason: str) -> None:
    async with opened() as door:
        with pytest.raises((PermissionDenied, Unauthenticated), match=reason):
            async with door.dial(credentials):
                pass
    assert not door.entered


@pytest.mark.parametrize(("begins_h", "lasts_h"), [(-3.0, 1.0), (2.0, 4.0)], ids=["expired", "not valid yet"])
async def test_nor_does_a_certificate_out_of_its_time(begins_h: float, lasts_h: float) -> None:
    issued = AUTHORITY.issue("m2", valid_from_h=begins_h, valid_for_h=lasts_h)
    credentials = Credentials(certificate=issued.certificate, key=issued.key, root=AUTHORITY.root)
    async with opened() as door:
        with pytest.raises((Unauthenticated, Unavailable)):
            async with door.dial(credentials) as connection:
                await connection.call(METHODS["health"], Nothing())
    assert not door.entered


async def test_nor_does_another_authoritys_certificate_with_the_same_names() -> None:
    forged = TestAuthority().issue("m2")
    async with opened() as door:
        context = joining_context(AUTHORITY.root)
        _load_chain(context, forged.certificate, forged.key)
        with pytest.raises((Unauthenticated, Unavailable)):
            async with dial(f"127.0.0.1:{door.port}", context, Hello(), server_name="swarm-ca") as connection:
                await connection.call(METHODS["ca.root"], Nothing())
    assert not door.entered
