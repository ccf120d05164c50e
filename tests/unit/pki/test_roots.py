"""Roots that are brought, each refusal with its line; and what one root says of another, judged by OpenSSL itself."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from swarmd.errors import Invalid
from swarmd.model import Role
from swarmd.pki import Authority, check_cross_signed, check_key, check_root, new_key_and_csr, normal_root
from tests.unit.pki.made_roots import NOW, key_of, private_key, root_of, usage
from tests.unit.pki.openssl import handshake

KINDS = ["p256", "p384", "p521", "rsa2048", "rsa3072"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_key_that_is_offered_is_taken(kind: str) -> None:
    check_root(root_of(kind), now=NOW)
    check_key(root_of(kind), key_of(kind))


@pytest.mark.parametrize("hash", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_every_hash_that_is_offered_is_taken(hash: Any) -> None:
    check_root(root_of(hash=hash), now=NOW)


def test_what_else_a_good_root_may_say() -> None:
    check_root(root_of(extensions=((usage(key_cert_sign=True), True),)), now=NOW)
    check_root(root_of(path_length=1, ski=False, days=366), now=NOW)
    client = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
    check_root(root_of(extensions=((client, True),)), now=NOW)


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        (lambda: root_of("p224"), "its key must be"),
        (lambda: root_of("rsa1024"), "its key must be"),
        (lambda: root_of("ed25519"), "its key must be"),
        (lambda: root_of("dsa"), "its key must be"),
        (lambda: root_of("rsa2048", hash=hashes.SHA224()), "must be signed with"),
        (lambda: root_of(issuer="somebody else"), "not self-signed"),
        (lambda: root_of(signer="p256/2"), "not self-signed"),
        (lambda: root_of(name=""), "not self-signed"),
        (lambda: root_of(ca=False), "CA is not true"),
        (lambda: root_of(ca=None), "CA is not true"),
        (lambda: root_of(path_length=0), "path length 0"),
        (lambda: root_of(days=364), "for a year at least"),
        (lambda: root_of(days=-0.5), "for a year at least"),
        (lambda: root_of(starts_in_days=1), "not valid before"),
        (lambda: root_of(extensions=((usage(key_cert_sign=False), True),)), "key usage does not allow"),
        (
            lambda: root_of(extensions=((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),)),
            "extended key usage excludes",
        ),
        (
            lambda: root_of(extensions=((x509.NameConstraints([x509.DNSName("example.org")], None), False),)),
            "constrains the names",
        ),
        (
            lambda: root_of(
                extensions=((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),)
            ),
            "not understood (1.2.3.4)",
        ),
    ],
)
def test_a_bad_root_is_refused_with_its_own_line(root: Any, reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_root(root(), now=NOW)
    assert reason in refused.value.message
    assert "\n" not in refused.value.message
    assert refused.value.field == "$.spec.ca.signing_ca_certificate"


def test_a_root_is_exactly_one_certificate_and_blank_lines_and_headers_do_not_count() -> None:
    root = root_of()
    assert normal_root(b"subject=CN = corporate root\n\n" + root.replace(b"\n", b"\r\n") + b"\n\n") == root
    with pytest.raises(Invalid, match="exactly one certificate, and these are 2"):
        normal_root(root + root_of("p384"))
    for garbage in (b"", b"rubbish", root[:-40], key_of()):
        with pytest.raises(Invalid):
            normal_root(garbage)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (lambda: key_of("p256/2"), "does not belong"),
        (lambda: key_of("rsa2048"), "does not belong"),
        (lambda: key_of("rsa1024"), "a root's key is"),
        (lambda: key_of("ed25519"), "a root's key is"),
        (lambda: b"", "no unencrypted private key"),
        (lambda: b"rubbish", "no unencrypted private key"),
    ],
)
def test_a_bad_key_is_refused_with_its_own_line(key: Any, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        check_key(root_of(), key())


# -- cross-signing -------------------------------------------------------------------------------------------------


def test_the_cross_signed_certificate_is_the_new_root_in_everything_but_who_signed_it() -> None:
    old, new = Authority(root_of("p384"), key_of("p384")), root_of("rsa2048", path_length=3, name="another")
    crossed = x509.load_pem_x509_certificate(old.cross_sign(new))
    root, signer = x509.load_pem_x509_certificate(new), x509.load_pem_x509_certificate(old.certificate)
    for attribute in ("subject", "not_valid_before_utc", "not_valid_after_utc"):
        assert getattr(crossed, attribute) == getattr(root, attribute)
    assert crossed.public_key() == root.public_key()
    assert crossed.issuer == signer.subject
    for extension in (x509.SubjectKeyIdentifier, x509.BasicConstraints):
        assert crossed.extensions.get_extension_for_class(extension) == root.extensions.get_extension_for_class(
            extension
        )
    identifier = signer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert crossed.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == identifier
    crossed.verify_directly_issued_by(signer)
    assert isinstance(crossed.signature_hash_algorithm, hashes.SHA384)


@pytest.mark.parametrize("old_kind", ["p256", "p521", "rsa2048"])
@pytest.mark.parametrize("new_kind", ["p256/2", "p384", "rsa3072"])
@pytest.mark.parametrize("names", [("old", "new"), ("same", "same")])
@pytest.mark.parametrize("ski", [True, False])
def test_openssl_takes_leaf_and_cross_signed_root_under_the_old_root_and_the_leaf_under_the_new(
    old_kind: str, new_kind: str, names: tuple[str, str], tmp_path: Path, *, ski: bool
) -> None:
    old = Authority(root_of(old_kind, name=names[0]), key_of(old_kind))
    new = Authority(root_of(new_kind, name=names[1], ski=ski), key_of(new_kind))
    key, csr = new_key_and_csr()
    leaf = new.sign(csr, node_id="n" * 25, role=Role.MANAGER, swarm_id="s", now=NOW, expiry_s=86_400.0)
    chain = leaf + old.cross_sign(new.certificate)
    for presented, root, is_good in (
        (chain, old.certificate, True),
        (chain, new.certificate, True),
        (chain, old.certificate + new.certificate, True),
        (leaf, new.certificate, True),
        (leaf, old.certificate, False),
        (leaf + new.certificate, old.certificate, False),
    ):
        if is_good:
            handshake(tmp_path, chain=presented, key=key, root=root)
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                handshake(tmp_path, chain=presented, key=key, root=root)


def test_a_root_that_may_have_none_below_it_cannot_cross_sign() -> None:
    old = Authority(root_of(path_length=0), key_of())
    with pytest.raises(Invalid, match="cannot vouch"):
        old.cross_sign(root_of("p384"))


@pytest.mark.parametrize(
    ("crossed", "reason"),
    [
        (lambda old, new: old.cross_sign(root_of("p521", name="new")), "another key"),
        (lambda old, new: old.cross_sign(root_of("p384", name="newer")), "another subject"),
        (lambda old, new: new, "the present root did not sign it"),
        (
            lambda old, new: root_of("p384", name="new", issuer="old", signer="p256", ca=False),
            "no authority's",
        ),
        (lambda old, new: old.cross_sign(root_of("p384", name="new", days=-0.1)), "not in date"),
    ],
)
def test_an_external_cas_cross_signed_certificate_is_looked_at(crossed: Any, reason: str) -> None:
    old = Authority(root_of(name="old"), key_of())
    new = root_of("p384", name="new")
    with pytest.raises(Invalid, match=reason):
        check_cross_signed(crossed(old, new), new=new, by=old.certificate, now=NOW)
    good = old.cross_sign(new)
    assert check_cross_signed(good + b"\n", new=new, by=old.certificate, now=NOW) == good


def test_no_key_is_shown_by_accident() -> None:
    secret = private_key()
    assert secret
    with pytest.raises(Invalid) as refused:
        check_key(root_of("p384"), key_of())
    assert key_of().splitlines()[1].decode() not in str(refused.value)
