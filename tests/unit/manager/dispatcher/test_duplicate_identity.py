"""One key and certificate on two machines: evictions are limited, and a warning asks the question once a burst."""

from __future__ import annotations

import contextlib
import logging

import pytest
import trio
from trio.testing import MockClock

from swarmd.errors import SwarmError, Unavailable
from swarmd.manager.dispatcher.liveness import BURST_PAUSE_S, REGISTRATIONS_MAX, RegistrationLimit
from tests.unit.manager.dispatcher.world import N1, N2, REGISTER, World, node

QUESTION = "is its identity used twice?"


def questions(caplog: pytest.LogCaptureFixture) -> int:
    return sum(QUESTION in record.message for record in caplog.records if record.levelno == logging.WARNING)


async def machine(world: World) -> None:
    """Registers whenever it has no session, as an agent does, a little apart."""
    while True:
        with contextlib.suppress(SwarmError):
            async with world.dispatcher.session(N1, "h:1", REGISTER) as stream:
                while True:
                    await stream.__anext__()
        await trio.sleep(0.3)


async def test_two_machines_evict_each_other_no_faster_than_the_limit(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 36 of the threats."""
    world = World(node(N1), node(N2))
    with caplog.at_level(logging.INFO):
        async with world.reign() as dispatcher, trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(machine, world)
            async with dispatcher.session(N2, "h:9", REGISTER) as other:
                await other.__anext__()
                await trio.sleep(120)
            nursery.cancel_scope.cancel()
    registered = sum(f"node {N1} registered" in record.message for record in caplog.records)
    assert registered <= REGISTRATIONS_MAX * (120 / 8 + 1)
    assert registered > REGISTRATIONS_MAX, "they went on trying"
    assert questions(caplog) == 1, "once a burst"


def storm(limit: RegistrationLimit, at: float) -> None:
    for _ in range(REGISTRATIONS_MAX):
        limit.admit(N1, at)
    for _ in range(5):
        with pytest.raises(Unavailable):
            limit.admit(N1, at + 1, "192.0.2.9:5")


def test_the_next_burst_is_told_of_again(caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[str, str, str]] = []
    limit = RegistrationLimit(lambda *what: told.append(what))
    storm(limit, 0.0)
    storm(limit, 10.0)
    assert questions(caplog) == 1
    storm(limit, 20.0 + BURST_PAUSE_S)
    assert questions(caplog) == 2
    limit.forget(N1)
    storm(limit, 30.0 + BURST_PAUSE_S)
    assert questions(caplog) == 3
    assert [(node_id, address) for node_id, address, _ in told] == 3 * [(N1, "192.0.2.9:5")]
    assert all(QUESTION in question for _, _, question in told)


async def test_the_audit_is_told_once_a_burst_of_the_address_that_was_refused(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher:
        for _ in range(REGISTRATIONS_MAX):
            async with dispatcher.session(N1, "192.0.2.1:1", REGISTER):
                pass
        for port in range(3):
            with pytest.raises(Unavailable):
                async with dispatcher.session(N1, f"192.0.2.2:{port}", REGISTER):
                    pass
    assert world.storms == [(N1, "192.0.2.2:0")]


def test_three_registrations_are_nothing_to_ask_about(caplog: pytest.LogCaptureFixture) -> None:
    limit = RegistrationLimit()
    for _ in range(REGISTRATIONS_MAX):
        limit.admit(N1, 0.0)
    assert questions(caplog) == 0
