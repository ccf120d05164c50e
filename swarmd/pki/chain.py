"""Chains of certificates: from a leaf over what stands behind it to a trusted root (reference security 1.3, 4.3).

While the root is rotated every leaf carries the new root as signed by the present one, so that those who trust either
accept it. Pure; dates are checked where an instant is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from swarmd.errors import Invalid
from swarmd.pki.pem import load_certificate, load_certificates, may_sign_for_a_swarm

INTERMEDIATES_MAX: Final = 4
"""Behind a leaf: each costs a signature, and who shows them may be nobody yet."""


def require_chain(bundle: Sequence[x509.Certificate], roots: bytes, *, now: float | None = None) -> None:
    """Raise `Invalid` unless the first of `bundle` chains to one of `roots` (PEM), over the others in their order.

    Every certificate must be signed by the next, also behind where a root was reached. The leaf must be no authority,
    all others must be. With `now` every issuer on the way, the root included, must be in date; the leaf's own dates
    are the caller's to judge.
    """
    leaf, *intermediates = bundle
    if len(intermediates) > INTERMEDIATES_MAX:
        raise Invalid(f"at most {INTERMEDIATES_MAX} certificates may stand behind a node's")
    problem = ""
    for place, issuer in enumerate(intermediates, 1):
        if not is_issued_by(bundle[place - 1], issuer):
            raise Invalid(f"the certificates are not a chain: number {place} is not signed by the one behind it")
    for anchor in load_certificates(roots):
        for place, certificate in enumerate(bundle):
            if is_issued_by(certificate, anchor):
                on_the_way = (*bundle[1 : place + 1], anchor)
                problem = _problem_of_issuers(on_the_way, now)
                if not problem:
                    _require_no_authority(leaf)
                    return
    raise Invalid(problem or "the certificate was not issued by this swarm")


def is_signed_with_key_of(certificate: bytes, root: bytes) -> bool:
    """Whether `root` (PEM) itself signed the leaf `certificate` (DER), whatever else might vouch for it. Dates do not
    count. False for what cannot be read."""
    try:
        leaf, issuer = load_certificate(certificate, der=True), load_certificate(root)
    except Invalid:
        return False
    return is_issued_by(leaf, issuer)


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` has the name and made the signature that `certificate` shows; its key must be one that may sign
    for a swarm."""
    try:
        # Looked at first: checking a signature by a huge key would cost whoever shows it nothing and us a lot.
        if certificate.issuer != issuer.subject or not may_sign_for_a_swarm(issuer.public_key()):
            return False
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _problem_of_issuers(issuers: Sequence[x509.Certificate], now: float | None) -> str:
    for issuer in issuers:
        constraints = _constraints(issuer)
        if constraints is None or not constraints.ca:
            return "the certificate was issued by one that is no authority"
        if now is not None and not _holds_at(issuer, now):
            word = "is not valid yet" if issuer.not_valid_before_utc.timestamp() > now else "has expired"
            return (
                f"the authority that issued the certificate {word}: it holds from {date(_start(issuer))} to "
                f"{date(_end(issuer))} and this machine's clock says {date(now)}"
            )
    return ""


def _require_no_authority(leaf: x509.Certificate) -> None:
    constraints = _constraints(leaf)
    if constraints is None or constraints.ca:
        raise Invalid("a node certificate must not be an authority")


def _constraints(certificate: x509.Certificate) -> x509.BasicConstraints | None:
    try:
        extensions = list(certificate.extensions)
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None
    return next((e.value for e in extensions if isinstance(e.value, x509.BasicConstraints)), None)


def _holds_at(certificate: x509.Certificate, now: float) -> bool:
    return _start(certificate) <= now <= _end(certificate)


def _start(certificate: x509.Certificate) -> float:
    return certificate.not_valid_before_utc.timestamp()


def _end(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


def date(seconds: float) -> str:
    """An instant as messages show it, to the second."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
