"""The swarm's certificate authority: makes the root, signs CSRs (reference security 1.1).

A node certificate says CN = node id, OU = role, O = swarm id, and carries the role and the node id as DNS names, plus
`swarm-ca` for managers. Must not know files, sockets, or who asked.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Self

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from swarmd.errors import Invalid
from swarmd.model import Role
from swarmd.pki.chain import date, require_chain
from swarmd.pki.pem import (
    SigningKey,
    key_pem,
    load_certificate,
    load_certificates,
    load_csr,
    load_key,
    load_signing_key,
    pem,
    require_accepted_key,
    spki,
)
from swarmd.pki.tokens import digest_of

ROOT_LIFETIME_S: Final = 20 * 365 * 24 * 3600
BACKDATE_S_MAX: Final = 3600
"""A certificate starts this much before it is made, so that clocks may differ (SwarmKit's hour) ..."""
ROOT_BACKDATE_S: Final = BACKDATE_S_MAX
"""With less, nobody whose clock is behind could join a swarm that was just founded."""
BACKDATE_SHARE_MAX: Final = 0.1
"""... but never more than this share of a short life."""
RENEW_FROM: Final = 0.5
RENEW_UNTIL: Final = 0.8

OU_OF_ROLE: Final = {Role.WORKER: "swarm-worker", Role.MANAGER: "swarm-manager"}
ROLE_OF_OU: Final = {ou: role for role, ou in OU_OF_ROLE.items()}
CA_SERVER_NAME: Final = "swarm-ca"
"""The DNS name by which a node without a certificate knows a manager."""


class Subject(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a node certificate says: CN, OU, O, and until when."""

    node_id: str
    role: Role
    swarm_id: str
    not_before: float
    not_after: float


class Authority:
    """A root certificate and its key (both PEM)."""

    certificate: bytes
    key: bytes

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """Raises `Invalid` unless the key is the certificate's."""
        self._root = load_certificate(certificate)
        self._key = load_signing_key(key)
        if spki(self._root.public_key()) != spki(self._key.public_key()):
            raise Invalid("the authority's key does not belong to its certificate")
        self.certificate = certificate
        self.key = key

    @classmethod
    def create(cls, now: float) -> Self:
        """A new P-256 root with a CN of its own, valid 20 years."""
        key = ec.generate_private_key(ec.SECP256R1())
        ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        # OpenSSL picks an issuer by name: two roots of one name break verification (reference security 11).
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"swarm-ca-{ski.digest.hex()[:8]}")])
        root = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_instant(now - ROOT_BACKDATE_S))
            .not_valid_after(_instant(now + ROOT_LIFETIME_S))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(is_authority=True), critical=True)
            .add_extension(ski, critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(pem(root), key_pem(key))

    def sign(self, csr: bytes, *, node_id: str, role: Role, swarm_id: str, now: float, expiry_s: float) -> bytes:
        """A node certificate (PEM) for the key in `csr`. Only the public key is taken from it; its self-signature is
        checked. Raises `Invalid` (garbage, > 16 KiB, weak key).

        It ends `expiry_s` after `now`, or with the root if that comes first.
        """
        public_key = require_accepted_key(load_csr(csr))
        not_after = min(now + expiry_s, self._root.not_valid_after_utc.timestamp())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_subject_name(node_id, role, swarm_id))
            .issuer_name(self._root.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_instant(now - min(BACKDATE_S_MAX, BACKDATE_SHARE_MAX * expiry_s)))
            .not_valid_after(_instant(not_after))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(is_authority=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(_alternative_names(node_id, role), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_identifier_of(self._root)),
                critical=False,
            )
            .sign(self._key, signature_hash(self._key))
        )
        return pem(certificate)

    def cross_sign(self, root: bytes) -> bytes:
        """`root` (PEM) signed by this one: the same subject, key, validity and key identifier, so that whatever it
        signs holds for those who trust either. Raises `Invalid` if this root may have no authority below it."""
        own = basic_constraints_of(self._root)
        if own is None or not own.ca or own.path_length == 0:
            raise Invalid("the present root may have no authority below it, so it cannot vouch for another")
        new = load_certificate(root)
        constraints = basic_constraints_of(new)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(new.subject)
            .issuer_name(self._root.subject)
            .public_key(new.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(new.not_valid_before_utc)
            .not_valid_after(new.not_valid_after_utc)
            .add_extension(
                x509.BasicConstraints(ca=True, path_length=constraints.path_length if constraints else None),
                critical=True,
            )
            .add_extension(_key_usage(is_authority=True), critical=True)
            .add_extension(key_identifier_of(new), critical=False)
            .add_extension(
                # The signer's own: with another one OpenSSL takes the certificate for self-signed (reference 11).
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_identifier_of(self._root)),
                critical=False,
            )
            .sign(self._key, signature_hash(self._key))
        )
        return pem(certificate)


def new_key_and_csr() -> tuple[bytes, bytes]:
    """A fresh P-256 key (PKCS#8 PEM) and a CSR with an empty subject for it."""
    key = key_pem(ec.generate_private_key(ec.SECP256R1()))
    return key, csr_of(key)


