"""Under which unlock key a manager's secrets are sealed on its disk, and the one format of a sealed file. Blocking.

A sealed file is CBOR: `{v: 3, kind, suite, swarm_id, node_id, slots: [{kek_version, salt, nonce, check, sealed}],
digest}`. Each slot holds the same content under one unlock key; there are two only while the key is being changed.
`digest` (SHA-256 over the rest) tells bytes that the disk lost from a wrong key; it protects from nobody, the slots do.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from swarmd.errors import FailedPrecondition, Invalid, Locked
from swarmd.model import UnlockKey
from swarmd.pki.unlock_key import SUITE, Owner, Wrapped, Wraps, WrongUnlockKey, fits, unwrap, wrap
from swarmd.storage.errors import StorageDamaged
from swarmd.wire import codec

SEALED_FORMAT: Final = 3
NOBODY: Final = Owner("", "")


class SealedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A sealed file as it lies on the disk."""

    v: int = SEALED_FORMAT
    kind: Wraps
    suite: str = SUITE
    swarm_id: str
    node_id: str
    slots: tuple[Wrapped, ...]
    digest: bytes = b""

    @property
    def owner(self) -> Owner:
        """Whose it is."""
        return Owner(self.swarm_id, self.node_id)

    @property
    def versions(self) -> tuple[int, ...]:
        """Of the unlock keys that open it."""
        return tuple(slot.kek_version for slot in self.slots)

    def version_for(self, key: bytes) -> int | None:
        """The version of the slot that `key` opens, or None."""
        return next((slot.kek_version for slot in self.slots if fits(slot, key, self.kind)), None)

    def is_exactly(self, kek: UnlockKey) -> bool:
        """Whether this key opens it and no other does."""
        return self.versions == (kek.version,) and self.version_for(kek.key) == kek.version


def encode_sealed(
    plain: bytes, kind: Wraps, owner: Owner, keks: Iterable[UnlockKey], random_bytes: Callable[[int], bytes]
) -> bytes:
    """A file that each of `keks` opens."""
    slots = tuple(wrap(plain, kind, owner, kek, random_bytes) for kek in keks)
    file = SealedFile(kind=kind, swarm_id=owner.swarm_id, node_id=owner.node_id, slots=slots)
    return codec.encode(msgspec.structs.replace(file, digest=_digest(file)))


def parse_sealed(content: bytes, kind: Wraps, path: Path) -> SealedFile:
    """Read the outside of a sealed file. Raises `StorageDamaged`, `FailedPrecondition` if a newer swarmd wrote it."""
    try:
        builtins = codec.loads(content)
        version = builtins.get("v") if isinstance(builtins, dict) else None
        if isinstance(version, int) and version > SEALED_FORMAT:
            raise FailedPrecondition(f"{path} was written by a newer swarmd (format {version})")
        file = codec.convert(builtins, SealedFile)
    except Invalid as error:
        # Without the error's own text: it may quote the file.
        raise StorageDamaged(f"{path} is no sealed file ({error.field})") from None
    if not hmac.compare_digest(file.digest, _digest(file)) or not file.slots:
        raise StorageDamaged(f"{path} is not what was written")
    if file.kind is not kind or file.suite != SUITE:
        raise StorageDamaged(f"{path} holds something else than it should")
    return file


def open_sealed(file: SealedFile, key: bytes, path: Path) -> bytes:
    """The content. Raises `WrongUnlockKey` naming the version that is needed, `StorageDamaged`."""
    slot = next((slot for slot in file.slots if fits(slot, key, file.kind)), None)
    if slot is None:
        raise wrong_key(file.versions)
    try:
        return unwrap(slot, file.kind, file.owner, key)
    except Invalid:
        raise StorageDamaged(f"{path}: the unlock key is right, and what it sealed is damaged") from None


def wrong_key(versions: Iterable[int]) -> WrongUnlockKey:
    """What is said of a well-formed key that does not open."""
    return WrongUnlockKey(
        f"this is not the unlock key of this manager, which was sealed with version {_listed(versions)}",
        hint="a manager that was down while the key was rotated needs the earlier key once, and then catches up",
    )


def locked(versions: Iterable[int]) -> Locked:
    """What is said while no key is there."""
    return Locked(
        f"this manager is locked: its keys are sealed with version {_listed(versions)} of the unlock key",
        hint="swarmctl cluster unlock, or swarmd --unlock-key-file",
    )


def _listed(versions: Iterable[int]) -> str:
    return " or ".join(str(version) for version in versions)


def _digest(file: SealedFile) -> bytes:
    return hashlib.sha256(codec.encode(msgspec.structs.replace(file, digest=b""))).digest()


class DiskSeal:
    """The unlock key in use, shared by all who write a node's secrets: they hold `mutex` from reading to replacing.

    The key stays in memory while the node is a manager: every new data key and every renewed certificate is sealed with
    it. That adds nothing to what the process knows: the replicated state holds it too.
    """

    def __init__(self, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self.mutex = threading.RLock()
        self.owner = NOBODY
        self.times_in_clear = 0
        """How often data keys were written in clear: whoever remembers that some never were, looks here."""
        self._random_bytes = random_bytes
        self._kek = UnlockKey()
        self._pending: list[UnlockKey] = []

    @property
    def kek(self) -> UnlockKey:
        """What seals. Without a key: nothing is sealed."""
        return self._kek

    def use(self, kek: UnlockKey) -> None:
        """Seal with this from now on."""
        with self.mutex:
            self._kek, self._pending = kek, []

    def begin_change(self, wanted: UnlockKey) -> None:
        """From now to `use`, data keys are written so that the present key and the wanted one both open them."""
        with self.mutex:
            if wanted not in self._pending:
                self._pending.append(wanted)

    def keks_of_data_keys(self) -> tuple[UnlockKey, ...]:
        """With what data keys are sealed now; none: they are in clear.

        In the middle of a change they are in clear if one of both keys says so: the node's key is sealed first, and is
        the last to be in clear, so it alone decides which unlock key a restart needs.
        """
        keks = (self._kek, *self._pending)
        return keks if all(kek.key for kek in keks) else ()

    def version_in_clear(self) -> int:
        """The version that is noted with data keys in clear."""
        return self._pending[-1].version if self._pending and not self._pending[-1].key else self._kek.version

    def seal(self, plain: bytes, kind: Wraps, keks: Iterable[UnlockKey]) -> bytes:
        """A sealed file of this node."""
        if self.owner == NOBODY:
            raise ValueError("whose keys are to be sealed was not said")
        return encode_sealed(plain, kind, self.owner, keks, self._random_bytes)

    def open(self, content: bytes, kind: Wraps, path: Path) -> bytes:
        """What a sealed file holds. Raises `Locked` without a key, `StorageDamaged` also if it is sealed with another
        than the node's key is."""
        file = parse_sealed(content, kind, path)
        keys = [kek.key for kek in (self._kek, *self._pending) if kek.key]
        if not keys:
            raise locked(file.versions)
        if self.owner not in (NOBODY, file.owner):
            raise StorageDamaged(f"{path} belongs to another node")
        fitting = next((key for key in keys if file.version_for(key) is not None), None)
        if fitting is None:
            raise StorageDamaged(
                f"{path} is sealed with version {_listed(file.versions)} of the unlock key, and not with "
                f"the one that opened this node's key"
            )
        return open_sealed(file, fitting, path)
