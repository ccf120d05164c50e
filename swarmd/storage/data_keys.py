"""The keys that seal the log and the snapshots: `STATE/certificates/data-keys.cbor`, 0600. Blocking.

In clear as long as autolock is off, else a sealed file (`DiskSeal`); `kek_version` is the unlock key's version that the
swarm was at when they were written (foundations: At rest). Who seals goes through `KeyFile`, which also counts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from swarmd.errors import FailedPrecondition, Invalid
from swarmd.pki.unlock_key import Wraps
from swarmd.storage.disk_seal import SEALED_FORMAT, DiskSeal
from swarmd.storage.durable_files import make_private_directory, read_if_there, replace_file
from swarmd.storage.errors import StorageDamaged
from swarmd.storage.sealing import BLOBS_PER_KEY_MAX, KEY_BYTES
from swarmd.wire import codec

FORMAT: Final = 2
"""Format 1 did not count blobs; format 3 is sealed, or in clear with a version of the unlock key."""


class DataKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One key. Ids count up from 1 and are never used again."""

    id: int
    key: bytes
    sealed: int = BLOBS_PER_KEY_MAX
    """At most so many blobs are sealed with it. A key that was never counted may have sealed all that it may."""

    def __repr__(self) -> str:
        return f"DataKey(id={self.id}, sealed={self.sealed})"


class DataKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """All keys of this manager. `current` seals; the others still open what they sealed."""

    v: int = FORMAT
    current: int
    keys: tuple[DataKey, ...]
    kek_version: int = 0
    never_clear: tuple[int, ...] = ()
    """Ids of the keys that never lay on the disk in clear. Only said in a sealed file."""

    @property
    def was_clear(self) -> bool:
        """Whether whoever kept an old copy of the disk can read what is sealed now."""
        return self.current not in self.never_clear

    @property
    def by_id(self) -> dict[int, bytes]:
        """What a `Sealer` takes."""
        return {key.id: key.key for key in self.keys}

    @property
    def sealing(self) -> DataKey:
        """The current key."""
        return next(key for key in self.keys if key.id == self.current)

    def with_new(self, key: bytes) -> DataKeys:
        """These and a new current one, which was on no disk yet."""
        new = DataKey(id=max(known.id for known in self.keys) + 1, key=key, sealed=0)
        return msgspec.structs.replace(
            self, v=FORMAT, current=new.id, keys=(*self.keys, new), never_clear=(*self.never_clear, new.id)
        )

    def with_sealed(self, blobs: int) -> DataKeys:
        """These, `blobs` more of them sealed with the current one."""
        keys = tuple(
            msgspec.structs.replace(key, sealed=key.sealed + blobs) if key.id == self.current else key
            for key in self.keys
        )
        return msgspec.structs.replace(self, v=FORMAT, keys=keys)

    def without(self, ids: frozenset[int]) -> DataKeys:
        """These but the keys `ids`. The current one stays, whatever was asked."""
        keys = tuple(key for key in self.keys if key.id == self.current or key.id not in ids)
        left = frozenset(key.id for key in keys)
        never_clear = tuple(id for id in self.never_clear if id in left)
        return msgspec.structs.replace(self, v=FORMAT, keys=keys, never_clear=never_clear)


def load(path: Path, seal: DiskSeal | None = None) -> DataKeys | None:
    """The stored keys, or None if there is no file. `seal` opens them if they are sealed.

    Raises `StorageDamaged`, `FailedPrecondition` if a newer swarmd wrote the file, `Locked`.
    """
    content = read_if_there(path)
    return None if content is None else decode(content, path, seal)


def decode(content: bytes, path: Path, seal: DiskSeal | None = None) -> DataKeys:
    """As `load`, of what was read from `path`."""
    try:
        builtins = codec.loads(content)
        version = builtins.get("v") if isinstance(builtins, dict) else None
        if isinstance(version, int) and version > SEALED_FORMAT:
            raise FailedPrecondition(f"{path} was written by a newer swarmd (format {version})")
        if isinstance(builtins, dict) and "slots" in builtins:
            builtins = codec.loads((seal or DiskSeal()).open(content, Wraps.DATA_KEYS, path))
        elif isinstance(builtins, dict) and "never_clear" in builtins:
            raise StorageDamaged(f"{path} does not hold data keys: it says what only a sealed file can")
        keys = codec.convert(builtins, DataKeys)
    except Invalid as error:
        # Without the error's own text: it may quote the file.
        raise StorageDamaged(f"{path} does not hold data keys ({error.field})") from None
    _check(keys, path)
    return keys


def is_sealed(content: bytes) -> bool:
    """Whether what was read is a sealed file."""
    try:
        builtins = codec.loads(content)
    except Invalid:
        return False
    return isinstance(builtins, dict) and "slots" in builtins


def load_or_create(path: Path, rng_bytes: Callable[[int], bytes], seal: DiskSeal | None = None) -> DataKeys:
    """The stored keys, or a first one, made from `rng_bytes` (`os.urandom`) and durable on return. Raises as `load`."""
    keys = load(path, seal)
    if keys is None:
        first = DataKey(id=1, key=rng_bytes(KEY_BYTES), sealed=0)
        keys = save(path, DataKeys(current=1, keys=(first,), never_clear=(1,)), seal)
    return keys


def save(path: Path, keys: DataKeys, seal: DiskSeal | None = None) -> DataKeys:
    """Make `path` hold these keys, sealed as `seal` says, durably: after a crash it holds the old ones or the new ones.

    Returns what a `load` would: keys that were written in clear are not `never_clear` any more.
    """
    seal = seal or DiskSeal()
    make_private_directory(path.parent)
    with seal.mutex:
        written, content = encode(keys, seal)
        replace_file(path, content)
    return written


def encode(keys: DataKeys, seal: DiskSeal) -> tuple[DataKeys, bytes]:
    """These keys as the file is to hold them."""
    if keks := seal.keks_of_data_keys():
        keys = msgspec.structs.replace(keys, v=SEALED_FORMAT, kek_version=seal.kek.version)
        return keys, seal.seal(codec.encode(keys), Wraps.DATA_KEYS, keks)
    seal.times_in_clear += 1
    version = seal.version_in_clear()
    keys = msgspec.structs.replace(keys, v=SEALED_FORMAT if version else FORMAT, kek_version=version, never_clear=())
    builtins = msgspec.to_builtins(keys, builtin_types=(bytes,))
    del builtins["never_clear"]
    return keys, codec.encode(builtins)


def _check(keys: DataKeys, path: Path) -> None:
    ids = [key.id for key in keys.keys]
    is_known = 1 <= keys.v <= SEALED_FORMAT
    if not is_known or len(set(ids)) != len(ids) or keys.current not in ids or min(ids) < 1 or max(ids) >= 1 << 32:
        raise StorageDamaged(f"{path} does not hold data keys: their ids make no sense")
    if any(len(key.key) != KEY_BYTES for key in keys.keys):
        raise StorageDamaged(f"{path} does not hold data keys: a key has not {KEY_BYTES} bytes")
    if any(not 0 <= key.sealed <= BLOBS_PER_KEY_MAX for key in keys.keys):
        raise StorageDamaged(f"{path} does not hold data keys: a count makes no sense")
