"""The rows of the threat table (reference security 8) that concern a door, against three live managers and a worker.

After each one `conftest.unharmed` looks: managers up, sessions alive, writes accepted, no secret in a log.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from swarmd.errors import (
    ErrorKind,
    Invalid,
    PermissionDenied,
    ResourceExhausted,
    SwarmError,
    Unauthenticated,
    Unavailable,
)
from swarmd.model import IssuanceState, NodeDescription, Role, TaskState
from swarmd.pki import CA_SERVER_NAME, Authority, new_key_and_csr, new_token, parse_token, root_digest, sign_renewal
from swarmd.raft import Message
from swarmd.transport.connection import Call, Connection, Router
from swarmd.transport.credentials import Credentials, joining_context
from swarmd.transport.listener import Listener
from swarmd.wire import ca, dispatch
from swarmd.wire.frames import ANONYMOUS_FRAME_BYTES_MAX, FRAME_BYTES_MAX, HANDSHAKE_S_MAX, SUBPROTOCOL, Headers, Hello
from swarmd.wire.identity import ForwardedCaller
from swarmd.wire.methods import (
    AUDIT,
    CA_ISSUE,
    CA_ROOT,
    CA_STATUS,
    CA_UNLOCK_KEY,
    CLUSTER_GET,
    CONFIG_CREATE,
    HEALTH,
    HEARTBEAT,
    METHODS,
    NODE_LIST,
    RAFT_JOIN,
    RAFT_LEAVE,
    RAFT_MESSAGES,
    SECRET_CREATE,
    SECRET_GET,
    SECRET_LIST,
    SECRET_UPDATE,
    SERVICE_CREATE,
    SERVICE_LIST,
    SESSION,
    STATUS,
    TASK_LIST,
    UPDATE_STATUS,
    WATCH,
    Method,
    Shape,
)
from tests.chaos.tools import faketime_library
from tests.e2e.machines import Machine, wait_until
from tests.threats.attacker import (
    DAY,
    Pair,
    ask,
    copied_pair,
    in_trio,
    logs,
    made_pair,
    reach,
    refusal,
    refused_at,
    token_file,
)
from tests.threats.conftest import Target

pytestmark = pytest.mark.slow

SLACK_S: Final = 3.0
"""What a busy machine may add to a limit."""


async def issue(
    port: int, root: bytes | None, request: dict[str, Any], *, source: str, pair: Pair | None = None
) -> Any:
    async with reach(port, root, pair, source=source) as connection:
        return await ask(connection, CA_ISSUE, request)


async def issue_refusal(target: Target, request: dict[str, Any], *, source: str, port: int = 0) -> SwarmError | None:
    try:
        async with reach(port or target.ports[0], target.known.root, source=source) as connection:
            return await refusal(connection, CA_ISSUE, request)
    except SwarmError as error:
        return error


async def enrolled(target: Target, *, source: str, csr: bytes = b"", key: bytes = b"") -> tuple[str, Pair]:
    """A worker that is no daemon: what somebody with the worker token gets."""
    if not csr:
        key, csr = new_key_and_csr()
    token = await trio.to_thread.run_sync(target.token, "worker")
    async with reach(target.ports[0], target.known.root, source=source) as connection:
        node_id = (await ask(connection, CA_ISSUE, {"csr": csr, "token": token})).node_id
        poll = {"node_id": node_id, "csr_sha256": _sha256(csr)}
        status = await ask(connection, CA_STATUS, poll)
    assert status.state is IssuanceState.ISSUED
    return node_id, Pair(certificate=status.certificate, key=key, root=target.known.root)


def _sha256(data: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize()


def forget(target: Target, *node_ids: str) -> None:
    for node_id in node_ids:
        target.machines[0].ctl("node", "rm", "--force", node_id)


AUDITED_S_MAX = 20.0


async def audited(target: Target, word: str) -> bool:
    """Whether some manager's audit has a record that says so."""
    for port in target.ports:
        with contextlib.suppress(SwarmError):
            async with (
                reach(port, None, target.manager_pair()) as connection,
                connection.open(AUDIT, AUDIT.request()) as stream,
            ):
                async for message in stream:
                    if word in str(message):
                        return True
    return False


# -- tokens -----------------------------------------------------------------------------------------------------------
def test_threat_01_a_wrong_secret_makes_no_node_and_slows_its_address_down(target: Target) -> None:
    before = target.node_ids()
    wrong = new_token(root_digest(target.known.root), _dice(1))

    async def main() -> list[SwarmError | None]:
        _, csr = new_key_and_csr()
        request = {"csr": csr, "token": wrong}
        return [await issue_refusal(target, request, source="127.1.0.1", port=target.ports[n % 3]) for n in range(6)]

    refusals = in_trio(main)
    assert all(isinstance(refusal, PermissionDenied) for refusal in refusals[:5])
    assert "wrong, or it was replaced" in str(refusals[0])
    assert isinstance(refusals[5], ResourceExhausted)
    assert all(wrong[-25:] not in f"{refusal} {getattr(refusal, 'hint', '')}" for refusal in refusals)
    assert target.node_ids() == before


