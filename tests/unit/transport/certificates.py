"""Test certificates in the form that the swarm's authority gives them, made with `cryptography` alone."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from swarmd.model import Role
from swarmd.transport.credentials import Credentials

SWARM_ID = "swarm0000000000000000test"
_OU = {Role.MANAGER: "swarm-manager", Role.WORKER: "swarm-worker"}
_NOW = datetime.datetime.now(datetime.UTC)
_HOUR = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


class TestAuthority:
    """A root that signs node certificates."""

    __test__ = False

    def __init__(self, name: str = "swarm-ca-test") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NOW - 48 * _HOUR)
            .not_valid_after(_NOW + 24 * 365 * _HOUR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        )
        self._certificate = builder.sign(self._key, hashes.SHA256())
        self.root = self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        node_id: str,
        role: Role = Role.MANAGER,
        *,
        swarm_id: str = SWARM_ID,
        valid_from_h: float = -1.0,
        valid_for_h: float = 24.0,
        extra_units: tuple[str, ...] = (),
    ) -> Issued:
        """A node certificate: CN, OU, O and names as the swarm's authority would set them."""
        key = ec.generate_private_key(ec.SECP256R1())
        unit = _OU[role]
        names = [unit, node_id] + (["swarm-ca"] if role is Role.MANAGER else [])
        start = _NOW + valid_from_h * _HOUR
        certificate = (
            x509.CertificateBuilder()
            .subject_name(
                x509.Name(
                    [
                        x509.NameAttribute(NameOID.ORGANIZATION_NAME, swarm_id),
                        *(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, name) for name in (unit, *extra_units)),
                        x509.NameAttribute(NameOID.COMMON_NAME, node_id),
                    ]
                )
            )
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + valid_for_h * _HOUR)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Issued(
            certificate=certificate.public_bytes(serialization.Encoding.PEM),
            key=key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def credentials(self, node_id: str, role: Role = Role.MANAGER, *, swarm_id: str = SWARM_ID) -> Credentials:
        """Ready to listen or dial with."""
        issued = self.issue(node_id, role, swarm_id=swarm_id)
        return Credentials(certificate=issued.certificate, key=issued.key, root=self.root)
