"""OpenSSL's own judgement of a chain: a TLS handshake in memory."""

from __future__ import annotations

import ssl
from pathlib import Path

SERVER_NAME = "swarm-manager"


def handshake(directory: Path, *, chain: bytes, key: bytes, root: bytes) -> None:
    """A client that trusts `root` meets a server that shows `chain`. Raises `ssl.SSLCertVerificationError`."""
    certificate_path, key_path = directory / "chain.pem", directory / "key.pem"
    certificate_path.write_bytes(chain)
    key_path.write_bytes(key)
    server_context, client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server_context.load_cert_chain(certificate_path, key_path)
    client_context.load_verify_locations(cadata=root.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=SERVER_NAME)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for end in (client, server):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                continue
