"""The external CA's client against a real signer over HTTPS: what it sends, whom it trusts, how long it waits."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography import x509
from msgspec.structs import replace

from swarmd.errors import FailedPrecondition, Invalid, Unavailable
from swarmd.manager import external_ca
from swarmd.manager.external_ca import CALL_S_MAX, REPLY_BYTES_MAX, ExternalSigners, read_answer
from swarmd.model import ExternalCA, Role, RootCA, RootRotation
from swarmd.pki import (
    Authority,
    NewRoot,
    check_issued,
    cross_sign,
    fingerprint,
    new_key_and_csr,
    root_digest,
)
from swarmd.transport.credentials import Credentials
from tests.unit.manager.cfssl import Cfssl
from tests.unit.pki.made_roots import key_of, root_of

NODE, SWARM = "n" * 25, "s" * 25
NOW = float(int(datetime.now(UTC).timestamp()))


def clock() -> float:
    """The signer's clock: tests may run long after they were collected."""
    return datetime.now(UTC).timestamp()


ROOT = RootCA(certificate=root_of(name="external root"), digest=root_digest(root_of()))
ROOT_KEY = key_of()
_, CSR = new_key_and_csr()


def credentials_of(role: Role = Role.MANAGER, *, root: bytes = ROOT.certificate, key: bytes = ROOT_KEY) -> Credentials:
    own_key, csr = new_key_and_csr()
    certificate = Authority(root, key).sign(
        csr, node_id="m" * 25, role=role, swarm_id=SWARM, now=NOW, expiry_s=86_400.0
    )
    return Credentials(certificate=certificate, key=own_key, root=root)


CREDENTIALS = credentials_of()


