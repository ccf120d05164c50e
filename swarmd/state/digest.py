"""Two fingerprints that managers compare: of the history (cheap, running) and of the content (full, seldom)."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from hashlib import sha256
from itertools import islice
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from swarmd.wire.codec import encode

if TYPE_CHECKING:
    from swarmd.state.snapshot import Capture

START: Final = bytes(32)
"""The running digest before the first entry."""
SKIPPED: Final = 255
"""Stands where the verdict stands, for noop and config entries."""

AGREED_EVERY: Final = 64
"""Members compare running digests at the multiples of this: a quiet swarm comes by one within hours, and a busy one
spends a dictionary's write on it every few milliseconds."""
HASH_EVERY_MIN: Final = 256
"""The least entries between two full hashes: a small state costs about a millisecond."""

_STEP: Final = Struct(">QB")
_SLICE: Final = 64


def extend(digest: bytes, index: int, verdict: int, body: bytes) -> bytes:
    """The running digest after the entry `index`."""
    return sha256(digest + _STEP.pack(index, verdict) + body).digest()


def is_agreed(index: int) -> bool:
    """Whether members compare their running digests at `index`."""
    return index % AGREED_EVERY == 0


def hash_every(objects: int, results: int) -> int:
    """Entries from one full hash of a state of so many objects and results to the next: all hash at its multiples.

    A power of two, so that members of different sizes hash at common indexes. At least four entries an object: hashing
    adds to an entry at most a quarter of what an object costs (6 us). Results come one an entry, so more than one entry
    for each would put the next hash off for ever.
    """
    return max(HASH_EVERY_MIN, 1 << (max(4 * objects, results) - 1).bit_length())


def hash_slices(capture: Capture) -> Generator[None, None, bytes]:
    """The hash of everything in `capture`, in steps of about 1 ms; the generator returns it.

    Independent of the order of dicts: replicas that restored a snapshot hold the same objects in another order. So each
    item is hashed alone and the hashes are added up (a guard against defects, not against forgery).
    """
    total = 0
    for label, items in capture.parts():
        prefix = label.encode() + b"\0"
        iterator = iter(items)
        while batch := tuple(islice(iterator, _SLICE)):
            total += _sum(prefix, batch)
            yield
    closing = encode([total.to_bytes(40, "big"), capture.index, capture.horizon])
    return sha256(closing).digest()


def _sum(prefix: bytes, items: Iterable[Any]) -> int:
    return sum(int.from_bytes(sha256(prefix + encode(item)).digest(), "big") for item in items)


def run_through(steps: Generator[None, None, bytes]) -> bytes:
    """What `steps` returns, without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: bytes = end.value
            return value
