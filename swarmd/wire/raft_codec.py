"""Raft messages and runs of entries as bytes.

A *run* is what an APPEND carries and what a row of the log holds: consecutive entries of one term, encoded once and
handed verbatim to every follower and to the disk (performance-raft, rules 2 and 6).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from swarmd.raft import Entry, Message


class EntryRun(msgspec.Struct, frozen=True, gc=False):
    """Entries `first`..`last` of `term`; `body` is CBOR `[[kind, body], ...]`."""

    first: int
    last: int
    term: int
    body: bytes


def encode_runs(entries: Sequence[Entry]) -> tuple[EntryRun, ...]:
    """Consecutive entries as runs, split where the term changes."""
    raise NotImplementedError


def decode_run(run: EntryRun) -> tuple[Entry, ...]:
    """The entries of a run. Raises `Invalid` if the body is not one."""
    raise NotImplementedError


def encode_message(message: Message, runs: Sequence[EntryRun]) -> bytes:
    """`message` with its entries given as `runs` (`message.entries` itself is not looked at)."""
    raise NotImplementedError


def decode_message(data: bytes) -> tuple[Message, tuple[EntryRun, ...]]:
    """The message, its entries decoded, and the runs they came in. Raises `Invalid`."""
    raise NotImplementedError
