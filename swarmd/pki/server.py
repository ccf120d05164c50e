"""Whether a TLS server whose certificate nobody verified is a manager of a root that was learned only afterwards.

A joiner knows the digest of the root, not the root. It connects without verifying anything, fetches the root over that
connection, proves it by the token's digest, and then verifies this very connection: TLS 1.3 has made the server sign
the handshake with the key of the certificate it showed, so whoever holds a certificate of that root is at the other
end, and nobody in between. What is checked here is what OpenSSL would have checked.
"""

from __future__ import annotations

from cryptography import x509

from swarmd.errors import Invalid
from swarmd.pki.authority import CA_SERVER_NAME
from swarmd.pki.chain import require_chain
from swarmd.pki.pem import load_certificate


def is_manager_of(leaf: bytes, root: bytes, *, now: float) -> bool:
    """Whether this leaf (DER), as a server showed it, is signed by `root` itself, in date, and named as one that signs
    for joiners. False also for what cannot be read, and for a certificate that needs another one behind it."""
    try:
        certificate = load_certificate(leaf, der=True)
        require_chain((certificate,), root, now=now)
    except Invalid:
        return False
    is_in_date = certificate.not_valid_before_utc.timestamp() <= now <= certificate.not_valid_after_utc.timestamp()
    return is_in_date and CA_SERVER_NAME in _names(certificate)


def _names(certificate: x509.Certificate) -> list[str]:
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            return extension.value.get_values_for_type(x509.DNSName)
    return []
