"""A rotation is carried through by whoever leads, wherever the last one stopped."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.errors import Conflict, SwarmError, Unavailable
from swarmd.manager.control_api.secrets import _create
from swarmd.manager.loops.payload_rotation import ACTOR, RETRY_S, PayloadRotationLoop
from swarmd.manager.payload_rotation import RESEAL_BYTES_MAX
from swarmd.model import Secret, SecretSpec
from swarmd.pki.payload_keys import seal
from tests.unit.manager.test_payload_rotation import Vault, dice

SECRETS = 5
STEPS = 4
"""Of a rotation of that many secrets, of which two fill a step: three steps to seal, one to drop the key."""


@pytest.fixture
def vault() -> Vault:
    vault = Vault()
    for _ in range(SECRETS):
        vault.add(RESEAL_BYTES_MAX // 2 - 16)
    return vault


@asynccontextmanager
async def led(vault: Vault) -> AsyncIterator[None]:
    """While a manager leads."""
    async with trio.open_nursery() as nursery:
        await nursery.start(PayloadRotationLoop(vault.store).run)
        yield
        nursery.cancel_scope.cancel()


@contextmanager
def suppressed(kind: type[SwarmError]) -> Iterator[None]:
    """What ends the loop of a manager that leads no more."""
    try:
        yield
    except* kind:
        pass


def written_by_the_loop(vault: Vault) -> int:
    return sum(command.actor == ACTOR for command in vault.store.commands)


async def test_without_a_new_key_nothing_is_written(autojump_clock: MockClock, vault: Vault) -> None:
    async with led(vault):
        await trio.sleep(60)
        vault.add()
        await trio.sleep(60)
    assert written_by_the_loop(vault) == 0


async def test_a_new_key_is_carried_through_in_bounded_steps_each_fenced(
    autojump_clock: MockClock, vault: Vault
) -> None:
    async with led(vault):
        vault.depart()
        await trio.sleep(1)
    assert vault.key_ids == [2]
    assert written_by_the_loop(vault) == STEPS
    assert {command.term for command in vault.store.commands if command.actor == ACTOR} == {vault.store.term}
    vault.check()


@pytest.mark.parametrize("stop_after", range(STEPS + 1))
@pytest.mark.parametrize("loses_the_lead", [False, True])
async def test_interrupted_at_any_step_the_next_leader_goes_on(
    autojump_clock: MockClock, vault: Vault, stop_after: int, loses_the_lead: bool
) -> None:
    """And a secret that is created in between is sealed under the new key."""
    vault.depart()
    vault.store.latency_s = 1.0
    with suppressed(Unavailable):
        async with led(vault):
            await trio.sleep(stop_after + 0.5)
            if loses_the_lead:
                vault.store.lead(False)
                await trio.sleep(5)
    assert written_by_the_loop(vault) == min(STEPS, stop_after + loses_the_lead)
    vault.check()
    assert vault.under(vault.add()) == 2
    vault.store.lead(True)
    async with led(vault):
        await trio.sleep(10)
    assert vault.key_ids == [2]
    assert {vault.under(id) for id in vault.held} == {2}
    vault.check()


@pytest.mark.parametrize("error", [Unavailable("lost"), Conflict("busy")], ids=["unavailable", "conflict"])
@pytest.mark.parametrize("failing", range(STEPS))
async def test_a_write_that_fails_at_any_step_is_made_up_for(
    autojump_clock: MockClock, vault: Vault, failing: int, error: SwarmError
) -> None:
    vault.depart()
    update, count = vault.store.update, 0

    async def failing_once(*arguments, **options):  # type: ignore[no-untyped-def]
        nonlocal count
        count += 1
        if count == failing + 1:
            vault.store.failures.append(error)
        return await update(*arguments, **options)

    vault.store.update = failing_once  # type: ignore[method-assign]
    for _ in range(2):
        with suppressed(Unavailable):
            async with led(vault):
                await trio.sleep(2 * RETRY_S)
    assert vault.key_ids == [2]
    vault.check()


async def test_secrets_that_are_created_and_removed_meanwhile(autojump_clock: MockClock, vault: Vault) -> None:
    vault.store.latency_s = 1.0
    async with led(vault):
        vault.depart()
        for number in range(4):
            await trio.sleep(0.7)
            payload = dice.randbytes(30)
            spec = SecretSpec(name=f"late-{number}", data=payload)
            made, _ = await vault.store.update(lambda tx, spec=spec: _create(tx, spec), actor="user")
            vault.held[made.id] = payload
        await trio.sleep(30)
    assert vault.key_ids == [2]
    vault.check()


async def test_another_manager_goes_in_the_middle(autojump_clock: MockClock, vault: Vault) -> None:
    vault.store.latency_s = 1.0
    async with led(vault):
        vault.depart()
        await trio.sleep(2.5)
        vault.depart()
        await trio.sleep(30)
    assert vault.key_ids == [3]
    assert {vault.under(id) for id in vault.held} == {3}
    vault.check()


async def test_what_does_not_open_is_told_once_and_holds_up_nothing(
    autojump_clock: MockClock, vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    bad = vault.add()
    secret = vault.store.state.get(Secret, bad)
    assert secret is not None
    foreign = seal(b"x", vault.cluster.payload_keys[0], swarm_id="swarm", secret_id="o", random_bytes=dice.randbytes)
    vault.store.write(lambda tx: tx.update(replace(secret, sealed=foreign)))
    with caplog.at_level(logging.ERROR):
        async with led(vault):
            vault.depart()
            await trio.sleep(60)
            vault.add()
            await trio.sleep(60)
    assert [record.getMessage() for record in caplog.records] == [
        f"secret {bad} does not open: it is left as it is, and its key is kept"
    ]
    assert vault.key_ids == [1, 2]
    assert {vault.under(id) for id in vault.held if id != bad} == {2}
