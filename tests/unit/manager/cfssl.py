"""A small external CA: CFSSL's `authsign` over HTTPS with client certificates, in a thread, signing with its own code.

It signs for managers only, and leaves only for its client's swarm, as SwarmKit's sample server does. `misbehave` makes
it answer otherwise than it should.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

BASIC_CONSTRAINTS = "2.5.29.19"


class Cfssl:
    """Signs with the root `certificate` and its `key` (PEM). `requests` holds what it was asked."""

    def __init__(self, directory: Path, certificate: bytes, key: bytes, *, trusts: bytes = b"") -> None:
        self.certificate = certificate
        self._root = x509.load_pem_x509_certificate(certificate)
        self._key = cast("Any", load_pem_private_key(key, None))
        self.requests: list[dict[str, Any]] = []
        self.misbehave: Callable[[_Handler, dict[str, Any]], bytes | None] | None = None
        """Given the request: the body of the answer, or None if it has answered by itself."""
        self.change: Callable[[x509.CertificateBuilder], x509.CertificateBuilder] = lambda builder: builder
        self.options: dict[str, Any] = {}
        self.is_up = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._own_certificate(directory))
        context.load_verify_locations(cadata=(trusts or certificate).decode())
        context.verify_mode = ssl.CERT_REQUIRED
        self.tls = context
        self._server = _Server(self, context)
        self.port: int = self._server.server_address[1]
        self.url = f"https://127.0.0.1:{self.port}/api/v1/cfssl/authsign"

    @contextmanager
    def serving(self) -> Iterator[Cfssl]:
        """Answers until the end of the block."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def answer(self, client: str, body: dict[str, Any]) -> bytes:
        """What the request gets from a client whose certificate says so (`O/OU`)."""
        organisation, _, unit = client.partition("/")
        names = body["subject"]["names"]
        if unit != "swarm-manager":
            return _refusal("you are no manager")
        if body["profile"] != "CA" and [name["O"] for name in names] != [organisation]:
            return _refusal("that is another organisation")
        signed = self.sign(body)
        return json.dumps(
            {"success": True, "result": {"certificate": signed.decode()}, "errors": [], "messages": []}
        ).encode()

    def sign(self, body: dict[str, Any]) -> bytes:
        """The certificate that was asked for, or as `options` and `change` make it."""
        request = x509.load_pem_x509_csr(body["certificate_request"].encode())
        assert request.is_signature_valid
        key = self.options.get("public_key") or request.public_key()
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, self.options.get("cn") or body["subject"]["CN"])]
        for name in body["subject"]["names"]:
            subject.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, name["OU"]))
            subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, name["O"]))
        is_authority = any(e["id"] == BASIC_CONSTRAINTS for e in body.get("extensions") or ())
        now = datetime.now(UTC)
        lifetime = timedelta(days=self.options.get("days", 3650 if is_authority else 30))
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(self._root.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=60) if lifetime < timedelta() else now - timedelta(minutes=5))
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(self.options.get("ca", is_authority), None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if body["hosts"]:
            names = x509.SubjectAlternativeName([x509.DNSName(host) for host in body["hosts"]])
            builder = builder.add_extension(names, critical=False)
        return self.change(builder).sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _own_certificate(self, directory: Path) -> tuple[Path, Path]:
        """For TLS, from the root that it signs for."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "external ca")]))
            .issuer_name(self._root.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        chain_path, key_path = directory / "external-ca.pem", directory / "external-ca.key"
        chain_path.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return chain_path, key_path


def _refusal(message: str) -> bytes:
    return json.dumps({"success": False, "result": None, "errors": [{"code": 1, "message": message}]}).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, ca: Cfssl, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.ca = ca
        self._context = context

    def get_request(self) -> Any:
        plain, address = super().get_request()
        plain.settimeout(5)
        return self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is none of our business."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def setup(self) -> None:
        self.request.do_handshake()
        super().setup()

    def do_POST(self) -> None:
        ca = self.server.ca
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ca.requests.append(body)
        if not ca.is_up:
            self.reply(b"down for maintenance", status=503)
            return
        answer = ca.misbehave(self, body) if ca.misbehave is not None else ca.answer(self.client, body)
        if answer is not None:
            self.reply(answer)

    @property
    def client(self) -> str:
        """`O/OU` of the client's certificate."""
        names = {key: value for part in self.request.getpeercert()["subject"] for key, value in part}
        return f"{names.get('organizationName')}/{names.get('organizationalUnitName')}"

    def reply(self, body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def drip(self, seconds: float) -> None:
        """A byte of an endless header every tenth of a second."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        until = time.monotonic() + seconds
        with suppress(OSError):
            while time.monotonic() < until:
                self.wfile.write(b"x")
                time.sleep(0.1)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""
