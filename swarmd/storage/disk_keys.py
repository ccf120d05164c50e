"""All secrets of one node's disk together: locked or not, unlocked, and moved from one unlock key to another. Blocking.

Which files change in which order is what makes a crash harmless. The node's key decides which unlock key a restart
needs; at every moment the data keys are in clear or open with that one too:

    autolock on:   node key sealed; data keys sealed
    key rotated:   data keys under both keys; node key under the new one; data keys under the new one alone
    autolock off:  data keys in clear; node key in clear
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from swarmd.errors import FailedPrecondition, Locked
from swarmd.model import UnlockKey
from swarmd.pki.unlock_key import Owner, Wraps
from swarmd.storage import data_keys
from swarmd.storage.disk_seal import DiskSeal, SealedFile, locked, parse_sealed, wrong_key
from swarmd.storage.durable_files import read_if_there, replace_file
from swarmd.storage.errors import StorageDamaged
from swarmd.storage.identity_files import IdentityFiles, is_sealed_key
from swarmd.storage.quarantine import kept_keys

log = logging.getLogger(__name__)


class InClear(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the secrets in use lay on the disk in clear, so that an old copy of the disk betrays them."""

    data_key: bool
    node_key: bool


class DiskKeys:
    """The node's key, the data keys, and the copies of those that were set aside with a damaged log.

    Args:
        identity, data_keys_path, raft: as in the state directory; `identity` seals with `seal`.
        seal: shared by all who write these files.
    """

    def __init__(self, identity: IdentityFiles, data_keys_path: Path, raft: Path, seal: DiskSeal) -> None:
        self._identity = identity
        self._path = data_keys_path
        self._raft = raft
        self._seal = seal

    @property
    def kek(self) -> UnlockKey:
        """What seals them."""
        return self._seal.kek

    # -- locked or not -------------------------------------------------------------------------------------------

    def locked_for(self) -> Owner | None:
        """Whose keys are sealed here while no unlock key is there; None if nothing is locked.

        Raises `StorageDamaged`, `StorageFailed`, `FailedPrecondition` for a file of a newer swarmd.
        """
        if self._seal.kek.key:
            return None
        sealed = self._deciding()
        if sealed is None:
            self._note_version()
            return None
        return sealed.owner

    def refuse_if_locked(self) -> None:
        """Raise `Locked` with the version of the key that is needed. Raises as `locked_for`."""
        if self.locked_for() is not None and (sealed := self._deciding()) is not None:
            raise locked(sealed.versions)

    def unlock(self, key: bytes) -> Owner:
        """Open what is sealed with these 32 bytes from now on; whose it is. The disk stays as it is.

        Raises `WrongUnlockKey` naming the version that is needed, `StorageDamaged`, `StorageFailed`. Data keys that are
        damaged are no reason to stay locked: whoever opens the log finds that out, and the tasks need no log.
        """
        with self._seal.mutex:
            sealed = self._deciding()
            if sealed is None:
                raise StorageDamaged("there is nothing to unlock")
            version = sealed.version_for(key)
            if version is None:
                raise wrong_key(sealed.versions)
            before = self._seal.kek
            self._seal.use(UnlockKey(version=version, key=key))
            try:
                self._identity.key()
            except BaseException:
                self._seal.use(before)
                raise
            self._seal.owner = sealed.owner
            return sealed.owner

    def _deciding(self) -> SealedFile | None:
        """The sealed file that says which unlock key is needed: the node's key. None: nothing is locked.

        Of a node whose key was put back in clear from elsewhere it is the data keys, as far as they can be read.
        """
        key = self._identity.stored_key()
        if key is not None and is_sealed_key(key):
            return parse_sealed(key, Wraps.NODE_KEY, self._identity.key_path)
        keys = read_if_there(self._path)
        if keys is None or not data_keys.is_sealed(keys):
            return None
        try:
            return parse_sealed(keys, Wraps.DATA_KEYS, self._path)
        except StorageDamaged:
            return None

    def _note_version(self) -> None:
        """As far as it can be read: what is wrong with the data keys is for whoever opens the log."""
        try:
            keys = data_keys.load(self._path, self._seal)
        except (StorageDamaged, FailedPrecondition):
            return
        if keys is not None:
            self._seal.use(UnlockKey(version=keys.kek_version))

    # -- another unlock key --------------------------------------------------------------------------------------

    def change(self, wanted: UnlockKey) -> bool:
        """Have everything sealed with `wanted`, or in clear if that is no key; whether anything had to be written.

        Idempotent, and it finishes what a crash or a full disk interrupted. Raises `StorageFailed` (call it again),
        `StorageDamaged`. A crash at any point leaves files that the former key or `wanted` opens, both of them.
        """
        with self._seal.mutex:
            if self._is_done(wanted):
                self._seal.use(wanted)
                return False
            node_key, keys = self._identity.key(), data_keys.load(self._path, self._seal)
            self._seal.begin_change(wanted)
            self._move_kept(wanted)
            if keys is not None and self._seal.kek.key:
                keys = data_keys.save(self._path, keys, self._seal)
            if node_key is not None:
                self._identity.replace_key(node_key, wanted)
            self._seal.use(wanted)
            if keys is not None:
                data_keys.save(self._path, keys, self._seal)
            return True

    def _is_done(self, wanted: UnlockKey) -> bool:
        key, keys = self._identity.stored_key(), read_if_there(self._path)
        if not wanted.key:
            return (key is None or not is_sealed_key(key)) and (keys is None or self._is_clear_at(keys, wanted.version))
        return (
            (key is None or self._is_sealed_with(key, wanted, Wraps.NODE_KEY))
            and (keys is None or self._is_sealed_with(keys, wanted, Wraps.DATA_KEYS))
            and all(data_keys.is_sealed(content) for _, content in kept_keys(self._raft, self._path))
        )

    def _is_clear_at(self, keys: bytes, version: int) -> bool:
        return not data_keys.is_sealed(keys) and data_keys.decode(keys, self._path).kek_version == version

    def _is_sealed_with(self, content: bytes, kek: UnlockKey, kind: Wraps) -> bool:
        is_sealed = is_sealed_key if kind is Wraps.NODE_KEY else data_keys.is_sealed
        path = self._identity.key_path if kind is Wraps.NODE_KEY else self._path
        return is_sealed(content) and parse_sealed(content, kind, path).is_exactly(kek)

    def _move_kept(self, wanted: UnlockKey) -> None:
        """What was kept with damaged logs. Nothing of it is needed to start, so what does not open is left alone."""
        for path, content in kept_keys(self._raft, self._path):
            target = DiskSeal()
            target.owner = self._seal.owner
            target.use(wanted)
            try:
                _, moved = data_keys.encode(data_keys.decode(content, path, self._seal), target)
            except (StorageDamaged, Locked) as error:
                log.warning("%s stays as it is: %s", path, error)
                continue
            replace_file(path, moved)

    def in_clear(self) -> InClear:
        """What of the secrets in use ever lay here in clear. Raises as `load`."""
        with self._seal.mutex:
            node_key, keys = self._identity.key(), data_keys.load(self._path, self._seal)
            return InClear(
                data_key=keys is not None and keys.was_clear,
                node_key=node_key is not None and not node_key.never_clear,
            )

    # -- becoming a manager, and ceasing to be one ---------------------------------------------------------------

    def save_first_pair(self, certificate: bytes, key: bytes, kek: UnlockKey, *, never_clear: bool = True) -> None:
        """Make the pair of a node that becomes a manager durable, sealed from the first moment on if `kek` is a key.

        Raises `StorageFailed`; then everything is as before.
        """
        with self._seal.mutex:
            before = self._seal.kek
            self._seal.use(kek)
            try:
                self._identity.save_pair(certificate, key, never_clear=never_clear)
            except BaseException:
                self._seal.use(before)
                raise

    def lay_down(self, is_managers: Callable[[bytes], bool]) -> None:
        """This node is no manager any more, and its data keys are gone: its own key is in clear again, as every
        worker's is. Nothing is done if it has become a manager again meanwhile, as its certificate then says.

        Raises `StorageFailed`, `StorageDamaged`.
        """
        with self._seal.mutex:
            certificate = self._identity.certificate()
            if certificate is not None and is_managers(certificate):
                return
            if self._seal.kek.key and (node_key := self._identity.key()) is not None:
                self._identity.replace_key(node_key, UnlockKey())
            self._seal.use(UnlockKey())
