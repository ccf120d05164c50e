"""A whole node on real files and loopback: what refuses its start, and that it stops in every phase."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from swarmd.agent.worker import Worker
from swarmd.errors import FailedPrecondition
from swarmd.node.config import Config, Endpoint
from swarmd.node.identity import IdentityFinder, StateDirectory
from swarmd.node.node import Node
from swarmd.node.transport import anonymous_hello
from swarmd.pki import Authority, new_token, read_subject, root_digest
from swarmd.storage.lock import hold

STOP_S_MAX = 10.0


def config(path: Path, **changes: Any) -> Config:
    plain: dict[str, Any] = {
        "state_dir": path / "state",
        "control_socket": path / "control.sock",
        "listen": Endpoint("127.0.0.1", 0),
        "executor": "process",
    }
    return Config(**{**plain, **changes})


def a_token() -> str:
    return new_token(root_digest(Authority.create(1_700_000_000.0).certificate), random.Random(1))


async def run(node: Node) -> None:
    with trio.fail_after(30):
        await node.run()


async def test_a_second_daemon_on_the_state_directory_is_refused(tmp_path: Path) -> None:
    with (
        hold(tmp_path / "state" / "swarmd.lock"),
        pytest.RaisesGroup(FailedPrecondition, allow_unwrapped=True),
    ):
        await run(Node(config(tmp_path)))


async def test_a_state_directory_that_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FailedPrecondition, match="cannot make"):
        await run(Node(config(tmp_path, state_dir=tmp_path / "file" / "state")))


@pytest.mark.parametrize("name", ["state.cbor", "certificates/swarm-node.crt"])
async def test_a_damaged_file_is_one_error_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    await live_once(tmp_path)
    damaged = tmp_path / "state" / name
    damaged.write_bytes(b"\xff not what was written")
    with pytest.raises(FailedPrecondition, match="damaged"):
        await run(Node(config(tmp_path)))
    assert damaged.read_bytes().startswith(b"\xff")


async def test_certificates_lost_with_the_log_still_there_found_no_new_swarm(tmp_path: Path) -> None:
    await live_once(tmp_path)
    for file in (tmp_path / "state" / "certificates").iterdir():
        file.unlink()
    log = (tmp_path / "state" / "raft" / "raft.db").read_bytes()
    for remembers in (True, False):
        if not remembers:
            (tmp_path / "state" / "state.cbor").unlink()
        with pytest.RaisesGroup(pytest.RaisesExc(FailedPrecondition, match="was a manager"), flatten_subgroups=True):
            await run(Node(config(tmp_path)))
    assert (tmp_path / "state" / "raft" / "raft.db").read_bytes() == log


async def test_a_busy_address_that_was_asked_for_is_refused(tmp_path: Path) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with listener:
        with pytest.RaisesGroup(pytest.RaisesExc(FailedPrecondition, match="in use"), flatten_subgroups=True):
            await run(Node(config(tmp_path, listen=Endpoint("127.0.0.1", port))))


async def test_a_control_socket_path_that_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "control.sock").write_text("not a socket")
    with pytest.RaisesGroup(pytest.RaisesExc(FailedPrecondition, match="is no socket"), flatten_subgroups=True):
        await run(Node(config(tmp_path)))


async def test_the_only_manager_renews_a_certificate_that_expired_while_it_was_off(tmp_path: Path) -> None:
    """It can dial nobody, itself included: nobody would accept what it shows."""
    long_ago = time.time() - 200 * 24 * 3600
    await live_once(tmp_path, now=lambda: long_ago)
    certificate = tmp_path / "state" / "certificates" / "swarm-node.crt"

    def is_valid() -> bool:
        return read_subject(certificate.read_bytes()).not_after > time.time()

    assert not is_valid()
    node = Node(config(tmp_path))
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run)
            while not is_valid():  # noqa: ASYNC110 - a file
                await trio.sleep(0.05)
            node.stop()


async def test_a_free_port_is_kept_over_restarts(tmp_path: Path) -> None:
    first, second = await live_once(tmp_path), await live_once(tmp_path)
    assert first == second


async def test_a_node_stops_before_it_has_an_identity(tmp_path: Path) -> None:
    node = Node(config(tmp_path, join_addr=Endpoint("127.0.0.1", 1), join_token=a_token()))
    await stopped_after(node, 0.3)


async def test_a_node_that_was_told_to_stop_before_it_began_does_not_begin(tmp_path: Path) -> None:
    node = Node(config(tmp_path))
    node.stop()
    await run(node)
    assert not (tmp_path / "state" / "raft").exists()


@pytest.fixture
def slow_adoption(monkeypatch: pytest.MonkeyPatch) -> trio.Event:
    """The agent has begun to adopt its tasks and takes a while."""
    begun = trio.Event()
    run_worker = Worker.run

    async def run_slowly(self: Worker, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        begun.set()
        await trio.sleep(0.3)
        await run_worker(self, task_status=task_status)

    monkeypatch.setattr(Worker, "run", run_slowly)
    return begun


async def test_a_node_stops_while_its_agent_adopts_tasks(tmp_path: Path, slow_adoption: trio.Event) -> None:
    node = Node(config(tmp_path))
    with trio.fail_after(STOP_S_MAX):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run)
            await slow_adoption.wait()
            node.stop()


async def test_a_start_that_is_refused_while_the_agent_adopts_tasks_ends(
    tmp_path: Path, slow_adoption: trio.Event
) -> None:
    finder = IdentityFinder(
        config(tmp_path),
        StateDirectory(tmp_path / "state"),
        hello=anonymous_hello,
        now=time.time,
        rng=random.SystemRandom(),
    )
    await finder.find()  # a swarm that exists: only its doors are refused
    (tmp_path / "control.sock").write_text("not a socket")
    with pytest.RaisesGroup(pytest.RaisesExc(FailedPrecondition, match="is no socket"), flatten_subgroups=True):
        await run(Node(config(tmp_path)))
    assert slow_adoption.is_set()


async def test_a_manager_stops_while_it_waits_for_the_others(tmp_path: Path) -> None:
    """Its log is gone, and nobody answers where the others were."""
    await live_once(tmp_path)
    (tmp_path / "state" / "raft" / "raft.db").unlink()
    node = Node(config(tmp_path, join_addr=Endpoint("127.0.0.1", 1)))
    (tmp_path / "state" / "state.cbor").unlink()
    await stopped_after(node, 0.5)


async def live_once(path: Path, *, now: Callable[[], float] = time.time) -> tuple[str, ...]:
    """Found or restart a swarm of one, until it leads; then stop. Returns where it answered."""
    node = Node(config(path), now=now)
    addresses: tuple[str, ...] = ()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run)
            while node.manager is None or node.manager.local_link() is None:  # noqa: ASYNC110 - real files
                await trio.sleep(0.02)
            addresses = node.manager.addresses
            began = trio.current_time()
            node.stop()
    assert trio.current_time() - began < STOP_S_MAX
    return addresses


async def stopped_after(node: Node, seconds: float) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, node)
        await trio.sleep(seconds)
        began = trio.current_time()
        node.stop()
    assert trio.current_time() - began < STOP_S_MAX
