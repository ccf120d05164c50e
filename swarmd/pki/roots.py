"""Roots that an operator brings, and what one root says of another: what may be trusted by a whole swarm.

Each refusal has a line of its own (reference security 1.1, 4.2). Certificates are PEM bytes in and out.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, SignatureAlgorithmOID

from swarmd.errors import Invalid
from swarmd.pki.authority import basic_constraints_of, key_identifier_of
from swarmd.pki.pem import load_certificate, load_certificates, load_signing_key, may_sign_for_a_swarm, pem, spki

ROOT_LEFT_S_MIN: Final = 365 * 24 * 3600.0
"""A root that is brought must hold for so long yet (SwarmKit `minRootExpiration`)."""
CERTIFICATE_FIELD: Final = "$.spec.ca.signing_ca_certificate"
KEY_FIELD: Final = "$.spec.ca.signing_ca_key"

_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_SIGNATURES: Final = frozenset(
    {
        *(SignatureAlgorithmOID.ECDSA_WITH_SHA256, SignatureAlgorithmOID.ECDSA_WITH_SHA384),
        *(SignatureAlgorithmOID.ECDSA_WITH_SHA512, SignatureAlgorithmOID.RSA_WITH_SHA256),
        *(SignatureAlgorithmOID.RSA_WITH_SHA384, SignatureAlgorithmOID.RSA_WITH_SHA512),
    }
)
_UNDERSTOOD: Final = frozenset(
    {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE}
)


def normal_root(certificate: bytes) -> bytes:
    """The one certificate in `certificate`, as we write it: what else stands in the file does not count.

    Raises `Invalid` for none, for several, for what is no certificate.
    """
    try:
        found = load_certificates(certificate)
    except Invalid as error:
        raise Invalid(error.message, field=CERTIFICATE_FIELD) from error
    if len(found) != 1:
        raise Invalid(
            f"a root is exactly one certificate, and these are {len(found)}",
            field=CERTIFICATE_FIELD,
            hint="leave intermediates out",
        )
    return pem(found[0])


def check_root(certificate: bytes, *, now: float) -> None:
    """Raise `Invalid` unless `certificate` could be the root of a swarm from `now` on."""
    root = load_certificate(certificate)
    problem = _problem(root, now)
    if problem:
        raise Invalid(f"the certificate cannot be a swarm's root: {problem}", field=CERTIFICATE_FIELD)


def check_key(certificate: bytes, key: bytes) -> None:
    """Raise `Invalid` unless `key` is one that a root may have, and `certificate`'s."""
    try:
        signer = load_signing_key(key)
    except Invalid as error:
        raise Invalid(error.message, field=KEY_FIELD) from error
    if spki(signer.public_key()) != spki(load_certificate(certificate).public_key()):
        raise Invalid("the key does not belong to the root certificate", field=KEY_FIELD)


def is_same_key(certificate: bytes, other: bytes) -> bool:
    """Whether two certificates are for one key."""
    return spki(load_certificate(certificate).public_key()) == spki(load_certificate(other).public_key())


def check_cross_signed(certificate: bytes, *, new: bytes, by: bytes, now: float) -> bytes:
    """The first certificate in `certificate`, as we write it, if it is `new` as signed by the root `by`.

    Raises `Invalid`: nodes that trust `by` alone could not verify what `new` signs.
    """
    crossed, root, signer = load_certificate(certificate), load_certificate(new), load_certificate(by)
    constraints = basic_constraints_of(crossed)
    if spki(crossed.public_key()) != spki(root.public_key()):
        problem = "it is for another key"
    elif crossed.subject != root.subject:
        problem = "it has another subject"
    elif not _is_signed_by(crossed, signer):
        problem = "the present root did not sign it"
    elif constraints is None or not constraints.ca:
        problem = "it is no authority's"
    elif not crossed.not_valid_before_utc.timestamp() <= now < crossed.not_valid_after_utc.timestamp():
        problem = "it is not in date"
    elif key_identifier_of(crossed) != key_identifier_of(root):
        problem = "it has another key identifier"
    else:
        return pem(crossed)
    raise Invalid(f"the external CA's cross-signed certificate cannot be used: {problem}")


def root_expiry(certificate: bytes) -> float:
    """Until when a root (or any certificate) holds, in epoch seconds."""
    return load_certificate(certificate).not_valid_after_utc.timestamp()


def _problem(root: x509.Certificate, now: float) -> str:
    try:
        extensions = list(root.extensions)
        key = root.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "its key or its extensions cannot be read"
    # The kind of key comes first: checking a huge one's signature would be work for nothing.
    if not may_sign_for_a_swarm(key):
        return "its key must be ECDSA on P-256, P-384 or P-521, or RSA of 2048 to 8192 bits"
    if root.signature_algorithm_oid not in _SIGNATURES or not isinstance(root.signature_hash_algorithm, _HASHES):
        return "it must be signed with ECDSA or RSA and SHA-256, SHA-384 or SHA-512"
    if not root.subject.rdns or not _is_signed_by(root, root):
        return "it is not self-signed"
    constraints = basic_constraints_of(root)
    if constraints is None or not constraints.ca:
        return "it is not an authority's (CA is not true)"
    if constraints.path_length == 0:
        return "it may have no authority below it (path length 0), so it could never be replaced by another"
    return _usage_problem(extensions) or _date_problem(root, now)


def _usage_problem(extensions: list[x509.Extension[x509.ExtensionType]]) -> str:
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.KeyUsage) and not value.key_cert_sign:
            return "its key usage does not allow it to sign certificates"
        if isinstance(value, x509.ExtendedKeyUsage) and not {*value} & {
            ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
            ExtendedKeyUsageOID.CLIENT_AUTH,
        }:
            return "its extended key usage excludes the certificates of nodes"
        if isinstance(value, x509.NameConstraints):
            return "it constrains the names below it, and nodes are named by their ids"
        if extension.critical and extension.oid not in _UNDERSTOOD:
            return f"it has a critical extension that is not understood ({extension.oid.dotted_string})"
    return ""


def _date_problem(root: x509.Certificate, now: float) -> str:
    if root.not_valid_before_utc.timestamp() > now:
        return f"it is not valid before {root.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC"
    if root.not_valid_after_utc.timestamp() - now < ROOT_LEFT_S_MIN:
        return f"it expires on {root.not_valid_after_utc:%Y-%m-%d}, and it must hold for a year at least"
    return ""


def _is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
