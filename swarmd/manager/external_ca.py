"""Asks signers outside the swarm: the CFSSL protocol over HTTPS (reference security 4.4; SwarmKit `ca/external.go`).

A signer is asked in a thread, for at most five seconds, showing this manager's own certificate. It is trusted to sign
and with nothing else: what it sends back is looked at by whoever stores it.
"""

from __future__ import annotations

import http.client
import json
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import trio

from swarmd.errors import FailedPrecondition, SwarmError, Unavailable
from swarmd.model import ExternalCA, Role, RootCA
from swarmd.pki import (
    OU_OF_ROLE,
    NewRoot,
    check_cross_signed,
    fingerprint,
    names_of,
    normal_root,
    request_of_root,
    signing_of,
)

log = logging.getLogger(__name__)

CALL_S_MAX: Final = 5.0
"""For one signer, from the name service to the last byte."""
REPLY_BYTES_MAX: Final = 256 << 10
CALLS_MAX: Final = 8
"""Signers that are being asked at the same time."""
PROFILE_CROSS_SIGN: Final = "CA"
HTTPS_PORT: Final = 443

MakeContext = Callable[[bytes], Any]
"""A TLS context of this manager's certificate that trusts these roots (`Credentials.foreign_context`)."""


class ExternalSigners:
    """Every external CA that a cluster lists. `Cancelled` leaves no thread that lives longer than its signer's answer.

    Args:
        context: made anew for each call, so that a renewed certificate is shown at once.
    """

    def __init__(self, context: MakeContext) -> None:
        self._context = context
        self._calls = trio.CapacityLimiter(CALLS_MAX)

    async def sign(
        self, root: RootCA, signers: Sequence[ExternalCA], *, csr: bytes, node_id: str, role: Role, swarm_id: str
    ) -> bytes:
        """A certificate (PEM) for this request by a signer for the root that signs now; not looked at yet.

        Raises `Unavailable` if none is listed or answers: try again later. `FailedPrecondition` if one answers that it
        will not sign.
        """
        body = {
            "certificate_request": csr.decode("ascii"),
            "hosts": list(names_of(node_id, role)),
            "subject": {"CN": node_id, "names": [{"OU": OU_OF_ROLE[role], "O": swarm_id}]},
            "profile": "",
        }
        return await self._ask(signing_of(root).certificate, root, signers, body)

    async def cross_sign(self, root: RootCA, signers: Sequence[ExternalCA], new: NewRoot, *, now: float) -> bytes:
        """`new` as signed by the present root's external CA (PEM). Raises as `sign`, and `Invalid` for an answer that
        nodes could not use."""
        request = request_of_root(new)
        body = {
            "certificate_request": request.csr.decode("ascii"),
            "hosts": [],
            "subject": {"CN": request.common_name, "names": []},
            "profile": PROFILE_CROSS_SIGN,
            "extensions": [{"id": e.oid, "critical": e.critical, "value": e.value.hex()} for e in request.extensions],
        }
        answer = await self._ask(root.certificate, root, signers, body)
        return check_cross_signed(answer, new=new.certificate, by=root.certificate, now=now)

    async def reachable(self, root: RootCA, signers: Sequence[ExternalCA]) -> frozenset[str]:
        """The fingerprints of roots for which a listed signer completes a TLS handshake with this manager, its own
        certificate being that root's."""
        found: set[str] = set()

        async def look(signer: ExternalCA) -> None:
            whose = root_of(signer, root)
            try:
                await self._in_thread(signer.url, whose, None)
            except SwarmError as error:
                log.warning("external CA %s: %s", signer.url, error.message)
            else:
                found.add(fingerprint(whose))

        async with trio.open_nursery() as nursery:
            for signer in signers:
                nursery.start_soon(look, signer)
        return frozenset(found)

    async def _ask(
        self, certificate: bytes, root: RootCA, signers: Sequence[ExternalCA], body: Mapping[str, Any]
    ) -> bytes:
        """The first answer of a signer for the root `certificate`, in the order in which they are listed."""
        wanted = normal_root(certificate)
        # A signer may have a certificate of either root while one takes the other's place.
        trusted = root.certificate + (root.rotation.certificate if root.rotation is not None else b"")
        reasons: list[str] = []
        for signer in signers:
            if normal_root(root_of(signer, root)) != wanted:
                continue
            try:
                return read_answer(await self._in_thread(signer.url, trusted, json.dumps(body).encode()))
            except Unavailable as error:
                reasons.append(f"{signer.url}: {error.message}")
        raise Unavailable(
            f"no external CA signed ({'; '.join(reasons)})" if reasons else "no external CA is listed for the root",
            hint="swarmctl cluster update --external-ca protocol=cfssl,url=https://...",
        )

    async def _in_thread(self, url: str, roots: bytes, body: bytes | None) -> bytes:
        """The reply to `body`; empty if there is none to send, and a handshake is all that is wanted."""
        exchange = _Exchange(url, self._context(roots), body)
        try:
            with trio.fail_after(CALL_S_MAX):
                async with self._calls:
                    return await trio.to_thread.run_sync(exchange.run, abandon_on_cancel=True)
        except trio.TooSlowError:
            raise Unavailable(f"it did not answer within {CALL_S_MAX:g} s") from None
        finally:
            exchange.cut()


