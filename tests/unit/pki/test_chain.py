"""Chains: what a certificate with others behind it is verified against, and every way in which it is refused."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from swarmd.errors import Invalid
from swarmd.model import Role
from swarmd.pki import authenticate_renewal, is_signed_with_key_of, new_key_and_csr, sign_renewal, verify_issued
from swarmd.pki.chain import INTERMEDIATES_MAX, require_chain
from swarmd.pki.pem import load_certificates, load_key, pem
from swarmd.transport.credentials import Credentials
from tests.unit.pki.chains import DAY, NODE, NOW, SWARM, Root, der, leaf_of, made_root


@pytest.fixture(scope="module")
def old() -> Root:
    return made_root("swarm-ca-old")


@pytest.fixture(scope="module")
def new() -> Root:
    return made_root("swarm-ca-new")


def verified(certificate: bytes, key: bytes, root: bytes, now: float | None = NOW) -> str:
    return verify_issued(certificate, root=root, key=key, now=now).node_id


def test_a_leaf_with_the_cross_signed_root_holds_under_the_old_the_new_and_both(old: Root, new: Root) -> None:
    certificate, key = leaf_of(new)
    bundle = certificate + old.cross_sign(new)
    for roots in (old.pem, new.pem, old.pem + new.pem, new.pem + old.pem):
        assert verified(bundle, key, roots) == NODE
        Credentials(certificate=bundle, key=key, root=roots)


def test_without_the_cross_signed_root_the_old_one_does_not_cover_it(old: Root, new: Root) -> None:
    certificate, key = leaf_of(new)
    assert verified(certificate, key, new.pem) == NODE
    with pytest.raises(Invalid, match="not issued by this swarm"):
        verified(certificate, key, old.pem)


@pytest.mark.parametrize("signer", ["ec256", "ec384", "ec521", "rsa2048"])
@pytest.mark.parametrize("target", ["ec256", "rsa2048"])
def test_supplied_roots_of_every_kind_may_issue(signer: str, target: str) -> None:
    first, second = made_root("first", kind=signer), made_root("second", kind=target)
    certificate, key = leaf_of(second)
    bundle = certificate + first.cross_sign(second)
    assert verified(bundle, key, first.pem) == verified(bundle, key, second.pem) == NODE


def test_a_root_with_a_key_that_is_no_roots_issues_nothing() -> None:
    weak = made_root("weak", kind="rsa1024")
    certificate, key = leaf_of(weak)
    with pytest.raises(Invalid, match="not issued by this swarm"):
        verified(certificate, key, weak.pem)


def test_openssl_agrees_with_the_bundle() -> None:
    today = datetime.now(UTC).timestamp()
    old, new = (made_root(name, since=today - DAY, until=today + 1000 * DAY) for name in ("old", "new"))
    certificate, key = leaf_of(new, now=today)
    server = Credentials(certificate=certificate + old.cross_sign(new), key=key, root=old.pem)
    other, other_key = leaf_of(old, role=Role.WORKER, now=today)
    client = Credentials(certificate=other, key=other_key, root=old.pem)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.client_context().wrap_bio(to_client, to_server, server_hostname="swarm-manager")
    far = server.server_context().wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (near, far):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert near.getpeercert(binary_form=True) == der(certificate)
    assert far.getpeercert(binary_form=True) == der(other)


def test_the_order_is_checked_also_where_a_root_was_reached(old: Root, new: Root) -> None:
    certificate, key = leaf_of(new)
    stranger = made_root("stranger").pem
    for behind in (stranger, stranger + old.cross_sign(new), old.cross_sign(new) + stranger):
        with pytest.raises(Invalid, match="are not a chain"):
            verified(certificate + behind, key, old.pem + new.pem)
    with pytest.raises(Invalid, match="are not a chain"):
        verified(old.cross_sign(new) + certificate, key, old.pem)


def test_too_many_behind_a_leaf_are_refused_before_any_signature(old: Root, new: Root) -> None:
    certificate, key = leaf_of(new)
    with pytest.raises(Invalid, match="at most"):
        verified(certificate + old.cross_sign(new) * (INTERMEDIATES_MAX + 1), key, old.pem)


def test_every_link_must_be_in_date(old: Root) -> None:
    expired = made_root("expired", until=NOW - DAY)
    young = made_root("young", since=NOW + DAY, until=NOW + 100 * DAY)
    for issuer, word in ((expired, "has expired"), (young, "is not valid yet")):
        certificate, key = leaf_of(issuer)
        with pytest.raises(Invalid, match=f"authority that issued the certificate {word}.*this machine's clock says"):
            verified(certificate, key, issuer.pem)
        with pytest.raises(Invalid, match=word):
            verified(certificate + old.cross_sign(issuer), key, old.pem)
        assert verified(certificate, key, issuer.pem, now=None) == NODE
        require_chain(load_certificates(certificate), issuer.pem)


def test_a_way_that_is_in_date_is_found_past_one_that_is_not(old: Root) -> None:
    """Both roots vouch for the leaf, and the one named first has expired."""
    gone = made_root("gone", until=NOW - DAY)
    new = made_root("fresh")
    certificate, key = leaf_of(new)
    assert verified(certificate + gone.cross_sign(new), key, gone.pem + new.pem) == NODE


def test_a_leafs_own_dates_are_told_with_both_clocks(old: Root) -> None:
    certificate, key = leaf_of(old, now=NOW - 200 * DAY, expiry_s=90 * DAY)
    with pytest.raises(Invalid, match=r"is expired: it holds from .* to .* this machine's clock says 2027-01-15"):
        verified(certificate, key, old.pem)


def test_a_leaf_that_is_an_authority_is_none_of_ours(old: Root, new: Root) -> None:
    with pytest.raises(Invalid, match="must not be an authority"):
        require_chain(load_certificates(old.cross_sign(new)), old.pem)


def test_an_intermediate_that_is_no_authority_vouches_for_nobody(old: Root) -> None:
    """A node that signs for another with its own node certificate."""
    certificate, key = leaf_of(old)
    holder = load_certificates(certificate)[0]
    _, csr = new_key_and_csr()
    forged = (
        x509.CertificateBuilder()
        .subject_name(holder.subject)
        .issuer_name(holder.subject)
        .public_key(x509.load_pem_x509_csr(csr).public_key())
        .serial_number(1)
        .not_valid_before(holder.not_valid_before_utc)
        .not_valid_after(holder.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(load_key(key), hashes.SHA256())
    )
    with pytest.raises(Invalid, match="no authority"):
        require_chain(load_certificates(pem(forged) + certificate), old.pem)


def test_whose_key_signed_a_leaf_is_told_apart_from_who_vouches_for_it(old: Root, new: Root) -> None:
    certificate, _ = leaf_of(new)
    assert is_signed_with_key_of(der(certificate), new.pem)
    assert not is_signed_with_key_of(der(certificate), old.pem)
    assert not is_signed_with_key_of(b"rubbish", new.pem)
    assert not is_signed_with_key_of(der(certificate), b"rubbish")
    assert not is_signed_with_key_of(b"", new.pem)


def test_a_root_of_the_same_name_and_another_key_signed_nothing(old: Root) -> None:
    namesake = made_root("swarm-ca-old")
    certificate, key = leaf_of(old)
    assert not is_signed_with_key_of(der(certificate), namesake.pem)
    with pytest.raises(Invalid, match="not issued by this swarm"):
        verified(certificate, key, namesake.pem)
    assert verified(certificate, key, namesake.pem + old.pem) == NODE


def test_an_expired_certificate_renews_over_its_chain(old: Root, new: Root) -> None:
    certificate, key = leaf_of(new, now=NOW - 200 * DAY)
    _, csr = new_key_and_csr()
    signature = sign_renewal(key, csr)
    bundle = certificate + old.cross_sign(new)
    assert authenticate_renewal(bundle, csr, signature, root=old.pem).node_id == NODE
    with pytest.raises(Invalid):
        authenticate_renewal(certificate, csr, signature, root=old.pem)


def test_the_swarm_in_the_fixture_is_the_one_of_these_tests(old: Root) -> None:
    certificate, key = leaf_of(old)
    assert verify_issued(certificate, root=old.pem, key=key, now=NOW).swarm_id == SWARM
    assert isinstance(load_pem_private_key(key, None), ec.EllipticCurvePrivateKey)
    assert isinstance(made_root("r", kind="rsa2048").key, rsa.RSAPrivateKey)
