"""With autolock on an unlocked manager renews from its own log all the same, and its new pair is sealed as before."""

from __future__ import annotations

from pathlib import Path

from swarmd.model import UnlockKey
from swarmd.node.identity import StateDirectory, belong_together
from swarmd.node.own_renewal import is_expired_manager, renew_own
from swarmd.pki import read_subject
from swarmd.pki.unlock_key import Owner
from tests.unit.node.lost_group import Group
from tests.unit.node.test_own_renewal import LATER, saved

KEK = UnlockKey(version=5, key=b"k" * 32)


def test_an_unlocked_manager_renews_and_stays_sealed(tmp_path: Path) -> None:
    directory = Group().with_others().make(tmp_path / "state")
    subject = read_subject(saved(directory).certificate)
    directory.seal.owner = Owner(subject.swarm_id, subject.node_id)
    assert directory.keys.change(KEK)
    again = StateDirectory(directory.path)
    again.keys.unlock(KEK.key)
    renewed = renew_own(again, saved(again), now=LATER)
    assert not is_expired_manager(renewed, LATER)
    assert again.identity.pair(belong_together) == (renewed.certificate, renewed.key)
    assert StateDirectory(directory.path).keys.locked_for() == Owner(subject.swarm_id, subject.node_id)
    assert b"BEGIN PRIVATE KEY" not in directory.identity.key_path.read_bytes()
