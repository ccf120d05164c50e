"""Roots of every kind, what they sign, and what one says of another; made with `cryptography` alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from swarmd.model import Role
from swarmd.pki import OU_OF_ROLE, new_key_and_csr

NOW = 1_800_000_000.0
DAY = 86_400.0
NODE = "node000000000000000000000"
SWARM = "swarm00000000000000000000"

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Root:
    """A root and its key."""

    certificate: x509.Certificate
    key: SigningKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def cross_sign(self, other: Root) -> bytes:
        """`other` as signed by this one (PEM)."""
        theirs = other.certificate
        built = _authority(theirs.subject, self.certificate.subject, other.key, self.key)
        return _sign(_dated(built, theirs.not_valid_before_utc, theirs.not_valid_after_utc), self.key)


@cache
def _new_key(kind: str, _name: str) -> SigningKey:
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    return ec.generate_private_key({"ec256": ec.SECP256R1(), "ec384": ec.SECP384R1(), "ec521": ec.SECP521R1()}[kind])


def made_root(name: str, *, kind: str = "ec256", since: float = NOW - DAY, until: float = NOW + 1000 * DAY) -> Root:
    """A self-signed root called `name`; every call makes another key, but for RSA, which takes long."""
    key = _new_key(kind, name) if kind.startswith("rsa") else _new_key.__wrapped__(kind, name)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    built = _dated(_authority(subject, subject, key, key), _instant(since), _instant(until))
    return Root(x509.load_pem_x509_certificate(_sign(built, key)), key)


def leaf_of(
    root: Root,
    *,
    node_id: str = NODE,
    role: Role = Role.MANAGER,
    now: float = NOW,
    expiry_s: float = 90 * DAY,
) -> tuple[bytes, bytes]:
    """A node certificate of `root` and its key (PEM)."""
    key, csr = new_key_and_csr()
    public = x509.load_pem_x509_csr(csr).public_key()
    names = [OU_OF_ROLE[role], node_id] + (["swarm-ca"] if role is Role.MANAGER else [])
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, SWARM),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, OU_OF_ROLE[role]),
            x509.NameAttribute(NameOID.COMMON_NAME, node_id),
        ]
    )
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(root.certificate.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_issued_with(root.key), critical=False)
    )
    return _sign(_dated(built, _instant(now - 3600), _instant(now + expiry_s)), root.key), key


def der(certificate: bytes) -> bytes:
    """The first certificate of a PEM bundle as DER."""
    return x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)


def _authority(subject: x509.Name, issuer: x509.Name, key: SigningKey, signer: SigningKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_issued_with(signer), critical=False)
    )


def _issued_with(key: SigningKey) -> x509.AuthorityKeyIdentifier:
    ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)


def _dated(builder: x509.CertificateBuilder, since: datetime, until: datetime) -> x509.CertificateBuilder:
    return builder.not_valid_before(since).not_valid_after(until)


def _sign(builder: x509.CertificateBuilder, key: SigningKey) -> bytes:
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
