"""Whoever signed it, a certificate is looked at before it is stored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from swarmd.errors import Invalid
from swarmd.model import Role
from swarmd.pki import Authority, check_issued, names_of, new_key_and_csr
from tests.unit.pki.made_roots import DAY, NOW, usage

NODE, SWARM = "n" * 25, "s" * 25
AUTHORITY = Authority.create(NOW)
OTHER = Authority.create(NOW)
KEY, CSR = new_key_and_csr()


def leaf_of(
    *,
    authority: Authority = AUTHORITY,
    csr: bytes = CSR,
    subject: tuple[tuple[x509.ObjectIdentifier, str], ...] = (
        (NameOID.ORGANIZATION_NAME, SWARM),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "swarm-worker"),
        (NameOID.COMMON_NAME, NODE),
    ),
    names: tuple[x509.GeneralName, ...] = (x509.DNSName("swarm-worker"), x509.DNSName(NODE)),
    ca: bool = False,
    days: tuple[float, float] = (-0.1, 90),
    extensions: tuple[x509.ExtensionType, ...] = (),
) -> bytes:
    """What a signer might send back; as asked for, unless told otherwise."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(oid, value) for oid, value in subject]))
        .issuer_name(x509.load_pem_x509_certificate(authority.certificate).subject)
        .public_key(x509.load_pem_x509_csr(csr).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(NOW + days[0] * DAY, UTC))
        .not_valid_after(datetime.fromtimestamp(NOW + days[1] * DAY, UTC))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    key: Any = load_pem_private_key(authority.key, None)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def check(certificate: bytes, role: Role = Role.WORKER) -> tuple[bytes, Any]:
    return check_issued(
        certificate, csr=CSR, node_id=NODE, role=role, swarm_id=SWARM, root=AUTHORITY.certificate, now=NOW
    )


@pytest.mark.parametrize("role", list(Role))
def test_what_the_swarm_signs_itself_passes(role: Role) -> None:
    made = AUTHORITY.sign(CSR, node_id=NODE, role=role, swarm_id=SWARM, now=NOW, expiry_s=DAY)
    leaf, subject = check(made, role)
    assert leaf == made
    assert (subject.node_id, subject.role, subject.swarm_id) == (NODE, role, SWARM)


def test_the_leaf_is_taken_out_of_what_came() -> None:
    good = leaf_of()
    assert check(b"noise\n" + good + OTHER.certificate)[0] == good
    wide = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
    assert check(leaf_of(extensions=(wide,)))[0]


def _subject(**changes: str) -> tuple[tuple[x509.ObjectIdentifier, str], ...]:
    values = {"o": SWARM, "ou": "swarm-worker", "cn": NODE} | changes
    oids = {"o": NameOID.ORGANIZATION_NAME, "ou": NameOID.ORGANIZATIONAL_UNIT_NAME, "cn": NameOID.COMMON_NAME}
    return tuple((oids.get(name, NameOID.LOCALITY_NAME), value) for name, value in values.items())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"csr": new_key_and_csr()[1]}, "another key"),
        ({"authority": OTHER}, "not issued by this swarm"),
        ({"ca": True}, "must not be an authority"),
        ({"subject": _subject(cn="m" * 25)}, "subject is not the node"),
        ({"subject": _subject(ou="swarm-manager")}, "subject is not the node"),
        ({"subject": _subject(o="t" * 25)}, "subject is not the node"),
        ({"subject": _subject(ou="root")}, "is no role"),
        ({"subject": _subject(l="somewhere")}, "says more"),
        ({"days": (-2, -1)}, "not in date"),
        ({"days": (1, 2)}, "not in date"),
        ({"names": ()}, "DNS names"),
        ({"names": (x509.DNSName(NODE),)}, "DNS names"),
        (
            {"names": (x509.DNSName("swarm-worker"), x509.DNSName(NODE), x509.DNSName("swarm-manager"))},
            "DNS names",
        ),
        ({"names": (x509.DNSName("swarm-worker"), x509.RFC822Name("a@b.example"))}, "not asked for"),
        ({"extensions": (usage(key_cert_sign=True),)}, "key usage is not a node's"),
        ({"extensions": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),)}, "both ends"),
    ],
)
def test_whatever_else_a_signer_sends_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        check(leaf_of(**changes))


@pytest.mark.parametrize("garbage", [b"", b"{}", CSR, KEY])
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(Invalid):
        check(garbage)


def test_only_a_manager_answers_to_the_cas_name() -> None:
    assert names_of(NODE, Role.MANAGER) == ("swarm-manager", NODE, "swarm-ca")
    assert names_of(NODE, Role.WORKER) == ("swarm-worker", NODE)
