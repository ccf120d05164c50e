"""The code by which an operator recognises a node that asks to join without a token.

It binds the root that the node was shown to the node's own key: whoever stands in between shows another root or
another key, and the two sides then read different codes. Both compute it for themselves; it is never sent to a joiner.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from swarmd.pki.authority import root_digest
from swarmd.pki.pem import load_csr, requested_key, spki

LABEL: Final = b"swarm join code 1"
ALPHABET: Final = "23456789abcdefghjkmnpqrstuvwxyz"
"""No 0, 1, i, l, o: codes are read aloud."""
LENGTH: Final = 28
"""28 characters out of 30 are 137 bits."""
GROUP: Final = 4


def join_code(root: bytes, csr: bytes) -> str:
    """Seven groups of four: for this trust root (its exact PEM bytes) and the key in this request. Raises `Invalid`."""
    key = spki(requested_key(load_csr(csr)))
    digest = hashlib.sha256(b"\0".join((LABEL, root_digest(root).encode(), key))).digest()
    number, characters = int.from_bytes(digest, "big"), []
    for _ in range(LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        characters.append(ALPHABET[digit])
    return "-".join("".join(characters[at : at + GROUP]) for at in range(0, LENGTH, GROUP))


def is_join_code(text: str) -> bool:
    """Whether `text` could be one, however it is grouped."""
    plain = _plain(text)
    return len(plain) == LENGTH and all(character in ALPHABET for character in plain)


def same_code(given: str, expected: str) -> bool:
    """Whether both are the same code in full; capitals and separators do not matter."""
    return hmac.compare_digest(_plain(given).encode("utf-8", "surrogatepass"), _plain(expected).encode())


def _plain(text: str) -> str:
    return "".join(text.replace("-", "").split()).lower()
