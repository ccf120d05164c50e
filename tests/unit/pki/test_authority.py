"""The authority: what certificates say, which requests are refused, when to renew."""

import random
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.errors import Invalid
from swarmd.model import Role
from swarmd.pki import (
    Authority,
    Subject,
    check_csr,
    new_key_and_csr,
    read_subject,
    renewal_at,
    root_digest,
    verify_issued,
)

NOW = 1_800_000_000.0
DAY = 86_400.0
NODE = "0123456789abcdefghijklmno"
SWARM = "zyxwvutsrqponmlkjihgfedcb"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create(NOW)


def issue(authority: Authority, csr: bytes, *, role: Role = Role.WORKER, expiry_s: float = 90 * DAY) -> bytes:
    return authority.sign(csr, node_id=NODE, role=role, swarm_id=SWARM, now=NOW, expiry_s=expiry_s)


def der_of(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


# -- the root ------------------------------------------------------------------------------------------------


def test_each_root_has_a_name_of_its_own() -> None:
    names = {x509.load_pem_x509_certificate(Authority.create(NOW).certificate).subject.rfc4514_string() for _ in "ab"}
    assert len(names) == 2
    assert all(name.startswith("CN=swarm-ca-") for name in names)


def test_a_root_is_an_authority_valid_for_20_years(authority: Authority) -> None:
    root = x509.load_pem_x509_certificate(authority.certificate)
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = root.extensions.get_extension_for_class(x509.KeyUsage).value
    assert constraints.critical
    assert constraints.value.ca
    assert usage.key_cert_sign
    assert usage.crl_sign
    assert not usage.digital_signature
    assert root.not_valid_before_utc.timestamp() == NOW - 3600
    assert root.not_valid_after_utc.timestamp() == NOW + 20 * 365 * DAY
    root.verify_directly_issued_by(root)


def test_an_authority_is_refused_with_another_ones_key(authority: Authority) -> None:
    with pytest.raises(Invalid, match="does not belong"):
        Authority(authority.certificate, Authority.create(NOW).key)
    assert Authority(authority.certificate, authority.key).certificate == authority.certificate


@pytest.mark.parametrize(("certificate", "key"), [(b"", b""), (b"rubbish", b"rubbish")])
def test_an_authority_of_garbage_is_invalid(certificate: bytes, key: bytes) -> None:
    with pytest.raises(Invalid):
        Authority(certificate, key)


# -- what a node certificate says ----------------------------------------------------------------------------


@pytest.mark.parametrize("role", list(Role))
def test_a_certificate_says_who_in_which_role_of_which_swarm(authority: Authority, role: Role) -> None:
    _, csr = new_key_and_csr()
    subject = read_subject(issue(authority, csr, role=role))
    assert (subject.node_id, subject.role, subject.swarm_id) == (NODE, role, SWARM)
    assert subject == read_subject(der_of(issue(authority, csr, role=role)), der=True)


def test_managers_answer_to_the_ca_name_and_workers_do_not(authority: Authority) -> None:
    _, csr = new_key_and_csr()

    def names(role: Role) -> list[str]:
        leaf = x509.load_pem_x509_certificate(issue(authority, csr, role=role))
        return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.DNSName
        )

    assert names(Role.MANAGER) == ["swarm-manager", NODE, "swarm-ca"]
    assert names(Role.WORKER) == ["swarm-worker", NODE]


def test_a_leaf_is_no_authority_and_names_its_issuers_key(authority: Authority) -> None:
    _, csr = new_key_and_csr()
    leaf = x509.load_pem_x509_certificate(issue(authority, csr))
    root = x509.load_pem_x509_certificate(authority.certificate)
    extensions = leaf.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    ski = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    aki = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert aki.key_identifier == ski.digest
    assert extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest != ski.digest