def test_threat_02_whoever_shows_another_root_is_sent_neither_token_nor_request(target: Target, tmp_path: Path) -> None:
    """Once with a root of his own, once with the swarm's root and no key that it vouches for."""
    own = Authority.create(time.time())
    heard: list[str] = []
    shown = [own.certificate, target.known.root]
    token = target.token("worker")

    def swarmd(port: int, name: str) -> subprocess.CompletedProcess[str]:
        flags = (
            "-d",
            str(tmp_path / name),
            "--listen-control-api",
            str(tmp_path / f"{name}.sock"),
            "--executor",
            "process",
        )
        return subprocess.run(
            [sys.executable, "-m", "swarmd", *flags, "--join-addr", f"127.0.0.1:{port}", "--join-token", token],
            capture_output=True, text=True, timeout=45, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    async def main() -> list[subprocess.CompletedProcess[str]]:
        pair = made_pair(own, own.certificate, node_id="m" * 25, role=Role.MANAGER, swarm_id=target.known.swarm_id)
        credentials = Credentials(certificate=pair.certificate, key=pair.key, root=pair.root)
        router = Router(lambda method, caller: heard.append(method.name))

        async def root(call: Call, request: ca.RootRequest) -> ca.RootReply:
            await trio.lowlevel.checkpoint()
            return ca.RootReply(certificate=shown[0])

        router.add(CA_ROOT, root)
        async with trio.open_nursery() as nursery:
            port = await nursery.start(Listener("127.0.0.1", 0, credentials, router, Hello).run)
            done = [await trio.to_thread.run_sync(swarmd, port, "first")]
            shown.pop(0)
            done.append(await trio.to_thread.run_sync(swarmd, port, "second"))
            nursery.cancel_scope.cancel()
        return done

    first, second = in_trio(main)
    assert "of another swarm than" in first.stderr
    assert "nothing was sent" in first.stderr
    assert first.returncode == 1
    assert second.returncode != 0
    assert set(heard) == {"ca.root"}
    for done in (first, second):
        assert token[-25:] not in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "first" / "certificates").exists()


def test_threat_03_malformed_tokens_are_refused_here_and_there_alike(target: Target) -> None:
    good = target.token("worker")
    bad = [
        "SWMTKN-1-x", good.replace("SWMTKN-1", "SWMTKN-9"), good.upper(), good[:-1] + "_", f" {good}", f"{good}\n",
        good[:-1] + "\uff11", f"SWMTKN-1-{'z' * 50}-{'0' * 25}", good + "-x", "x" * 30_000,
    ]  # fmt: skip
    for text in [*bad, "S" * 1_000_000]:
        took = min(_seconds_to_refuse(text) for _ in range(5))
        assert took < 0.001, text[:40]

    async def main() -> None:
        async with reach(target.ports[1], target.known.root, source="127.1.0.3") as connection:
            _, csr = new_key_and_csr()
            for text in bad:
                refused = await refusal(connection, CA_ISSUE, {"csr": csr, "token": text})
                assert isinstance(refused, Invalid), (text, refused)
                assert good[-20:] not in str(refused)
        _, csr = new_key_and_csr()
        assert await issue_refusal(target, {"csr": csr, "token": "S" * 1_000_000}, source="127.1.0.3") is not None

    in_trio(main)


def _seconds_to_refuse(text: str) -> float:
    began = time.perf_counter()
    with pytest.raises(Invalid):
        parse_token(text)
    return time.perf_counter() - began


def _dice(seed: int) -> Any:
    import random

    return random.Random(seed)


def test_threat_04_without_a_token_nobody_gets_a_certificate_before_an_operator_says_so(target: Target) -> None:
    async def main() -> str:
        _, csr = new_key_and_csr()
        async with reach(target.ports[1], target.known.root, source="127.1.0.4") as connection:
            node_id = (await ask(connection, CA_ISSUE, {"csr": csr, "hostname": "stranger"})).node_id
            poll = {"node_id": node_id, "csr_sha256": _sha256(csr)}
            plain: Method[Any, Any] = CA_STATUS
            status = await connection.call(plain, ca.StatusRequest(**poll), timeout_s=1.5)
        assert (status.state, status.certificate) == (IssuanceState.PENDING, b"")
        return str(node_id)

    node_id = in_trio(main)
    assert target.machines[0].json("node", "inspect", node_id)["spec"]["membership"] == "PENDING"
    forget(target, node_id)


def test_threat_05_a_token_that_was_rotated_lets_nobody_in_on_any_manager(target: Target) -> None:
    old, manager_token = target.token("worker"), target.token("manager")
    new = target.machines[1].ctl("cluster", "join-token", "worker", "--rotate", "-q").stdout.strip()
    assert new != old
    assert target.token("worker") == new
    assert target.token("manager") == manager_token

    async def main() -> None:
        for port in target.ports:
            _, csr = new_key_and_csr()
            refused = await issue_refusal(target, {"csr": csr, "token": old}, source="127.1.0.5", port=port)
            assert isinstance(refused, PermissionDenied)
            assert "replaced by a new one" in str(refused)
        node_id, _ = await enrolled(target, source="127.1.0.50")
        await trio.to_thread.run_sync(forget, target, node_id)

    in_trio(main)
    for machine, port in zip(target.managers, target.ports, strict=True):
        path = token_file(machine, port)
        wait_until(lambda path=path: path.read_text() == new, 5, "a neighbour would find the old token")
        assert path.stat().st_mode & 0o777 == 0o600


