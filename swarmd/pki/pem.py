"""PEM and DER to objects of `cryptography` and back; whatever cannot be read is `Invalid`.

Accepted keys of nodes are ECDSA on P-256 (what nodes make) and P-384: nothing weaker, and nothing that is slow to
check. A root may also be P-521 or RSA: an operator brings it, and it signs seldom.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from swarmd.errors import Invalid

CSR_BYTES_MAX: Final = 16 << 10
CERTIFICATE_BYTES_MAX: Final = 64 << 10
"""A bundle of some twenty certificates."""
CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
ROOT_CURVES: Final = (*CURVES, ec.SECP521R1)
RSA_BITS_MIN: Final = 2048
RSA_BITS_MAX: Final = 8192
"""Beyond it every handshake would pay for what nobody asks for."""
RSA_EXPONENT_MIN: Final = 3

SigningKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
"""A root's."""

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def load_certificate(certificate: bytes, *, der: bool = False) -> x509.Certificate:
    """The first certificate in `certificate`."""
    if len(certificate) > CERTIFICATE_BYTES_MAX:
        raise Invalid(f"a certificate has at most {CERTIFICATE_BYTES_MAX} bytes")
    try:
        return _whole(
            x509.load_der_x509_certificate(certificate) if der else x509.load_pem_x509_certificate(certificate)
        )
    except _UNREADABLE as error:
        raise Invalid("this is no certificate, or not all of it can be read") from error


def load_certificates(bundle: bytes) -> list[x509.Certificate]:
    """All certificates of a PEM bundle, at least one."""
    if len(bundle) > CERTIFICATE_BYTES_MAX:
        raise Invalid(f"a certificate bundle has at most {CERTIFICATE_BYTES_MAX} bytes")
    try:
        return [_whole(certificate) for certificate in x509.load_pem_x509_certificates(bundle)]
    except _UNREADABLE as error:
        raise Invalid("this is no certificate bundle, or not all of it can be read") from error


def _whole(certificate: x509.Certificate) -> x509.Certificate:
    """It, with all that is asked of it read: `cryptography` looks at names, dates, keys and extensions when they are
    first asked for, and raises there."""
    _ = (certificate.subject, certificate.issuer, certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    _ = (certificate.public_key(), certificate.extensions)
    return certificate


def load_csr(csr: bytes) -> x509.CertificateSigningRequest:
    """The PEM certificate request in `csr`, its signature not yet checked."""
    if len(csr) > CSR_BYTES_MAX:
        raise Invalid(
            f"a certificate request has at most {CSR_BYTES_MAX} bytes; this one has {len(csr)}", field="$.csr"
        )
    try:
        return x509.load_pem_x509_csr(csr)
    except _UNREADABLE as error:
        raise Invalid("this is no certificate request", field="$.csr") from error


def require_accepted_key(csr: x509.CertificateSigningRequest) -> ec.EllipticCurvePublicKey:
    """The key of `csr`, whose holder signed the request. Raises `Invalid` for any other kind of key.

    The kind is looked at first: checking a signature by a huge RSA key would cost a joiner nothing and us a lot.
    """
    key = requested_key(csr)
    if not is_accepted(key):
        raise Invalid("a node's key is ECDSA on P-256 or P-384", field="$.csr")
    if not csr.is_signature_valid:
        raise Invalid("the certificate request is not signed by its own key", field="$.csr")
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def requested_key(csr: x509.CertificateSigningRequest) -> CertificatePublicKeyTypes:
    """The key that `csr` asks a certificate for, of whatever kind. Raises `Invalid` if it cannot be read."""
    try:
        return csr.public_key()
    except _UNREADABLE as error:
        raise Invalid("the certificate request's key cannot be read", field="$.csr") from error


def is_accepted(key: CertificatePublicKeyTypes) -> bool:
    """Whether this is a kind of key that a node may have."""
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, CURVES)


def load_key(key: bytes) -> ec.EllipticCurvePrivateKey:
    """The unencrypted private key in `key` (PEM)."""
    try:
        loaded = load_pem_private_key(key, password=None)
    except _UNREADABLE as error:
        raise Invalid("this is no private key") from error
    if not isinstance(loaded, ec.EllipticCurvePrivateKey) or not isinstance(loaded.curve, CURVES):
        raise Invalid("the private key is not ECDSA on P-256 or P-384")
    return loaded


def load_signing_key(key: bytes) -> SigningKey:
    """The unencrypted private key of a root in `key` (PEM)."""
    try:
        loaded = load_pem_private_key(key, password=None)
    except _UNREADABLE as error:
        raise Invalid("this is no unencrypted private key") from error
    if not isinstance(loaded, SigningKey) or not may_sign_for_a_swarm(loaded.public_key()):
        raise Invalid(
            f"a root's key is ECDSA on P-256, P-384 or P-521, or RSA of {RSA_BITS_MIN} to {RSA_BITS_MAX} bits"
        )
    return loaded


def may_sign_for_a_swarm(key: CertificatePublicKeyTypes) -> bool:
    """Whether this is a kind of key that a root may have."""
    if isinstance(key, rsa.RSAPublicKey):
        is_sound = key.public_numbers().e >= RSA_EXPONENT_MIN
        return is_sound and RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ROOT_CURVES)


def pem(object: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    """`object` as PEM."""
    return object.public_bytes(Encoding.PEM)


def key_pem(key: SigningKey) -> bytes:
    """`key` as unencrypted PKCS#8 PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def spki(key: CertificatePublicKeyTypes) -> bytes:
    """The key as bytes that are equal exactly for equal keys."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
