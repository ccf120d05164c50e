"""What fits together, what a context verifies, and who a certificate says its holder is."""

from __future__ import annotations

import os
import ssl
from typing import Any

import pytest

from swarmd.errors import Invalid, Unauthenticated
from swarmd.model import Role
from swarmd.transport.credentials import Credentials, identity_of, joining_context

from .certificates import SWARM_ID, TestAuthority

AUTHORITY = TestAuthority()


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str | None) -> tuple[Any, Any]:
    """Both ends over memory, until they agree or one of them raises."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_side=False, server_hostname=name)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(6):
        for end in (near, far):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return near, far


def test_credentials_say_who_they_are() -> None:
    credentials = AUTHORITY.credentials("n1", Role.WORKER)
    own = credentials.identity
    assert (own.node_id, own.role, own.swarm_id) == ("n1", Role.WORKER, SWARM_ID)
    assert len(own.fingerprint) == 64
    assert credentials.root == AUTHORITY.root


def test_both_ends_know_each_other_over_tls_1_3() -> None:
    server, client = AUTHORITY.credentials("m1"), AUTHORITY.credentials("w1", Role.WORKER)
    near, far = _handshake(client.client_context(), server.server_context(), "swarm-manager")
    assert identity_of(near.getpeercert(), near.getpeercert(binary_form=True)) == server.identity
    assert identity_of(far.getpeercert(), far.getpeercert(binary_form=True)) == client.identity
    assert near.version() == far.version() == "TLSv1.3"


def test_a_joiner_without_a_certificate_is_let_in_without_an_identity() -> None:
    server = AUTHORITY.credentials("m1").server_context()
    for context in (joining_context(None), joining_context(AUTHORITY.root)):
        _near, far = _handshake(context, server, "swarm-ca")
        assert identity_of(far.getpeercert() or {}) is None


def test_a_joiner_with_a_pinned_root_refuses_another() -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(joining_context(TestAuthority().root), AUTHORITY.credentials("m1").server_context(), "swarm-ca")


def test_a_worker_is_no_server() -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname"):
        _handshake(
            AUTHORITY.credentials("m2").client_context(),
            AUTHORITY.credentials("w1", Role.WORKER).server_context(),
            "swarm-manager",
        )


@pytest.mark.parametrize("name", [None, "example.org", "swarm-worker"])
def test_a_client_that_means_somebody_else_is_refused(name: str | None) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name|callback"):
        _handshake(joining_context(None), AUTHORITY.credentials("m1").server_context(), name)


@pytest.mark.parametrize(("valid_from_h", "valid_for_h"), [(-10.0, 5.0), (5.0, 10.0)], ids=["expired", "not yet valid"])
def test_an_outdated_certificate_fails_the_handshake(valid_from_h: float, valid_for_h: float) -> None:
    issued = AUTHORITY.issue("m2", valid_from_h=valid_from_h, valid_for_h=valid_for_h)
    client = Credentials(certificate=issued.certificate, key=issued.key, root=AUTHORITY.root)
    with pytest.raises(ssl.SSLError):
        _handshake(client.client_context(), AUTHORITY.credentials("m1").server_context(), "swarm-manager")


def test_older_tls_is_refused() -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        _handshake(old, AUTHORITY.credentials("m1").server_context(), "swarm-manager")


def test_no_session_can_be_resumed() -> None:
    server = AUTHORITY.credentials("m1").server_context()
    assert server.num_tickets == 0
    near, far = _handshake(AUTHORITY.credentials("m2").client_context(), server, "swarm-manager")
    far.write(b"x")
    assert near.read(1) == b"x"
    assert near.session is None or not near.session.has_ticket


def test_replace_changes_new_contexts_and_a_failed_one_changes_nothing() -> None:
    credentials = AUTHORITY.credentials("n1", Role.WORKER)
    promoted = AUTHORITY.issue("n1", Role.MANAGER)
    before = credentials.client_context()
    with pytest.raises(Invalid):
        credentials.replace(certificate=promoted.certificate, key=AUTHORITY.issue("n1").key, root=AUTHORITY.root)
    assert credentials.identity.role is Role.WORKER
    assert credentials.client_context() is before
    credentials.replace(certificate=promoted.certificate, key=promoted.key, root=AUTHORITY.root)
    assert credentials.identity.role is Role.MANAGER
    assert credentials.client_context() is not before


def test_what_does_not_fit_together_is_invalid() -> None:
    issued = AUTHORITY.issue("n1")
    for certificate, key, root in (
        (issued.certificate, issued.key, TestAuthority().root),
        (issued.certificate, b"", AUTHORITY.root),
        (b"garbage", issued.key, AUTHORITY.root),
        (issued.certificate, issued.key, b"garbage"),
        (AUTHORITY.root, issued.key, AUTHORITY.root),
    ):
        with pytest.raises(Invalid):
            Credentials(certificate=certificate, key=key, root=root)
    with pytest.raises(Invalid):
        joining_context(b"garbage")


def test_loading_leaves_no_file_and_no_descriptor() -> None:
    AUTHORITY.credentials("n0")
    before = set(os.listdir("/proc/self/fd"))
    AUTHORITY.credentials("n1")
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "subject",
    [
        (),
        ((("commonName", "n"),), (("organizationName", "s"),)),
        ((("commonName", "n"),), (("organizationName", "s"),), (("organizationalUnitName", "swarm-king"),)),
        (
            (("commonName", "n"),),
            (("organizationName", "s"),),
            (("organizationalUnitName", "swarm-worker"),),
            (("organizationalUnitName", "swarm-manager"),),
        ),
        (
            (("commonName", "n"), ("commonName", "n2")),
            (("organizationName", "s"),),
            (("organizationalUnitName", "swarm-worker"),),
        ),
        ((("commonName", ""),), (("organizationName", "s"),), (("organizationalUnitName", "swarm-worker"),)),
    ],
)
def test_a_certificate_that_does_not_name_one_node_is_refused(subject: Any) -> None:
    with pytest.raises(Unauthenticated):
        identity_of({"subject": subject})