# -- who may call what ------------------------------------------------------------------------------------------------
def test_threat_06_a_workers_certificate_opens_nothing_of_a_managers(target: Target) -> None:
    closed = [method for method in METHODS.values() if Role.WORKER not in method.roles]
    assert len(closed) > 30

    async def main() -> None:
        for port in target.ports:
            async with reach(port, None, target.worker_pair()) as connection:
                for method in closed:
                    assert isinstance(await refusal(connection, method, {}), PermissionDenied), method.name

    in_trio(main)


def test_threat_07_without_a_certificate_three_calls_are_open(target: Target) -> None:
    async def main() -> set[str]:
        open_: set[str] = set()
        for number, port in enumerate(target.ports):
            async with reach(port, target.known.root, source=f"127.1.0.7{number}") as connection:
                for method in METHODS.values():
                    if not isinstance(await refusal(connection, method, {}), Unauthenticated):
                        open_.add(method.name)
        return open_

    assert in_trio(main) == {"ca.root", "ca.issue", "ca.status"}


def test_threat_08_a_certificate_out_of_its_time_is_refused_and_the_caller_learns_it(target: Target) -> None:
    async def main() -> None:
        for at in (-10 * DAY, +10 * DAY):
            pair = made_pair(
                target.authority, target.known.root, node_id=target.worker.node_id, role=Role.MANAGER,
                swarm_id=target.known.swarm_id, at=at,
            )  # fmt: skip
            for port in target.ports:
                began = trio.current_time()
                assert isinstance(await refused_at(port, pair, HEALTH, {}), Unauthenticated)
                assert trio.current_time() - began < HANDSHAKE_S_MAX

    in_trio(main)


def test_threat_09_equal_names_of_another_ca_and_another_swarm_of_this_one(target: Target) -> None:
    manager = target.managers[0].node_id

    async def main() -> None:
        forged = Authority.create(time.time())
        twin = made_pair(forged, target.known.root, node_id=manager, role=Role.MANAGER, swarm_id=target.known.swarm_id)
        other = made_pair(target.authority, target.known.root, node_id=manager, role=Role.MANAGER, swarm_id="o" * 25)
        _, csr = new_key_and_csr()
        for port in target.ports:
            refused = await refused_at(port, twin, NODE_LIST, {})
            assert isinstance(refused, Unauthenticated)
            assert "UNKNOWN_CA" in str(refused).upper()
            assert isinstance(await refused_at(port, other, NODE_LIST, {}), PermissionDenied | Unauthenticated)
            refused = await refused_at(port, other, CA_ISSUE, {"csr": csr})
            assert isinstance(refused, PermissionDenied | Unauthenticated)
            assert "another swarm" in str(refused)

    in_trio(main)


