"""What the simulated members agree about: a register per key, and a chain of hashes that gives any difference away."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

import cbor2

from swarmd.raft import Entry, EntryKind, SnapshotMeta


class Machine(Protocol):
    """A replicated state machine that the world can drive: the register here, or the real state behind an adapter."""

    index: int
    digest: bytes

    def apply(self, entry: Entry) -> bool:
        """Apply one committed entry (noop and config entries too). Whether a command in it took effect."""

    def capture(self) -> bytes:
        """Everything, as snapshot data."""

    def restore(self, meta: SnapshotMeta, data: bytes) -> None:
        """Become what `capture` gave at `meta.index`."""

    def content(self) -> bytes:
        """A hash of everything in it, whatever its history; empty if it has none."""

    def command(self, key: str, value: int) -> bytes:
        """The body of an entry that sets `key`."""

    def read(self, key: str) -> int:
        """The value of `key`; 0 before the first write."""


class RegisterMachine:
    """Keys with values; the digest chains index, kind and body of everything applied."""

    def __init__(self) -> None:
        self.index = 0
        self.digest = b""
        self.values: dict[str, int] = {}

    def apply(self, entry: Entry) -> bool:
        assert entry.index == self.index + 1, f"applied {entry.index} after {self.index}"
        self.index = entry.index
        self.digest = hashlib.blake2b(
            self.digest + bytes((entry.kind,)) + entry.body, digest_size=16, key=entry.index.to_bytes(8, "big")
        ).digest()
        if entry.kind is EntryKind.DATA:
            key, _, value = entry.body.partition(b" ")
            self.values[key.decode()] = int(value)
        return entry.kind is EntryKind.DATA

    def capture(self) -> bytes:
        return cbor2.dumps([self.index, self.digest, self.values])

    def restore(self, meta: SnapshotMeta, data: bytes) -> None:
        loaded: Any = cbor2.loads(data)
        assert loaded[0] == meta.index, f"a snapshot of {loaded[0]} labelled {meta.index}"
        self.index, self.digest, self.values = loaded

    def content(self) -> bytes:
        return b""

    def command(self, key: str, value: int) -> bytes:
        return b"%s %d" % (key.encode(), value)

    def read(self, key: str) -> int:
        return self.values.get(key, 0)
