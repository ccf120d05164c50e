"""Roots as an operator might bring them, good and bad."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NOW = float(int(datetime.now(UTC).timestamp()))
"""OpenSSL looks at the real clock."""
DAY = 86_400.0
YEAR = 365 * DAY


@cache
def private_key(kind: str = "p256") -> Any:
    """One key of each kind for the whole run: making RSA keys takes long. `p256/2` is a second one."""
    kind = kind.partition("/")[0]
    if kind.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind[3:]))
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "dsa":
        return dsa.generate_private_key(2048)
    curves: dict[str, ec.EllipticCurve] = {
        "p224": ec.SECP224R1(), "p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1(),
    }  # fmt: skip
    return ec.generate_private_key(curves[kind])


def key_of(kind: str = "p256") -> bytes:
    """PEM."""
    pem: bytes = private_key(kind).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def root_of(
    kind: str = "p256",
    *,
    name: str = "corporate root",
    signer: str = "",
    issuer: str = "",
    hash: Any = None,
    ca: bool | None = True,
    path_length: int | None = None,
    days: float = 3650,
    starts_in_days: float = -1,
    ski: bool = True,
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
) -> bytes:
    """A root for the key of this kind (PEM), self-signed unless told otherwise; `ca=None` leaves the constraint out."""
    key = private_key(kind)

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])

    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer or name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(NOW + starts_in_days * DAY, UTC))
        .not_valid_after(datetime.fromtimestamp(NOW + days * DAY, UTC))
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    if ski:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    by = private_key(signer or kind)
    algorithm = None if isinstance(by, ed25519.Ed25519PrivateKey) else (hash or hashes.SHA256())
    return builder.sign(by, algorithm).public_bytes(Encoding.PEM)


def usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    """A key usage that says whether the key may sign certificates."""
    return x509.KeyUsage(
        digital_signature=not key_cert_sign,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        **dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
             "decipher_only"), False,
        ),
    )  # fmt: skip
