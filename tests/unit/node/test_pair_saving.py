"""A renewed pair on the disk: of a worker, of a manager, and of a node that becomes one or ceases to be one."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from swarmd.errors import FailedPrecondition
from swarmd.model import Role, UnlockKey
from swarmd.node.identity import StateDirectory
from swarmd.node.pair_saving import save_new_pair
from swarmd.pki import Authority, new_key_and_csr, read_subject
from swarmd.pki.unlock_key import Owner
from tests.unit.manager.local_store import EPOCH

KEK = UnlockKey(version=1, key=b"k" * 32)
AUTHORITY = Authority.create(EPOCH)
IN_CLEAR = b"PRIVATE KEY"


def pair_of(role: Role) -> tuple[bytes, bytes]:
    key, csr = new_key_and_csr()
    certificate = AUTHORITY.sign(csr, node_id="node", role=role, swarm_id="swarm", now=EPOCH, expiry_s=7 * 86400.0)
    return certificate, key


class Fetch:
    def __init__(self, kek: UnlockKey | None) -> None:
        self.kek = kek
        self.asked = 0

    async def __call__(self) -> UnlockKey:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self.kek is None:
            raise FailedPrecondition("too old to say")
        return self.kek


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    """A worker's."""
    directory = StateDirectory(tmp_path)
    directory.seal.owner = Owner("swarm", "node")
    directory.identity.save_pair(*pair_of(Role.WORKER))
    return directory


def stored(directory: StateDirectory) -> bytes:
    content = directory.identity.stored_key()
    assert content is not None
    return content


async def test_a_workers_renewal_asks_for_nothing_and_stays_in_clear(directory: StateDirectory) -> None:
    fetch = Fetch(None)
    certificate, key = pair_of(Role.WORKER)
    await save_new_pair(directory, certificate, key, was_manager=False, fetch=fetch)
    assert (stored(directory), fetch.asked) == (key, 0)


async def test_a_promoted_workers_key_is_sealed_from_the_first_write_on(directory: StateDirectory) -> None:
    certificate, key = pair_of(Role.MANAGER)
    await save_new_pair(directory, certificate, key, was_manager=False, fetch=Fetch(KEK))
    assert IN_CLEAR not in stored(directory)
    assert not directory.keys.in_clear().node_key
    assert directory.identity.pair(lambda c, k: True) == (certificate, key)


async def test_a_promoted_worker_that_is_not_told_saves_nothing(directory: StateDirectory) -> None:
    before = stored(directory)
    with pytest.raises(FailedPrecondition):
        await save_new_pair(directory, *pair_of(Role.MANAGER), was_manager=False, fetch=Fetch(None))
    assert stored(directory) == before
    assert directory.keys.kek == UnlockKey()


async def test_a_managers_renewal_is_sealed_as_its_disk_is(directory: StateDirectory) -> None:
    for kek in (KEK, UnlockKey(version=2)):
        directory.keys.change(kek)
        fetch = Fetch(None)
        certificate, key = pair_of(Role.MANAGER)
        await save_new_pair(directory, certificate, key, was_manager=True, fetch=fetch)
        assert (IN_CLEAR in stored(directory), fetch.asked) == (not kek.key, 0)
        assert directory.identity.pair(lambda c, k: True) == (certificate, key)


async def test_a_demoted_managers_key_is_unsealed_only_with_its_log_gone(directory: StateDirectory) -> None:
    directory.keys.change(KEK)
    certificate, key = pair_of(Role.WORKER)
    await save_new_pair(directory, certificate, key, was_manager=True, fetch=Fetch(None))
    assert IN_CLEAR not in stored(directory)
    assert StateDirectory(directory.path).keys.locked_for() is not None  # until then a restart needs the key
    directory.keys.lay_down(lambda found: read_subject(found).role is Role.MANAGER)
    assert stored(directory) == key
    assert StateDirectory(directory.path).keys.locked_for() is None
