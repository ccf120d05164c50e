"""What a certificate must say before it is stored as a node's, whoever signed it (reference security 10.8)."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from swarmd.errors import Invalid
from swarmd.model import Role
from swarmd.pki.authority import CA_SERVER_NAME, OU_OF_ROLE, Subject, require_issued_by, subject_of
from swarmd.pki.pem import load_certificate, load_csr, pem, requested_key, spki

_NAME_ATTRIBUTES = 3
"""CN, OU and O."""


def names_of(node_id: str, role: Role) -> tuple[str, ...]:
    """The DNS names in a node's certificate."""
    return (OU_OF_ROLE[role], node_id, *((CA_SERVER_NAME,) if role is Role.MANAGER else ()))


def check_issued(
    certificate: bytes, *, csr: bytes, node_id: str, role: Role, swarm_id: str, root: bytes, now: float
) -> tuple[bytes, Subject]:
    """The leaf (PEM, as we write it) and what it says, if it answers exactly this request.

    It must be for the request's key, say this node, role and swarm and nothing else, be signed by `root` itself, be
    no authority, allow TLS at both ends and be in date. Raises `Invalid` with the first thing that is wrong.
    """
    leaf = load_certificate(certificate)
    problem = _problem(leaf, csr=csr, node_id=node_id, role=role, swarm_id=swarm_id, root=root, now=now)
    if problem:
        raise Invalid(f"the certificate that was made for node {node_id} cannot be used: {problem}")
    return pem(leaf), subject_of(leaf)


def _problem(
    leaf: x509.Certificate, *, csr: bytes, node_id: str, role: Role, swarm_id: str, root: bytes, now: float
) -> str:
    try:
        require_issued_by(leaf, root)
        subject = subject_of(leaf)
    except Invalid as error:
        return error.message
    if spki(leaf.public_key()) != spki(requested_key(load_csr(csr))):
        return "it is for another key than the request's"
    if (subject.node_id, subject.role, subject.swarm_id) != (node_id, role, swarm_id):
        return "its subject is not the node, role and swarm that were asked for"
    if len(list(leaf.subject)) != _NAME_ATTRIBUTES:
        return "its subject says more than node, role and swarm"
    if not subject.not_before <= now < subject.not_after:
        return "it is not in date"
    return _extension_problem(leaf, names_of(node_id, role))


def _extension_problem(leaf: x509.Certificate, names: tuple[str, ...]) -> str:
    found: set[str] = set()
    for extension in leaf.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            if any(not isinstance(name, x509.DNSName) for name in value):
                return "it names something that was not asked for"
            found |= set(value.get_values_for_type(x509.DNSName))
        elif isinstance(value, x509.KeyUsage) and (value.key_cert_sign or not value.digital_signature):
            return "its key usage is not a node's"
        elif isinstance(value, x509.ExtendedKeyUsage) and not {*value} >= {
            ExtendedKeyUsageOID.SERVER_AUTH,
            ExtendedKeyUsageOID.CLIENT_AUTH,
        }:
            return "its extended key usage does not allow TLS at both ends"
    return "" if found == set(names) else "its DNS names are not those that were asked for"
