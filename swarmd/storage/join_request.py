"""A joiner's request while an operator has not decided yet: `STATE/certificates/join-request.pem`. Blocking.

Kept so that a joiner that is started again is the same one, with the same join code, and still trusts the same root.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from swarmd.storage.durable_files import PRIVATE_FILE, make_private_directory, read_if_there, replace_file
from swarmd.storage.errors import StorageFailed

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z ]+)-----\n.*?\n-----END \1-----\n", re.DOTALL)
_ROOT_FOLLOWS: Final = b"# the root certificate that the swarm showed\n"


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The key, the request that was made with it, and the root that it was shown to (PEM)."""

    key: bytes
    csr: bytes
    root: bytes


class JoinRequestFile:
    """One file: it is there as a whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> JoinRequest | None:
        """The request; None if there is none, or none that can be read: then it is asked anew."""
        contents = read_if_there(self._path)
        if contents is None:
            return None
        own, separator, root = contents.partition(_ROOT_FOLLOWS)
        blocks = {match[1]: match[0] for match in _BLOCK.finditer(own)}
        key, csr = blocks.get(b"PRIVATE KEY"), blocks.get(b"CERTIFICATE REQUEST")
        if not separator or not root or key is None or csr is None:
            return None
        return JoinRequest(key=key, csr=csr, root=root)

    def save(self, request: JoinRequest) -> None:
        """Durable (0600). Raises `StorageFailed`."""
        make_private_directory(self._path.parent)
        replace_file(self._path, request.key + request.csr + _ROOT_FOLLOWS + request.root, PRIVATE_FILE)

    def delete(self) -> None:
        """It was decided. Raises `StorageFailed`."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageFailed(f"cannot remove {self._path}: {error.strerror}") from error
