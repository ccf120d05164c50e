"""The keys that seal the log and the snapshots: `STATE/certificates/data-keys.cbor`, 0600. Blocking.

Plain as long as autolock is off; `kek_version` says with which version of the unlock key they are wrapped, 0 meaning
with none (foundations: At rest). Who seals goes through `KeyFile`, which also counts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from swarmd.errors import FailedPrecondition, Invalid, Unimplemented
from swarmd.storage.durable_files import make_private_directory, read_if_there, replace_file
from swarmd.storage.errors import StorageDamaged
from swarmd.storage.sealing import BLOBS_PER_KEY_MAX, KEY_BYTES
from swarmd.wire import codec

FORMAT: Final = 2
"""Format 1 did not count blobs."""


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

    @property
    def by_id(self) -> dict[int, bytes]:
        """What a `Sealer` takes."""
        return {key.id: key.key for key in self.keys}

    @property
    def sealing(self) -> DataKey:
        """The current key."""
        return next(key for key in self.keys if key.id == self.current)

    def with_new(self, key: bytes) -> DataKeys:
        """These and a new current one."""
        new = DataKey(id=max(known.id for known in self.keys) + 1, key=key, sealed=0)
        return msgspec.structs.replace(self, v=FORMAT, current=new.id, keys=(*self.keys, new))

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
        return msgspec.structs.replace(self, v=FORMAT, keys=keys)


def load(path: Path) -> DataKeys | None:
    """The stored keys, or None if there is no file.

    Raises `StorageDamaged`, `FailedPrecondition` if a newer swarmd wrote the file, `Unimplemented` if the keys are
    wrapped.
    """
    content = read_if_there(path)
    if content is None:
        return None
    try:
        builtins = codec.loads(content)
        version = builtins.get("v") if isinstance(builtins, dict) else None
        if isinstance(version, int) and version > FORMAT:
            raise FailedPrecondition(f"{path} was written by a newer swarmd (format {version})")
        keys = codec.convert(builtins, DataKeys)
    except Invalid as error:
        # Without the error's own text: it may quote the file.
        raise StorageDamaged(f"{path} does not hold data keys ({error.field})") from None
    if keys.kek_version:
        raise Unimplemented("the data keys are locked, and unlocking is not built yet", object=str(path))
    _check(keys, path)
    return keys


def load_or_create(path: Path, rng_bytes: Callable[[int], bytes]) -> DataKeys:
    """The stored keys, or a first one, made from `rng_bytes` (`os.urandom`) and durable on return. Raises as `load`."""
    keys = load(path)
    if keys is None:
        keys = DataKeys(current=1, keys=(DataKey(id=1, key=rng_bytes(KEY_BYTES), sealed=0),))
        save(path, keys)
    return keys


def save(path: Path, keys: DataKeys) -> None:
    """Make `path` hold exactly these keys, durably: after a crash it holds the old ones or the new ones."""
    make_private_directory(path.parent)
    replace_file(path, codec.encode(keys))


def _check(keys: DataKeys, path: Path) -> None:
    ids = [key.id for key in keys.keys]
    is_known = 1 <= keys.v <= FORMAT
    if not is_known or len(set(ids)) != len(ids) or keys.current not in ids or min(ids) < 1 or max(ids) >= 1 << 32:
        raise StorageDamaged(f"{path} does not hold data keys: their ids make no sense")
    if any(len(key.key) != KEY_BYTES for key in keys.keys):
        raise StorageDamaged(f"{path} does not hold data keys: a key has not {KEY_BYTES} bytes")
    if any(not 0 <= key.sealed <= BLOBS_PER_KEY_MAX for key in keys.keys):
        raise StorageDamaged(f"{path} does not hold data keys: a count makes no sense")
