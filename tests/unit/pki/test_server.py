"""A joiner judges the server that it connected to before it knew the root."""

from __future__ import annotations

import ssl

import pytest

from swarmd.model import Role
from swarmd.pki import Authority, is_manager_of, new_key_and_csr

NOW = 1_700_000_000.0
DAY = 86_400.0
ROOT = Authority.create(NOW)


def leaf_of(authority: Authority, role: Role = Role.MANAGER, *, at: float = NOW) -> bytes:
    _, csr = new_key_and_csr()
    pem = authority.sign(csr, node_id="m1", role=role, swarm_id="s", now=at, expiry_s=DAY)
    return ssl.PEM_cert_to_DER_cert(pem.decode())


def test_a_manager_in_date_is_one() -> None:
    leaf = leaf_of(ROOT)
    for moment in (NOW, NOW + DAY - 1):
        assert is_manager_of(leaf, ROOT.certificate, now=moment)
    both = Authority.create(NOW).certificate + ROOT.certificate
    assert is_manager_of(leaf, both, now=NOW), "a bundle of roots"


@pytest.mark.parametrize("moment", [NOW - 2 * DAY, NOW + DAY + 1])
def test_out_of_date_it_is_none(moment: float) -> None:
    assert not is_manager_of(leaf_of(ROOT), ROOT.certificate, now=moment)


def test_workers_strangers_and_nonsense_are_none() -> None:
    stranger = Authority.create(NOW)
    successor = Authority.create(NOW)
    assert not is_manager_of(leaf_of(ROOT, Role.WORKER), ROOT.certificate, now=NOW)
    assert not is_manager_of(leaf_of(stranger), ROOT.certificate, now=NOW)
    assert not is_manager_of(ssl.PEM_cert_to_DER_cert(ROOT.certificate.decode()), ROOT.certificate, now=NOW)
    assert not is_manager_of(leaf_of(successor), ROOT.certificate, now=NOW), "what stands behind it is not shown"
    for nonsense in (b"", b"x" * 100, leaf_of(ROOT)[:-1], b"\x30" * 70_000):
        assert not is_manager_of(nonsense, ROOT.certificate, now=NOW)
