"""What the leader records of the certificates that nodes show."""

from __future__ import annotations

from swarmd.manager.dispatcher.seen import Seen, seen_now, with_seen
from swarmd.model import Cluster, EarlierCertificate, Node, NodeCertificate, Role, RootCA, RootRotation
from swarmd.pki import Authority, der_of, fingerprint, new_key_and_csr
from swarmd.state.features import SECURITY

NOW = 1_700_000_000.0
OLD, NEW = Authority.create(NOW), Authority.create(NOW)


def leaf_of(authority: Authority) -> bytes:
    _, csr = new_key_and_csr()
    return authority.sign(csr, node_id="n1", role=Role.WORKER, swarm_id="s", now=NOW, expiry_s=86_400.0)


def cluster(*, rotates: bool, features: tuple[str, ...] = (SECURITY,)) -> Cluster:
    rotation = RootRotation(certificate=NEW.certificate, cross_signed=OLD.cross_sign(NEW.certificate))
    root = RootCA(certificate=OLD.certificate, rotation=rotation if rotates else None)
    return Cluster(id="s", root_ca=root, feature_level=features)


def test_the_signature_decides_whose_certificate_it_is() -> None:
    old, new = leaf_of(OLD), leaf_of(NEW)
    assert seen_now(der_of(old), fingerprint(old), cluster(rotates=True)) == Seen(fingerprint=fingerprint(old))
    assert seen_now(der_of(new), fingerprint(new), cluster(rotates=True)) == Seen(
        fingerprint=fingerprint(new), issuer=fingerprint(NEW.certificate)
    )
    assert seen_now(der_of(new), fingerprint(new), cluster(rotates=False)) == Seen(fingerprint=fingerprint(new))


def test_nothing_is_recorded_before_every_manager_knows_the_fields() -> None:
    leaf = leaf_of(OLD)
    assert seen_now(der_of(leaf), fingerprint(leaf), cluster(rotates=True, features=())) is None
    assert seen_now(der_of(leaf), fingerprint(leaf), None) is None
    assert seen_now(b"", "", cluster(rotates=True)) is None


def node(*earlier: EarlierCertificate) -> Node:
    return Node(id="n1", certificate=NodeCertificate(fingerprint="now", earlier=earlier))


def test_the_certificates_before_one_that_is_in_use_are_revoked() -> None:
    stored = node(
        EarlierCertificate(fingerprint="expired", expires_at=NOW),
        EarlierCertificate(fingerprint="a", expires_at=NOW + 9),
    )
    seen = with_seen(stored, Seen(fingerprint="now"), NOW)
    assert seen.certificate.earlier == (EarlierCertificate(fingerprint="a", expires_at=NOW + 9, is_revoked=True),)
    assert (seen.status.certificate, seen.status.issuer) == ("now", "")
    assert with_seen(seen, Seen(fingerprint="now"), NOW) == seen


def test_one_that_is_still_used_is_not_revoked() -> None:
    """The answer to its renewal may have been lost: it must be able to ask again."""
    stored = node(EarlierCertificate(fingerprint="a", expires_at=NOW + 9))
    seen = with_seen(stored, Seen(fingerprint="a"), NOW)
    assert seen.certificate == stored.certificate
    assert seen.status.certificate == "a"
