"""The unlock key: how it is shown and read, and how it wraps what a manager keeps secret on its disk.

Shown as `SWMKEY-1-` and 48 characters of base64: the 32 bytes of the key and 4 of a checksum, so that a typing error is
told apart from a wrong key. It is never used itself: every wrapping derives a key of its own from it (HKDF-SHA256, RFC
5869) under a label for what is wrapped and a random salt, and encrypts with AES-256-GCM.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from swarmd.errors import Invalid
from swarmd.model import UnlockKey

KEY_BYTES: Final = 32
PREFIX: Final = "SWMKEY-1-"
SUITE: Final = "hkdf-sha256/aes-256-gcm"

_CHECKSUM_BYTES: Final = 4
_BASE64_LENGTH: Final = (KEY_BYTES + _CHECKSUM_BYTES) * 4 // 3
_BASE64: Final = re.compile(rf"[A-Za-z0-9+/]{{{_BASE64_LENGTH}}}")
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_CHECK_BYTES: Final = 16
_HINT: Final = "`swarmctl cluster unlock-key` on a manager that is not locked shows the key"


class Wraps(StrEnum):
    """What is wrapped; each has keys of its own."""

    NODE_KEY = "swarm/v1/kek/file"
    DATA_KEYS = "swarm/v1/kek/data-keys"


class Owner(msgspec.Struct, frozen=True, gc=False):
    """Whose secrets they are: what is wrapped for one node opens for no other."""

    swarm_id: str
    node_id: str


class WrongUnlockKey(Invalid):
    """A well-formed unlock key, and not the one that is needed here."""


class Wrapped(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Something under one unlock key. `check` tells a wrong key from damage, and nothing about the key."""

    kek_version: int
    salt: bytes
    nonce: bytes
    check: bytes
    sealed: bytes


class KekChange(StrEnum):
    """What another unlock key in the replicated state asks of a manager's disk."""

    NOTHING = "nothing"
    SEAL = "seal"
    """Keys that were in clear: seal them, and replace them, for the disk may remember."""
    REWRAP = "rewrap"
    UNSEAL = "unseal"
    CONFLICT = "conflict"
    """Two keys of one version: something is badly wrong, so nothing is touched."""


def compare(current: UnlockKey, wanted: UnlockKey) -> KekChange:
    """What to do on a disk that is sealed with `current` (key empty: in clear) when the swarm says `wanted`.

    An older version is never gone back to: it is a state that has not caught up (SwarmKit `manager/deks.go`).
    """
    is_same = hmac.compare_digest(current.key, wanted.key)
    if current.version == wanted.version:
        return KekChange.NOTHING if is_same else KekChange.CONFLICT
    if current.version > wanted.version or is_same:
        return KekChange.NOTHING
    if not current.key:
        return KekChange.SEAL
    return KekChange.REWRAP if wanted.key else KekChange.UNSEAL


# -- how it is shown -----------------------------------------------------------------------------------------------


def show_unlock_key(key: bytes) -> str:
    """`key` as an operator sees it; empty for no key. Raises `ValueError` unless it has 32 bytes."""
    if not key:
        return ""
    if len(key) != KEY_BYTES:
        raise ValueError(f"an unlock key has {KEY_BYTES} bytes")
    return PREFIX + base64.b64encode(key + _checksum(key)).decode("ascii")


def parse_unlock_key(text: str) -> bytes:
    """The 32 bytes. Raises `Invalid` with one clear reason, which never repeats the text. Blanks are not ignored."""
    if not text:
        raise Invalid("the unlock key is empty", hint=_HINT)
    if not text.startswith(PREFIX):
        raise Invalid(f"an unlock key begins with {PREFIX}", hint=_HINT)
    length = len(PREFIX) + _BASE64_LENGTH
    if len(text) != length:
        raise Invalid(f"an unlock key has {length} characters; this one has {len(text)}", hint=_HINT)
    if _BASE64.fullmatch(text, len(PREFIX)) is None:
        raise Invalid(f"an unlock key is {PREFIX} and letters, digits, + and / only", hint=_HINT)
    decoded = base64.b64decode(text[len(PREFIX) :], validate=True)
    key, checksum = decoded[:KEY_BYTES], decoded[KEY_BYTES:]
    if not hmac.compare_digest(checksum, _checksum(key)):
        raise Invalid("there is a typing error in the unlock key: its checksum does not fit", hint=_HINT)
    return key


def _checksum(key: bytes) -> bytes:
    return hashlib.sha256(b"swarm/v1/unlock-key\0" + key).digest()[:_CHECKSUM_BYTES]


# -- wrapping ------------------------------------------------------------------------------------------------------


def wrap(plain: bytes, what: Wraps, owner: Owner, kek: UnlockKey, random_bytes: Callable[[int], bytes]) -> Wrapped:
    """`plain` under `kek`, bound to what it is, whose it is, and the key's version. `random_bytes`: `os.urandom`."""
    salt, nonce = random_bytes(_SALT_BYTES), random_bytes(_NONCE_BYTES)
    cipher, check = _derive(kek.key, salt, what)
    sealed = cipher.encrypt(nonce, plain, _associated(what, owner, kek.version))
    return Wrapped(kek_version=kek.version, salt=salt, nonce=nonce, check=check, sealed=sealed)


def fits(wrapped: Wrapped, key: bytes, what: Wraps) -> bool:
    """Whether this is the key that it was wrapped with."""
    return hmac.compare_digest(_derive(key, wrapped.salt, what)[1], wrapped.check)


def unwrap(wrapped: Wrapped, what: Wraps, owner: Owner, key: bytes) -> bytes:
    """What was wrapped. Raises `WrongUnlockKey`, and `Invalid` if the key is right and the rest is not what was
    written."""
    cipher, check = _derive(key, wrapped.salt, what)
    if not hmac.compare_digest(check, wrapped.check):
        raise WrongUnlockKey("this is not the unlock key that it was sealed with")
    try:
        return cipher.decrypt(wrapped.nonce, wrapped.sealed, _associated(what, owner, wrapped.kek_version))
    except (InvalidTag, ValueError):
        raise Invalid("what the unlock key sealed is damaged") from None


def _derive(key: bytes, salt: bytes, what: Wraps) -> tuple[AESGCM, bytes]:
    if len(key) != KEY_BYTES:
        raise ValueError(f"an unlock key has {KEY_BYTES} bytes")
    material = HKDF(algorithm=SHA256(), length=KEY_BYTES + _CHECK_BYTES, salt=salt, info=what.encode()).derive(key)
    return AESGCM(material[:KEY_BYTES]), material[KEY_BYTES:]


def _associated(what: Wraps, owner: Owner, kek_version: int) -> bytes:
    parts = (SUITE, what, owner.swarm_id, owner.node_id, str(kek_version))
    return b"\0".join(part.encode() for part in parts)