@pytest.fixture
def ca(tmp_path: Path) -> Iterator[Cfssl]:
    with Cfssl(tmp_path, ROOT.certificate, ROOT_KEY).serving() as ca:
        yield ca


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes five seconds in life takes half a one here."""
    monkeypatch.setattr(external_ca, "CALL_S_MAX", 0.5)


def listed(*signers: Cfssl, **fields: Any) -> tuple[ExternalCA, ...]:
    return tuple(ExternalCA(url=signer.url, **fields) for signer in signers)


def client(credentials: Credentials = CREDENTIALS) -> ExternalSigners:
    return ExternalSigners(credentials.foreign_context)


async def sign(
    signers: tuple[ExternalCA, ...],
    *,
    root: RootCA = ROOT,
    role: Role = Role.WORKER,
    by: ExternalSigners | None = None,
) -> bytes:
    return await (by or client()).sign(root, signers, csr=CSR, node_id=NODE, role=role, swarm_id=SWARM)


# -- what is asked -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", list(Role))
async def test_it_asks_in_cfssls_words_and_gets_the_certificate(ca: Cfssl, role: Role) -> None:
    answer = await sign(listed(ca), role=role)
    check_issued(answer, csr=CSR, node_id=NODE, role=role, swarm_id=SWARM, root=ROOT.certificate, now=clock())
    unit = {Role.WORKER: "swarm-worker", Role.MANAGER: "swarm-manager"}[role]
    assert ca.requests == [
        {
            "certificate_request": CSR.decode(),
            "hosts": [unit, NODE] + (["swarm-ca"] if role is Role.MANAGER else []),
            "subject": {"CN": NODE, "names": [{"OU": unit, "O": SWARM}]},
            "profile": "",
        }
    ]


async def test_a_renewed_certificate_is_shown_from_the_next_call_on(ca: Cfssl) -> None:
    credentials = credentials_of(Role.WORKER)
    signers = client(credentials)
    with pytest.raises(FailedPrecondition, match="you are no manager"):
        await sign(listed(ca), by=signers)
    own_key, csr = new_key_and_csr()
    certificate = Authority(ROOT.certificate, ROOT_KEY).sign(
        csr, node_id="m" * 25, role=Role.MANAGER, swarm_id=SWARM, now=NOW, expiry_s=86_400.0
    )
    credentials.replace(certificate=certificate, key=own_key, root=ROOT.certificate)
    assert await sign(listed(ca), by=signers)


async def test_cross_signing_uses_the_profile_ca_and_the_answer_holds(ca: Cfssl) -> None:
    new = NewRoot(certificate=root_of("p384", name="next"), key=key_of("p384"))
    crossed = await client().cross_sign(ROOT, listed(ca), new, now=clock())
    (asked,) = ca.requests
    assert asked["profile"] == "CA"
    assert asked["subject"] == {"CN": "next", "names": []}
    assert [(e["id"], e["critical"]) for e in asked["extensions"]] == [("2.5.29.19", True)]
    assert bytes.fromhex(asked["extensions"][0]["value"]) == b"\x30\x03\x01\x01\xff"
    certificate = x509.load_pem_x509_certificate(crossed)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ROOT.certificate))
    assert certificate.public_key() == x509.load_pem_x509_certificate(new.certificate).public_key()


async def test_a_cross_signed_root_that_is_no_authority_is_refused(ca: Cfssl) -> None:
    ca.options["ca"] = False
    new = NewRoot(certificate=root_of("p384", name="next"), key=key_of("p384"))
    with pytest.raises(Invalid, match="no authority's"):
        await client().cross_sign(ROOT, listed(ca), new, now=clock())


# -- which signer --------------------------------------------------------------------------------------------------


async def test_signers_are_asked_in_their_order_until_one_answers(ca: Cfssl, tmp_path: Path) -> None:
    with Cfssl(tmp_path, ROOT.certificate, ROOT_KEY).serving() as other:
        assert await sign(listed(ca, other))
        assert (len(ca.requests), len(other.requests)) == (1, 0)
        ca.is_up = False
        assert await sign(listed(ca, other))
        assert (len(ca.requests), len(other.requests)) == (2, 1)
        other.is_up = False
        with pytest.raises(Unavailable) as failed:
            await sign(listed(ca, other))
        assert failed.value.message.count("status 503") == 2
    with pytest.raises(Unavailable, match="no external CA is listed"):
        await sign(())


async def test_while_the_root_is_rotated_those_for_the_new_one_are_asked(ca: Cfssl, tmp_path: Path) -> None:
    new = NewRoot(certificate=root_of("p384", name="next"), key=key_of("p384"))
    crossed = cross_sign(replace(ROOT, key=ROOT_KEY), new)
    rotating = replace(ROOT, rotation=RootRotation(certificate=new.certificate, cross_signed=crossed))
    with Cfssl(tmp_path, new.certificate, new.key, trusts=ROOT.certificate).serving() as next_ca:
        signers = listed(ca) + listed(next_ca, ca_certificate=b"\n" + new.certificate)
        answer = await sign(signers, root=rotating)
        assert (len(ca.requests), len(next_ca.requests)) == (0, 1)
        check_issued(answer, csr=CSR, node_id=NODE, role=Role.WORKER, swarm_id=SWARM, root=new.certificate, now=clock())
        await sign(signers, root=ROOT)
        assert (len(ca.requests), len(next_ca.requests)) == (1, 1)


async def test_who_is_reachable_is_told_by_the_root_its_own_certificate_is_of(ca: Cfssl) -> None:
    other = root_of("p384", name="other")
    signers = client()
    assert await signers.reachable(ROOT, listed(ca)) == {fingerprint(ROOT.certificate)}
    assert await signers.reachable(ROOT, listed(ca, ca_certificate=other)) == frozenset()
    assert await signers.reachable(ROOT, listed(ca, ca_certificate=b"rubbish")) == frozenset()
    assert await signers.reachable(ROOT, ()) == frozenset()
    assert ca.requests == []


# -- whom it trusts, and what it does not wait for ----------------------------------------------------------------


async def test_a_signer_with_a_certificate_of_another_root_is_told_nothing(tmp_path: Path) -> None:
    stranger = root_of("p384", name="stranger")
    with Cfssl(tmp_path, stranger, key_of("p384"), trusts=ROOT.certificate).serving() as impostor:
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await sign(listed(impostor))
        assert impostor.requests == []


async def test_tls_1_2_will_do_for_a_foreign_server_and_nothing_older(ca: Cfssl) -> None:
    ca.tls.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await sign(listed(ca))
    assert CREDENTIALS.foreign_context(ROOT.certificate).minimum_version is ssl.TLSVersion.TLSv1_2
    assert CREDENTIALS.client_context().minimum_version is ssl.TLSVersion.TLSv1_3


async def test_a_certificate_for_another_host_is_none(ca: Cfssl) -> None:
    elsewhere = (ExternalCA(url=ca.url.replace("127.0.0.1", "localhost")),)
    with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await sign(elsewhere)
    assert ca.requests == []


async def test_nobody_there(tmp_path: Path) -> None:
    with Cfssl(tmp_path, ROOT.certificate, ROOT_KEY).serving() as gone:
        signers = listed(gone)
    with pytest.raises(Unavailable, match="refused"):
        await sign(signers)
    assert await client().reachable(ROOT, signers) == frozenset()


async def test_a_redirect_is_not_followed(ca: Cfssl, tmp_path: Path) -> None:
    with Cfssl(tmp_path, ROOT.certificate, ROOT_KEY).serving() as other:
        ca.misbehave = lambda handler, body: handler.reply(b"", status=307, headers={"Location": other.url})
        with pytest.raises(Unavailable, match="status 307"):
            await sign(listed(ca))
        assert other.requests == []


def _padded(padding: int) -> bytes:
    return json.dumps({"success": True, "result": {"certificate": "x"}, "padding": "p" * padding}).encode()


async def test_a_reply_is_cut_at_256_kib(ca: Cfssl) -> None:
    size = len(_padded(0))
    ca.misbehave = lambda handler, body: _padded(REPLY_BYTES_MAX - size)
    assert await sign(listed(ca)) == b"x"
    ca.misbehave = lambda handler, body: _padded(REPLY_BYTES_MAX - size + 1)
    with pytest.raises(Unavailable, match="not JSON, or too long"):
        await sign(listed(ca))


async def test_a_silent_signer_is_given_up(ca: Cfssl, short: None) -> None:
    released = threading.Event()

    def hold(handler: Any, body: Any) -> None:
        released.wait(10)

    ca.misbehave = hold
    before = threading.active_count()
    began = trio.current_time()
    with pytest.raises(Unavailable, match="did not answer within"):
        await sign(listed(ca))
    assert 0.4 < trio.current_time() - began < 3
    released.set()
    assert threading.active_count() <= before + 2


async def test_a_signer_that_drips_bytes_is_cut_off(ca: Cfssl, short: None) -> None:
    """Every byte is in time, and the whole is not: the limit is for all of it."""
    ended = threading.Event()

    def drip(handler: Any, body: Any) -> None:
        handler.drip(8)
        ended.set()

    ca.misbehave = drip
    began = trio.current_time()
    with pytest.raises(Unavailable, match="did not answer within"):
        await sign(listed(ca))
    assert await trio.to_thread.run_sync(ended.wait, 5)
    assert trio.current_time() - began < 3  # it noticed that we hung up


async def test_a_cancelled_call_ends_at_once(ca: Cfssl) -> None:
    ca.misbehave = lambda handler, body: handler.drip(2)
    began = trio.current_time()
    with trio.move_on_after(0.3) as scope:
        await sign(listed(ca))
    assert scope.cancelled_caught
    assert trio.current_time() - began < 1.5


def test_five_seconds_are_what_a_signer_gets() -> None:
    assert CALL_S_MAX == 5.0


# -- what an answer means ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"{}",
        b'{"success": "yes"}',
        b'{"success": 1}',
        b"\xff\xfe",
        b'"x"',
        b"[" * 250_000,
    ],
)
def test_what_is_no_answer_is_tried_again_later(reply: bytes) -> None:
    with pytest.raises(Unavailable):
        read_answer(reply)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({"success": False, "errors": [{"code": 5, "message": "policy\nsays no"}]}, "refused: policy says no"),
        ({"success": False}, "it gave no reason"),
        ({"success": False, "errors": ["x", {"message": 7}]}, "it gave no reason"),
        ({"success": True}, "sent no certificate"),
        ({"success": True, "result": {}}, "sent no certificate"),
        ({"success": True, "result": {"certificate": 5}}, "sent no certificate"),
        ({"success": True, "result": "certificate"}, "sent no certificate"),
    ],
)
def test_a_refusal_is_final_and_its_words_are_kept(reply: Any, reason: str) -> None:
    with pytest.raises(FailedPrecondition, match=reason):
        read_answer(json.dumps(reply).encode())


def test_a_refusals_words_are_cut_short() -> None:
    with pytest.raises(FailedPrecondition) as refused:
        read_answer(json.dumps({"success": False, "errors": [{"message": "x" * 10_000}]}).encode())
    assert len(refused.value.message) < 300
