"""TLS 1.3 contexts from PEM bytes, swapped live (reference security 1.3, 11)."""

from __future__ import annotations

import hashlib
import math
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import trio

from swarmd.errors import Invalid, Unauthenticated
from swarmd.pki import CA_SERVER_NAME, OU_OF_ROLE, fingerprint, read_subject, verify_issued
from swarmd.wire.identity import Identity

SERVER_NAME: Final = "swarm-manager"
"""The name that a client asks for and that every manager's certificate holds."""

_ROLE_OF_OU: Final = {ou: role for role, ou in OU_OF_ROLE.items()}
_NAMES_SERVED: Final = frozenset({SERVER_NAME, CA_SERVER_NAME})


class Credentials:
    """A node's current certificate, key and trust root. New connections use what was last `replace`d.

    Keys never touch the disk to be loaded (memfd). Session tickets are off; a peer that shows no certificate is let in
    without an identity (`CERT_OPTIONAL`) and may call the three anonymous methods only.
    """

    identity: Identity
    root: bytes

    def __init__(self, *, certificate: bytes, key: bytes, root: bytes) -> None:
        """Raises `Invalid` if they do not fit together."""
        self.changed = trio.Event()
        """Set when others are in use; then there is a new one to wait for."""
        self.replace(certificate=certificate, key=key, root=root)

    def replace(self, *, certificate: bytes, key: bytes, root: bytes) -> None:
        """Use these from the next handshake on. Raises `Invalid` and changes nothing if they do not fit together.

        Dates are not looked at: whoever renews does that, and a peer that cares refuses.
        """
        subject = read_subject(certificate)
        verify_issued(certificate, root=root, key=key, now=None)
        try:
            server = _context(ssl.PROTOCOL_TLS_SERVER, root)
            client = _context(ssl.PROTOCOL_TLS_CLIENT, root)
            for context in (server, client):
                _load_chain(context, certificate, key)
        except (ssl.SSLError, ValueError) as error:
            raise Invalid(f"certificate, key and root do not fit together: {error}") from error
        _tune_server(server)
        self._server, self._client = server, client
        self._pair = (certificate, key)
        self._leaf = ssl.PEM_cert_to_DER_cert(_first_pem(certificate))
        self.identity = Identity(
            node_id=subject.node_id,
            role=subject.role,
            swarm_id=subject.swarm_id,
            fingerprint=fingerprint(certificate),
            not_after=subject.not_after,
        )
        self.root = root
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    @property
    def certificate(self) -> bytes:
        """The certificate in use (PEM): the leaf, and what stands behind it."""
        return self._pair[0]

    @property
    def leaf(self) -> bytes:
        """The leaf in use (DER)."""
        return self._leaf

    def trust(self, root: bytes) -> None:
        """Trust this root (PEM, perhaps several) from the next handshake on, with the certificate in use. Raises
        `Invalid` and changes nothing if that does not chain to it."""
        certificate, key = self._pair
        self.replace(certificate=certificate, key=key, root=root)

    def server_context(self) -> ssl.SSLContext:
        """For accepting. Do not keep it: the next `replace` makes another."""
        return self._server

    def client_context(self) -> ssl.SSLContext:
        """Verifies that the peer is a manager of this swarm's root (SAN `swarm-manager`)."""
        return self._client

    def foreign_context(self, roots: bytes) -> ssl.SSLContext:
        """For a server that is no node: one of `roots` (PEM) must vouch for its name, it is shown this node's
        certificate, and TLS 1.2 will do. Raises `Invalid` for roots that are none."""
        try:
            context = _context(ssl.PROTOCOL_TLS_CLIENT, roots)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            _load_chain(context, *self._pair)
        except (ssl.SSLError, ValueError) as error:
            raise Invalid(f"these are no root certificates: {error}") from error
        return context


def joining_context(root: bytes | None) -> ssl.SSLContext:
    """For a node without a certificate: verifies `swarm-ca` under `root`, or nothing if `root` is None (the token's
    digest then decides)."""
    if root is not None:
        try:
            return _context(ssl.PROTOCOL_TLS_CLIENT, root)
        except (ssl.SSLError, ValueError) as error:
            raise Invalid(f"this is no root certificate: {error}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def identity_of(certificate: Mapping[str, Any], der: bytes = b"") -> Identity | None:
    """Who a peer's verified certificate (as `ssl` parses it, and its bytes) says it is; None without one.

    Raises `Unauthenticated` for a certificate that our authority would not have made: several names, or no known role.
    """
    if not certificate:
        return None
    names: dict[str, list[str]] = {}
    for relative_name in certificate.get("subject", ()):
        for attribute, value in relative_name:
            names.setdefault(attribute, []).append(value)
    node_ids, units, swarms = (
        names.get(attribute, []) for attribute in ("commonName", "organizationalUnitName", "organizationName")
    )
    if not len(node_ids) == len(units) == len(swarms) == 1 or units[0] not in _ROLE_OF_OU:
        raise Unauthenticated("the peer's certificate does not name one node, one role and one swarm")
    if not node_ids[0] or not swarms[0]:
        raise Unauthenticated("the peer's certificate has an empty name")
    return Identity(
        node_id=node_ids[0],
        role=_ROLE_OF_OU[units[0]],
        swarm_id=swarms[0],
        fingerprint=hashlib.sha256(der).hexdigest() if der else "",
        not_after=float(ssl.cert_time_to_seconds(certificate["notAfter"])) if "notAfter" in certificate else math.inf,
    )


def _context(protocol: int, root: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    _harden(context)
    context.load_verify_locations(cadata=root.decode("ascii"))
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.hostname_checks_common_name = False
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION


def _tune_server(context: ssl.SSLContext) -> None:
    context.verify_mode = ssl.CERT_OPTIONAL
    # A resumed session would pass for verified even after its certificate has expired.
    context.num_tickets = 0
    context.sni_callback = _check_name


def _check_name(_object: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
    """Refuse whoever did not mean to talk to a manager (scanners, other programs on a recycled address)."""
    return None if name in _NAMES_SERVED else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME


def _load_chain(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    with _in_memory(certificate) as certificate_path, _in_memory(key) as key_path:
        # A password callback, or OpenSSL would ask the terminal about an encrypted key.
        context.load_cert_chain(certificate_path, key_path, password=_no_password)


def _first_pem(bundle: bytes) -> str:
    text = bundle.decode("ascii", errors="replace")
    return text[text.index(ssl.PEM_HEADER) : text.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)]


def _no_password() -> str:
    raise ValueError("the key is encrypted")


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path that reads as `content` and is on no disk; `ssl` loads keys from paths only."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
