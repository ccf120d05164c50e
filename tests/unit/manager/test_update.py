from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

import pytest
import trio

from swarmd.errors import Conflict, Gone, Invalid, OutcomeUnknown, Unavailable
from swarmd.manager.proposer import UPDATE_TRIES_MAX
from swarmd.manager.update import ReplicatedStore
from swarmd.model import Node, NodeStatus
from swarmd.state.command import Command, IdempotencyKey, Outcome, encode_command
from swarmd.state.store import State
from swarmd.state.transaction import Transaction


class InstantDriver:
    """Applies at once. `before` runs ahead of each apply; `after` behind it."""

    def __init__(self, *, results_max: int = 100) -> None:
        self.state = State(results_max=results_max)
        self.is_leading = True
        self.core = self
        self.term = 4
        self.before: list[Callable[[], None]] = []
        self.after: list[Callable[[], None]] = []
        self.committed: list[Command] = []

    async def commit(self, command: Command) -> Outcome:
        await trio.lowlevel.checkpoint()
        if self.before:
            self.before.pop(0)()
        outcome = self.state.apply(self.state.index + 1, self.term, encode_command(command), command)
        self.committed.append(command)
        if self.after:
            self.after.pop(0)()
        return outcome


def store_of(driver: InstantDriver) -> ReplicatedStore:
    return ReplicatedStore(cast("Any", driver), member_id=1, boot_id=b"b" * 16, now=lambda: 1.0, rng=random.Random(1))


def create(tx: Transaction) -> str:
    tx.create(Node(id="n"))
    return "made"


async def test_it_returns_what_fn_returned_and_the_index_of_the_entry() -> None:
    driver = InstantDriver()
    assert await store_of(driver).update(create, actor="me") == ("made", 1)
    assert driver.committed[0].actor == "me"


async def test_an_empty_transaction_proposes_nothing() -> None:
    driver = InstantDriver()
    assert await store_of(driver).update(lambda tx: tx.node("n"), actor="me") == (None, 0)
    assert driver.committed == []


async def test_fn_runs_again_on_a_fresh_view_when_others_were_faster() -> None:
    driver = InstantDriver()
    store = store_of(driver)
    await store.update(create, actor="me")
    driver.before.append(lambda: _touch(driver))
    seen: list[int] = []

    def fn(tx: Transaction) -> None:
        node = tx.node("n")
        assert node is not None
        seen.append(node.meta.version)
        tx.update(node)
        tx.create(Node(id="m"))

    await store.update(fn, actor="me")
    assert seen == [1, 2]


async def test_after_five_conflicts_the_caller_is_told() -> None:
    driver = InstantDriver()
    store = store_of(driver)
    await store.update(create, actor="me")
    driver.before += [lambda: _touch(driver)] * 10

    def fn(tx: Transaction) -> None:
        node = tx.node("n")
        assert node is not None
        tx.update(node)
        tx.create(Node(id="m"))

    with pytest.raises(Conflict, match="kept changing"):
        await store.update(fn, actor="me")
    assert len(driver.committed) == 1 + UPDATE_TRIES_MAX


async def test_nothing_runs_on_a_manager_that_does_not_lead() -> None:
    driver = InstantDriver()
    driver.is_leading = False
    with pytest.raises(Unavailable):
        await store_of(driver).update(create, actor="me")
    assert driver.committed == []


async def test_fn_is_never_run_again_once_the_outcome_is_unknown() -> None:
    driver = InstantDriver()
    runs = 0

    def lose() -> None:
        raise OutcomeUnknown("lost")

    driver.after.append(lose)

    def fn(tx: Transaction) -> None:
        nonlocal runs
        runs += 1
        tx.create(Node(id="n"))

    with pytest.raises(OutcomeUnknown):
        await store_of(driver).update(fn, actor="me")
    assert runs == 1


async def test_an_unknown_outcome_is_found_by_the_commands_own_id_if_it_had_a_key() -> None:
    driver = InstantDriver()

    def lose() -> None:
        raise OutcomeUnknown("lost")

    driver.after.append(lose)
    key = IdempotencyKey(b"k", b"h" * 32, 0)
    assert await store_of(driver).update(create, actor="me", key=key) == ("made", 1)


async def test_a_retry_that_overtakes_its_first_try_is_answered_with_what_the_first_one_did() -> None:
    """Both ran `fn` before either was applied. What the second decided never happened, so it must not be told."""
    driver = InstantDriver()
    store = store_of(driver)
    key = IdempotencyKey(b"k", b"h" * 32, 0)

    def fn(tx: Transaction) -> str:
        known = driver.state.known_result(key, "me")
        if known is not None:
            return f"already {known.object_id}"
        node_id = tx.new_id()
        tx.create(Node(id=node_id))
        return node_id

    answers: list[str] = []

    async def once() -> None:
        answers.append((await store.update(fn, actor="me", key=key))[0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(once)
        nursery.start_soon(once)
    (made,) = [node.id for node in driver.state.nodes()]
    assert sorted(answers) == sorted([made, f"already {made}"])


async def test_a_key_of_another_request_and_one_that_is_too_old_are_refused() -> None:
    driver = InstantDriver(results_max=1)
    store = store_of(driver)
    await store.update(create, actor="me", key=IdempotencyKey(b"k", b"h" * 32, 0))
    with pytest.raises(Invalid, match="another request"):
        await store.update(_creating("m"), actor="me", key=IdempotencyKey(b"k", b"x" * 32, 0))
    await store.update(_creating("o"), actor="me", key=IdempotencyKey(b"l", b"h" * 32, 1))
    with pytest.raises(Gone):
        await store.update(_creating("p"), actor="me", key=IdempotencyKey(b"k", b"h" * 32, 0))


async def test_a_reigns_store_keeps_the_term_it_began_with() -> None:
    driver = InstantDriver()
    reign = store_of(driver).of_reign(4)
    await reign.update(create, actor="loop")
    assert driver.committed[0].term == 4
    driver.term = 6
    assert reign.term == 4
    with pytest.raises(Unavailable):
        await reign.update(_creating("m"), actor="loop")
    assert driver.state.node("m") is None


async def test_a_term_that_changes_on_the_way_is_refused_by_apply() -> None:
    driver = InstantDriver()

    def depose() -> None:
        driver.term = 5

    driver.before.append(depose)
    with pytest.raises(Unavailable, match="leadership changed"):
        await store_of(driver).of_reign(4).update(create, actor="loop")
    assert driver.state.node("n") is None


def _creating(node_id: str) -> Callable[[Transaction], None]:
    return lambda tx: tx.create(Node(id=node_id))


def _touch(driver: InstantDriver) -> None:
    """Somebody else changes the node."""
    tx = driver.state.begin(2.0, random.Random(2))
    node = tx.node("n")
    assert node is not None
    import msgspec

    tx.update(msgspec.structs.replace(node, status=NodeStatus(message=f"{node.meta.version}")))
    from swarmd.state.command import CommandId

    command = tx.command(CommandId(2, b"o" * 16, node.meta.version), actor="other")
    driver.state.apply(driver.state.index + 1, driver.term, encode_command(command), command)
