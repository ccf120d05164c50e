"""Who becomes a manager asks for the unlock key: which answers are believed, and what is saved after the others."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from swarmd.errors import FailedPrecondition, PermissionDenied, SwarmError, Unavailable, Unimplemented
from swarmd.model import RaftConfig, Role, UnlockKey
from swarmd.node import identity
from swarmd.node.config import Config, Endpoint
from swarmd.node.enrolment import TRIES_MAX, Enrolled
from swarmd.node.founding import found
from swarmd.node.identity import IdentityFinder, StateDirectory
from swarmd.node.transport import anonymous_hello
from swarmd.node.unlock_key_fetch import fetch_patiently, fetch_unlock_key
from swarmd.pki import read_subject
from swarmd.wire.cluster import UnlockKeyReply
from swarmd.wire.methods import CA_UNLOCK_KEY
from tests.unit.manager.local_store import EPOCH

KEY = b"k" * 32


class FakeManager:
    """Answers one after the other, the last one for ever."""

    def __init__(self, *answers: UnlockKeyReply | SwarmError) -> None:
        self.answers = list(answers)
        self.asked = 0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        yield self

    async def call(self, method: Any, request: Any, *, timeout_s: float = 5.0) -> Any:
        assert method is CA_UNLOCK_KEY
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, SwarmError):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("reply", "kek"),
    [
        (UnlockKeyReply(), UnlockKey()),
        (UnlockKeyReply(version=2), UnlockKey(version=2)),
        (UnlockKeyReply(key=KEY, version=1, is_on=True), UnlockKey(version=1, key=KEY)),
        (UnlockKeyReply(key=KEY, version=1), UnlockKey(version=1, key=KEY)),
    ],
)
async def test_the_key_or_that_there_is_none(reply: UnlockKeyReply, kek: UnlockKey) -> None:
    assert await fetch_unlock_key(FakeManager(reply).connect) == kek


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Unimplemented("no such method"), "too old"),
        (UnlockKeyReply(version=1, is_on=True), "autolock is on, and no key"),
        (UnlockKeyReply(key=b"short", version=1, is_on=True), "a key of 5 bytes"),
        (UnlockKeyReply(key=KEY, is_on=True), "without a version"),
    ],
)
async def test_an_answer_that_is_none_is_a_failure_at_once(answer: Any, reason: str) -> None:
    manager = FakeManager(answer)
    with pytest.raises(FailedPrecondition, match=reason) as caught:
        await fetch_patiently(manager.connect)
    assert manager.asked == 1
    assert "short" not in str(caught.value)


async def test_a_change_of_leaders_is_waited_out_and_a_refusal_is_not(autojump_clock: MockClock) -> None:
    assert await fetch_patiently(FakeManager(Unavailable("no leader"), UnlockKeyReply()).connect) == UnlockKey()
    for refusal, asked in ((Unavailable("nobody"), TRIES_MAX), (PermissionDenied("removed"), 1)):
        manager = FakeManager(refusal)
        with pytest.raises(type(refusal)):
            await fetch_patiently(manager.connect)
        assert manager.asked == asked


# -- what a joiner saves -------------------------------------------------------------------------------------------


class Joiner(IdentityFinder):
    """Enrolled without a network: what came back, and the manager that it asks then."""

    def __init__(self, path: Path, enrolled: Enrolled) -> None:
        config = Config(join_addr=Endpoint("127.0.0.1", 1), join_token="a token")
        self.state_directory = StateDirectory(path)
        super().__init__(config, self.state_directory, hello=anonymous_hello, now=lambda: EPOCH, rng=random.Random(1))
        self._enrolled = enrolled

    async def _enrol_with(self, token: str) -> Enrolled:
        return self._enrolled


@pytest.fixture
def enrolled() -> Enrolled:
    made = found(raft=RaftConfig(), now=EPOCH, rng=random.Random(1)).identity
    return Enrolled(root=made.root, certificate=made.certificate, key=made.key, subject=read_subject(made.certificate))


def answered(monkeypatch: pytest.MonkeyPatch, answer: UnlockKeyReply | SwarmError) -> None:
    async def fetch(connect: Any) -> UnlockKey:
        return await fetch_unlock_key(FakeManager(answer).connect)

    monkeypatch.setattr(identity, "fetch_patiently", fetch)


def holds_a_key_in_clear(directory: Path) -> bool:
    return any(b"PRIVATE KEY" in file.read_bytes() for file in directory.rglob("*") if file.is_file())


async def test_a_joining_manager_of_a_locked_swarm_saves_its_key_sealed(
    tmp_path: Path, enrolled: Enrolled, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(monkeypatch, UnlockKeyReply(key=KEY, version=4, is_on=True))
    joiner = Joiner(tmp_path, enrolled)
    assert (await joiner.find()).key == enrolled.key
    assert not holds_a_key_in_clear(tmp_path)
    again = StateDirectory(tmp_path)
    again.keys.unlock(KEY)
    assert again.keys.kek == UnlockKey(version=4, key=KEY)
    assert not again.keys.in_clear().node_key


@pytest.mark.parametrize("answer", [Unimplemented("what?"), UnlockKeyReply(version=1, is_on=True)])
async def test_a_joiner_that_is_not_told_saves_no_key_at_all(
    tmp_path: Path, enrolled: Enrolled, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    answered(monkeypatch, answer)
    with pytest.raises(FailedPrecondition):
        await Joiner(tmp_path, enrolled).find()
    assert not (tmp_path / "certificates" / "swarm-node.key").exists()
    assert not holds_a_key_in_clear(tmp_path)


async def test_a_joining_worker_asks_for_nothing(
    tmp_path: Path, enrolled: Enrolled, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(monkeypatch, Unimplemented("what?"))
    subject = enrolled.subject
    worker = Enrolled(
        root=enrolled.root,
        certificate=enrolled.certificate,
        key=enrolled.key,
        subject=type(subject)(**{**_fields(subject), "role": Role.WORKER}),
    )
    await Joiner(tmp_path, worker).find()
    assert (tmp_path / "certificates" / "swarm-node.key").read_bytes() == enrolled.key


def _fields(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}
