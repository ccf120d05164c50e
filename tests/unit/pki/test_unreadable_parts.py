"""Certificates whose outside is right and whose inside is not: `cryptography` reads names, keys and extensions only
when they are asked for, so a refusal at loading is what keeps its errors from the doors."""

from __future__ import annotations

import ssl

import pytest

from swarmd.errors import Invalid, PermissionDenied
from swarmd.model import Role
from swarmd.pki import (
    Authority,
    authenticate_renewal,
    check_csr,
    is_manager_of,
    join_code,
    new_key_and_csr,
    normal_root,
    read_subject,
    same_code,
    sign_renewal,
    verify_issued,
)
from swarmd.pki.pem import load_certificate, load_certificates
from swarmd.wire import ca
from swarmd.wire.identity import Caller
from tests.unit.manager.swarm_fixture import Swarm, call_of

NOW = 1_800_000_000.0
AUTHORITY = Authority.create(NOW)
KEY, CSR = new_key_and_csr()
NODE = "n" * 25
LEAF = AUTHORITY.sign(CSR, node_id=NODE, role=Role.MANAGER, swarm_id="s" * 25, now=NOW, expiry_s=86_400.0)
SERVER_AUTH = bytes.fromhex("551d25")
BASIC_CONSTRAINTS = bytes.fromhex("551d13")
POINT = b"\x03\x42\x00\x04"


def changed(pem: bytes, old: bytes, new: bytes) -> bytes:
    """`pem` with its first `old` exchanged for as many other bytes."""
    assert len(old) == len(new)
    der = ssl.PEM_cert_to_DER_cert(pem.decode())
    assert old in der
    return ssl.DER_cert_to_PEM_cert(der.replace(old, new, 1)).encode()


UNREADABLE = {
    "a name that is no text": changed(LEAF, NODE.encode(), b"n" * 24 + b"\xbc"),
    "an extension twice": changed(LEAF, SERVER_AUTH, BASIC_CONSTRAINTS),
    "a point that is on no curve": changed(LEAF, POINT, b"\x03\x42\x00\x05"),
}


@pytest.mark.parametrize("certificate", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_in_full_is_no_certificate(certificate: bytes) -> None:
    for read in (
        load_certificate,
        load_certificates,
        read_subject,
        normal_root,
        lambda text: verify_issued(text, root=AUTHORITY.certificate, key=KEY, now=NOW),
        lambda text: authenticate_renewal(text, CSR, sign_renewal(KEY, CSR), root=AUTHORITY.certificate),
        lambda text: authenticate_renewal(LEAF, CSR, sign_renewal(KEY, CSR), root=text),
    ):
        with pytest.raises(Invalid):
            read(certificate)
    assert not is_manager_of(ssl.PEM_cert_to_DER_cert(certificate.decode()), AUTHORITY.certificate, now=NOW)


@pytest.mark.parametrize("certificate", UNREADABLE.values(), ids=UNREADABLE)
async def test_such_a_certificate_shown_for_renewal_is_refused_like_any_wrong_one(certificate: bytes) -> None:
    swarm = Swarm()
    request = ca.IssueRequest(csr=CSR, renewal_certificate=certificate, renewal_signature=sign_renewal(KEY, CSR))
    with pytest.raises(PermissionDenied, match="old certificate does not let this node in"):
        await swarm.server.issue(call_of(Caller(address="192.0.2.7:1")), request)


def test_a_request_for_a_key_that_is_none_has_no_code() -> None:
    text = CSR.decode().replace("CERTIFICATE REQUEST", "CERTIFICATE").encode()
    bad = changed(text, POINT, b"\x03\x42\x00\x05").replace(b"CERTIFICATE", b"CERTIFICATE REQUEST")
    with pytest.raises(Invalid, match="key cannot be read"):
        join_code(AUTHORITY.certificate, bad)
    with pytest.raises(Invalid):
        check_csr(bad)


def test_a_code_that_no_terminal_could_show_is_just_another_one() -> None:
    assert not same_code("\udced\udce6", "aaaa-bbbb")
