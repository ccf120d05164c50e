"""`--force-new-cluster` on real files: what refuses it, and that it may be killed at any moment."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from swarmd.errors import FailedPrecondition, Unavailable
from swarmd.node import new_cluster
from swarmd.node.config import Config, Endpoint, check
from swarmd.node.identity import StateDirectory
from swarmd.node.new_cluster import form_alone, refuse_if_led
from swarmd.node.node import Node
from swarmd.pki import read_subject
from swarmd.raft import Member
from swarmd.wire.peer import HealthReply
from tests.unit.node.lost_group import NOW, OTHERS, Group, a_service, place_in_newest_row, read, tree


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    return Group().with_others().make(tmp_path / "state")


async def form(directory: StateDirectory) -> None:
    with trio.fail_after(30):
        await form_alone(directory, now=lambda: NOW, rng=random.Random(5))


def members_of(directory: StateDirectory) -> list[str]:
    return [member.node_id for member in read(directory).configuration().members]


async def test_the_group_is_this_member_and_the_others_are_forgotten(directory: StateDirectory) -> None:
    own = read(directory).identity.node_id
    await form(directory)
    log = read(directory)
    assert members_of(directory) == [own]
    assert log.known_commit == log.last_index
    assert set(log.configuration().removed) == {member.member_id for member in OTHERS}
    contents = directory.node_file.load()
    assert [known.node_id for known in contents.managers] == [own]
    assert contents.has_been_member


async def test_a_second_time_changes_nothing(directory: StateDirectory, caplog: pytest.LogCaptureFixture) -> None:
    await form(directory)
    before = read(directory)
    await form(directory)
    after = read(directory)
    assert (after.stored, after.last_index) == (before.stored, before.last_index)
    assert "is the only one already" in caplog.text


KILLED_AT = {
    "before the log is written": ("new_cluster", "_make_durable", False),
    "in the middle of the transaction": ("LogStore", "_put_tail", True),
    "after the log is written": ("new_cluster", "_make_durable", True),
    "before the known managers are": ("new_cluster", "_forget_others", False),
}


@pytest.mark.parametrize("seam", KILLED_AT)
def test_killed_anywhere_it_is_the_old_group_or_the_new_one_and_the_flag_again_finishes(
    directory: StateDirectory, seam: str
) -> None:
    """kill -9 of a real process at each seam."""
    owner, name, is_after = KILLED_AT[seam]
    before = read(directory)
    code = f"""
import os, random, signal, trio
from pathlib import Path
from swarmd.node import new_cluster
from swarmd.node.identity import StateDirectory
from swarmd.storage.log_store import LogStore
owner = {owner}
real = getattr(owner, {name!r})
def step(*args, **kwargs):
    if {is_after}:
        real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, {name!r}, step)