class _Exchange:
    """One request on a connection of its own, in a thread; `cut` ends it from outside."""

    def __init__(self, url: str, context: Any, body: bytes | None) -> None:
        self._url = urlsplit(url)
        self._context = context
        self._body = body
        self._socket: socket.socket | None = None
        self._is_cut = False

    def run(self) -> bytes:
        """Blocking. Raises `Unavailable`."""
        host, port = self._url.hostname or "", self._url.port or HTTPS_PORT
        connection = http.client.HTTPConnection(host, port, timeout=CALL_S_MAX)
        try:
            connection.sock = plain = socket.create_connection((host, port), timeout=CALL_S_MAX)
            # The handshake comes after the socket is known to `cut`: a peer could stretch that, too.
            wrapped = self._context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
            self._socket = connection.sock = wrapped
            if self._is_cut:
                raise Unavailable("it is too late")
            wrapped.do_handshake()
            return self._converse(connection) if self._body is not None else b""
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unavailable(_in_words(error)) from error
        finally:
            connection.close()

    def _converse(self, connection: http.client.HTTPConnection) -> bytes:
        target = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        connection.request("POST", target, self._body, {"Content-Type": "application/json", "Connection": "close"})
        with connection.getresponse() as response:
            if response.status != http.client.OK:
                raise Unavailable(f"it answered with status {response.status}")
            return response.read(REPLY_BYTES_MAX)

    def cut(self) -> None:
        """Wake the thread from whatever it waits for. The plain socket's call: TLS belongs to the thread."""
        self._is_cut = True
        if self._socket is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def root_of(signer: ExternalCA, root: RootCA) -> bytes:
    """The root that a signer signs for; the present one unless it says so."""
    return signer.ca_certificate or root.certificate


def read_answer(reply: bytes) -> bytes:
    """The certificate in a CFSSL reply. Raises `Unavailable` for what is no such reply, `FailedPrecondition` for a
    refusal and for a success without a certificate."""
    try:
        answer = json.loads(reply)
    except (ValueError, RecursionError) as error:  # the latter: brackets inside one another without end
        raise Unavailable("its answer is not JSON, or too long") from error
    if not isinstance(answer, dict) or not isinstance(answer.get("success"), bool):
        raise Unavailable("its answer is not CFSSL's")
    if not answer["success"]:
        raise FailedPrecondition(f"the external CA refused: {_reasons(answer.get('errors'))}")
    result = answer.get("result")
    certificate = result.get("certificate") if isinstance(result, dict) else None
    if not isinstance(certificate, str) or not certificate.isascii():
        raise FailedPrecondition("the external CA says that it signed and sent no certificate")
    return certificate.encode("ascii")


def _reasons(errors: Any) -> str:
    """A signer's words, cut short and harmless: they end in a node's record."""
    said = [error.get("message") for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    text = "; ".join(word for word in said if isinstance(word, str)) or "it gave no reason"
    return "".join(character if character.isprintable() else " " for character in text)[:200]


def _in_words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
