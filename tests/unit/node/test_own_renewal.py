"""A manager that was off past its certificate's end: what it signs for itself, and when it may not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from msgspec.structs import replace

from swarmd.model import Role
from swarmd.node.founding import Identity
from swarmd.node.identity import StateDirectory, belong_together
from swarmd.node.own_renewal import is_expired_manager, renew_own
from swarmd.pki import read_subject, verify_issued
from swarmd.state.command import Table
from swarmd.state.transaction import Transaction
from tests.unit.node.lost_group import NOW, Group, tree

DAY = 86_400.0
LATER = NOW + 120 * DAY


def saved(directory: StateDirectory) -> Identity:
    pair, root = directory.identity.pair(belong_together), directory.identity.root()
    assert pair is not None
    assert root is not None
    return Identity(root=root, certificate=pair[0], key=pair[1])


def change_node(group: Group, **fields: object) -> None:
    def fn(tx: Transaction) -> None:
        node = tx.node(group.own.node_id)
        assert node is not None
        tx.update(replace(node, **fields))

    group.write(fn)
    group.commit = group.last


def change_root(group: Group, **fields: object) -> None:
    def fn(tx: Transaction) -> None:
        cluster = tx.cluster()
        assert cluster is not None
        tx.update(replace(cluster, root_ca=replace(cluster.root_ca, **fields)))

    group.write(fn)
    group.commit = group.last


@pytest.mark.parametrize("snapshot_at", [0, 5])
def test_it_signs_for_the_same_node_and_key_from_the_authority_in_its_log(tmp_path: Path, snapshot_at: int) -> None:
    group = Group().with_others()
    directory = group.make(tmp_path / "state", snapshot_at=snapshot_at)
    before = saved(directory)
    log_before = {name: content for name, (content, _) in tree(directory.raft).items()}
    assert is_expired_manager(before, LATER)
    renewed = renew_own(directory, before, now=LATER)
    subject = verify_issued(renewed.certificate, root=before.root, key=before.key, now=LATER)
    assert (subject.node_id, subject.role) == (group.own.node_id, Role.MANAGER)
    assert subject.swarm_id == read_subject(before.certificate).swarm_id
    assert 89 * DAY < subject.not_after - LATER <= 90 * DAY
    assert saved(directory) == renewed
    assert not is_expired_manager(renewed, LATER)
    assert {name: content for name, (content, _) in tree(directory.raft).items()} == log_before


def test_in_date_it_asks_the_leader_like_everybody(tmp_path: Path) -> None:
    identity = saved(Group().with_others().make(tmp_path / "state"))
    assert not is_expired_manager(identity, NOW + 80 * DAY)


def unchanged(directory: StateDirectory, caplog: pytest.LogCaptureFixture, reason: str) -> None:
    before = saved(directory)
    with caplog.at_level(logging.ERROR):
        assert renew_own(directory, before, now=LATER) == before
    assert saved(directory) == before
    (line,) = [record.message for record in caplog.records if record.name == "swarmd.node.own_renewal"]
    assert reason in line
    assert "BEGIN" not in line


def test_a_manager_that_was_demoted_by_its_own_log_signs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    group = Group().with_others()
    change_node(group, role=Role.WORKER)
    unchanged(group.make(tmp_path / "state"), caplog, "no manager any more")


def test_a_node_that_was_removed_by_its_own_log_signs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    group = Group().with_others()
    group.write(lambda tx: tx.remove(Table.NODE, group.own.node_id))
    group.commit = group.last
    unchanged(group.make(tmp_path / "state"), caplog, "was removed from the swarm")


def test_what_is_not_known_to_be_committed_does_not_count(tmp_path: Path) -> None:
    """A tail that may never have been agreed upon neither demotes it nor changes the authority."""
    group = Group().with_others()
    committed = group.commit
    change_node(group, role=Role.WORKER)
    group.commit = committed
    directory = group.make(tmp_path / "state")
    renewed = renew_own(directory, saved(directory), now=LATER)
    assert read_subject(renewed.certificate).not_after > LATER


def test_where_an_external_ca_signs_it_cannot(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    group = Group().with_others()
    change_root(group, key=b"")
    directory = group.make(tmp_path / "state")
    before = saved(directory)
    with caplog.at_level(logging.ERROR):
        assert renew_own(directory, before, now=LATER) == before
    assert "cannot renew it by itself" in caplog.text


@pytest.mark.parametrize("what", ["no log", "no keys", "a damaged log"])
def test_without_a_log_that_can_be_read_it_stays_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    directory = Group().with_others().make(tmp_path / "state")
    before = saved(directory)
    if what == "no log":
        (directory.raft / "raft.db").unlink()
    elif what == "no keys":
        directory.data_keys.unlink()
    else:
        (directory.raft / "raft.db").write_bytes(b"rubbish" * 1000)
    with caplog.at_level(logging.ERROR):
        assert renew_own(directory, before, now=LATER) == before
    assert "cannot renew it by itself" in caplog.text
