"""The signature that lets an expired node ask again."""

import pytest

from swarmd.errors import Invalid
from swarmd.model import Role
from swarmd.pki import Authority, authenticate_renewal, have_same_key, new_key_and_csr, sign_renewal

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create(NOW)


def issue(authority: Authority, csr: bytes) -> bytes:
    return authority.sign(csr, node_id="n" * 25, role=Role.WORKER, swarm_id="s", now=NOW, expiry_s=3600)


def test_the_old_key_says_who_asks(authority: Authority) -> None:
    old_key, old_csr = new_key_and_csr()
    certificate = issue(authority, old_csr)
    _, csr = new_key_and_csr()
    subject = authenticate_renewal(certificate, csr, sign_renewal(old_key, csr), root=authority.certificate)
    assert subject.node_id == "n" * 25


def test_a_signature_over_another_request_is_refused(authority: Authority) -> None:
    old_key, old_csr = new_key_and_csr()
    _, csr = new_key_and_csr()
    _, other = new_key_and_csr()
    with pytest.raises(Invalid, match="not signed"):
        authenticate_renewal(issue(authority, old_csr), other, sign_renewal(old_key, csr), root=authority.certificate)


@pytest.mark.parametrize("signature", [b"", b"x", b"x" * 100_000])
def test_garbage_is_no_signature(authority: Authority, signature: bytes) -> None:
    _, old_csr = new_key_and_csr()
    _, csr = new_key_and_csr()
    with pytest.raises(Invalid, match="not signed"):
        authenticate_renewal(issue(authority, old_csr), csr, signature, root=authority.certificate)


def test_a_certificate_of_another_authority_is_refused(authority: Authority) -> None:
    old_key, old_csr = new_key_and_csr()
    _, csr = new_key_and_csr()
    foreign = issue(Authority.create(NOW), old_csr)
    with pytest.raises(Invalid, match="not issued"):
        authenticate_renewal(foreign, csr, sign_renewal(old_key, csr), root=authority.certificate)


def test_keys_are_compared_not_certificates(authority: Authority) -> None:
    _, csr = new_key_and_csr()
    _, other = new_key_and_csr()
    assert have_same_key(issue(authority, csr), issue(authority, csr))
    assert not have_same_key(issue(authority, csr), issue(authority, other))
