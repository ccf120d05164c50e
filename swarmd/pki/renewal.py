"""The door for an expired certificate: it fails every TLS handshake, so its holder signs the new CSR with the old key.

The signature proves who asks; what it may become is decided from the stored node, never from the old certificate.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from swarmd.errors import Invalid
from swarmd.pki.authority import Subject, require_issued_by, subject_of
from swarmd.pki.pem import load_certificate, load_certificates, load_key, spki

_LABEL: Final = b"swarm/1/renewal\x00"
"""Keeps this signature from meaning anything elsewhere."""
SIGNATURE_BYTES_MAX: Final = 256


def sign_renewal(key: bytes, csr: bytes) -> bytes:
    """The signature that goes with `csr` when the certificate of `key` (PEM) has expired."""
    return load_key(key).sign(_LABEL + csr, ec.ECDSA(hashes.SHA256()))


def authenticate_renewal(certificate: bytes, csr: bytes, signature: bytes, *, root: bytes) -> Subject:
    """Who signed `csr`: the holder of `certificate`, which is `root`'s and may have expired. Raises `Invalid`."""
    leaf, *behind = load_certificates(certificate)
    require_issued_by(leaf, root, behind=behind)
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or len(signature) > SIGNATURE_BYTES_MAX:
        raise Invalid("the renewal is not signed by the certificate's key")
    try:
        key.verify(signature, _LABEL + csr, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise Invalid("the renewal is not signed by the certificate's key") from error
    return subject_of(leaf)


def have_same_key(certificate: bytes, other: bytes) -> bool:
    """Whether two certificates (PEM) are for one key."""
    return spki(load_certificate(certificate).public_key()) == spki(load_certificate(other).public_key())
