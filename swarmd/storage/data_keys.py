"""The keys that seal the log and the snapshots: `STATE/certificates/data-keys.cbor`, 0600. Blocking.

Plain as long as autolock is off; `kek_version` says with which version of the unlock key they are wrapped, 0 meaning
with none (foundations: At rest).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from swarmd.errors import FailedPrecondition, Invalid, Unimplemented
from swarmd.storage.durable_files import make_private_directory, read_if_there, replace_file
from swarmd.storage.errors import StorageDamaged
from swarmd.storage.sealing import KEY_BYTES
from swarmd.wire import codec

FORMAT: Final = 1


class DataKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One key. Ids count up from 1 and are never used again."""

    id: int
    key: bytes

    def __repr__(self) -> str:
        return f"DataKey(id={self.id})"


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
        keys = DataKeys(current=1, keys=(DataKey(id=1, key=rng_bytes(KEY_BYTES)),))
        _save(path, keys)
    return keys


def rotate(path: Path, rng_bytes: Callable[[int], bytes]) -> DataKeys:
    """The stored keys with a new current one, durable on return; give it to `Sealer.seal_with`. Raises as `load`."""
    known = load_or_create(path, rng_bytes)
    new = DataKey(id=max(key.id for key in known.keys) + 1, key=rng_bytes(KEY_BYTES))
    keys = msgspec.structs.replace(known, current=new.id, keys=(*known.keys, new))
    _save(path, keys)
    return keys


def _save(path: Path, keys: DataKeys) -> None:
    make_private_directory(path.parent)
    replace_file(path, codec.encode(keys))


def _check(keys: DataKeys, path: Path) -> None:
    ids = [key.id for key in keys.keys]
    if keys.v != FORMAT or len(set(ids)) != len(ids) or keys.current not in ids or min(ids) < 1 or max(ids) >= 1 << 32:
        raise StorageDamaged(f"{path} does not hold data keys: their ids make no sense")
    if any(len(key.key) != KEY_BYTES for key in keys.keys):
        raise StorageDamaged(f"{path} does not hold data keys: a key has not {KEY_BYTES} bytes")