directory = StateDirectory(Path({str(directory.path)!r}))
trio.run(lambda: new_cluster.form_alone(directory, now=lambda: {NOW}, rng=random.Random(5)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    found = read(directory)
    has_changed = seam in ("after the log is written", "before the known managers are")
    assert len(found.configuration().members) == (1 if has_changed else 3)
    assert has_changed or found.stored == before.stored
    trio.run(form, directory)
    assert len(members_of(directory)) == 1
    assert len(directory.node_file.load().managers) == 1


# -- refusals ---------------------------------------------------------------------------------------------------------
async def run(path: Path, **changes: Any) -> None:
    config = Config(
        state_dir=path,
        control_socket=path.parent / "control.sock",
        executor="process",
        force_new_cluster=True,
        **changes,
    )
    with trio.fail_after(30):
        await Node(config).run()


async def test_an_empty_directory_is_refused_and_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="there is no state"):
        await run(tmp_path / "state")
    assert not (tmp_path / "state").exists()


async def test_a_worker_is_refused(tmp_path: Path, directory: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    from swarmd.model import Role

    subject = read_subject(directory.identity.pair(lambda a, b: True)[0])  # type: ignore[index]
    worker = type(subject)(
        **{name: getattr(subject, name) for name in subject.__struct_fields__} | {"role": Role.WORKER}
    )
    monkeypatch.setattr(new_cluster, "read_subject", lambda certificate: worker)
    with pytest.RaisesGroup(pytest.RaisesExc(FailedPrecondition, match="is a worker"), flatten_subgroups=True):
        await run(directory.path)


async def test_a_manager_without_its_log_is_refused(directory: StateDirectory) -> None:
    (directory.raft / "raft.db").unlink()
    with pytest.RaisesGroup(pytest.RaisesExc(FailedPrecondition, match="does not hold a log"), flatten_subgroups=True):
        await run(directory.path)


async def test_damage_is_refused_and_left_as_it_is(directory: StateDirectory) -> None:
    path = directory.raft / "raft.db"
    place = place_in_newest_row(path)
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 1
    path.write_bytes(damaged)
    before = tree(directory.path)["raft/raft.db"][0]
    with pytest.RaisesGroup(pytest.RaisesExc(FailedPrecondition, match="is damaged"), allow_unwrapped=True):
        await run(directory.path)
    assert tree(directory.path)["raft/raft.db"][0] == before
    assert not list(directory.path.glob("raft.damaged*"))


def test_whom_it_once_joined_does_not_matter(tmp_path: Path) -> None:
    config = Config(state_dir=tmp_path, force_new_cluster=True, join_addr=Endpoint("10.0.0.9", 4242))
    check(config)
    assert Node(config).config.join_addr is None
    assert Node(Config(state_dir=tmp_path, join_addr=config.join_addr)).config.join_addr is not None


# -- asking the others ------------------------------------------------------------------------------------------------
class FakeConnection:
    def __init__(self, reply: HealthReply) -> None:
        self._reply = reply

    async def call(self, method: Any, request: Any) -> HealthReply:
        await trio.lowlevel.checkpoint()
        return self._reply


def dialing(answers: dict[str, HealthReply | None]) -> Callable[[str], Any]:
    """Address -> reply; None: never answers; absent: refused."""

    @asynccontextmanager
    async def dial(address: str) -> AsyncIterator[FakeConnection]:
        if address not in answers:
            raise Unavailable("connection refused")
        reply = answers[address]
        if reply is None:
            await trio.sleep_forever()
            raise AssertionError
        yield FakeConnection(reply)

    return cast("Callable[[str], Any]", dial)


A = Member(member_id=1, node_id="a", addresses=("a:1",))
B = Member(member_id=2, node_id="b", addresses=("b:1", "b:2"))


async def test_silence_and_followers_without_a_leader_do_not_stop_it(autojump_clock: trio.testing.MockClock) -> None:
    leaderless = HealthReply(node_id="b", is_member=True)
    began = trio.current_time()
    await refuse_if_led((A, B), dialing({"a:1": None, "b:2": leaderless}))
    assert trio.current_time() - began == pytest.approx(new_cluster.ASK_S_MAX)


async def test_a_manager_with_a_leader_stops_it(autojump_clock: trio.testing.MockClock) -> None:
    led = HealthReply(node_id="b", is_member=True, leader_node_id="c")
    with pytest.raises(FailedPrecondition, match="the quorum is not lost: manager b answers"):
        await refuse_if_led((A, B), dialing({"a:1": None, "b:2": led}))


async def test_another_node_at_its_address_does_not_count(autojump_clock: trio.testing.MockClock) -> None:
    other = HealthReply(node_id="x", is_member=True, leader_node_id="x")
    await refuse_if_led((A, B), dialing({"a:1": other}))


# -- and then it lives ------------------------------------------------------------------------------------------------
async def test_a_manager_whose_certificate_expired_leads_again_and_renews_it(tmp_path: Path) -> None:
    """Nobody else could renew it: it does so itself, first from its log and then, with a new key, as the leader that it
    is."""
    long_ago = time.time() - 120 * 24 * 3600
    group = Group(now=long_ago).with_others()
    group.write(lambda tx: tx.create(a_service("kept")))
    directory = group.make(tmp_path / "state")
    old = directory.identity.pair(lambda a, b: True)
    assert old is not None
    assert read_subject(old[0]).not_after < time.time()
    node = Node(
        Config(
            state_dir=directory.path,
            control_socket=tmp_path / "control.sock",
            listen=Endpoint("127.0.0.1", 0),
            executor="process",
            force_new_cluster=True,
        )
    )
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run)
            while (pair := directory.identity.pair(lambda a, b: True)) is None or pair[1] == old[1]:  # noqa: ASYNC110
                await trio.sleep(0.05)
            manager = node.manager
            assert manager is not None
            assert manager.parts is not None
            assert manager.parts.driver.is_leading
            assert manager.parts.driver.state.service_by_name("kept") is not None
            node.stop()
    assert read_subject(pair[0]).not_after > time.time()