def csr_of(key: bytes) -> bytes:
    """A CSR with an empty subject for this key (PEM)."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return pem(builder.sign(load_key(key), hashes.SHA256()))


def check_csr(csr: bytes) -> None:
    """Raise `Invalid` unless `Authority.sign` would take this CSR: what a door checks before it makes a record."""
    require_accepted_key(load_csr(csr))


def read_subject(certificate: bytes, *, der: bool = False) -> Subject:
    """What a node certificate says. Raises `Invalid` unless it has exactly one CN, OU and O and a role we know."""
    return subject_of(load_certificate(certificate, der=der))


def verify_issued(certificate: bytes, *, root: bytes, key: bytes, now: float | None) -> Subject:
    """Check that `certificate` (the leaf, then what stands behind it) chains to one of `root`'s certificates with every
    link in date (`now` None: whatever the dates), and belongs to `key`. Raises `Invalid`."""
    leaf, *behind = load_certificates(certificate)
    require_issued_by(leaf, root, behind=behind, now=now)
    subject = subject_of(leaf)
    if now is not None and not subject.not_before <= now <= subject.not_after:
        word = "not valid yet" if now < subject.not_before else "expired"
        raise Invalid(
            f"the certificate of node {subject.node_id} is {word}: it holds from {date(subject.not_before)} to "
            f"{date(subject.not_after)} and this machine's clock says {date(now)}",
            hint="check the clocks of this machine and of the managers",
        )
    if spki(leaf.public_key()) != spki(load_key(key).public_key()):
        raise Invalid("the certificate belongs to another key")
    return subject


def fingerprint(certificate: bytes) -> str:
    """SHA-256 over the DER of the first certificate in this PEM, 64 hex digits. Raises `Invalid`."""
    return load_certificate(certificate).fingerprint(hashes.SHA256()).hex()


def root_digest(root: bytes) -> str:
    """SHA-256 over the exact PEM bytes, base 36, 50 characters: the digest in a join token."""
    return digest_of(root)


def renewal_at(subject: Subject, rng: random.Random) -> float:
    """When to renew: uniform in 50-80 % of what is left after the backdate.

    Counted from the issue, not from the backdated start: with a life of an hour the backdate would eat half the
    window (reference security 3.2).
    """
    life = subject.not_after - subject.not_before
    # The backdate is min(1 h, 10 % of expiry), and life = expiry + backdate.
    backdate = min(BACKDATE_S_MAX, life * BACKDATE_SHARE_MAX / (1 + BACKDATE_SHARE_MAX))
    issued_at = subject.not_before + backdate
    return issued_at + (subject.not_after - issued_at) * rng.uniform(RENEW_FROM, RENEW_UNTIL)


def require_issued_by(
    leaf: x509.Certificate, root: bytes, *, behind: Sequence[x509.Certificate] = (), now: float | None = None
) -> None:
    """Raise `Invalid` unless `leaf`, which is no authority itself, chains to a certificate of `root` over those that
    stand `behind` it. The dates of its issuers count where `now` is given, its own never do."""
    # The signatures come first: after them, what is parsed is what we wrote.
    require_chain((leaf, *behind), root, now=now)


def subject_of(certificate: x509.Certificate) -> Subject:
    """See `read_subject`."""
    organisational_unit = _only(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME, "OU")
    role = ROLE_OF_OU.get(organisational_unit)
    if role is None:
        raise Invalid(f"the certificate's OU {organisational_unit!r} is no role")
    return Subject(
        node_id=_only(certificate, NameOID.COMMON_NAME, "CN"),
        role=role,
        swarm_id=_only(certificate, NameOID.ORGANIZATION_NAME, "O"),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
    )


def key_identifier_of(root: x509.Certificate) -> x509.SubjectKeyIdentifier:
    """What certificates that `root` signed call its key: as it says itself, else SHA-1 of the key."""
    for extension in root.extensions:
        if isinstance(extension.value, x509.SubjectKeyIdentifier):
            return extension.value
    return x509.SubjectKeyIdentifier.from_public_key(root.public_key())


def basic_constraints_of(certificate: x509.Certificate) -> x509.BasicConstraints | None:
    """Whether it is an authority's, if it says so."""
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.BasicConstraints):
            return extension.value
    return None


def signature_hash(key: SigningKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512:
    """As strong as the key is (reference security 1.1)."""
    from_384, from_512 = (3072, 4096) if isinstance(key, rsa.RSAPrivateKey) else (384, 521)
    if key.key_size < from_384:
        return hashes.SHA256()
    return hashes.SHA384() if key.key_size < from_512 else hashes.SHA512()


def _only(certificate: x509.Certificate, oid: x509.ObjectIdentifier, label: str) -> str:
    values = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(oid)]
    if len(values) != 1 or not values[0] or not isinstance(values[0], str):
        raise Invalid(f"a node certificate has exactly one {label}; this one has {len(values)}")
    return values[0]


def _subject_name(node_id: str, role: Role, swarm_id: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, swarm_id),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, OU_OF_ROLE[role]),
            x509.NameAttribute(NameOID.COMMON_NAME, node_id),
        ]
    )


def _alternative_names(node_id: str, role: Role) -> x509.SubjectAlternativeName:
    names = [OU_OF_ROLE[role], node_id]
    if role is Role.MANAGER:
        names.append(CA_SERVER_NAME)
    return x509.SubjectAlternativeName([x509.DNSName(name) for name in names])


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_encipherment=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _instant(seconds: float) -> datetime:
    """X.509 counts whole seconds; rounding down keeps a start in the past."""
    return datetime.fromtimestamp(math.floor(seconds), UTC)