def test_an_independent_verifier_accepts_the_chain(authority: Authority) -> None:
    _, csr = new_key_and_csr()
    leaf = x509.load_pem_x509_certificate(issue(authority, csr, role=Role.MANAGER))
    root = x509.load_pem_x509_certificate(authority.certificate)
    when = datetime.fromtimestamp(NOW, UTC)
    verifier = PolicyBuilder().store(Store([root])).time(when).build_server_verifier(x509.DNSName("swarm-ca"))
    assert verifier.verify(leaf, []) == [leaf, root]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.certificate.decode())


def test_a_certificate_starts_an_hour_early_and_ends_in_time(authority: Authority) -> None:
    _, csr = new_key_and_csr()
    subject = read_subject(issue(authority, csr, expiry_s=90 * DAY))
    assert subject.not_before == NOW - 3600
    assert subject.not_after == NOW + 90 * DAY


def test_the_backdate_is_at_most_a_tenth_of_a_short_life(authority: Authority) -> None:
    _, csr = new_key_and_csr()
    assert read_subject(issue(authority, csr, expiry_s=3600)).not_before == NOW - 360


def test_a_certificate_never_outlives_its_root(authority: Authority) -> None:
    _, csr = new_key_and_csr()
    subject = read_subject(issue(authority, csr, expiry_s=30 * 365 * DAY))
    assert subject.not_after == NOW + 20 * 365 * DAY


# -- requests ------------------------------------------------------------------------------------------------


def csr_with(key: object, *, name: x509.Name | None = None, sans: list[str] | None = None) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(name or x509.Name([]))
    if sans:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(san) for san in sans]), critical=False
        ).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM)  # type: ignore[arg-type]


def test_only_the_key_is_taken_from_a_request(authority: Authority) -> None:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "somebody else"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "swarm-manager"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "another swarm"),
            x509.NameAttribute(NameOID.LOCALITY_NAME, "nowhere"),
        ]
    )
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = x509.load_pem_x509_certificate(issue(authority, csr_with(key, name=name, sans=["swarm-ca", "evil"])))
    assert leaf.subject.rfc4514_string() == f"CN={NODE},OU=swarm-worker,O={SWARM}"
    sans = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert sans.get_values_for_type(x509.DNSName) == ["swarm-worker", NODE]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.public_key() == key.public_key()


def test_a_p384_key_is_accepted(authority: Authority) -> None:
    issue(authority, csr_with(ec.generate_private_key(ec.SECP384R1())))


