from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from swarmd.errors import FailedPrecondition, Unavailable
from swarmd.model import RaftConfig
from swarmd.node import waiting
from swarmd.node.config import Config, Endpoint
from swarmd.node.founding import Identity, found, is_just_founded, make_log_durable, open_log
from swarmd.node.identity import IdentityFinder, StateDirectory
from swarmd.node.transport import anonymous_hello
from swarmd.pki import read_subject
from swarmd.raft import Entry, EntryKind
from swarmd.storage.log_store import LogBatch
from swarmd.wire.raft_codec import encode_runs
from tests.unit.manager.local_store import EPOCH

PAIR = ("swarm-node.crt", "swarm-node.key")


def finder(path: Path, config: Config | None = None) -> IdentityFinder:
    return IdentityFinder(
        config or Config(),
        StateDirectory(path),
        hello=anonymous_hello,
        now=lambda: EPOCH,
        rng=random.Random(os.urandom(8)),
    )


def swarm_of(identity: Identity) -> str:
    return read_subject(identity.certificate).swarm_id


async def test_an_empty_directory_founds_a_swarm_and_existing_state_never_does_again(tmp_path: Path) -> None:
    first = await finder(tmp_path).find()
    assert read_subject(first.certificate).role.name == "MANAGER"
    assert await finder(tmp_path).find() == first
    assert is_just_founded(tmp_path / "raft", tmp_path / "certificates" / "data-keys.cbor")


@pytest.mark.parametrize(
    "lost", [("swarm-node.crt", "swarm-node.key"), ("swarm-node.crt", "swarm-node.key", "swarm-root-ca.crt")]
)
async def test_a_founding_that_a_crash_interrupted_is_begun_again(tmp_path: Path, lost: tuple[str, ...]) -> None:
    """The log is durable before the identity, the root before the pair."""
    first = await finder(tmp_path).find()
    for name in lost:
        (tmp_path / "certificates" / name).unlink()
    second = await finder(tmp_path).find()
    assert swarm_of(second) != swarm_of(first)
    assert await finder(tmp_path).find() == second


async def test_half_of_an_identity_that_was_in_use_is_refused(tmp_path: Path) -> None:
    await finder(tmp_path).find()
    (tmp_path / "certificates" / "swarm-root-ca.crt").unlink()
    with pytest.raises(FailedPrecondition, match="half of an identity"):
        await finder(tmp_path).find()


async def test_a_log_with_more_in_it_than_a_founding_is_never_replaced(tmp_path: Path) -> None:
    founding = found(raft=RaftConfig(), now=EPOCH, rng=random.Random(1))
    directory = StateDirectory(tmp_path)
    make_log_durable(founding, raft_directory=directory.raft, keys_path=directory.data_keys, random_bytes=os.urandom)
    assert is_just_founded(directory.raft, directory.data_keys)
    store = open_log(founding.log_identity, directory.raft, directory.data_keys, os.urandom)
    last = founding.entries[-1]
    store.write(LogBatch(runs=encode_runs([Entry(last.index + 1, 2, EntryKind.NOOP)])))
    store.close()
    with pytest.raises(FailedPrecondition, match="was a manager"):
        await finder(tmp_path).find()
    directory.data_keys.unlink()
    with pytest.raises(FailedPrecondition, match="was a manager"):
        await finder(tmp_path).find()
    assert directory.raft.exists()


async def test_without_a_token_there_must_be_a_manager_to_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "RETRY_S_MIN", 0.0)
    config = Config(join_addr=Endpoint("127.0.0.1", 1))
    with pytest.raises(Unavailable, match="no manager let this node in") as caught:
        await finder(tmp_path, config).find()
    assert caught.value.hint
    assert not (tmp_path / "certificates" / "join-request.pem").exists()
