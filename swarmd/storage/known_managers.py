"""What a node remembers besides its identity: `STATE/state.cbor`, 0600. Where managers were last seen, whether it ever
was a Raft member, the port it once chose. Blocking."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from swarmd.errors import FailedPrecondition, Invalid
from swarmd.storage.durable_files import make_private_directory, read_if_there, replace_file
from swarmd.storage.errors import StorageDamaged
from swarmd.wire import codec

FORMAT: Final = 1


class KnownManager(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A manager, where it answers, and when it was last heard of (epoch seconds)."""

    node_id: str
    addresses: tuple[str, ...]
    last_seen_at: float = 0.0


class NodeFileContents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """The contents of `state.cbor`."""

    v: int = FORMAT
    managers: tuple[KnownManager, ...] = ()
    """By node id."""
    has_been_member: bool = False
    """Whether this node ever belonged to a Raft group: then an empty raft directory is a lost disk, not a new swarm."""
    remote_port: int = 0
    """The port of the remote API once a free one had to be chosen; 0: none was."""

    def with_managers(self, managers: Iterable[KnownManager]) -> NodeFileContents:
        """These contents with another list of managers. An empty one changes nothing: it would strand the node."""
        by_id = {manager.node_id: manager for manager in managers}
        if not by_id:
            return self
        return msgspec.structs.replace(self, managers=tuple(by_id[node_id] for node_id in sorted(by_id)))


class NodeFile:
    """The file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> NodeFileContents:
        """What is stored, or the defaults if there is no file.

        Raises `StorageDamaged`, `FailedPrecondition` if a newer swarmd wrote it, `StorageFailed`.
        """
        content = read_if_there(self._path)
        if content is None:
            return NodeFileContents()
        try:
            builtins = codec.loads(content)
            version = builtins.get("v") if isinstance(builtins, dict) else None
            if isinstance(version, int) and version > FORMAT:
                raise FailedPrecondition(f"{self._path} was written by a newer swarmd (format {version})")
            return codec.convert(builtins, NodeFileContents)
        except Invalid as error:
            raise StorageDamaged(f"{self._path}: {error}") from error

    def save(self, contents: NodeFileContents) -> None:
        """Make `contents` durable, all of it or nothing; without managers, those stored before stay.

        Writes only what differs from the file. Raises `StorageFailed`, and as `load`.
        """
        stored = self.load()
        kept = contents if contents.managers else contents.with_managers(stored.managers)
        if kept != stored:
            make_private_directory(self._path.parent)
            replace_file(self._path, codec.encode(kept))