WEAK = {
    "P-224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "RSA-1024": lambda: rsa.generate_private_key(65537, 1024),
    "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("kind", WEAK)
@pytest.mark.filterwarnings("ignore")  # cryptography deprecates the weak keys that we make to see them refused
def test_other_kinds_of_key_are_refused(authority: Authority, kind: str) -> None:
    with pytest.raises(Invalid, match="P-256"):
        issue(authority, csr_with(WEAK[kind]()))


def test_a_request_not_signed_by_its_key_is_refused(authority: Authority) -> None:
    _, csr = new_key_and_csr()
    der = bytearray(x509.load_pem_x509_csr(csr).public_bytes(Encoding.DER))
    der[-1] ^= 1
    broken = ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE", "CERTIFICATE REQUEST").encode()
    with pytest.raises(Invalid):
        check_csr(broken)


@pytest.mark.parametrize("csr", [b"", b"garbage", b"-----BEGIN CERTIFICATE REQUEST-----\n", b"\x00" * 1_000_000])
def test_garbage_is_no_request(authority: Authority, csr: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        issue(authority, csr)
    assert refused.value.field == "$.csr"


def test_a_request_over_16_kib_is_refused_unread() -> None:
    _, csr = new_key_and_csr()
    check_csr(csr)
    with pytest.raises(Invalid, match="16384"):
        check_csr(csr + b"\n" * (16 << 10))


@settings(max_examples=60, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_damaged_request_is_refused_or_still_its_own_keys(where: float, flip: int) -> None:
    _, csr = new_key_and_csr()
    damaged = bytearray(csr)
    damaged[int(where * len(damaged))] ^= flip
    try:
        check_csr(bytes(damaged))
    except Invalid:
        return
    assert x509.load_pem_x509_csr(bytes(damaged)).public_key() == x509.load_pem_x509_csr(csr).public_key()


# -- verification --------------------------------------------------------------------------------------------


def test_an_issued_certificate_verifies(authority: Authority) -> None:
    key, csr = new_key_and_csr()
    certificate = issue(authority, csr, role=Role.MANAGER)
    subject = verify_issued(certificate, root=authority.certificate, key=key, now=NOW)
    assert subject == read_subject(certificate)


def test_any_root_of_a_bundle_will_do(authority: Authority) -> None:
    key, csr = new_key_and_csr()
    bundle = Authority.create(NOW).certificate + authority.certificate
    verify_issued(issue(authority, csr), root=bundle, key=key, now=NOW)


def test_another_root_of_the_same_subject_is_refused(authority: Authority) -> None:
    key, csr = new_key_and_csr()
    with pytest.raises(Invalid, match="not issued by this swarm"):
        verify_issued(issue(Authority.create(NOW), csr), root=authority.certificate, key=key, now=NOW)


def test_another_key_is_refused(authority: Authority) -> None:
    _, csr = new_key_and_csr()
    other, _ = new_key_and_csr()
    with pytest.raises(Invalid, match="another key"):
        verify_issued(issue(authority, csr), root=authority.certificate, key=other, now=NOW)


@pytest.mark.parametrize(("offset", "word"), [(-3601.0, "not valid yet"), (90 * DAY + 1, "expired")])
def test_out_of_date_is_refused_with_both_times(authority: Authority, offset: float, word: str) -> None:
    key, csr = new_key_and_csr()
    with pytest.raises(Invalid, match=word) as refused:
        verify_issued(issue(authority, csr), root=authority.certificate, key=key, now=NOW + offset)
    assert refused.value.message.count("UTC") == 3


def test_the_root_itself_is_no_node(authority: Authority) -> None:
    with pytest.raises(Invalid, match="authority"):
        verify_issued(authority.certificate, root=authority.certificate, key=authority.key, now=NOW)


def signed_with_subject(authority: Authority, name: x509.Name) -> bytes:
    when = datetime.fromtimestamp(NOW, UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(x509.load_pem_x509_certificate(authority.certificate).subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(when)
        .not_valid_after(when + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return leaf.public_bytes(Encoding.PEM)


CN, OU, O = (  # noqa: E741
    NameOID.COMMON_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.ORGANIZATION_NAME,
)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [(CN, "n"), (OU, "swarm-worker")],
        [(CN, "n"), (O, "s")],
        [(OU, "swarm-worker"), (O, "s")],
        [(CN, "n"), (OU, "swarm-worker"), (OU, "swarm-manager"), (O, "s")],
        [(CN, "n"), (CN, "m"), (OU, "swarm-worker"), (O, "s")],
        [(CN, "n"), (OU, "swarm-king"), (O, "s")],
    ],
)
def test_a_subject_without_exactly_one_of_each_is_invalid(
    authority: Authority, parts: list[tuple[x509.ObjectIdentifier, str]]
) -> None:
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])
    with pytest.raises(Invalid):
        read_subject(signed_with_subject(authority, name))


# -- digest and renewal --------------------------------------------------------------------------------------


def test_the_digest_covers_the_exact_bytes() -> None:
    assert len(root_digest(b"root")) == 50
    assert root_digest(b"root") != root_digest(b"root\n")


@settings(max_examples=100, deadline=None)
@given(expiry_s=st.floats(3600, 400 * DAY), seed=st.integers(0, 1000))
def test_renewal_falls_in_50_to_80_percent_counted_from_the_issue(expiry_s: float, seed: int) -> None:
    backdate = min(3600, expiry_s / 10)
    subject = Subject(
        node_id=NODE, role=Role.WORKER, swarm_id=SWARM, not_before=NOW - backdate, not_after=NOW + expiry_s
    )
    at = renewal_at(subject, random.Random(seed))
    assert NOW + 0.5 * expiry_s - 1 <= at <= NOW + 0.8 * expiry_s + 1