# -- requests ---------------------------------------------------------------------------------------------------------
def request_of(key: Any, *, unit: str = "", authority: bool = False, names: tuple[str, ...] = ()) -> bytes:
    """A certificate request that asks for what it wants."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, "boss")]
    if unit:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_threat_10_what_a_request_asks_for_is_not_what_it_gets(target: Target) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    csr = request_of(key, unit="swarm-manager", authority=True, names=("swarm-manager", "swarm-ca", "evil.example"))
    node_id, pair = in_trio(lambda: enrolled(target, source="127.1.0.10", csr=csr, key=b"x"))
    leaf = x509.load_pem_x509_certificate(pair.certificate)
    names = {a.oid: a.value for a in leaf.subject}
    assert names == {
        NameOID.ORGANIZATION_NAME: target.known.swarm_id,
        NameOID.ORGANIZATIONAL_UNIT_NAME: "swarm-worker",
        NameOID.COMMON_NAME: node_id,
    }
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(alternative.get_values_for_type(x509.DNSName)) == {"swarm-worker", node_id}
    forget(target, node_id)


def test_threat_11_bad_requests_are_refused_before_any_record_is_made(target: Target) -> None:
    before = target.node_ids()
    good = request_of(ec.generate_private_key(ec.SECP256R1()))
    der = bytearray(x509.load_pem_x509_csr(good).public_bytes(serialization.Encoding.DER))
    der[-5] ^= 0xFF
    broken = ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE", "CERTIFICATE REQUEST").encode()
    bad = {
        "broken signature": broken,
        "P-224": request_of(ec.generate_private_key(ec.SECP224R1())),
        "RSA-1024": request_of(rsa.generate_private_key(65537, 1024)),
        "RSA-2048": request_of(rsa.generate_private_key(65537, 2048)),
        "garbage": b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        "17 KiB": good + b"\n" * (17 << 10),
        "empty": b"",
    }

    async def main() -> None:
        token = await trio.to_thread.run_sync(target.token, "worker")
        async with reach(target.ports[2], target.known.root, source="127.1.0.11") as connection:
            for name, csr in bad.items():
                assert isinstance(await refusal(connection, CA_ISSUE, {"csr": csr, "token": token}), Invalid), name
        huge = {"csr": good + b"\n" * (1 << 20), "token": token}
        assert await issue_refusal(target, huge, source="127.1.0.11") is not None

    in_trio(main)
    assert target.node_ids() == before


def test_threat_12_a_request_of_another_node_gives_nothing_and_ones_own_the_same_again(target: Target) -> None:
    async def main() -> None:
        key, csr = new_key_and_csr()
        node_id, pair = await enrolled(target, source="127.1.0.12", csr=csr, key=key)
        other_id, other = await enrolled(target, source="127.1.0.12")
        for port in target.ports:
            assert isinstance(await refused_at(port, other, CA_ISSUE, {"csr": csr}), Invalid)
            assert isinstance(
                await refused_at(port, other, CA_ISSUE, {"csr": target.known.csr_of[target.managers[0].node_id]}),
                Invalid,
            )
            assert (await issue(port, None, {"csr": csr}, source="127.0.0.1", pair=pair)).node_id == node_id
        await trio.to_thread.run_sync(forget, target, node_id, other_id)

    in_trio(main)


def test_threat_13_a_removed_node_is_refused_by_leader_and_followers_and_cut_off(target: Target) -> None:
    async def main() -> None:
        node_id, pair = await enrolled(target, source="127.1.0.13")
        cut = trio.Event()

        async def hold(*, task_status: trio.TaskStatus[None]) -> None:
            with contextlib.suppress(SwarmError):
                async with reach(target.ports[0], None, pair) as connection:
                    await ask(connection, HEALTH, {})
                    task_status.started()
                    await connection.closed.wait()
            cut.set()

        async with trio.open_nursery() as nursery:
            await nursery.start(hold)
            await trio.to_thread.run_sync(forget, target, node_id)
            with trio.fail_after(1.0 + SLACK_S):
                await cut.wait()
        _, csr = new_key_and_csr()
        by_old_key = {
            "csr": csr,
            "renewal_certificate": pair.certificate,
            "renewal_signature": sign_renewal(pair.key, csr),
        }
        for port in target.ports:
            for method, body in ((HEALTH, {}), (CA_ISSUE, {"csr": csr})):
                refused = await refused_at(port, pair, method, body)
                assert isinstance(refused, PermissionDenied)
                assert "removed" in str(refused)
            assert isinstance(await issue_refusal(target, by_old_key, source="127.1.0.13", port=port), PermissionDenied)

    in_trio(main)


def test_threat_14_a_manager_certificate_of_a_node_that_is_a_worker_now_is_a_workers(target: Target) -> None:
    """The certificate that a demoted manager would have kept; how one is demoted is `e2e/test_revocation.py`'s."""

    async def main() -> None:
        pair = made_pair(
            target.authority, target.known.root, node_id=target.worker.node_id, role=Role.MANAGER,
            swarm_id=target.known.swarm_id,
        )  # fmt: skip
        leader = await trio.to_thread.run_sync(lambda: target.leader().port())
        join = {"addresses": ["127.0.0.1:1"], "incarnation": b"x" * 16}
        for method, body in (
            (RAFT_JOIN, join),
            (CA_UNLOCK_KEY, {}),
            (WATCH, {}),
            (RAFT_MESSAGES, {"messages": []}),
            (RAFT_LEAVE, {}),
        ):
            assert isinstance(await refused_at(leader, pair, method, body), PermissionDenied), method.name

    in_trio(main)


def test_threat_15_a_node_speaks_for_itself_only(target: Target) -> None:
    """The row asks that nothing of such a batch is applied. Here the foreign entries are refused and listed, and the
    node's own are applied (dispatcher/DESIGN.md; reference dispatch-agent-executor: "one foreign entry poisons" ->
    "per-entry result list"). What the row is there for, that no node changes another's tasks, holds for each entry, and
    a node gains nothing by mixing them: its own status in the same batch is one that it may report by itself anyway.
    """
    tasks = {task["node_id"]: task for task in target.machines[0].json("task", "ls")}
    victim = tasks[target.worker.node_id]

    async def main() -> None:
        mallory_id, mallory = await enrolled(target, source="127.1.0.15")
        other_id, other = await enrolled(target, source="127.1.0.15")
        leader = await trio.to_thread.run_sync(lambda: target.leader().port())
        session = dispatch.SessionRequest(description=_description())
        async with (
            reach(leader, None, mallory) as one,
            reach(leader, None, other) as two,
            one.open(SESSION, session) as mine,
            two.open(SESSION, session) as theirs,
        ):
            own = (await mine.receive()).session_id
            foreign = (await theirs.receive()).session_id
            assert isinstance(await refusal(one, HEARTBEAT, {"session_id": foreign}), Invalid)
            status = {"state": TaskState.FAILED.value, "message": "I never ran"}
            report = {"session_id": own, "updates": [{"task_id": victim["id"], "status": status}]}
            reply = await refusal(one, UPDATE_STATUS, report)
            assert reply is None
            assert (await ask(one, UPDATE_STATUS, report)).refused == (victim["id"],)
            assert isinstance(await refusal(one, UPDATE_STATUS, {**report, "session_id": foreign}), Invalid)
        await trio.to_thread.run_sync(forget, target, mallory_id, other_id)

    in_trio(main)
    assert target.machines[0].json("task", "inspect", victim["id"])["status"]["state"] == victim["status"]["state"]


def _description() -> NodeDescription:
    return NodeDescription(hostname="mallory")


