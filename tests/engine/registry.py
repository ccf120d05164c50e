"""An image registry on loopback: an engine pulls from it as from any other, and it refuses in a registry's ways.

The beginning of a repository's name says what becomes of a request for it: `open/` is served, `slow/` once it is
released, `absent/` is not there, `limited/` is asked too often, `broken/` fails. See the OCI distribution specification
for the paths and errors.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import tarfile
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Final

MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG: Final = "application/vnd.docker.container.image.v1+json"
LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"

REFUSALS: Final = {
    "absent": (404, "MANIFEST_UNKNOWN", "manifest unknown"),
    "limited": (429, "TOOMANYREQUESTS", "pull rate limit exceeded"),
    "broken": (503, "UNAVAILABLE", "service unavailable"),
}


class Registry:
    """Serves one image of an archive under every such name and tag. With a `login` (user, password) it serves nobody
    else. Use it as a context manager."""

    def __init__(self, archive: Path, *, login: tuple[str, str] | None = None) -> None:
        self._blobs: dict[str, tuple[str, bytes]] = {}
        self.manifest = self._read(archive)
        self.asked: Counter[str] = Counter()
        """How often each `NAME:TAG` was asked for."""
        self.is_waited_for = threading.Event()
        """Set once somebody waits for a slow one."""
        self.released = threading.Event()
        """Set it to let the slow ones come."""
        self.authorization = login and "Basic " + base64.b64encode(":".join(login).encode()).decode()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Registry:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def address(self) -> str:
        """What image names begin with. Engines speak plain HTTP to loopback."""
        return f"127.0.0.1:{self._server.server_port}"

    def blob(self, digest: str) -> tuple[str, bytes] | None:
        """Media type and bytes."""
        return self._blobs.get(digest)

    def _read(self, archive: Path) -> str:
        """The first image of an archive that `docker load` reads; the digest of its manifest."""
        with tarfile.open(archive) as tar:

            def content(name: str) -> bytes:
                file = tar.extractfile(name)
                assert file is not None
                return file.read()

            [image, *_] = json.loads(content("manifest.json"))
            config = self._keep(CONFIG, content(image["Config"]))
            layers = [self._keep(LAYER, gzip.compress(content(name), 1, mtime=0)) for name in image["Layers"]]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        return str(self._keep(MANIFEST, json.dumps(manifest).encode())["digest"])

    def _keep(self, media_type: str, content: bytes) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self._blobs[digest] = media_type, content
        return {"mediaType": media_type, "size": len(content), "digest": digest}


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if registry.authorization and self.headers.get("Authorization") != registry.authorization:
                self._refuse(401, "UNAUTHORIZED", "authentication required")
                return
            if self.path == "/v2/":
                self._reply(200, "application/json", b"{}")
                return
            name, _, rest = self.path.removeprefix("/v2/").partition("/manifests/")
            if not rest:
                name, _, rest = name.partition("/blobs/")
            elif not rest.startswith("sha256:"):
                registry.asked[f"{name}:{rest}"] += 1
                rest = registry.manifest
            if name.startswith("slow/"):
                registry.is_waited_for.set()
                registry.released.wait()
            refusal, found = REFUSALS.get(name.partition("/")[0]), registry.blob(rest)
            if refusal is not None:
                self._refuse(*refusal)
            elif found is None:
                self._refuse(*REFUSALS["absent"])
            else:
                self._reply(200, found[0], found[1], digest=rest)

        do_HEAD = do_GET  # noqa: N815 - the library's name

        def _refuse(self, status: int, code: str, words: str) -> None:
            self._reply(status, "application/json", json.dumps({"errors": [{"code": code, "message": words}]}).encode())

        def _reply(self, status: int, media_type: str, content: bytes, *, digest: str = "") -> None:
            self.send_response(status)
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(content)))
            if digest:
                self.send_header("Docker-Content-Digest", digest)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="tests"')
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing: tests look at `asked`."""

    return Handler