def test_threat_16_forged_forwarding_headers(target: Target) -> None:
    swarm_id = target.known.swarm_id
    admin = ForwardedCaller(node_id=target.managers[0].node_id, role=Role.MANAGER, swarm_id=swarm_id)
    local = ForwardedCaller(node_id=target.managers[0].node_id, role=Role.MANAGER, swarm_id=swarm_id, is_local=True)
    unknown = ForwardedCaller(node_id="u" * 25, role=Role.MANAGER, swarm_id=swarm_id)
    removed = [node for node in [_removed(target)] if node]

    async def main() -> None:
        leader = await trio.to_thread.run_sync(lambda: target.leader().port())
        manager = await trio.to_thread.run_sync(target.manager_pair)
        for port in target.ports:
            async with reach(port, target.known.root, source="127.1.0.16") as joiner:
                for forwarded in (admin, local):
                    refused = await refusal(joiner, NODE_LIST, {}, Headers(forwarded=forwarded))
                    assert isinstance(refused, PermissionDenied | Unauthenticated)
            for forwarded in (admin, local):
                refused = await refused_at(port, target.worker_pair(), NODE_LIST, {}, Headers(forwarded=forwarded))
                assert isinstance(refused, PermissionDenied)
            assert isinstance(await refused_at(port, manager, HEALTH, {}, Headers(forwarded=admin)), PermissionDenied)
            if port != leader:  # a second hop
                assert await refused_at(port, manager, NODE_LIST, {}, Headers(forwarded=admin)) is not None
        for forwarded in [
            unknown,
            *(ForwardedCaller(node_id=n, role=Role.MANAGER, swarm_id=swarm_id) for n in removed),
        ]:
            assert isinstance(
                await refused_at(leader, manager, NODE_LIST, {}, Headers(forwarded=forwarded)), PermissionDenied
            )

    in_trio(main)


def _removed(target: Target) -> str:
    async def main() -> str:
        node_id, _ = await enrolled(target, source="127.1.0.16")
        await trio.to_thread.run_sync(forget, target, node_id)
        return node_id

    return str(in_trio(main))


def test_threat_17_a_manager_speaks_in_raft_for_itself_only(target: Target) -> None:
    from swarmd.raft import MessageType
    from swarmd.wire.peer import RaftFrame
    from swarmd.wire.raft_codec import encode_message

    members = {n["id"]: n["manager"]["member_id"] for n in target.machines[0].json("node", "ls") if n.get("manager")}
    leader = target.leader()
    liar, victim = (machine for machine in target.managers if machine is not leader)
    status = leader.status() or {}
    message = Message(
        type=MessageType.HEARTBEAT, source=_member(members[victim.node_id]), target=_member(members[leader.node_id]),
        term=status["term"] + 1000,
    )  # fmt: skip

    async def main() -> SwarmError | None:
        async with (
            reach(leader.port(), None, copied_pair(liar)) as connection,
            connection.open(RAFT_MESSAGES) as stream,
        ):
            await stream.send(RaftFrame(messages=(encode_message(message, ()),)))
            try:
                await stream.receive()
            except SwarmError as error:
                return error
        return None

    refused = in_trio(main)
    assert isinstance(refused, PermissionDenied)
    assert "is not node" in str(refused)
    assert (leader.status() or {})["term"] == status["term"]


def _member(shown: Any) -> int:
    return int(shown, 16) if isinstance(shown, str) else int(shown)


# -- TLS, WebSocket, CBOR ---------------------------------------------------------------------------------------------
def test_threat_18_old_tls_other_names_and_other_protocols(target: Target) -> None:
    def handshake(context: ssl.SSLContext, name: str | None, say: bytes = b"") -> bytes:
        plain = socket.create_connection(("127.0.0.1", target.ports[0]), timeout=12)
        with plain, context.wrap_socket(plain, server_hostname=name) as tls:
            if say:
                tls.sendall(say)
            return tls.recv(4096)

    def context(**limits: Any) -> ssl.SSLContext:
        found = joining_context(None)
        found.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        for key, value in limits.items():
            setattr(found, key, value)
        return found

    old = context(maximum_version=ssl.TLSVersion.TLSv1_2)
    for bad, name in ((old, CA_SERVER_NAME), (context(), None), (context(), "example.org")):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(bad, name)
    weak = context(maximum_version=ssl.TLSVersion.TLSv1_2)
    with contextlib.suppress(ssl.SSLError):
        weak.set_ciphers("aNULL:eNULL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(weak, CA_SERVER_NAME)
    upgrade = (
        b"GET / HTTP/1.1\r\nHost: swarm\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
    )
    assert handshake(context(), CA_SERVER_NAME, upgrade + b"\r\n").startswith(b"HTTP/1.1 400")
    answer = handshake(
        context(), CA_SERVER_NAME,
        upgrade + f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n".encode()
        + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    )  # fmt: skip
    assert answer.startswith(b"HTTP/1.1 101")
    assert b"permessage-deflate" not in answer, "compression was negotiated"


@pytest.mark.parametrize("half_hellos", [30, 80])
def test_threat_19_those_who_dawdle_are_cut_off_and_hold_up_nobody(target: Target, half_hellos: int) -> None:
    async def dawdle(say: bytes, times: int = 1) -> float:
        began = trio.current_time()
        stream = await trio.open_tcp_stream("127.0.0.1", target.ports[0], local_address="127.1.0.19")
        async with stream:
            with contextlib.suppress(trio.BrokenResourceError):
                for byte in range(times):
                    await stream.send_all(say[byte : byte + 1] if times > 1 else say)
                    if times > 1:
                        await trio.sleep(1)
            with contextlib.suppress(trio.BrokenResourceError):
                while await stream.receive_some(4096):
                    pass
        return trio.current_time() - began

    async def half_an_upgrade() -> float:
        began = trio.current_time()
        stream = await trio.open_tcp_stream("127.0.0.1", target.ports[0], local_address="127.1.0.20")
        tls = trio.SSLStream(stream, joining_context(None), server_hostname=CA_SERVER_NAME)
        with contextlib.suppress(trio.BrokenResourceError):
            await tls.send_all(b"GET / HTTP/1.1\r\nHost: swarm\r\nUpgra")
            while await tls.receive_some(4096):
                pass
        await trio.aclose_forcefully(tls)
        return trio.current_time() - began

    async def main() -> list[float]:
        took: list[float] = []

        async def note(what: Any, *arguments: Any) -> None:
            took.append(await what(*arguments))

        async with trio.open_nursery() as nursery:
            for _ in range(150):
                nursery.start_soon(note, dawdle, b"")
            for _ in range(half_hellos):
                nursery.start_soon(note, dawdle, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
            nursery.start_soon(
                note, dawdle, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00\x00\x00", 14
            )
            for _ in range(5):
                nursery.start_soon(note, half_an_upgrade)
            await trio.sleep(1)
            began = trio.current_time()
            async with reach(target.ports[0], None, target.worker_pair()) as connection:
                await ask(connection, HEALTH, {})
            assert trio.current_time() - began < SLACK_S, "a peer of the swarm had to wait"
        return took

    assert max(in_trio(main)) < HANDSHAKE_S_MAX + SLACK_S


def test_threat_20_too_large_a_message_ends_its_connection(target: Target) -> None:
    async def lost(pair: Pair | None, size: int) -> None:
        with contextlib.suppress(SwarmError):
            async with reach(target.ports[0], target.known.root, pair, source="127.1.0.21") as connection:
                await _send_raw(connection, b"\x00" * size)
                with trio.fail_after(10):
                    await connection.closed.wait()
                assert connection.closed.is_set()

    before = _resident(target.managers[0])

    async def main() -> None:
        await lost(None, ANONYMOUS_FRAME_BYTES_MAX + 1)
        await lost(target.worker_pair(), FRAME_BYTES_MAX + 1)

    in_trio(main)
    assert _resident(target.managers[0]) - before < 64 << 20


async def _send_raw(connection: Connection, data: bytes) -> None:
    """One WebSocket message past every rule of ours."""
    await connection._link.send([data])


def _resident(machine: Machine) -> int:
    assert machine.process is not None
    return int(Path(f"/proc/{machine.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


BAD_CBOR: Final = {
    "truncated": b"\x86\x01\x01",
    "nothing": b"",
    "trailing bytes": b"\x82\x04\x01\x00",
    "depth 10,000": b"\x81" * 10_000 + b"\x00",
    "duplicate keys": bytes.fromhex("86010168") + b"node.get" + bytes.fromhex("f6a2616101616102f6"),
    "indefinite array": b"\x9f\x04\x01\xff",
    "indefinite text": b"\x83\x02\x01\x7f\x61a\xff",
    "bignum": b"\x83\x02\x01\xc2\x42\x01\x00",
    "decimal": b"\x83\x02\x01\xc4\x82\x00\x01",
    "bigfloat": b"\x83\x02\x01\xc5\x82\x00\x01",
    "shared": b"\x83\x02\x01\xd8\x1c\x80",
    "reference": b"\x83\x02\x01\xd8\x1d\x00",
    "regular expression": b"\x83\x02\x01\xd8\x23\x61a",
    "length 2^62": b"\x5b\x40\x00\x00\x00\x00\x00\x00\x00",
    "array of 2^62": b"\x9b\x40\x00\x00\x00\x00\x00\x00\x00",
    "number keys": b"\x83\x02\x01\xa1\x01\x02",
    "a map": b"\xa0",
    "unknown type": b"\x82\x18\xff\x01",
    "stream that is NaN": b"\x82\x04\xf9\x7e\x00",
}


TYPED: Final = {ErrorKind.INVALID, ErrorKind.UNIMPLEMENTED, ErrorKind.FAILED_PRECONDITION, ErrorKind.PERMISSION_DENIED}


def test_threat_21_bad_cbor_ends_its_connection_and_wrong_types_their_call(target: Target) -> None:
    wrong: tuple[Any, ...] = (1, "x", [], [1], float("nan"), b"x", True)

    async def main() -> None:
        for data in BAD_CBOR.values():
            with contextlib.suppress(SwarmError):
                async with reach(target.ports[0], None, target.worker_pair()) as connection:
                    await _send_raw(connection, data)
                    with trio.move_on_after(0.2):
                        await connection.closed.wait()
        manager = await trio.to_thread.run_sync(target.manager_pair)
        leader = await trio.to_thread.run_sync(lambda: target.leader().port())
        async with reach(leader, None, manager) as connection:
            for method in METHODS.values():
                if method.shape is Shape.ONE_WAY:
                    continue  # what comes first is not looked at
                for body in wrong:
                    refused = await refusal(connection, method, body)
                    assert refused is not None, (method.name, body)
                    assert refused.kind in TYPED, (method.name, body, refused)

    in_trio(main)


# -- payloads ---------------------------------------------------------------------------------------------------------
async def as_manager(target: Target, method: Method[Any, Any], body: Any) -> SwarmError | None:
    pair = await trio.to_thread.run_sync(target.manager_pair)
    return await refused_at(target.ports[0], pair, method, body)


def service_with_secret(target: str) -> dict[str, Any]:
    reference = {"secret_id": "s" * 25, "secret_name": "s", "file": {"name": target}}
    return {"spec": {"name": "reader", "task": {"container": {"image": "x", "secrets": [reference]}}}}


TARGETS: Final = ("../x", "/etc/x", "a/../../b", "a\0b", "a\n", "x" * 300)


def test_threat_22_a_payload_cannot_be_put_outside_of_its_directory(target: Target) -> None:
    for name in TARGETS:
        refused = in_trio(lambda name=name: as_manager(target, SERVICE_CREATE, service_with_secret(name)))
        assert isinstance(refused, Invalid), name
        assert "file" in f"{refused.field} {refused.message}", name


def test_threat_23_names(target: Target) -> None:
    names = ("n" * 65, "a" * 30 + "!", "abc\n", "se\u0441ret", "")
    for name in names:
        refused = in_trio(
            lambda name=name: as_manager(
                target, SERVICE_CREATE, {"spec": {"name": name, "task": {"container": {"image": "x"}}}}
            )
        )
        assert isinstance(refused, Invalid), name
        assert "name" in f"{refused.field} {refused.message}", name
        for method in (SECRET_CREATE, CONFIG_CREATE):
            refused = in_trio(
                lambda name=name, method=method: as_manager(target, method, {"spec": {"name": name, "data": b"x"}})
            )
            assert isinstance(refused, Invalid), name
            assert "name" in f"{refused.field} {refused.message}", name
    assert {service["spec"]["name"] for service in target.machines[0].json("service", "ls")} == {"web"}


@pytest.mark.parametrize(
    ("method", "size", "fits"),
    [
        *((SECRET_CREATE, size, fits) for size, fits in ((0, False), (1, True), (511_999, True), (512_000, False))),
        *((CONFIG_CREATE, size, fits) for size, fits in ((0, False), (1_023_999, True), (1_024_000, False))),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_threat_24_a_payload_has_at_least_one_byte_and_a_limit(
    target: Target, method: Method[Any, Any], size: int, fits: bool
) -> None:
    refused = in_trio(lambda: as_manager(target, method, {"spec": {"name": f"size-{size}", "data": b"x" * size}}))
    assert (refused is None) if fits else isinstance(refused, Invalid)


def test_threat_26_the_roots_key_and_the_unlock_key_are_at_no_door(target: Target) -> None:
    """Of the payloads of secrets: `manager/test_redaction_doors.py` and the row below."""
    body = "".join(target.known.root_key.decode().splitlines()[1:-1])
    tokens = [target.token(role)[-25:] for role in ("worker", "manager")]

    async def main() -> list[str]:
        pair = await trio.to_thread.run_sync(target.manager_pair)
        told = []
        async with reach(target.ports[0], None, pair) as connection:
            for method in (CLUSTER_GET, NODE_LIST, SERVICE_LIST, TASK_LIST):
                plain: Method[Any, Any] = Method(method.name, dict, dict, roles=method.roles)
                told.append(str(await connection.call(plain, {})))
            async with connection.open(WATCH, WATCH.request(after=0, include_old=True)) as stream:
                with trio.move_on_after(2):
                    async for message in stream:
                        told.append(str(message))
        return told

    told = in_trio(main)
    assert len(told) > 4
    assert all(token in told[0] for token in tokens), "the tokens belong here"
    assert not any(token in text for text in told[1:] for token in tokens), "and nowhere else"
    for text in told:
        assert body not in text
        assert target.known.root_key.decode().splitlines()[1] not in text
        assert "PRIVATE KEY" not in text
    dumped = target.machines[0].ctl("cluster", "inspect", "-o", "json").stdout
    assert "PRIVATE KEY" not in dumped


def test_threat_26_a_secrets_payload_is_at_no_door(target: Target) -> None:
    """Created through a follower, at debug level: it is in no reply, no watch, no audit, no log, nor on any disk."""
    payload = b"correct horse battery staple"
    spec = {"name": "horse", "data": payload, "labels": {"a": "b"}}
    assert in_trio(lambda: as_manager(target, SECRET_CREATE, {"spec": spec})) is None
    (secret,) = target.machines[0].json("secret", "ls", "-f", "name=horse")

    async def main() -> list[str]:
        pair = await trio.to_thread.run_sync(target.manager_pair)
        told = []
        for port in target.ports:
            async with reach(port, None, pair) as connection:
                for method, body in ((SECRET_LIST, {}), (SECRET_GET, {"id": secret["id"]}), (STATUS, {})):
                    plain: Method[Any, Any] = Method(method.name, dict, dict, roles=method.roles)
                    told.append(repr(await connection.call(plain, body)))
                update = {"id": secret["id"], "spec": {**spec, "labels": {"port": str(port)}}}
                told.append(repr(await ask(connection, SECRET_UPDATE, update)))
                again = {"id": secret["id"], "spec": {**spec, "data": payload + b"!"}}
                told.append(repr(await refusal(connection, SECRET_UPDATE, again)))
                told.append(repr(await refusal(connection, SECRET_CREATE, {"spec": spec})))
                for stream_of, request in ((WATCH, WATCH.request(after=0, include_old=True)), (AUDIT, AUDIT.request())):
                    with trio.move_on_after(2), contextlib.suppress(SwarmError):
                        async with connection.open(stream_of, request) as stream:
                            async for message in stream:
                                told.append(repr(message))
        return told

    told = in_trio(main)
    assert any(secret["id"] in text and "horse" in text for text in told)
    needles = [payload.decode(), payload.hex(), base64.b64encode(payload).decode()[:16]]
    assert not [text for text in told if any(needle in text for needle in needles)]
    for name, text in logs(target.machines).items():
        assert not [needle for needle in needles if needle in text], name
    for machine in target.machines:
        kept = [path for path in machine.state_dir.rglob("*") if path.is_file() and payload in path.read_bytes()]
        assert kept == []


# -- load, socket, copies ---------------------------------------------------------------------------------------------
@pytest.mark.needs_chaos_tools
@pytest.mark.parametrize(("seconds", "joins"), [(-2 * 3600, False), (-3000, True), (3000, True)])
def test_threat_33_a_joiner_may_be_an_hour_off_and_no_more(target: Target, seconds: int, joins: bool) -> None:
    """The swarm is minutes old: what is not valid yet by the joiner's clock is all that it has."""
    name = f"off-{seconds}"
    (target.root / name).mkdir()
    env = {
        "LD_PRELOAD": str(faketime_library()), "FAKETIME": f"{seconds:+d}s", "NO_FAKE_STAT": "1",
        "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        "XDG_RUNTIME_DIR": str(target.root / name),
    }  # fmt: skip
    joiner = Machine(target.root, name, env=env)
    joiner.start("--join-addr", f"127.0.0.1:{target.ports[1]}", "--join-token", target.token("worker"))
    try:
        if joins:
            joiner.wait_ready()
            node_id = joiner.node_id
        else:
            assert joiner.wait_stopped() == 1
            log = joiner.log.read_text()
            assert "certificate is not yet valid" in log
            assert "compare the clocks" in log
    finally:
        joiner.kill_daemon()
    if joins:
        forget(target, node_id)


def test_threat_34_a_flood_of_joins_holds_up_no_other_work(target: Target) -> None:
    joins = 60

    async def main() -> float:
        token = await trio.to_thread.run_sync(target.token, "worker")
        slowest = 0.0
        made: list[str] = []

        async def join(number: int) -> None:
            _, csr = new_key_and_csr()
            with contextlib.suppress(ResourceExhausted, Unavailable):
                reply = await issue(
                    target.ports[number % 3],
                    target.known.root,
                    {"csr": csr, "token": token},
                    source=f"127.1.34.{number + 1}",
                )
                made.append(reply.node_id)

        async with trio.open_nursery() as nursery:
            for number in range(joins):
                nursery.start_soon(join, number)
            for number in range(3):
                began = trio.current_time()
                await trio.to_thread.run_sync(
                    lambda number=number: target.machines[1].ctl(
                        "service", "update", "web", "--label", f"flood={number}"
                    )
                )
                slowest = max(slowest, trio.current_time() - began)
        await trio.to_thread.run_sync(lambda: forget(target, *made))
        return slowest

    assert in_trio(main) < 5.0


def test_threat_35_the_control_socket_is_its_owners(target: Target, tmp_path: Path) -> None:
    machine = target.machines[0]
    assert machine.socket.stat().st_mode & 0o777 == 0o600
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            with socket.socket(socket.AF_UNIX) as other, pytest.raises(PermissionError):
                other.connect(str(machine.socket))
        finally:
            os.seteuid(0)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(machine.socket)
    for path, says in ((machine.socket, "another daemon"), (tmp_path / "file", "no socket"), (tmp_path / "link", "")):
        done = subprocess.run(
            [sys.executable, "-m", "swarmd", "-d", str(tmp_path / "state"), "--executor", "process",
             "--listen-remote-api", "127.0.0.1:0", "--listen-control-api", str(path)],
            capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode != 0
        assert says in done.stderr
        assert "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "link").is_symlink()
    assert machine.status() is not None


def test_threat_36_a_copied_identity_evicts_a_few_times_and_no_more(target: Target) -> None:
    async def main() -> list[SwarmError]:
        node_id, pair = await enrolled(target, source="127.1.0.36")
        leader = await trio.to_thread.run_sync(lambda: target.leader().port())
        refusals: list[SwarmError] = []
        for _ in range(6):
            try:
                async with (
                    reach(leader, None, pair) as connection,
                    connection.open(SESSION, dispatch.SessionRequest(description=_description())) as stream,
                ):
                    await stream.receive()
            except SwarmError as error:
                refusals.append(error)
        await trio.to_thread.run_sync(forget, target, node_id)
        return refusals

    refusals = in_trio(main)
    assert len(refusals) == 3
    assert all(isinstance(refusal, Unavailable) for refusal in refusals)


def test_threat_01_is_audited(target: Target) -> None:
    wrong = new_token(root_digest(target.known.root), _dice(101))

    async def main() -> bool:
        _, csr = new_key_and_csr()
        with trio.fail_after(AUDITED_S_MAX):
            while not await audited(target, "127.1.0.101"):  # left out if others were refused too often this second
                await issue_refusal(target, {"csr": csr, "token": wrong}, source="127.1.0.101", port=target.ports[0])
                await trio.sleep(0.3)
        return not await audited(target, wrong)

    assert in_trio(main)


def test_threat_36_is_audited(target: Target) -> None:
    assert in_trio(lambda: audited(target, "used twice"))
